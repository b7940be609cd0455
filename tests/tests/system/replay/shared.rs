//! Turns that more than one event, worker or reader has a part in replay exactly.

use std::time::Duration;

use bus::Seen;
use story::{Agent, Outcome, Policies};
use system_tests::{Options, Stack, action};

use super::{JSON, end, exactly, replay};

#[tokio::test]
async fn an_answer_that_another_worker_took_over_goes_again_as_it_went() -> anyhow::Result<()> {
    let stack = Stack::start(Options {
        between_tokens: Duration::from_millis(25),
        ..Options::default()
    })
    .await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let doomed = stack.worker(Agent::Narrator)?;
    let action = stack.act(&story, "a1", "I open the door.").await?;
    let grows = |seen: &Seen| matches!(seen, Seen::Delta { .. });
    reader.until("live text", grows).await?;
    doomed.kill().await?;

    let heir = stack.worker(Agent::Narrator)?;
    assert_eq!(reader.outcome_of(&action).await?, Outcome::Answered);
    end([heir]).await?;
    assert_eq!(stack.calls_for(&action).await?, 2);
    let turns = exactly(&stack, &story).await?;
    assert_eq!(turns.len(), 1, "only an answer that counts is recorded");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_beat_of_three_actions_goes_again_as_it_went() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    for (id, text) in [
        ("a1", "I open the door."),
        ("a2", "I wait."),
        ("a3", "I go in."),
    ] {
        stack.act(&story, id, text).await?;
    }
    let narrator = stack.worker(Agent::Narrator)?;
    let answer = reader.end_of(&"a3".parse()?).await?;
    assert_eq!(answer.cause.len(), 3);
    end([narrator]).await?;
    let turns = exactly(&stack, &story).await?;
    let merged = turns.iter().filter_map(|turn| turn.effects.as_ref());
    assert_eq!(
        merged.map(|effects| effects.merged).collect::<Vec<_>>(),
        [2]
    );
    stack.end().await;
    Ok(())
}

/// It is told alone then, and what could not be told with it fails after.
#[tokio::test]
async fn an_event_whose_beat_failed_for_another_goes_again_as_it_went() -> anyhow::Result<()> {
    let scenario = "rules:\n- when: { agent: narrator, regex: 'does: I spit\\.' }\n  reply: { fault: content_filter }\n";
    let stack = Stack::start(Options::playing(scenario)).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let told = stack.act(&story, "a1", "I open the door.").await?;
    let failed = stack.act(&story, "a2", "I spit.").await?;
    let narrator = stack.worker(Agent::Narrator)?;
    assert_eq!(reader.outcome_of(&told).await?, Outcome::Answered);
    assert_eq!(reader.outcome_of(&failed).await?, Outcome::Failed);
    end([narrator]).await?;
    let turns = exactly(&stack, &story).await?;
    let classes = turns
        .iter()
        .map(|turn| turn.failed.as_ref().map(|failed| failed.class.as_str()));
    assert_eq!(classes.collect::<Vec<_>>(), [None, Some("blocked")]);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn answers_for_some_people_only_go_again_as_they_went() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let fleet = stack.fleet()?;
    for (id, to) in [("a1", None), ("a2", Some("Sibyl".to_owned()))] {
        let mut whisper = action(&story, id, "I look into the letter.", to)?;
        whisper.audience = Some(vec!["mira".to_owned()]);
        stack.bus.publish(&whisper).await?;
        let answer = reader.end_of(&whisper.id).await?;
        assert_eq!(answer.audience, whisper.audience);
    }
    end(fleet).await?;
    let turns = exactly(&stack, &story).await?;
    for agent in [Agent::Narrator, Agent::Dialogue] {
        assert!(turns.iter().any(|turn| turn.agent == agent), "{agent}");
    }
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn an_event_that_failed_and_was_sent_again_goes_both_ways_again() -> anyhow::Result<()> {
    let scenario =
        "rules:\n- when: { agent: narrator, attempt: 1 }\n  reply: { fault: unauthorized }\n";
    let stack = Stack::start(Options::playing(scenario)).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    let action = stack.act(&story, "a1", "I open the door.").await?;
    assert_eq!(reader.outcome_of(&action).await?, Outcome::Failed);
    stack.redrive_all(Agent::Narrator).await?;
    reader.until_kind("narration").await?;
    end([narrator]).await?;
    let turns = exactly(&stack, &story).await?;
    let failed = turns.iter().map(|turn| turn.failed.is_some());
    assert_eq!(failed.collect::<Vec<_>>(), [true, false]);
    // Each at its place.
    for seq in ["2", "3"] {
        let only = ["--story", "castle", "--from", seq, "--to", seq];
        let found = replay(&stack, Agent::Narrator, &[&only[..], &JSON].concat()).await?;
        let lines = found.lines()?;
        assert_eq!((found.code, lines.len()), (Some(0), 2), "{found:#?}");
        assert_eq!(lines[0]["seq"].to_string(), seq);
    }
    stack.end().await;
    Ok(())
}
