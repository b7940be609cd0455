//! Many stories over one connection, against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Seen, Watch};
use server::{Server, action, commands, create, pass, place, story, user};
use story::Policies;

const STORIES: [&str; 3] = ["castle", "moor", "sea"];

async fn next(watch: &mut Watch) -> Seen {
    let seen = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    seen.expect("something to see").unwrap()
}

fn subscribers(server: &Server) -> Vec<String> {
    let mut list = redis::cmd("CLIENT");
    list.arg(&["LIST", "TYPE", "PUBSUB"]);
    let list: String = list.query(&mut server.raw()).unwrap();
    list.lines().map(str::to_owned).collect()
}

/// Goes on watching until all are subscribed to over one connection.
async fn subscribed(server: &Server, watches: &mut [(&str, Watch)]) {
    let all = async {
        loop {
            let connections = subscribers(server);
            if connections.len() == 1 && connections[0].contains("ssub=3") {
                return;
            }
            for (_, watch) in &mut *watches {
                let seen = tokio::time::timeout(Duration::from_millis(10), watch.next()).await;
                assert!(seen.is_err(), "{seen:?}");
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all)
        .await
        .expect("one connection with all subscriptions");
}

#[tokio::test]
async fn stories_share_a_connection_and_outlive_its_loss() {
    let server = Server::start();
    let bus = server.bus();
    let (feeds, mut watches) = (bus.feeds(), Vec::new());
    for id in STORIES {
        create(&bus, id, Policies::default()).await;
        watches.push((id, feeds.watch(&story(id), None).await.unwrap()));
    }
    for (seq, round) in (1..).zip(["a", "b", "c"]) {
        for (id, watch) in &mut watches {
            let event = format!("{round}-{id}");
            bus.publish(&action(id, &event)).await.unwrap();
            assert_eq!(place(&next(watch).await), (seq, event.as_str()));
        }
        subscribed(&server, &mut watches).await;
        let mut kill = redis::cmd("CLIENT");
        kill.arg(&["KILL", "TYPE", "PUBSUB"]);
        let _: u64 = kill.query(&mut server.raw()).unwrap();
    }
}

/// What this server counts of one command.
fn calls(server: &Server, command: &str) -> String {
    let mut info = redis::cmd("INFO");
    let info: redis::InfoDict = info.arg("commandstats").query(&mut server.raw()).unwrap();
    let calls: Option<String> = info.get(&format!("cmdstat_{command}"));
    calls.unwrap_or_default()
}

/// Until the server's only subscriber has so many subscriptions.
async fn subscriptions(server: &Server, count: usize) {
    let words = format!("ssub={count} ");
    let all = async {
        loop {
            let connections = subscribers(server);
            let are_so_many = match connections.as_slice() {
                [] => count == 0,
                [one] => one.contains(&words),
                _ => false,
            };
            if are_so_many {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(10), all).await;
    assert!(all.is_ok(), "{:?}", subscribers(server));
}

#[tokio::test]
async fn who_leaves_is_unsubscribed_soon_and_may_return() {
    let server = Server::start();
    let bus = server.bus();
    for id in STORIES {
        create(&bus, id, Policies::default()).await;
    }
    let feeds = bus.feeds();
    let came_and_went = async {
        for (seq, round) in (1..).zip(["a", "b", "c"]) {
            let mut watches = Vec::new();
            for id in STORIES {
                let event = format!("{round}-{id}");
                bus.publish(&action(id, &event)).await.unwrap();
                let mut watch = feeds.watch(&story(id), None).await.unwrap();
                while place(&next(&mut watch).await) != (seq, event.as_str()) {}
                watches.push(watch);
            }
            for left in (0..STORIES.len()).rev() {
                watches.pop();
                subscriptions(&server, left).await;
            }
        }
    };
    tokio::select! {
        () = came_and_went => {}
        () = feeds.tidy() => {}
    }
}

#[tokio::test]
async fn what_cannot_be_unsubscribed_from_is_tried_again() {
    let server = Server::start();
    create(&server.bus(), "castle", Policies::default()).await;
    let feeds = user(&server, &["+@all", "-sunsubscribe"]).feeds();
    let left = async {
        let mut watch = feeds.watch(&story("castle"), None).await.unwrap();
        assert_eq!(watch.next_or_caught_up().await.unwrap(), None);
        drop(watch);
        while !calls(&server, "sunsubscribe").contains("rejected_calls=1") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        subscriptions(&server, 1).await;
        let mut allow = redis::cmd("ACL");
        allow.arg(&["SETUSER", "mira", "+sunsubscribe"]);
        allow.exec(&mut server.raw()).unwrap();
        subscriptions(&server, 0).await;
    };
    tokio::select! {
        () = left => {}
        () = feeds.tidy() => {}
    }
}

#[tokio::test]
async fn stories_where_nothing_happens_cost_next_to_nothing() {
    const STORIES: u64 = 50;
    let server = Server::start();
    let (bus, mut watches) = (server.bus(), Vec::new());
    let feeds = bus.feeds();
    for i in 0..STORIES {
        let id = format!("castle-{i}");
        create(&bus, &id, Policies::default()).await;
        watches.push(feeds.watch(&story(&id), None).await.unwrap());
    }
    let before = commands(&server);
    quiet(&mut watches).await;
    let reading = commands(&server) - before;
    assert!(reading >= 3 * STORIES, "{reading} commands");
    let before = commands(&server);
    for _ in 0..4 {
        pass(Duration::from_secs(5)).await;
        quiet(&mut watches).await;
    }
    let commands = commands(&server) - before;
    assert!(commands < 4 * 3 + 6, "{commands} commands in 20 s");
}

/// Lets them do what there is to do, while nothing is to be seen.
async fn quiet(watches: &mut [Watch]) {
    let all = watches.iter_mut().map(Watch::next);
    let seen = futures::future::select_all(all.map(Box::pin));
    let seen = tokio::time::timeout(Duration::from_millis(300), seen).await;
    assert!(seen.is_err(), "{:?}", seen.map(|(seen, ..)| seen));
}
