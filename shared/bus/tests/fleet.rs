//! The fleet at one moment, against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::process::Command;
use std::time::Duration;

use bus::{Backlog, Bus};
use redis::Commands;
use server::{Server, action, answered, castle, commands, create, failure, given_up, story, user};
use story::{Agent, Policies};
use tokio::time::{sleep, timeout};

const NARRATOR: Agent = Agent::Narrator;

async fn narrator(bus: &Bus) -> Backlog {
    let fleet = bus.fleet().await.unwrap();
    let mut mine = fleet
        .queues
        .into_iter()
        .filter(|queue| queue.agent == NARRATOR);
    mine.next().unwrap()
}

#[tokio::test]
async fn an_installation_without_anything_is_told_as_such() {
    let server = Server::start();
    let fleet = server.bus().fleet().await.unwrap();
    assert_eq!((fleet.queues.len(), fleet.workers.len()), (3, 0));
    assert!(
        fleet
            .queues
            .iter()
            .all(|queue| queue.length == 0 && queue.oldest.is_none() && queue.parked.is_all)
    );
    let [load] = &fleet.servers[..] else {
        panic!("{:?}", fleet.servers);
    };
    assert_eq!(
        (load.role.as_str(), load.replicas, load.memory_limit),
        ("master", 0, None)
    );
    assert!(load.memory > 0 && load.clients > 0);
}

#[tokio::test]
async fn a_server_is_called_what_its_program_calls_itself() {
    // `Redis server v=7.0.15 sha=…`, `Valkey server v=8.0.1 sha=…`
    let program = Command::new("redis-server").arg("--version").output();
    let says = String::from_utf8(program.unwrap().stdout).unwrap();
    let (name, says) = says.split_once(" server v=").unwrap();
    let (version, _) = says.split_once(' ').unwrap();

    let server = Server::start();
    let bus = server.bus();
    let load = bus.fleet().await.unwrap().servers.remove(0);
    assert_eq!((load.software, &*load.version), (name, version));
    let report = bus.server().await.unwrap();
    assert_eq!(report.software, format!("{name} {version}"));
}

#[tokio::test]
async fn only_who_has_work_to_do_is_missed() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    let castle = story("castle");
    let missed = async |agent| bus.is_unattended(agent, &castle).await.unwrap();
    assert!(!missed(NARRATOR).await);
    bus.publish(&action("castle", "a")).await.unwrap();
    assert!(missed(NARRATOR).await);
    assert!(!missed(Agent::Moderator).await);
    let given = bus.reader(NARRATOR, "n1").next(1).await.unwrap();
    assert_eq!(given.len(), 1);
    assert!(!missed(NARRATOR).await);
}

/// Waits until Redis is old enough: of one that has just begun nobody can tell who was heard of since.
async fn grown(server: &Server) {
    let mut raw = server.raw();
    let mut age = || -> u64 {
        let info: redis::InfoDict = redis::cmd("INFO").arg("server").query(&mut raw).unwrap();
        info.get("uptime_in_seconds").unwrap()
    };
    let grows = async {
        while age() < 4 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), grows).await.unwrap();
}

#[tokio::test]
async fn what_waits_is_taken_parked_ends_and_fails_is_counted() {
    let (server, bus) = castle(&["a", "b", "c"]).await;
    grown(&server).await;
    create(&bus, "forest", Policies::default()).await;
    bus.publish(&action("forest", "a")).await.unwrap();
    let before = narrator(&bus).await;
    assert_eq!((before.length, before.in_flight, before.ended), (2, 0, 0));
    assert_eq!((before.parked.events, before.parked.is_all), (2, true));
    assert!(before.oldest.is_some());

    let mut taken = bus.reader(NARRATOR, "w1").next(2).await.unwrap();
    let fleet = bus.fleet().await.unwrap();
    let [worker] = &fleet.workers[..] else {
        panic!("{:?}", fleet.workers);
    };
    assert_eq!((worker.consumer.as_str(), worker.in_flight), ("w1", 2));
    assert_eq!(worker.is_alive(), Some(true));

    let (castle, forest) = (taken.remove(0), taken.remove(0));
    bus.commit(&castle, &answered(&castle)).await.unwrap();
    let failed = failure("forest", "f", "a");
    bus.bury(&forest, &given_up(Some(failed))).await.unwrap();
    let after = narrator(&bus).await;
    // The next of the castle has its turn.
    assert_eq!((after.length, after.in_flight, after.ended), (1, 0, 2));
    assert_eq!((after.parked.events, after.dead, after.buried), (1, 1, 1));

    let letter = bus.dead(NARRATOR).await.unwrap().remove(0);
    bus.purge(NARRATOR, &letter.id).await.unwrap();
    let purged = narrator(&bus).await;
    assert_eq!((purged.dead, purged.buried), (0, 1));
}

#[tokio::test]
async fn a_thousand_stories_cost_no_more_commands_than_a_hundred() {
    let (server, bus) = castle(&[]).await;
    // Redis has its script from then on.
    bus.fleet().await.unwrap();
    let mut costs = Vec::new();
    for stories in [0..100, 100..1_000] {
        for story in stories {
            let id = format!("story-{story}");
            create(&bus, &id, Policies::default()).await;
            bus.publish(&action(&id, "a")).await.unwrap();
        }
        let before = commands(&server);
        let fleet = bus.fleet().await.unwrap();
        costs.push(commands(&server) - before);
        let queue = fleet
            .queues
            .iter()
            .find(|queue| queue.agent == NARRATOR)
            .unwrap();
        assert!(!queue.parked.is_all);
    }
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0] < 150, "{costs:?}");
}

#[tokio::test]
async fn what_is_no_stream_hides_no_other() {
    let (server, bus) = castle(&["a"]).await;
    let _: () = server.raw().set("sf:{0}:work:dialogue", "x").unwrap();
    let fleet = bus.fleet().await.unwrap();
    assert_eq!(fleet.unreadable, [(Agent::Dialogue, 0)]);
    assert_eq!(narrator(&bus).await.length, 1);
}

#[tokio::test]
async fn a_user_who_may_not_ask_how_redis_is_sees_the_rest() {
    let (server, bus) = castle(&["a"]).await;
    let limited = user(&server, &["~*", "+@all", "-info"]);
    let fleet = limited.fleet().await.unwrap();
    assert!(fleet.servers.is_empty());
    assert_eq!(narrator(&bus).await.length, 1);
    assert_eq!(narrator(&limited).await.length, 1);
}

#[tokio::test]
async fn a_look_takes_no_entry_out_of_redis_and_tells_ages_by_its_clock() {
    let (server, bus) = castle(&["a"]).await;
    let queue = narrator(&bus).await;
    assert!(queue.oldest.unwrap().as_secs() < 60, "{queue:?}");
    // An entry without a story, and of one that is not of this shard's names.
    for story in ["", "No story"] {
        let _id: String = server
            .raw()
            .xadd("sf:{0}:work:narrator", "*", &[("story", story)])
            .unwrap();
    }
    let queue = narrator(&bus).await;
    assert_eq!((queue.length, queue.parked.is_all), (3, true));
    // Nothing of an entry that is as large as can be leaves Redis.
    let large = "x".repeat(1 << 20);
    let _id: String = server
        .raw()
        .xadd("sf:{0}:work:narrator", "*", &[("e", &large)])
        .unwrap();
    let sent = |server: &Server| -> u64 {
        let info: redis::InfoDict = redis::cmd("INFO").query(&mut server.raw()).unwrap();
        info.get("total_net_output_bytes").unwrap()
    };
    let before = sent(&server);
    assert_eq!(narrator(&bus).await.length, 4);
    assert!(sent(&server) - before < 100_000);
}
