//! What Redis refuses in the middle of a script leaves nothing half done.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use bus::{Bus, DraftChunk, Drafted, Error, Published, Settings};
use server::{action, castle, draft};
use story::{Agent, Seq};

#[tokio::test]
async fn an_event_that_the_log_refuses_can_be_sent_again() {
    let (server, bus) = castle(&[]).await;
    // A log that is ahead of the story's count, as after a partial restore.
    let mut ahead = redis::cmd("XADD");
    ahead.arg("sf:{0}:log:castle").arg("1-0").arg("e").arg("{}");
    ahead.exec(&mut server.raw()).unwrap();
    let event = action("castle", "a");
    assert!(matches!(bus.publish(&event).await, Err(Error::Refused(_))));
    let again = bus.publish(&event).await.unwrap();
    assert_eq!(again, Published::Logged(Seq(2)));
}

#[tokio::test]
async fn a_channel_that_is_denied_costs_readers_time_and_no_text() {
    let (server, _) = castle(&[]).await;
    let mut deaf = redis::cmd("ACL");
    deaf.arg("SETUSER")
        .arg("deaf")
        .arg(["on", ">word", "~*", "+@all", "resetchannels"].as_slice());
    deaf.exec(&mut server.raw()).unwrap();
    let url = server.url().replace("redis://", "redis://deaf:word@");
    let deaf = Bus::new(Settings::new(url)).unwrap();

    deaf.publish(&action("castle", "a")).await.unwrap();
    let delivery = deaf
        .reader(Agent::Narrator, "w1")
        .next(1)
        .await
        .unwrap()
        .remove(0);
    let work = delivery.work.as_ref().unwrap();
    let draft = draft(&delivery, work.response(Agent::Narrator));
    let attempt = deaf.reset_draft(&draft).await.unwrap().unwrap();
    let chunk = DraftChunk {
        draft: &draft,
        attempt,
        i: 0,
        n: 1,
        text: "Once",
    };
    assert_eq!(deaf.draft(&chunk).await.unwrap(), Drafted::Ok);
}
