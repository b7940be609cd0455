//! What nobody can answer is put aside whole, with its reason; the story goes on, and an operator decides.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bus::Seen;
use serde_json::Value;
use story::{
    Agent, Event, EventId, Failed, MAX_EVENT_BYTES, Outcome, Payload, Policies, StoryId, outcome,
};
use system_tests::{Options, Stack, Watcher, action, eventually};

use crate::command::{run, says};

/// `storyfleet dead` of this stack, its output as JSON, one value a line.
async fn dead(stack: &Stack, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    let nowhere = tempfile::tempdir()?;
    let url = stack.redis_url();
    let arguments = [&["--redis", &url, "--json", "dead"], arguments].concat();
    let lines = says(nowhere.path(), &arguments).await?;
    Ok(lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

async fn failure(reader: &mut Watcher, id: &str) -> anyhow::Result<Failed> {
    let end = reader.end_of(&id.parse()?).await?;
    match end.payload() {
        Payload::Failed(failed) => Ok(failed.clone()),
        _ => bail!("{id} did not fail: {end:?}"),
    }
}

/// The story takes another action.
async fn goes_on(
    stack: &Stack,
    story: &StoryId,
    id: &str,
    reader: &mut Watcher,
) -> anyhow::Result<()> {
    let next = stack.act(story, id, "I go on.").await?;
    let end = reader.end_of(&next).await?;
    ensure!(answers(&end, &next), "the story does not go on: {end:?}");
    Ok(())
}

fn answers(event: &Event, action: &EventId) -> bool {
    outcome(event).is_some_and(|(end, causes)| end == Outcome::Answered && causes.contains(action))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// An event of that many bytes.
fn of_bytes(story: &StoryId, id: &str, bytes: usize) -> anyhow::Result<Event> {
    let mut event = action(story, id, "I write a lot.", None)?;
    for length in [0, bytes] {
        let left = length.saturating_sub(event.encode().len());
        event
            .extra
            .insert("ink".to_owned(), "x".repeat(left).into());
    }
    Ok(event)
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_the_story_goes_on() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let _narrator = stack.worker(Agent::Narrator)?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let huge = of_bytes(&story, "huge", MAX_EVENT_BYTES + 1)?.encode();
    let poison = [
        (
            "latin",
            b"{\"v\":1,\"id\":\"caf\xe9\"}".as_slice(),
            "undecodable",
            "invalid unicode",
        ),
        ("broken", b"{oops", "undecodable", "not valid JSON"),
        ("empty", b"", "undecodable", "not valid JSON"),
        ("huge", huge.as_bytes(), "oversize", "65537 bytes"),
    ];
    for (id, event, ..) in poison {
        let names = [("story", story.as_str()), ("id", id), ("part", "0")];
        let mut fields = names.map(|(name, value)| (name, value.as_bytes())).to_vec();
        fields.push(("e", event));
        stack.smuggle(Agent::Narrator, &fields).await?;
    }
    for (id, _, class, _) in poison {
        assert_eq!(failure(&mut reader, id).await?.class, class, "{id}");
    }
    goes_on(&stack, &story, "a1", &mut reader).await?;

    let letters = dead(&stack, &["list"]).await?;
    assert_eq!(letters.len(), poison.len());
    for (id, event, class, reason) in poison {
        let letter = letters.iter().find(|letter| letter["event"] == id);
        let letter = letter.context(id)?;
        assert_eq!(letter["class"], class, "{letter}");
        assert!(text(letter, "reason").contains(reason), "{letter}");
        let kept = String::from_utf8_lossy(event);
        assert_eq!(text(&letter["fields"], "e"), kept, "a dead letter is whole");
    }
    stack.audit(1).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_without_a_story_can_only_be_purged() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let _narrator = stack.worker(Agent::Narrator)?;
    stack.smuggle(Agent::Narrator, &[("e", b"{}")]).await?;
    let letter = eventually("a dead letter", async || {
        Ok(dead(&stack, &["list"]).await?.pop())
    })
    .await?;
    let id = text(&letter, "id");
    let (nowhere, url) = (tempfile::tempdir()?, stack.redis_url());
    let redrive = ["--redis", &url, "dead", "redrive", "narrator", id];
    let refused = run(nowhere.path(), &redrive).await?;
    let errors = String::from_utf8(refused.stderr)?;
    assert!(
        !refused.status.success() && errors.contains("only be purged"),
        "{errors}"
    );
    let purged = dead(&stack, &["purge", "narrator", id]).await?;
    assert_eq!(purged[0]["done"], true);
    assert_eq!(dead(&stack, &["list"]).await?, Vec::<Value>::new());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_at_the_door() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let (nowhere, url) = (tempfile::tempdir()?, stack.redis_url());
    let text = "x".repeat(MAX_EVENT_BYTES);
    let sent = run(nowhere.path(), &["--redis", &url, "send", "castle", &text]).await?;
    let errors = String::from_utf8(sent.stderr)?;
    assert_eq!(sent.status.code(), Some(2));
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("at most 65536 are accepted"), "{errors}");

    let fits = of_bytes(&story, "fits", MAX_EVENT_BYTES)?;
    stack.bus.publish(&fits).await?;
    let over = of_bytes(&story, "over", MAX_EVENT_BYTES + 1)?;
    let refused = stack.bus.publish(&over).await;
    assert!(
        matches!(refused, Err(bus::Error::TooLarge(65_537))),
        "{refused:?}"
    );
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn an_event_that_breaks_the_prompt_is_put_aside_and_others_are_answered() -> anyhow::Result<()>
{
    let stack = Stack::start(Options::default()).await?;
    let prompts = prompts_that_fail_for("The unspeakable.")?;
    let folder = prompts.path().to_str().unwrap();
    let (_narrator, _log) = stack.worker_with(Agent::Narrator, &["--prompts", folder])?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    stack.act(&story, "bad", "The unspeakable.").await?;
    let failed = failure(&mut reader, "bad").await?;
    assert_eq!((failed.class.as_str(), failed.tries), ("prompt", 1));
    goes_on(&stack, &story, "a2", &mut reader).await?;

    let letters = dead(&stack, &["list"]).await?;
    let reason = text(&letters[0], "reason");
    assert!(reason.contains("narrator/turn.md, line"), "{reason}");
    let shown = dead(&stack, &["show", "narrator", text(&letters[0], "id")]).await?;
    assert_eq!(shown, letters);
    stack.audit(1).await?;
    stack.end().await;
    Ok(())
}

/// The narrator's own prompts, one of which has no words for this text.
fn prompts_that_fail_for(text: &str) -> anyhow::Result<tempfile::TempDir> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../prompts/narrator");
    let folder = tempfile::tempdir()?;
    let copies = folder.path().join("narrator");
    std::fs::create_dir(&copies)?;
    for file in std::fs::read_dir(own)? {
        let file: PathBuf = file?.path();
        let mut prompt = std::fs::read_to_string(&file)?;
        if file.ends_with("turn.md") {
            prompt += &format!(
                "{{% if actions[0].text == {text:?} %}}{{{{ actions[9].text }}}}{{% endif %}}\n"
            );
        }
        std::fs::write(
            copies.join(file.file_name().context("a file has a name")?),
            prompt,
        )?;
    }
    Ok(folder)
}

#[tokio::test]
async fn an_event_that_kills_three_workers_is_put_aside_and_can_be_sent_again() -> anyhow::Result<()>
{
    // Three calls that hold their worker until it is killed; whoever asks a fourth time is answered.
    let scenario = "rules:\n- when: { regex: ' does: I do the deadly', attempt: [1, 2, 3] }\n  reply: { fault: no_headers }\n";
    let stack = Stack::start(Options::playing(scenario)).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let deadly = stack.act(&story, "bad", "I do the deadly thing.").await?;
    for life in 1..=3 {
        let worker = stack.worker(Agent::Narrator)?;
        stack.asked(&deadly, life).await?;
        worker.kill().await?;
    }
    let _heir = stack.worker(Agent::Narrator)?;
    let failed = failure(&mut reader, "bad").await?;
    assert_eq!(
        (failed.class.as_str(), stack.calls_for(&deadly).await?),
        ("crash", 3)
    );
    goes_on(&stack, &story, "a2", &mut reader).await?;
    stack.audit(1).await?;

    let letters = dead(&stack, &["list"]).await?;
    assert_eq!(letters.len(), 1);
    let id = text(&letters[0], "id");
    let redriven = dead(&stack, &["redrive", "narrator", id]).await?;
    assert_eq!(redriven[0]["done"], true);
    let (nowhere, url) = (tempfile::tempdir()?, stack.redis_url());
    let redrive = ["--redis", &url, "dead", "redrive", "narrator", id];
    let again = run(nowhere.path(), &redrive).await?;
    let errors = String::from_utf8(again.stderr)?;
    assert!(errors.contains("has it no more"), "{errors}");
    reader
        .until(
            "its answer",
            |seen| matches!(seen, Seen::Event(entry) if answers(&entry.event, &deadly)),
        )
        .await?;
    assert_eq!(dead(&stack, &["list"]).await?, Vec::<Value>::new());
    // A second answer would come before this one's.
    goes_on(&stack, &story, "a3", &mut reader).await?;
    let answered = reader.events().filter(|event| answers(event, &deadly));
    assert_eq!(answered.count(), 1);
    stack.audit(3).await?;
    stack.end().await;
    Ok(())
}
