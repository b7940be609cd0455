//! A network that fails at the worst moment: replies that are lost, and a connection that hangs.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Bus, Commit, Committed, Delivery, Error, Published};
use server::network::Network;
use server::{Server, action, answer, answered, create, given_up, one, pass, place, story};
use story::{Agent, Policies, Seq};

const NARRATOR: Agent = Agent::Narrator;

/// The ids in the castle's log, in order.
async fn log(bus: &Bus) -> Vec<String> {
    let log = bus
        .log(&story("castle"), Seq(0), 100)
        .await
        .expect("the log");
    log.iter().map(|entry| entry.event.id.to_string()).collect()
}

/// An action that a narrator behind a network was given.
async fn delivered() -> (Server, Network, Bus, Delivery) {
    let server = Server::start();
    let network = Network::before(&server.url());
    let bus = network.bus(1);
    create(&bus, "castle", Policies::default()).await;
    bus.publish(&action("castle", "a")).await.unwrap();
    let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    (server, network, bus, delivery)
}

#[tokio::test]
async fn a_commit_whose_reply_was_lost_is_told_as_done_and_was_done_once() {
    let server = Server::start();
    let network = Network::before(&server.url());
    let bus = network.bus(1);
    create(&bus, "castle", Policies::default()).await;
    network.lose_reply("EVAL");
    let published = bus.publish(&action("castle", "a")).await.unwrap();
    assert_eq!(published, Published::Duplicate);
    assert!(network.has_failed());
    bus.publish(&action("castle", "b")).await.unwrap();

    let delivery = one(bus.reader(NARRATOR, "w1").next(5).await.unwrap());
    let effects = answered(&delivery);
    network.lose_reply("EVAL");
    let done = bus.commit(&delivery, &effects).await.unwrap();
    assert!(network.has_failed());
    assert_eq!(done, Committed::Already);
    assert_eq!(log(&bus).await, ["a", "b", "re-a"]);
    assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 1);
}

/// Who asks again is then right to take an entry that is gone for one that it ended, and else wrong.
#[tokio::test]
async fn of_a_commit_without_an_answer_it_is_told_whether_it_may_be_done() {
    let (mut server, network, bus, delivery) = delivered().await;
    let effects = answered(&delivery);
    network.withhold_reply("EVAL");
    let killed = async {
        while !network.has_failed() {
            tokio::task::yield_now().await;
        }
        server.kill();
        std::future::pending::<()>().await;
    };
    let sent = tokio::select! {
        sent = bus.commit(&delivery, &effects) => sent,
        () = killed => unreachable!("it waits for ever"),
    };
    assert!(matches!(sent, Err(Error::Unheard(_))), "{sent:?}");
    let never_sent = bus.commit(&delivery, &effects).await;
    assert!(
        matches!(never_sent, Err(Error::Unreachable(_))),
        "{never_sent:?}"
    );
}

#[tokio::test]
async fn an_event_is_buried_and_redriven_once_though_both_replies_were_lost() {
    let (_server, network, bus, delivery) = delivered().await;
    let burial = given_up(Some(answer(&delivery)));
    network.lose_reply("EVAL");
    let done = bus.bury(&delivery, &burial).await.unwrap();
    assert!(network.has_failed());
    assert_eq!(done, Committed::Already);
    assert_eq!(log(&bus).await, ["a", "re-a"]);

    let letter = bus.dead(NARRATOR).await.unwrap().remove(0);
    network.lose_reply("EVAL");
    assert!(bus.redrive(NARRATOR, &letter.id).await.unwrap());
    assert!(network.has_failed());
    assert!(!bus.redrive(NARRATOR, &letter.id).await.unwrap());
    assert_eq!(bus.dead_count(NARRATOR).await.unwrap(), 0);
    let again = one(bus.reader(NARRATOR, "w1").next(5).await.unwrap());
    bus.commit(&again, &Commit::default()).await.unwrap();
    assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 0);
}

#[tokio::test]
async fn leases_are_renewed_while_other_work_hangs() {
    let (_server, network, bus, delivery) = delivered().await;
    network.stall("XRANGE");
    let castle = story("castle");
    let hanging = bus.log(&castle, Seq(0), 100);
    let renewed = async {
        while !network.has_failed() {
            tokio::task::yield_now().await;
        }
        let leases = [delivery.lease.clone()];
        bus.renew(NARRATOR, "w1", &leases).await
    };
    tokio::select! {
        biased;
        renewed = renewed => assert!(renewed.unwrap().is_empty()),
        page = hanging => panic!("it does not hang: {page:?}"),
    }
}

#[tokio::test]
async fn a_lease_is_renewed_at_once_over_a_connection_that_dropped_unnoticed() {
    let (_server, network, bus, delivery) = delivered().await;
    let leases = [delivery.lease];
    network.lose_reply("EVAL");
    let renewed = bus.renew(NARRATOR, "w1", &leases).await;
    assert!(network.has_failed());
    assert!(renewed.unwrap().is_empty());
}

#[tokio::test]
async fn a_reader_does_not_wait_on_a_connection_when_another_was_found_silent() {
    let server = Server::start();
    let network = Network::before(&server.url());
    let (near, bus) = (server.bus(), network.bus(1));
    create(&near, "castle", Policies::default()).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    let nothing = reader.next_within(1, Duration::from_millis(10)).await;
    assert!(nothing.unwrap().is_empty());
    bus.ping().await.unwrap();
    network.fall_silent();
    assert!(bus.ping().await.is_err());
    near.publish(&action("castle", "a")).await.unwrap();
    one(reader.next(1).await.unwrap());
}

#[tokio::test]
async fn subscriptions_over_a_connection_that_went_silent_begin_anew_though_one_alone_asked() {
    let server = Server::start();
    let network = Network::before(&server.url());
    let (near, bus) = (server.bus(), network.bus(1));
    let (feeds, mut watches) = (bus.feeds(), Vec::new());
    for id in ["castle", "moor"] {
        create(&near, id, Policies::default()).await;
        watches.push(feeds.watch(&story(id), None).await.unwrap());
    }
    for watch in &mut watches {
        assert_eq!(watch.next_or_caught_up().await.unwrap(), None);
    }
    network.stall("EXISTS");
    pass(Duration::from_secs(5)).await;
    let mut next = watches.iter_mut().map(|watch| Box::pin(watch.next()));
    let both = futures::future::join(next.next().unwrap(), next.next().unwrap());
    let told = async {
        while !network.has_failed() {
            tokio::task::yield_now().await;
        }
        for id in ["castle", "moor"] {
            near.publish(&action(id, "a")).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        (castle, moor) = both => {
            assert_eq!(place(&castle.unwrap()), (1, "a"));
            assert_eq!(place(&moor.unwrap()), (1, "a"));
        }
        () = told => {}
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("nothing is seen"),
    }
}
