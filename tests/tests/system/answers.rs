//! An action is answered, in the order of the story.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use story::{Agent, Payload, Policies};
use system_tests::{Options, Process, Stack};

use crate::command::{says, storyfleet};

#[tokio::test]
async fn an_action_is_answered_by_narration_then_dialogue() -> anyhow::Result<()> {
    let scenario = r#"rules:
- when: { agent: narrator }
  reply: { text: "The door gives way.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[{\"character\":\"Sibyl\",\"intent\":\"to warn\"}]}" }
- when: { agent: dialogue }
  reply: { text: "Mind the step." }
"#;
    let stack = Stack::start(Options::playing(scenario)).await?;
    let _fleet = stack.fleet()?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let action = stack.act(&story, "a1", "I open the door").await?;

    let narration = reader.end_of(&action).await?;
    assert_eq!(narration.payload().text(), Some("The door gives way."));
    let dialogue = reader.end_of(&narration.id).await?;
    let Payload::Dialogue(line) = dialogue.payload() else {
        panic!("not dialogue: {dialogue:?}");
    };
    assert_eq!(
        (line.character.as_str(), line.text.as_str()),
        ("Sibyl", "Mind the step.")
    );
    let kinds: Vec<&str> = reader.events().map(story::Event::kind).collect();
    assert_eq!(kinds, ["action", "narration", "dialogue"]);
    stack.audit(1).await?;
    stack.end().await;
    Ok(())
}

/// What `watch --json` wrote of a response: the text of its deltas and snapshots, and that of its event.
fn told(lines: &[String], response: &Value) -> anyhow::Result<(String, Option<String>)> {
    let (mut written, mut whole) = (String::new(), None);
    for line in lines {
        let seen: Value = serde_json::from_str(line)?;
        match seen["t"].as_str() {
            Some("delta" | "snapshot") if &seen["re"] == response => {
                written += seen["text"].as_str().unwrap_or_default();
            }
            Some("event") if &seen["event"]["id"] == response => {
                whole = seen["event"]["text"].as_str().map(str::to_owned);
            }
            _ => {}
        }
    }
    Ok((written, whole))
}

#[tokio::test]
async fn a_program_that_was_ended_in_the_middle_of_an_answer_goes_on_there() -> anyhow::Result<()> {
    let stack = Stack::start(Options {
        between_tokens: Duration::from_millis(30),
        ..Options::default()
    })
    .await?;
    let _fleet = stack.fleet()?;
    let story = stack.story("castle", Policies::default()).await?;
    stack.act(&story, "a1", "I open the door").await?;
    let (nowhere, redis) = (tempfile::tempdir()?, stack.redis_url());
    let watch = ["--redis", &redis, "watch", "castle", "--json"];
    let mut first = Process::start(storyfleet(nowhere.path(), &watch)?.stdout(Stdio::piped()))?;
    let mut out = first.output()?;
    out.line(r#""t":"delta""#).await?;
    first.kill().await?;
    let seen = out.with("");
    let last: Value = serde_json::from_str(&seen[seen.len() - 1])?;
    let from = last["cursor"].as_str().unwrap_or_default();

    let rest = says(
        nowhere.path(),
        &[&watch[..], &["--from", from, "--until-idle"]].concat(),
    )
    .await?;
    let rest: Vec<String> = rest.lines().map(str::to_owned).collect();
    let (begun, nothing) = told(&seen, &last["re"])?;
    let (ended, whole) = told(&rest, &last["re"])?;
    assert_eq!(nothing, None, "it was ended before the answer was");
    assert_eq!(Some(begun + &ended), whole);
    assert!(!ended.is_empty(), "{rest:#?}");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_whose_logs_nobody_reads_any_more_answers() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let logs = ["--log-filter", "debug"];
    let (narrator, log) = stack.worker_with(Agent::Narrator, &logs)?;
    drop(log);
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    for id in ["a1", "a2"] {
        let action = stack.act(&story, id, "I open the door").await?;
        let answer = reader.end_of(&action).await?;
        assert_eq!(answer.kind(), "narration");
    }
    assert!(narrator.end().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_line_of_a_log_names_its_event_as_it_is() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let logs = ["--log-filter", "debug"];
    let (narrator, mut lines) = stack.worker_with(Agent::Narrator, &logs)?;
    let json = [&logs[..], &["--log", "json"]].concat();
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let action = stack.act(&story, "a1", "I open the door").await?;
    reader.end_of(&action).await?;
    let line = lines.line("turn{").await?;
    assert!(line.contains("event=\"a1\""), "{line}");
    narrator.end().await?;
    let (narrator, mut lines) = stack.worker_with(Agent::Narrator, &json)?;
    let action = stack.act(&story, "a\"2", "I open the door").await?;
    reader.end_of(&action).await?;
    let line: serde_json::Value = serde_json::from_str(&lines.line("\"turn\"").await?)?;
    assert_eq!(line["span"]["event"], "a\"2", "{line}");
    narrator.end().await?;
    stack.end().await;
    Ok(())
}
