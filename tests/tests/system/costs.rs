//! What answers cost, added up out of the stories' logs.

use std::collections::BTreeSet;
use std::pin::pin;

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use serde_json::Value;
use story::{Agent, LlmReport, Payload, Policies, StoryId};
use system_tests::{Options, Stack};

use crate::command::run;

const PRICES: &str = "models: {mock: {price: {input: 2, output: 8}}}";

/// What `storyfleet costs` wrote, and its exit code.
struct Told {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Told {
    /// Of `--json`.
    fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let lines = self.out.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }
}

async fn costs(stack: &Stack, words: &[&str]) -> anyhow::Result<Told> {
    let nowhere = tempfile::tempdir()?;
    let redis = stack.redis_url();
    let words = [&["--redis", &redis, "costs"], words].concat();
    let output = run(nowhere.path(), &words).await?;
    Ok(Told {
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
        code: output.status.code(),
    })
}

/// A narrator answers these.
async fn answers(stack: &Stack, words: &[&str], acts: &[(&StoryId, &str)]) -> anyhow::Result<()> {
    let (narrator, _log) = stack.worker_with(Agent::Narrator, words)?;
    for (story, id) in acts {
        let said = stack.act(story, id, "I wait.").await?;
        stack.hear(story).await?.end_of(&said).await?;
    }
    narrator.end().await?;
    Ok(())
}

/// What its answers say of themselves, and the day that each was made on.
async fn said(stack: &Stack, story: &StoryId) -> anyhow::Result<Vec<(String, LlmReport)>> {
    let mut said = Vec::new();
    let mut log = pin!(stack.bus.whole_log(story));
    while let Some(entry) = log.try_next().await? {
        if let Payload::Narration(narration) = entry.event.payload() {
            let day = entry.event.at.to_string()[..10].to_owned();
            said.extend(narration.llm.clone().map(|llm| (day, llm)));
        }
    }
    Ok(said)
}

#[tokio::test]
async fn what_stories_and_days_cost_is_what_their_answers_say() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("models.yaml");
    std::fs::write(&file, PRICES)?;
    let castle = stack.story("castle", Policies::default()).await?;
    let mine = stack.story("mine", Policies::default()).await?;
    let priced = ["--models", &file.to_string_lossy()];
    let acts = [(&castle, "a1"), (&castle, "a2"), (&mine, "a1")];
    answers(&stack, &priced, &acts).await?;
    answers(&stack, &[], &[(&mine, "a2")]).await?;

    let (castles, mines) = (said(&stack, &castle).await?, said(&stack, &mine).await?);
    let told = [&castles[..], &mines].concat();
    // It may be midnight meanwhile.
    let days: BTreeSet<&str> = told.iter().map(|(day, _)| day.as_str()).collect();
    let cost: f64 = told.iter().filter_map(|(_, llm)| llm.cost).sum();
    let tokens: u64 = told.iter().map(|(_, llm)| llm.tokens_in).sum();
    let all = costs(&stack, &["--json"]).await?.lines()?;
    let rows: BTreeSet<&str> = all.iter().filter_map(|row| row["day"].as_str()).collect();
    ensure!(rows == days, "{all:?}");
    let total = &all[days.len()]["total"];
    ensure!(total["answers"] == 4 && total["unpriced"] == 1, "{total}");
    let summed = total["cost"].as_f64().unwrap_or_default();
    ensure!(
        total["tokens_in"] == tokens && cost > 0.0 && (summed - cost).abs() < 1e-9,
        "{total} {cost}"
    );

    for day in days {
        let by_story = costs(&stack, &["--json", "--day", day]).await?.lines()?;
        for (story, said) in [("castle", &castles), ("mine", &mines)] {
            let row = by_story.iter().find(|row| row["story"] == story);
            let answers = said.iter().filter(|(its, _)| its == day).count();
            let told = row.and_then(|row| row["answers"].as_u64()).unwrap_or(0);
            ensure!(told == u64::try_from(answers)?, "{day}: {by_story:?}");
        }
    }
    let none = costs(&stack, &["--json", "--day", "2020-02-29"]).await?;
    ensure!(none.lines()?[0]["total"]["answers"] == 0, "{}", none.out);

    let shown = costs(&stack, &["--story", "mine", "--by", "model"]).await?;
    ensure!(
        shown.out.starts_with("model ") && shown.out.contains("\nmock "),
        "{}",
        shown.out
    );
    let note = "answers that are not in the cost: 1.";
    ensure!(shown.err.starts_with(note), "{}", shown.err);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_story_that_cannot_be_read_is_told_and_hides_no_other() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let castle = stack.story("castle", Policies::default()).await?;
    let mine = stack.story("mine", Policies::default()).await?;
    answers(&stack, &[], &[(&castle, "a1"), (&mine, "a1")]).await?;
    let log = "sf:{0}:log:castle";
    for words in [vec!["DEL", log], vec!["SET", log, "nonsense"]] {
        let words: Vec<&[u8]> = words.into_iter().map(str::as_bytes).collect();
        stack.redis.command(&words).await?;
    }
    let told = costs(&stack, &["--json"]).await?;
    let total = told.lines()?.pop().context("a total")?;
    ensure!(total["total"]["answers"] == 1, "{total}");
    ensure!(
        told.code == Some(1) && told.err.starts_with("castle cannot be read: "),
        "{}",
        told.err
    );
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_added_up_is_refused_with_what_to_write() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let of_by = "[possible values: day, story, agent, model]";
    for (words, code, says) in [
        (["--story", "nowhere"], 2, "there is no story 'nowhere'"),
        (["--story", "No Where"], 2, "--story"),
        (["--day", "yesterday"], 2, "write it like 2026-11-30"),
        (["--day", "2026-02-30"], 2, "write it like 2026-11-30"),
        (["--by", "person"], 2, of_by),
    ] {
        let refused = costs(&stack, &words).await?;
        ensure!(
            refused.code == Some(code) && refused.err.contains(says),
            "{words:?}: {}",
            refused.err
        );
    }
    stack.end().await;
    Ok(())
}
