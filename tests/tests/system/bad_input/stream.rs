//! What other programs put into Redis, and events of any size.

use anyhow::Context;
use bus::{Error, Published};
use serde_json::{Value, json};
use story::{Agent, Event, MAX_EVENT_BYTES, Policies, StoryId};
use system_tests::{Options, Stack, eventually};

use super::{CONFIGURATION, refused, says};

fn action(story: &StoryId, id: &str, text: &str) -> Value {
    json!({
        "v": 1, "id": id, "type": "action", "story": story, "mode": "do", "text": text,
        "author": {"kind": "user", "id": "mira", "name": "Mira"}, "cause": [], "hop": 0,
        "at": "2026-11-24T01:02:03.456Z",
    })
}

/// An action of exactly that many bytes.
pub(super) fn action_of(story: &StoryId, id: &str, bytes: usize) -> anyhow::Result<Event> {
    // It is not decoded whole, since one byte too many could not be.
    let mut event: Event = serde_json::from_value(action(story, id, ""))?;
    let missing = bytes - event.encode().len();
    let text = action(story, id, &"x".repeat(missing));
    event = serde_json::from_value(text)?;
    assert_eq!(event.encode().len(), bytes);
    Ok(event)
}

#[tokio::test]
async fn an_event_of_64_kib_is_answered_and_one_byte_more_is_not_taken() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let over = action_of(&story, "over", MAX_EVENT_BYTES + 1)?;
    let refusal = stack.bus.publish(&over).await;
    assert!(matches!(refusal, Err(Error::TooLarge(_))), "{refusal:?}");
    let whole = action_of(&story, "whole", MAX_EVENT_BYTES)?;
    let taken = stack.bus.publish(&whole).await?;
    assert!(matches!(taken, Published::Logged(_)), "{taken:?}");

    let text = "x".repeat(MAX_EVENT_BYTES);
    let redis = stack.redis_url();
    let send = ["--redis", &redis, "send", "castle", &text];
    refused(
        "storyfleet",
        &send,
        CONFIGURATION,
        "at most 65536 are accepted",
    )
    .await?;

    let mut reader = stack.hear(&story).await?;
    let _fleet = stack.fleet()?;
    let answer = reader.end_of(&whole.id).await?;
    assert_eq!(answer.kind(), "narration");
    stack.audit(1).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn an_event_of_an_unknown_type_is_shown_and_stops_nobody() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut dance = action(&story, "d1", "a waltz");
    dance["type"] = "dance".into();
    let dance = Event::decode(dance.to_string().as_bytes())?;
    stack.bus.publish(&dance).await?;
    let key = "sf:{0}:log:castle";
    let garbage = [b"XADD", key.as_bytes(), b"2-0", b"e", b"\xff{"];
    stack.redis.command(&garbage).await?;
    let count = [b"HSET".as_slice(), b"sf:{0}:ctx:castle", b"seq", b"2"];
    stack.redis.command(&count).await?;

    let _fleet = stack.fleet()?;
    let mut reader = stack.hear(&story).await?;
    let action = stack.act(&story, "a1", "I open the door").await?;
    reader.end_of(&action).await?;
    let kinds: Vec<_> = reader.events().map(Event::kind).collect();
    assert_eq!(kinds, ["dance", "unreadable", "action", "narration"]);

    let redis = stack.redis_url();
    let watch = ["--redis", &redis, "watch", "castle", "--count", "4"];
    let json = says("storyfleet", &[&watch[..], &["--json"]].concat()).await?;
    assert!(json.contains("a waltz"), "{json}");
    says("storyfleet", &watch).await?;
    stack.audit(1).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn work_of_an_unknown_type_becomes_a_dead_letter_that_can_be_sent_again() -> anyhow::Result<()>
{
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut dance = action(&story, "d1", "a waltz");
    dance["type"] = "dance".into();
    let dance = dance.to_string();
    let fields = [
        ("story", "castle"),
        ("id", "d1"),
        ("part", "0"),
        ("e", &dance),
    ];
    let fields = fields.map(|(name, value)| (name, value.as_bytes()));
    stack.smuggle(Agent::Narrator, &fields).await?;

    let _fleet = stack.fleet()?;
    let letter = dead_letter(&stack).await?;
    assert_eq!(letter["class"], "unsupported");
    assert_eq!(letter["fields"]["e"], dance.as_str(), "not whole");
    let redis = stack.redis_url();
    let id = letter["id"].as_str().context("an id")?;
    let redrive = ["--redis", &redis, "dead", "redrive", "narrator", id];
    says("storyfleet", &redrive).await?;
    let again = dead_letter(&stack).await?;
    assert_ne!(again["id"], letter["id"]);
    assert_eq!(again["fields"]["e"], dance.as_str(), "not whole");

    let mut reader = stack.hear(&story).await?;
    let action = stack.act(&story, "a1", "I open the door").await?;
    let answer = reader.end_of(&action).await?;
    assert_eq!(answer.kind(), "narration");
    stack.end().await;
    Ok(())
}

/// The narrator's one dead letter, as `dead list` shows it.
pub(super) async fn dead_letter(stack: &Stack) -> anyhow::Result<Value> {
    let redis = stack.redis_url();
    let list = ["--redis", &redis, "--json", "dead", "list", "narrator"];
    eventually("a dead letter", async || {
        let letters = says("storyfleet", &list).await?;
        let first = letters.lines().next();
        Ok(first.map(serde_json::from_str).transpose()?)
    })
    .await
}
