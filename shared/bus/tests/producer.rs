//! A producer that has only the scripts and docs/producers.md: no key, lane or argument is taken from the crate.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use bus::Published;
use server::{action, castle};
use story::Agent;

const SCRIPT: &str = concat!(
    include_str!("../scripts/lane.lua"),
    include_str!("../scripts/publish.lua")
);

#[tokio::test]
async fn the_documented_call_puts_an_action_into_its_lane_once() {
    let (server, bus) = castle(&[]).await;
    let event = action("castle", "turn-1");
    let call = || {
        let mut call = redis::cmd("EVAL");
        call.arg(SCRIPT).arg(10);
        for key in ["ctx", "seen", "log", "live"] {
            call.arg(format!("sf:{{0}}:{key}:castle"));
        }
        for agent in ["moderator", "narrator"] {
            call.arg(format!("sf:{{0}}:work:{agent}"))
                .arg(format!("sf:{{0}}:turn:{agent}:castle"))
                .arg(format!("sf:{{0}}:parked:{agent}:castle"));
        }
        call.arg("castle").arg("turn-1").arg("action");
        call.arg(event.encode()).arg(1000).arg(86_400_000).arg(0);
        let mut redis = server.raw();
        call.query::<Vec<redis::Value>>(&mut redis).unwrap()
    };
    assert_eq!(call().len(), 2);
    assert_eq!(call(), [redis::Value::BulkString(b"DUP".to_vec())]);
    assert_eq!(bus.publish(&event).await.unwrap(), Published::Duplicate);

    let mut reader = bus.reader(Agent::Narrator, "w1");
    let delivery = reader.next(1).await.unwrap().remove(0);
    assert_eq!(delivery.work.unwrap().event, event);
}
