//! Who holds an entry: leases kept, lost, let go and taken over, and consumers that are gone.

mod server;

use std::time::Duration;

use bus::{Commit, Committed};
use redis::Commands;
use server::{Server, action, answered, castle, create, everything, ids, one};
use story::{Agent, Policies, Seq};

const NARRATOR: Agent = Agent::Narrator;
const LEASE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing() {
    let (server, bus) = castle(&["a"]).await;
    let zombie = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    let claimed = bus.reclaim(NARRATOR, "w2", Duration::ZERO, 10);
    let claimed = one(claimed.await.unwrap());
    assert_eq!(claimed.deliveries, 2);

    let leases = [zombie.lease.clone()];
    let lost = bus.renew(NARRATOR, "w1", &leases).await.unwrap();
    assert_eq!((lost.taken, lost.gone), (leases.to_vec(), vec![]));
    bus.release(NARRATOR, "w1", &leases).await.unwrap();
    let before = everything(&mut server.raw());
    let effects = answered(&zombie);
    assert_eq!(
        bus.commit(&zombie, &effects).await.unwrap(),
        Committed::Fenced
    );
    assert_eq!(everything(&mut server.raw()), before);

    assert!(bus.renew(NARRATOR, "w2", &leases).await.unwrap().is_empty());
    let done = bus.commit(&claimed, &effects).await.unwrap();
    assert_eq!(done, Committed::Done(vec![Seq(2)]));
    let lost = bus.renew(NARRATOR, "w2", &leases).await.unwrap();
    assert_eq!((lost.taken, lost.gone), (vec![], leases.to_vec()));
}

#[tokio::test]
async fn a_released_entry_is_claimed_at_once_and_the_attempt_is_not_charged() {
    let (_server, bus) = castle(&["a"]).await;
    let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    let early = bus.reclaim(NARRATOR, "w2", LEASE, 10).await.unwrap();
    assert!(early.is_empty());
    bus.release(NARRATOR, "w1", &[delivery.lease])
        .await
        .unwrap();
    let claimed = one(bus.reclaim(NARRATOR, "w2", LEASE, 10).await.unwrap());
    assert_eq!(claimed.deliveries, 1);
}

/// As the client of a cluster may send it by itself.
#[tokio::test]
async fn what_is_let_go_twice_has_one_attempt_less() {
    let (server, bus) = castle(&["a"]).await;
    let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    redis::cmd("XCLAIM")
        .arg(format!("sf:{{0}}:work:{NARRATOR}"))
        .arg(("fleet", "w1", 0, &delivery.lease.entry))
        .arg(("RETRYCOUNT", 3, "JUSTID"))
        .exec(&mut server.raw())
        .unwrap();
    let leases = [delivery.lease];
    bus.release(NARRATOR, "w1", &leases).await.unwrap();
    bus.release(NARRATOR, "w1", &leases).await.unwrap();
    let taken = one(bus.take_let_go(NARRATOR, "w2", 10).await.unwrap());
    assert_eq!(taken.deliveries, 3);
}

/// A worker that has just begun, or whose Redis is just back, may not take what a living one could not renew.
#[tokio::test]
async fn what_was_let_go_is_told_from_what_is_old() {
    let (server, bus) = castle(&["a"]).await;
    create(&bus, "keep", Policies::default()).await;
    bus.publish(&action("keep", "b")).await.unwrap();
    let mut old = bus.reader(NARRATOR, "w1").next(2).await.unwrap();
    assert_eq!(old.len(), 2);
    let aged: redis::Value = redis::cmd("XCLAIM")
        .arg(format!("sf:{{0}}:work:{NARRATOR}"))
        .arg(("fleet", "w1", 0, &old[0].lease.entry))
        .arg(("IDLE", 30 * 24 * 60 * 60 * 1_000_u64, "JUSTID"))
        .query(&mut server.raw())
        .unwrap();
    assert!(matches!(aged, redis::Value::Array(ids) if ids.len() == 1));
    let gone = old.pop().unwrap().lease;
    let none = bus.take_let_go(NARRATOR, "w2", 10).await.unwrap();
    assert!(none.is_empty());
    bus.release(NARRATOR, "w1", std::slice::from_ref(&gone))
        .await
        .unwrap();
    let taken = one(bus.take_let_go(NARRATOR, "w2", 10).await.unwrap());
    assert_eq!((taken.lease, taken.deliveries), (gone, 1));
    let left = one(bus.reclaim(NARRATOR, "w2", LEASE, 10).await.unwrap());
    assert_eq!((left.lease, left.deliveries), (old.remove(0).lease, 2));
}

#[tokio::test]
async fn renewing_keeps_the_delivery_count() {
    let (_server, bus) = castle(&["a"]).await;
    let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    for _ in 0..3 {
        let lost = bus
            .renew(NARRATOR, "w1", std::slice::from_ref(&delivery.lease))
            .await;
        assert!(lost.unwrap().is_empty());
    }
    let claimed = bus.reclaim(NARRATOR, "w2", Duration::ZERO, 10);
    assert_eq!(one(claimed.await.unwrap()).deliveries, 2);
}

#[tokio::test]
async fn who_has_one_free_slot_takes_over_what_is_behind_many_live_entries() {
    let server = Server::start();
    let bus = server.bus();
    let stories: Vec<String> = (0..150).map(|i| format!("s{i}")).collect();
    for id in &stories {
        create(&bus, id, Policies::default()).await;
        bus.publish(&action(id, "a")).await.unwrap();
    }
    let mut reader = bus.reader(NARRATOR, "w1");
    let mut deliveries = reader.next(150).await.unwrap();
    let tail: Vec<_> = deliveries
        .split_off(120)
        .into_iter()
        .map(|d| d.lease)
        .collect();
    bus.release(NARRATOR, "w1", &tail).await.unwrap();

    let first = bus.reclaim(NARRATOR, "w2", LEASE, 1).await.unwrap();
    let rest = bus.reclaim(NARRATOR, "w2", LEASE, 100).await.unwrap();
    let claimed = first.iter().chain(&rest).map(|d| &d.lease);
    assert_eq!(first.len(), 1);
    assert!(claimed.eq(&tail));
}

#[tokio::test]
async fn a_lost_group_is_made_again_from_the_first_entry() {
    let (server, bus) = castle(&["a"]).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    let first = one(reader.next(10).await.unwrap());
    let destroyed: bool = server
        .raw()
        .xgroup_destroy("sf:{0}:work:narrator", "fleet")
        .unwrap();
    assert!(destroyed);
    // Nobody holds what the group no longer knows; it is delivered again.
    let effects = answered(&first);
    let leases = [first.lease.clone()];
    let lost = bus.renew(NARRATOR, "w1", &leases).await.unwrap();
    assert_eq!(lost.gone, leases);
    assert_eq!(bus.commit(&first, &effects).await.unwrap(), Committed::Gone);
    assert_eq!(ids(&reader.next(10).await.unwrap()), ["a"]);
}

#[tokio::test]
async fn only_a_silent_consumer_without_entries_is_forgotten() {
    let server = Server::start();
    let bus = server.bus();
    for id in ["castle", "forest"] {
        create(&bus, id, Policies::default()).await;
        bus.publish(&action(id, "a")).await.unwrap();
    }
    let busy = one(bus.reader(NARRATOR, "busy").next(1).await.unwrap());
    let done = one(bus.reader(NARRATOR, "done").next(1).await.unwrap());
    bus.commit(&done, &Commit::default()).await.unwrap();
    let hour = Duration::from_secs(3_600);
    assert!(
        bus.remove_idle_consumers(NARRATOR, hour)
            .await
            .unwrap()
            .is_empty()
    );
    let removed = until(async || {
        let removed = bus
            .remove_idle_consumers(NARRATOR, Duration::ZERO)
            .await
            .unwrap();
        (!removed.is_empty()).then_some(removed)
    });
    assert_eq!(removed.await, ["done"]);
    assert!(
        bus.renew(NARRATOR, "busy", &[busy.lease])
            .await
            .unwrap()
            .is_empty()
    );
}

/// Asks again until there is an answer, for at most 10 s.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(LEASE, asking)
        .await
        .expect("it happens within 10 s")
}
