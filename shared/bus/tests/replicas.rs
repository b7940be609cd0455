//! What is waited for: replicas that have what was published and committed, and the truth where they have not.

mod server;

use std::pin::pin;
use std::time::Duration;

use bus::{Bus, Committed, Error, Published, Replicated, Settings};
use futures::future::join_all;
use futures::poll;
use redis::Commands;
use rustix::process::{Pid, Signal, kill_process};
use server::network::Network;
use server::{Server, action, answered, create, one};
use story::{Agent, Policies, Seq};
use tokio::task::yield_now;
use tokio::time::timeout;

/// Nobody waits for so long: what is waited for comes.
const LONG: Duration = Duration::from_secs(40);

fn tell(server: &Server, words: &[&str]) {
    let done = redis::cmd(words[0])
        .arg(&words[1..])
        .exec(&mut server.raw());
    done.expect("it does");
}

fn port(server: &Server) -> String {
    server.url().rsplit_once(':').expect("a port").1.to_owned()
}

/// A master that has the story "castle" with its first action, and its replica, which has it too. The master knows the
/// script of what is published.
async fn pair() -> (Server, Server) {
    let (master, replica) = (Server::start(), Server::start());
    // It begins to copy at once.
    tell(&master, &["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    tell(&replica, &["REPLICAOF", "127.0.0.1", &port(&master)]);
    let bus = master.bus();
    create(&bus, "castle", Policies::default()).await;
    let first = bus.publish(&action("castle", "first")).await;
    first.expect("it is accepted");
    followed(&master).await;
    (master, replica)
}

/// Waits until the replica has what is written: only who follows is sent anything.
async fn followed(master: &Server) {
    let mut raw = master.raw();
    let mut is_followed = || -> redis::RedisResult<bool> {
        raw.set::<_, _, ()>("probe", "")?;
        let had: u32 = redis::cmd("WAIT").arg(1).arg(10).query(&mut raw)?;
        Ok(had == 1)
    };
    let follows = async {
        // A cluster refuses at first.
        while !is_followed().unwrap_or(false) {
            yield_now().await;
        }
    };
    let in_time = timeout(Duration::from_secs(60), follows).await;
    in_time.expect("the replica follows");
}

fn waiting(url: &str) -> Bus {
    waiting_for(url, Settings::new(url).timeout)
}

/// Waits for a quarter of that time at most.
fn waiting_for(url: &str, timeout: Duration) -> Bus {
    Bus::new(Settings {
        wait_replicas: 1,
        timeout,
        ..Settings::new(url)
    })
    .expect("the settings are good")
}

fn signal(server: &Server, signal: Signal) {
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("an id"), signal).expect("it runs");
}

/// How often it was waited for replicas there.
fn waits(master: &Server) -> u64 {
    let info: redis::InfoDict = redis::cmd("INFO")
        .arg("commandstats")
        .query(&mut master.raw())
        .expect("it tells");
    let told: String = info.get("cmdstat_wait").expect("it was");
    let calls = told.trim_start_matches("calls=").split(',').next();
    calls.expect("a number").parse().expect("a number")
}

async fn published(bus: &Bus, id: &str) -> (Published, Replicated) {
    let published = bus.publish_replicated(&action("castle", id)).await;
    published.expect("it is accepted")
}

#[tokio::test]
async fn what_is_told_to_be_replicated_is_on_the_replica() {
    let (master, replica) = pair().await;
    let bus = waiting_for(&master.url(), LONG);
    let done = published(&bus, "a").await;
    assert_eq!(done, (Published::Logged(Seq(2)), Replicated::Enough));
    let copy: u64 = replica.raw().xlen("sf:{0}:log:castle").unwrap();
    assert_eq!(copy, 2);
    let delivery = one(bus.reader(Agent::Narrator, "w").next(1).await.unwrap());
    let done = bus.commit(&delivery, &answered(&delivery)).await.unwrap();
    assert_eq!(done, Committed::Done(vec![Seq(3)]));
    let copy: u64 = replica.raw().xlen("sf:{0}:log:castle").unwrap();
    assert_eq!((copy, bus.unreplicated()), (3, 0));
}

/// Where there is no replica, the wait behind a script that Redis does not know is in vain, as that behind its text is.
#[tokio::test]
async fn a_script_that_the_master_does_not_know_yet_is_waited_for_like_any() {
    let (master, replica) = pair().await;
    let bus = waiting_for(&master.url(), LONG);
    tell(&master, &["SCRIPT", "FLUSH"]);
    let done = published(&bus, "a").await;
    assert_eq!(done, (Published::Logged(Seq(2)), Replicated::Enough));
    signal(&replica, Signal::STOP);
    let bus = waiting(&master.url());
    tell(&master, &["SCRIPT", "FLUSH"]);
    let done = published(&bus, "b").await;
    assert_eq!(done, (Published::Logged(Seq(3)), Replicated::Short(0)));
    signal(&replica, Signal::CONT);
}

#[tokio::test]
async fn without_the_replica_all_is_done_and_told_to_be_on_none() {
    let (master, replica) = pair().await;
    signal(&replica, Signal::STOP);
    let bus = waiting(&master.url());
    let ids: Vec<String> = (0..40).map(|n| format!("a{n}")).collect();
    let done = join_all(ids.iter().map(|id| published(&bus, id))).await;
    for (published, replicated) in &done {
        assert!(matches!(published, Published::Logged(_)));
        assert!(!matches!(
            replicated,
            Replicated::Enough | Replicated::Unasked
        ));
    }
    assert_eq!(done[0].1, Replicated::Short(0));
    assert_eq!(published(&bus, "late").await.1, Replicated::Unknown);
    assert_eq!(bus.unreplicated(), 41);
}

#[tokio::test]
async fn who_asks_again_is_told_whether_replicas_have_what_was_accepted_before() {
    let (master, replica) = pair().await;
    signal(&replica, Signal::STOP);
    master.bus().publish(&action("castle", "a")).await.unwrap();
    // Its connection has written nothing that a WAIT could speak of.
    let bus = waiting(&master.url());
    let again = published(&bus, "a").await;
    assert_eq!(again, (Published::Duplicate, Replicated::Short(0)));
    assert_eq!(bus.unreplicated(), 0, "it did nothing");
    signal(&replica, Signal::CONT);
    let again = published(&waiting_for(&master.url(), LONG), "a").await;
    assert_eq!(again, (Published::Duplicate, Replicated::Enough));
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_counts_where_replicas_do_not_have_it() {
    let (master, replica) = pair().await;
    let network = Network::before(&master.url());
    let (plain, bus) = (master.bus(), waiting(network.url()));
    plain.publish(&action("castle", "a")).await.unwrap();
    let mut reader = plain.reader(Agent::Narrator, "w");
    // The master knows the script from then on.
    let first = one(reader.next(1).await.unwrap());
    plain.commit(&first, &answered(&first)).await.unwrap();
    let delivery = one(reader.next(1).await.unwrap());
    signal(&replica, Signal::STOP);
    network.lose_reply("re-a");
    let done = bus.commit(&delivery, &answered(&delivery)).await.unwrap();
    assert_eq!((done, bus.unreplicated()), (Committed::Already, 1));
}

#[tokio::test]
async fn what_comes_meanwhile_goes_together_and_each_gets_its_own_answer() {
    let (master, replica) = pair().await;
    tell(&master, &["CONFIG", "RESETSTAT"]);
    let bus = waiting_for(&master.url(), LONG);
    let ids: Vec<String> = (0..200).map(|n| format!("a{n}")).collect();
    let castle = join_all(ids.iter().map(|id| published(&bus, id)));
    let (nowhere, twice) = (action("nowhere", "a"), action("castle", "a7"));
    let nowhere = bus.publish_replicated(&nowhere);
    let again = bus.publish_replicated(&twice);
    let (done, nowhere, again) = futures::join!(castle, nowhere, again);
    let seqs = done.iter().map(|(published, replicated)| {
        assert_eq!(*replicated, Replicated::Enough);
        match published {
            Published::Logged(seq) => seq.0,
            other => panic!("{other:?}"),
        }
    });
    assert!(seqs.eq(2..=201), "in the order in which they came");
    assert!(matches!(nowhere, Err(Error::NoStory(_))), "{nowhere:?}");
    assert_eq!(again.unwrap(), (Published::Duplicate, Replicated::Enough));
    let copy: u64 = replica.raw().xlen("sf:{0}:log:castle").unwrap();
    assert_eq!((copy, bus.unreplicated()), (201, 0));
    let waits = waits(&master);
    assert!(waits < 20, "{waits} for 202 scripts");
}

#[tokio::test]
async fn who_goes_away_takes_nobody_along() {
    let (master, replica) = pair().await;
    let bus = waiting_for(&master.url(), LONG);
    signal(&replica, Signal::STOP);
    let (a, b, c) = (
        action("castle", "a"),
        action("castle", "b"),
        action("castle", "c"),
    );
    let mut first = pin!(bus.publish_replicated(&a));
    assert!(poll!(&mut first).is_pending());
    // It gathers behind the first, and drives the batch that the next one joins.
    let mut second = Box::pin(bus.publish_replicated(&b));
    assert!(poll!(&mut second).is_pending());
    let mut third = pin!(bus.publish_replicated(&c));
    assert!(poll!(&mut third).is_pending());
    drop(second);
    signal(&replica, Signal::CONT);
    let (first, third) = futures::join!(first, third);
    assert_eq!(
        first.unwrap(),
        (Published::Logged(Seq(2)), Replicated::Enough)
    );
    assert_eq!(
        third.unwrap(),
        (Published::Logged(Seq(4)), Replicated::Enough)
    );
}

#[tokio::test]
async fn what_was_done_for_who_went_away_is_counted_too() {
    let (master, replica) = pair().await;
    signal(&replica, Signal::STOP);
    let bus = waiting(&master.url());
    // The first goes alone, the others behind it together.
    let mut callers = ["a", "b", "c"].map(|id| Box::pin(published(&bus, id)));
    for caller in &mut callers {
        assert!(poll!(caller.as_mut()).is_pending());
    }
    let [first, gone, last] = callers;
    drop(gone);
    join_all([first, last]).await;
    let log: u64 = master.raw().xlen("sf:{0}:log:castle").unwrap();
    assert_eq!((log, bus.unreplicated()), (4, 3));
}

#[tokio::test]
async fn one_server_is_asked_once_for_what_many_shards_write_together() {
    let (master, _replica) = pair().await;
    let bus = Bus::new(Settings {
        prefix: "many".to_owned(),
        shards: 16,
        wait_replicas: 1,
        timeout: LONG,
        ..Settings::new(master.url())
    });
    let bus = bus.unwrap();
    let stories: Vec<String> = (0..16).map(|n| format!("s{n}")).collect();
    for story in &stories {
        create(&bus, story, Policies::default()).await;
    }
    let before = waits(&master);
    let published = stories.iter().map(async |story| {
        let published = bus.publish_replicated(&action(story, "a")).await;
        assert_eq!(published.unwrap().1, Replicated::Enough);
    });
    join_all(published).await;
    // The first alone, and the others behind it.
    assert_eq!(waits(&master) - before, 2);
}

#[tokio::test]
async fn what_the_master_refuses_says_nothing_of_replicas() {
    let (master, replica) = pair().await;
    let bus = waiting(&master.url());
    signal(&replica, Signal::STOP);
    tell(&master, &["CONFIG", "SET", "min-replicas-to-write", "2"]);
    let refused = bus.publish(&action("castle", "a")).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    signal(&replica, Signal::CONT);
    tell(&master, &["CONFIG", "SET", "min-replicas-to-write", "0"]);
    followed(&master).await;
    assert_eq!(published(&bus, "a").await.1, Replicated::Enough);
    assert_eq!(bus.unreplicated(), 0);
}

#[tokio::test]
async fn the_shards_of_a_master_without_its_replica_wait_for_it_once() {
    const SHARDS: u16 = 16;
    let (master, replica) = (Server::node(), Server::node());
    tell(&master, &["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    tell(&master, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    tell(&replica, &["CLUSTER", "MEET", "127.0.0.1", &port(&master)]);
    let id: String = redis::cmd("CLUSTER")
        .arg("MYID")
        .query(&mut master.raw())
        .unwrap();
    let mut raw = replica.raw();
    // Until they have met.
    let mut follow = redis::cmd("CLUSTER");
    follow.arg("REPLICATE").arg(id);
    let follows = async {
        while follow.exec(&mut raw).is_err() {
            yield_now().await;
        }
    };
    let in_time = timeout(Duration::from_secs(60), follows).await;
    in_time.expect("they meet");
    followed(&master).await;
    let settings = Settings {
        shards: SHARDS,
        wait_replicas: 1,
        ..Settings::new(master.url().replace("redis://", "redis+cluster://"))
    };
    let bus = Bus::new(settings).unwrap();
    // Over all shards.
    let stories: Vec<String> = (0..64).map(|n| format!("s{n}")).collect();
    for story in &stories {
        create(&bus, story, Policies::default()).await;
    }
    let first = bus.publish_replicated(&action("s0", "first")).await;
    assert_eq!(first.unwrap().1, Replicated::Enough);
    signal(&replica, Signal::STOP);
    let done = stories.iter().map(async |story| {
        let published = bus.publish_replicated(&action(story, "a")).await;
        published.expect("it is accepted")
    });
    let done = join_all(done).await;
    let short = done.iter().filter(|(published, replicated)| {
        // One of which nobody heard would have been sent again.
        assert!(matches!(published, Published::Logged(_)));
        assert_ne!(*replicated, Replicated::Enough);
        *replicated == Replicated::Short(0)
    });
    assert_eq!(short.count(), 1);
}

#[tokio::test]
async fn where_one_connection_was_found_dead_the_other_is_opened_anew() {
    let (master, _replica) = pair().await;
    let network = Network::before(&master.url());
    let timeout = Duration::from_millis(500);
    let bus = waiting_for(network.url(), timeout);
    bus.ping().await.unwrap();
    assert_eq!(published(&bus, "a").await.0, Published::Logged(Seq(2)));
    let mut raw = master.raw();
    let mut opened = || {
        let info: redis::InfoDict = redis::cmd("INFO").arg("stats").query(&mut raw).unwrap();
        info.get::<u64>("total_connections_received").unwrap()
    };
    let before = opened();
    network.stall("PING");
    bus.ping().await.unwrap_err();
    assert_eq!(opened(), before, "nobody has asked since");
    for (id, seq) in [("b", 3), ("c", 4)] {
        assert_eq!(published(&bus, id).await.0, Published::Logged(Seq(seq)));
        assert_eq!(opened(), before + 1);
    }
}

#[tokio::test]
async fn who_waits_for_nobody_is_told_nothing_of_replicas() {
    let server = Server::start();
    create(&server.bus(), "castle", Policies::default()).await;
    assert_eq!(published(&server.bus(), "a").await.1, Replicated::Unasked);
}

#[tokio::test]
async fn a_master_with_too_few_replicas_is_told_of_at_the_start() {
    let (master, replica) = pair().await;
    let is_of_it = |told: &String| told.contains("--wait-replicas");
    let tells = async |bus: Bus| bus.server().await.unwrap().warnings.iter().any(is_of_it);
    assert!(!tells(waiting(&master.url())).await);
    tell(&replica, &["REPLICAOF", "NO", "ONE"]);
    assert!(tells(waiting(&replica.url())).await);
    assert!(!tells(replica.bus()).await);
}
