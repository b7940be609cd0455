//! The numbers that `storyfleet simulate-scale` reckons with are those that a real Redis has with a real worker.

use serde_json::Value;
use story::{Agent, Policies, StoryId};
use system_tests::{Options, Stack, eventually};

use crate::command::{run, says, told};

const SILENT: &str = "rules: [{reply: {fault: stall(600)}}]";
const STORIES: u64 = 9;

/// XLEN and the number that a first-read entry has among all.
async fn counts(stack: &Stack) -> anyhow::Result<(u64, u64)> {
    let top = ["top", "--once", "--json", "--every", "100ms"];
    let state: Value = serde_json::from_str(&told(&stack.redis_url(), &top).await?)?;
    let rows = state["agents"].as_array().cloned().unwrap_or_default();
    let row = rows
        .into_iter()
        .find(|row| row["agent"] == "narrator")
        .unwrap_or_default();
    let number = |name: &str| row[name].as_u64().unwrap_or(u64::MAX);
    Ok((number("waiting") + number("in_flight"), number("in_flight")))
}

#[tokio::test]
async fn work_is_one_entry_for_each_story_whether_nobody_one_or_a_full_worker_is_there()
-> anyhow::Result<()> {
    let stack = Stack::start(Options::playing(SILENT)).await?;
    let mut stories: Vec<StoryId> = Vec::new();
    for name in 0..STORIES {
        stories.push(
            stack
                .story(&format!("story-{name}"), Policies::default())
                .await?,
        );
    }
    for (event, story) in stories
        .iter()
        .flat_map(|story| [("a1", story), ("a2", story), ("a3", story)])
    {
        stack.act(story, event, "I wait.").await?;
    }
    // At rest, without a worker: what is behind a turn is not in it.
    assert_eq!(stack.bus.backlog(Agent::Narrator).await?, STORIES);
    assert_eq!(counts(&stack).await?, (STORIES, 0));
    // Full: what is in flight counts as what waits does.
    let (_worker, _) = stack.worker_with(Agent::Narrator, &["--concurrency", "4"])?;
    eventually("a full worker", async || {
        Ok((counts(&stack).await? == (STORIES, 4)).then_some(()))
    })
    .await?;
    assert_eq!(stack.bus.backlog(Agent::Narrator).await?, STORIES);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn work_is_nothing_once_all_is_answered() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let _fleet = stack.fleet()?;
    for name in 0..STORIES {
        let story = stack
            .story(&format!("story-{name}"), Policies::default())
            .await?;
        stack.act(&story, "a1", "I wait.").await?;
    }
    stack.audit(STORIES).await?;
    stack.backlog(Agent::Narrator, 0).await?;
    assert_eq!(counts(&stack).await?, (0, 0));
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_load_is_played_and_told_as_a_chart_and_as_json() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let load = folder.path().join("load.csv");
    let rows: String = (0..120).map(|minute| format!("{minute},60\n")).collect();
    std::fs::write(&load, format!("minute,events\n{rows}"))?;
    let load = load.to_string_lossy();
    let chart = says(folder.path(), &["simulate-scale", "--load", &load]).await?;
    assert!(chart.contains("    1       1.0         2"), "{chart}");
    let lines = says(
        folder.path(),
        &[
            "--json",
            "simulate-scale",
            "--load",
            &load,
            "--signal",
            "work,cpu",
        ],
    )
    .await?;
    for (line, signal) in lines.lines().zip(["work", "cpu"]) {
        let played: Value = serde_json::from_str(line)?;
        assert_eq!(played["summary"]["signal"], signal);
        assert_eq!(played["summary"]["answered"], 7_200, "{line}");
        assert_eq!(played["hours"].as_array().map(Vec::len), Some(2));
    }
    for (arguments, words) in [
        (&["--load", "nowhere.csv"][..], "nowhere.csv cannot be read"),
        (&["--scaled-object", &load], "is no ScaledObject of ours"),
        (
            &["--call-p50", "9s", "--call-p99", "8s"],
            "at least --call-p50",
        ),
    ] {
        let ended = run(folder.path(), &[&["simulate-scale"], arguments].concat()).await?;
        let errors = String::from_utf8(ended.stderr)?;
        assert_eq!(ended.status.code(), Some(2), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
    Ok(())
}
