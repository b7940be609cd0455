//! What is waited for: replicas that have what was published and committed, and the truth where they have not.

mod server;

use std::time::Duration;

use bus::{Bus, Committed, Error, Published, Replicated, Role, Settings};
use futures::future::join_all;
use redis::Commands;
use rustix::process::{Pid, Signal, kill_process};
use server::{Server, action, answered, create, one, user};
use story::{Agent, Policies, Seq};
use tokio::task::yield_now;
use tokio::time::timeout;

/// A master that has the story "castle", and its replica, which has it too.
async fn pair() -> (Server, Server) {
    let (master, replica) = (Server::start(), Server::start());
    // It begins to copy at once.
    let eager = ["SET", "repl-diskless-sync-delay", "0"];
    let set = redis::cmd("CONFIG").arg(&eager).exec(&mut master.raw());
    set.expect("a setting");
    let port = master.url().rsplit_once(':').expect("a port").1.to_owned();
    let follow = redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(port)
        .exec(&mut replica.raw());
    follow.expect("it answers");
    create(&master.bus(), "castle", Policies::default()).await;
    followed(&master).await;
    (master, replica)
}

/// Waits until the replica follows: only who does is sent anything.
async fn followed(master: &Server) {
    let mut raw = master.raw();
    let follows = async {
        while !is_followed(&mut raw) {
            yield_now().await;
        }
    };
    let in_time = timeout(Duration::from_secs(60), follows).await;
    in_time.expect("the replica follows");
}

fn is_followed(master: &mut redis::Connection) -> bool {
    let _: () = master.set("probe", "").expect("it answers");
    let had: u32 = redis::cmd("WAIT")
        .arg(1)
        .arg(10)
        .query(master)
        .expect("it answers");
    had == 1
}

fn waiting(server: &Server) -> Bus {
    waiting_for(server, Settings::new(server.url()).timeout)
}

/// Waits for a quarter of that time at most.
fn waiting_for(server: &Server, timeout: Duration) -> Bus {
    let settings = Settings::new(server.url());
    Bus::new(Settings {
        wait_replicas: 1,
        timeout,
        ..settings
    })
    .expect("the settings are good")
}

fn signal(server: &Server, signal: Signal) {
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("an id"), signal).expect("it runs");
}

#[tokio::test]
async fn what_is_told_to_be_replicated_is_on_the_replica() {
    let (master, replica) = pair().await;
    let bus = waiting_for(&master, Duration::from_secs(40));
    let done = bus
        .publish_replicated(&action("castle", "a"))
        .await
        .unwrap();
    assert_eq!(done, (Published::Logged(Seq(1)), Replicated::Enough));
    let copy: u64 = replica.raw().xlen("sf:{0}:log:castle").unwrap();
    assert_eq!(copy, 1);
    let delivery = one(bus.reader(Agent::Narrator, "w").next(1).await.unwrap());
    let done = bus.commit(&delivery, &answered(&delivery)).await.unwrap();
    assert_eq!(done, Committed::Done(vec![Seq(2)]));
    let copy: u64 = replica.raw().xlen("sf:{0}:log:castle").unwrap();
    assert_eq!((copy, bus.unreplicated()), (2, 0));
}

#[tokio::test]
async fn without_the_replica_all_is_done_and_told_to_be_on_none() {
    let (master, replica) = pair().await;
    signal(&replica, Signal::STOP);
    let bus = waiting(&master);
    let ids: Vec<String> = (0..40).map(|n| format!("a{n}")).collect();
    let events = ids.iter().map(|id| action("castle", id));
    let published = join_all(events.map(async |event| bus.publish_replicated(&event).await)).await;
    for published in published {
        let (published, replicated) = published.unwrap();
        assert!(matches!(published, Published::Logged(_)));
        assert_eq!(replicated, Replicated::Short(0));
    }
    assert_eq!(bus.unreplicated(), 40);
    // Who asks again has written nothing, and is not told that replicas have it: not known.
    let again = waiting(&master)
        .publish_replicated(&action("castle", "a0"))
        .await;
    assert_eq!(again.unwrap(), (Published::Duplicate, Replicated::Short(0)));

    signal(&replica, Signal::CONT);
    followed(&master).await;
    let waits = waiting_for(&master, Duration::from_secs(40));
    let again = waits.publish_replicated(&action("castle", "a0")).await;
    assert_eq!(again.unwrap(), (Published::Duplicate, Replicated::Short(0)));
    let back = waits.publish_replicated(&action("castle", "b")).await;
    assert_eq!(back.unwrap().1, Replicated::Enough);
}

#[tokio::test]
async fn who_waits_for_nobody_is_told_nothing_of_replicas() {
    let server = Server::start();
    create(&server.bus(), "castle", Policies::default()).await;
    let done = server
        .bus()
        .publish_replicated(&action("castle", "a"))
        .await;
    assert_eq!(done.unwrap().1, Replicated::Unasked);
}

#[tokio::test]
async fn a_master_with_too_few_replicas_is_told_of_at_the_start() {
    let (master, replica) = pair().await;
    let is_of_it = |told: &String| told.contains("--wait-replicas");
    let tells = async |bus: Bus| bus.server().await.unwrap().warnings.iter().any(is_of_it);
    assert!(!tells(waiting(&master)).await);
    let alone = redis::cmd("REPLICAOF")
        .arg(&["NO", "ONE"])
        .exec(&mut replica.raw());
    alone.unwrap();
    assert!(tells(waiting(&replica)).await);
    assert!(!tells(replica.bus()).await);
}

#[tokio::test]
async fn who_may_not_wait_is_told_so_at_the_start() {
    let server = Server::start();
    let denied = user(&server, &["+@all", "-wait"]);
    denied.check_rights(Role::Worker).await.unwrap();
    let settings = Settings::new(denied.url());
    let bus = Bus::new(Settings {
        wait_replicas: 1,
        ..settings
    })
    .unwrap();
    let Err(Error::Server(told)) = bus.check_rights(Role::Worker).await else {
        panic!("it may not wait");
    };
    assert!(told.contains("WAIT"), "{told}");
}
