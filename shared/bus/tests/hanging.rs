//! A cluster of which one master hangs, and is not known to: whatever is of the others goes on.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Bus, Delivery, LeaseId, Reader, Settings};
use redis::Commands;
use rustix::process::{Pid, Signal, kill_process};
use server::{Server, action, create, one, story};
use story::{Agent, Policies};
use tokio::task::yield_now;
use tokio::time::timeout;

const NARRATOR: Agent = Agent::Narrator;
const LONG: Duration = Duration::from_secs(60);
/// Of whoever asks the one that hangs.
const SHORT: Duration = Duration::from_millis(500);
/// How long ago an entry was last heard of, once it is made so old: an hour, in ms.
const OLD: u64 = 3_600_000;
/// On which shard each of these stories is.
const STORIES: [(u16, &str); 2] = [(0, "castle"), (1, "forest")];

/// A master for the shard 0, and one for the shard 1.
struct Cluster {
    masters: [Server; 2],
}

fn tell(server: &Server, words: &[&str]) {
    let mut cmd = redis::cmd(words[0]);
    cmd.arg(&words[1..]).exec(&mut server.raw()).unwrap();
}

impl Cluster {
    async fn start(patience: Duration) -> (Self, Bus) {
        let masters = [Server::node(), Server::node()];
        // The slot of "0" is 13907, that of "1" 9842.
        tell(&masters[0], &["CLUSTER", "ADDSLOTSRANGE", "10000", "16383"]);
        tell(&masters[1], &["CLUSTER", "ADDSLOTSRANGE", "0", "9999"]);
        let hosts = masters
            .each_ref()
            .map(|master| master.url().replace("redis://", ""));
        let (_, port) = hosts[0].rsplit_once(':').unwrap();
        tell(&masters[1], &["CLUSTER", "MEET", "127.0.0.1", port]);
        let cluster = Self { masters };
        let mut raws = cluster.masters.each_ref().map(Server::raw);
        let mut is_known = || {
            raws.iter_mut().all(|raw| {
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(raw).unwrap();
                info.contains("cluster_state:ok") && info.contains("cluster_size:2")
            })
        };
        let known = async {
            while !is_known() {
                yield_now().await;
            }
        };
        timeout(LONG, known).await.expect("they meet");
        let bus = Bus::new(Settings {
            shards: 2,
            timeout: patience,
            ..Settings::new(format!("redis+cluster://{}", hosts.join(",")))
        });
        let bus = bus.unwrap();
        for (_, id) in STORIES {
            create(&bus, id, Policies::default()).await;
        }
        (cluster, bus)
    }

    fn work(shard: u16) -> String {
        format!("sf:{{{shard}}}:work:narrator")
    }

    /// How long ago an entry was last heard of, in ms.
    fn idle(&self, lease: &LeaseId) -> u64 {
        let work = Self::work(lease.shard);
        let row: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
            .arg((work, "fleet", &lease.entry, &lease.entry, 1))
            .query(&mut self.masters[usize::from(lease.shard)].raw())
            .unwrap();
        row[0].2
    }

    fn make_old(&self, lease: &LeaseId) {
        let claimed: Vec<String> = redis::cmd("XCLAIM")
            .arg((Self::work(lease.shard), "fleet", "w1", 0, &lease.entry))
            .arg(("IDLE", OLD, "JUSTID"))
            .query(&mut self.masters[usize::from(lease.shard)].raw())
            .unwrap();
        assert_eq!(claimed.len(), 1);
        assert!(self.idle(lease) >= OLD);
    }

    /// The master of the shard 0 answers nobody any more.
    fn hang(&self) {
        self.signal(Signal::STOP);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.masters[0].pid())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
    }
}

async fn next(reader: &mut Reader) -> Vec<Delivery> {
    let found = async {
        loop {
            let found = reader.next(4).await.unwrap();
            if !found.is_empty() {
                return found;
            }
        }
    };
    timeout(LONG, found).await.expect("an event")
}

/// One of each shard.
async fn delivered(bus: &Bus) -> [LeaseId; 2] {
    for (_, id) in STORIES {
        bus.publish(&action(id, "a")).await.unwrap();
    }
    let mut reader = bus.reader(NARRATOR, "w1");
    let mut found = Vec::new();
    while found.len() < 2 {
        found.extend(next(&mut reader).await);
    }
    let mut leases: Vec<LeaseId> = found.into_iter().map(|given| given.lease).collect();
    leases.sort_by_key(|lease| lease.shard);
    leases.try_into().unwrap()
}

#[tokio::test]
async fn leases_of_the_other_are_renewed_and_its_losses_told() {
    let (cluster, bus) = Cluster::start(SHORT).await;
    let [hung, kept] = delivered(&bus).await;
    let gone = LeaseId {
        entry: "1-0".to_owned(),
        ..kept.clone()
    };
    cluster.hang();
    let leases = [hung, kept.clone(), gone.clone()];
    // The second time over a new connection.
    for _ in 0..2 {
        cluster.make_old(&kept);
        let renewed = bus.renew(NARRATOR, "w1", &leases).await.unwrap_err();
        assert!(renewed.error.is_away(), "{renewed}");
        let gone = vec![gone.clone()];
        assert_eq!((renewed.lost.taken, renewed.lost.gone), (vec![], gone));
        assert!(cluster.idle(&kept) < OLD);
    }
}

#[tokio::test]
async fn entries_of_the_other_are_let_go() {
    let (cluster, bus) = Cluster::start(SHORT).await;
    let [hung, other] = delivered(&bus).await;
    cluster.hang();
    let leases = [hung, other.clone()];
    let released = bus.release(NARRATOR, "w1", &leases).await.unwrap_err();
    assert!(released.is_away(), "{released}");
    assert!(cluster.idle(&other) > OLD);
}

#[tokio::test]
async fn consumers_of_the_other_are_forgotten() {
    let (cluster, bus) = Cluster::start(SHORT).await;
    let leases = delivered(&bus).await;
    let mut raw = cluster.masters[1].raw();
    let work = Cluster::work(1);
    let ended: u64 = raw.xack(&work, "fleet", &[&leases[1].entry]).unwrap();
    assert_eq!(ended, 1);
    cluster.hang();
    let left = async {
        loop {
            let forgot = bus.remove_idle_consumers(NARRATOR, Duration::ZERO).await;
            assert!(forgot.unwrap_err().is_away());
            let info: Vec<redis::Value> = redis::cmd("XINFO")
                .arg(("CONSUMERS", &work, "fleet"))
                .query(&mut raw)
                .unwrap();
            if info.is_empty() {
                return;
            }
        }
    };
    timeout(LONG, left).await.expect("it is forgotten");
}

#[tokio::test]
async fn events_of_the_other_are_delivered_before_the_one_that_hangs_answers() {
    let (cluster, bus) = Cluster::start(LONG).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    assert!(reader.next(4).await.unwrap().is_empty());
    for (_, id) in STORIES {
        bus.publish(&action(id, "a")).await.unwrap();
    }
    cluster.hang();
    // Far less than the reader waits for an answer.
    let found = timeout(LONG / 3, reader.next(4)).await;
    let found = one(found.expect("at once").unwrap());
    assert_eq!(found.work.unwrap().story, story("forest"));
    assert!((1..=3).contains(&reader.expects()));
    cluster.signal(Signal::CONT);
    let late = one(reader.rest().await);
    assert_eq!(late.work.unwrap().story, story("castle"));
    assert_eq!(reader.expects(), 0);
}

#[tokio::test]
async fn what_waits_in_the_other_is_seen_and_what_hangs_is_named() {
    let (cluster, bus) = Cluster::start(SHORT).await;
    for (_, id) in STORIES {
        bus.publish(&action(id, "a")).await.unwrap();
    }
    let fleet = bus.fleet().await.unwrap();
    assert_eq!((fleet.queues.len(), fleet.servers.len()), (6, 2));
    assert!(fleet.away.is_empty() && fleet.silent.is_empty());
    let hangs = fleet.servers.iter().map(|server| server.address.clone());
    let hangs = hangs.filter(|address| cluster.masters[0].url().ends_with(address));
    let hangs: Vec<String> = hangs.collect();
    cluster.hang();
    // The second time over a new connection.
    for _ in 0..2 {
        let fleet = bus.fleet().await.unwrap();
        assert_eq!((&fleet.away[..], &fleet.silent), (&[0][..], &hangs));
        assert_eq!((fleet.queues.len(), fleet.servers.len()), (3, 1));
        let is_it = |queue: &&bus::Backlog| queue.agent == NARRATOR;
        let queue = fleet.queues.iter().find(is_it).unwrap();
        assert_eq!((queue.shard, queue.length), (1, 1));
        assert_eq!(bus.unattended().await.unwrap(), [(NARRATOR, 1)]);
    }
}

#[tokio::test]
async fn whether_the_other_lives_is_asked_all_the_same() {
    let (cluster, bus) = Cluster::start(LONG).await;
    let (feeds, mut watches) = (bus.feeds(), Vec::new());
    for (_, id) in STORIES {
        let mut watch = feeds.watch(&story(id), None).await.unwrap();
        assert_eq!(watch.next_or_caught_up().await.unwrap(), None);
        watches.push(watch);
    }
    let mut raw = cluster.masters[1].raw();
    let mut questions = || -> u64 {
        let info: redis::InfoDict = redis::cmd("INFO")
            .arg("commandstats")
            .query(&mut raw)
            .unwrap();
        let told = info.get::<String>("cmdstat_exists").unwrap_or_default();
        let calls = told
            .strip_prefix("calls=")
            .and_then(|told| told.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    };
    cluster.hang();
    let before = questions();
    let asked = async {
        while questions() < before + 3 {
            yield_now().await;
        }
    };
    tokio::select! {
        () = feeds.tidy() => unreachable!("it runs for ever"),
        // Far less than who hangs is waited for.
        asked = timeout(LONG / 3, asked) => asked.expect("it is asked"),
    }
}
