//! Prompts that change while a worker runs: each answer is made with one set of them, and what is broken changes nothing.

use std::collections::BTreeSet;
use std::fs::{create_dir_all, read_to_string, remove_dir_all, rename, write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::pin::pin;

use agent::Recording;
use anyhow::{Context, ensure};
use futures::TryStreamExt;
use futures::future::try_join_all;
use sha2::{Digest, Sha256};
use story::{Agent, Event, Payload, Policies, StoryId};
use system_tests::{Options, Output, Process, Stack, eventually};
use tokio_util::sync::CancellationToken;

const STORIES: usize = 12;
const FILES: [&str; 3] = ["outline.md", "system.md", "turn.md"];
const TOOK: &str = "there are new prompts";

/// A folder of prompts as Kubernetes mounts one: each file is a link through `..data`, which is swapped.
struct Volume(tempfile::TempDir);

impl Volume {
    fn new() -> anyhow::Result<Self> {
        let volume = Self(tempfile::tempdir()?);
        create_dir_all(volume.narrator())?;
        volume.swap(0)?;
        for file in FILES {
            symlink(Path::new("..data").join(file), volume.narrator().join(file))?;
        }
        Ok(volume)
    }

    fn narrator(&self) -> PathBuf {
        self.0.path().join("narrator")
    }

    /// Puts a set in the place of the one before; gives what an answer says that it is made with.
    fn swap(&self, set: u32) -> anyhow::Result<String> {
        let (link, new) = (self.narrator().join("..data"), format!("..set-{set}"));
        create_dir_all(self.narrator().join(&new))?;
        for file in FILES {
            write(self.narrator().join(&new).join(file), text(file, set)?)?;
        }
        let aside = self.narrator().join("..data_tmp");
        symlink(&new, &aside)?;
        let before = link.canonicalize();
        rename(aside, link)?;
        if let Ok(before) = before {
            remove_dir_all(before)?;
        }
        reference(set)
    }

    /// A narrator with these prompts, what it logs, and where its metrics are.
    async fn narrator_on(&self, stack: &Stack) -> anyhow::Result<(Process, Output, String)> {
        let folder = self.0.path().to_str().context("a path of text")?;
        let options = ["--prompts", folder, "--metrics-listen", "127.0.0.1:0"];
        let options = [&options[..], &["--log", "json"]].concat();
        let (narrator, mut log) = stack.worker_with(Agent::Narrator, &options)?;
        let serving: serde_json::Value = serde_json::from_str(&log.line("/metrics").await?)?;
        let address = serving["address"].as_str().context("an address")?;
        Ok((narrator, log, format!("http://{address}/metrics")))
    }
}

/// The narrator's own prompt, as it is in this set.
fn text(file: &str, set: u32) -> anyhow::Result<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../prompts/narrator");
    Ok(read_to_string(own.join(file))? + &format!("Set {set}.\n"))
}

fn reference(set: u32) -> anyhow::Result<String> {
    let [system, turn] = ["system", "turn"].map(|name| {
        let text = text(&format!("{name}.md"), set)?;
        let version = text.lines().find_map(|line| line.strip_prefix("version: "));
        let digest = Sha256::digest(&text);
        let sha: String = digest[..6].iter().map(|b| format!("{b:02x}")).collect();
        let version = version.context("a version")?;
        anyhow::Ok(format!("narrator-{name}@{version}#{sha}"))
    });
    Ok(format!("{}+{}", system?, turn?))
}

/// An answer of a dozen pieces, with nothing to follow.
async fn stage() -> anyhow::Result<Stack> {
    let beat = "Dust falls. ".repeat(6);
    let scenario = format!(
        "rules:\n- when: {{ agent: narrator }}\n  reply: {{ text: \"{beat}\\n@@@\\n{{\\\"choices\\\":[\\\"Go on\\\"]}}\" }}\n"
    );
    Stack::start(Options {
        scenario,
        between_tokens: std::time::Duration::from_millis(20),
        ..Options::default()
    })
    .await
}

fn made_with(event: &Event) -> anyhow::Result<&str> {
    match event.payload() {
        Payload::Narration(narration) => Ok(&narration.llm.as_ref().context("a report")?.prompt),
        _ => anyhow::bail!("no narration: {event:?}"),
    }
}

/// Acts in a story of its own until `end` and once more, one action after the other; gives the answers.
async fn play(stack: &Stack, name: String, end: CancellationToken) -> anyhow::Result<Vec<Event>> {
    let story = stack.story(&name, Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let mut answers = Vec::new();
    loop {
        let is_last = end.is_cancelled();
        let id = format!("{name}-{}", answers.len());
        let action = stack.act(&story, &id, "I go on.").await?;
        answers.push(reader.end_of(&action).await?);
        if is_last {
            return Ok(answers);
        }
    }
}

/// What an answer is made with now.
async fn now(stack: &Stack, story: &StoryId, id: &str) -> anyhow::Result<String> {
    let mut reader = stack.hear(story).await?;
    let action = stack.act(story, id, "I go on.").await?;
    Ok(made_with(&reader.end_of(&action).await?)?.to_owned())
}

/// That the recording of each answer is of the prompts that the answer names.
async fn recorded(stack: &Stack, answers: &[Event]) -> anyhow::Result<()> {
    let mut turns = Vec::new();
    let mut recordings = pin!(stack.bus.all_recordings(&answers[0].story));
    while let Some(kept) = recordings.try_next().await? {
        turns.push(Recording::read(&Recording::unpacked(&kept.bytes)?)?);
    }
    ensure!(turns.len() == answers.len(), "{} recordings", turns.len());
    for (answer, turn) in answers.iter().zip(turns) {
        ensure!(answer.cause[0] == turn.event.id, "another turn: {turn:?}");
        let [outline, asked @ ..] = &turn.made_with.prompts[..] else {
            anyhow::bail!("no prompts: {turn:?}");
        };
        ensure!(outline.starts_with("narrator-outline@"), "{outline}");
        ensure!(
            asked.join("+") == made_with(answer)?,
            "{asked:?}: {answer:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn each_answer_is_made_with_one_set_of_prompts_while_they_are_swapped() -> anyhow::Result<()>
{
    let stack = stage().await?;
    let volume = Volume::new()?;
    let (narrator, mut log, metrics) = volume.narrator_on(&stack).await?;
    let end = CancellationToken::new();
    let playing = (0..STORIES).map(|n| play(&stack, format!("room-{n}"), end.clone()));
    let swapping = async {
        let _end = end.clone().drop_guard();
        let mut sets = vec![reference(0)?];
        for set in 1..=3 {
            let new = volume.swap(set)?;
            let (_, turn) = new.split_once('+').context("two prompts")?;
            ensure!(log.line(turn).await?.contains(TOOK));
            sets.push(new);
        }
        anyhow::Ok(sets)
    };
    let (stories, sets) = tokio::join!(try_join_all(playing), swapping);
    let (stories, sets) = (stories?, sets?);
    let mut seen = BTreeSet::new();
    for answers in &stories {
        let mut last = 0;
        for answer in answers {
            let made_with = made_with(answer)?;
            let set = sets.iter().position(|set| set == made_with);
            let set = set.with_context(|| format!("of no set: {made_with}; {sets:?}"))?;
            ensure!(set >= last, "back to an older set: {answers:#?}");
            last = set;
            seen.insert(set);
        }
        recorded(&stack, answers).await?;
    }
    ensure!(seen.len() > 3, "answers of every set: {seen:?}");
    let page = reqwest::get(metrics).await?.text().await?;
    let loaded = "storyfleet_prompt_reloads_total{agent=\"narrator\",result=\"loaded\"} 3\n";
    ensure!(page.contains(loaded), "{page}");
    ensure!(log.with("\"WARN\"").is_empty(), "{:?}", log.with(""));
    stack
        .audit(stories.iter().map(|answers| answers.len() as u64).sum())
        .await?;
    assert!(narrator.end().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_broken_prompt_is_told_of_with_its_line_and_those_before_stay() -> anyhow::Result<()> {
    let stack = stage().await?;
    let volume = Volume::new()?;
    let (narrator, mut log, metrics) = volume.narrator_on(&stack).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let told = async |stale: u32, failed: u32| {
        let lines = [
            format!("storyfleet_prompts_stale{{agent=\"narrator\"}} {stale}\n"),
            format!("_reloads_total{{agent=\"narrator\",result=\"failed\"}} {failed}\n"),
        ];
        eventually(&format!("{lines:?}"), async || {
            let page = reqwest::get(&metrics).await?.text().await?;
            Ok(lines.iter().all(|line| page.contains(line)).then_some(()))
        })
        .await
    };
    told(0, 0).await?;
    let file = volume.narrator().join("turn.md");
    let good = read_to_string(&file)?;
    let unknown = "---\nname: narrator-turn\nversion: 2\n---\nNow:\n{{ histery }}\n";
    let long = good.clone() + &"x".repeat(256 * 1024);
    for (failed, text, says) in [
        (
            1,
            unknown,
            "narrator/turn.md, line 6: there is no variable `histery`",
        ),
        (2, &long, "narrator/turn.md has more than 256 KiB"),
    ] {
        write(&file, text)?;
        let line = log.line(says).await?;
        ensure!(
            line.contains("\"WARN\"") && line.contains("those before stay"),
            "{line}"
        );
        told(1, failed).await?;
        let made_with = now(&stack, &story, &format!("broken-{failed}")).await?;
        ensure!(made_with == reference(0)?, "{made_with}");
    }
    write(&file, good)?;
    log.line("the prompts in use are there again").await?;
    told(0, 2).await?;
    ensure!(now(&stack, &story, "mended").await? == reference(0)?);
    volume.swap(1)?;
    log.line(TOOK).await?;
    told(0, 2).await?;
    ensure!(now(&stack, &story, "changed").await? == reference(1)?);
    ensure!(log.with("\"WARN\"").len() == 2, "{:?}", log.with(""));
    assert!(narrator.end().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_prompt_that_takes_for_ever_to_load_holds_up_no_answer_and_no_end() -> anyhow::Result<()>
{
    let stack = stage().await?;
    let volume = Volume::new()?;
    let (narrator, mut log, _) = volume.narrator_on(&stack).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let [all, end] = ["{% for x in range(100000) %}", "{% endfor %}"].map(|part| part.repeat(3));
    write(
        volume.narrator().join("turn.md"),
        text("turn.md", 1)? + &all + &end,
    )?;
    log.line("are not read within 5 s").await?;
    ensure!(now(&stack, &story, "a1").await? == reference(0)?);
    assert!(narrator.end().await?.success());
    stack.end().await;
    Ok(())
}
