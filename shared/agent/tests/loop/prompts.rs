//! The prompts of a worker that runs: changed, broken and mended.

use std::fs::{File, remove_file, write};
use std::path::PathBuf;

use agent::HandleError;
use story::Payload;

use super::actor::{Act, PROMPT};
use super::stage::Stage;
use super::worker::Worker;

/// A folder with the agent's prompt.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.0.path().join("narrator")).unwrap();
        write(folder.file(), PROMPT).unwrap();
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("narrator/turn.md")
    }

    fn write(&self, text: &str) {
        write(self.file(), text).unwrap();
    }
}

/// The prompt that made the answer to each event.
async fn made_by(stage: &Stage, story: &str) -> Vec<(String, String)> {
    let log = stage.log(story).await.into_iter();
    log.filter_map(|entry| match entry.event.payload() {
        Payload::Narration(narration) => {
            let report = narration.llm.clone().unwrap();
            Some((entry.event.cause[0].to_string(), report.prompt))
        }
        _ => None,
    })
    .collect()
}

/// Until the worker's numbers are these: prompts taken, prompts refused, whether some are refused now.
async fn until_told(stage: &Stage, worker: &Worker, told: [u32; 3]) {
    let [loaded, failed, stale] = told;
    let total = "storyfleet_prompt_reloads_total{agent=\"narrator\",result=";
    let lines = [
        format!("{total}\"loaded\"}} {loaded}\n"),
        format!("{total}\"failed\"}} {failed}\n"),
        format!("storyfleet_prompts_stale{{agent=\"narrator\"}} {stale}\n"),
    ];
    let what = format!("{told:?}");
    stage
        .until(&what, async || lines.iter().all(|line| worker.counts(line)))
        .await;
}

#[tokio::test]
async fn a_turn_has_the_prompts_that_it_began_with_though_its_beat_begins_anew() {
    let stage = Stage::with(&["one", "untellable"]).await;
    let folder = Folder::new();
    let mut worker = stage.worker_with(folder.0.path(), |id| match id {
        "untellable" => Act::FailWhenTold(HandleError::permanent(
            "context",
            anyhow::anyhow!("too long"),
        )),
        _ => Act::Answer,
    });
    stage.story("b").await;
    stage.say("b", "before").await;
    stage.answers("b", 1).await;
    worker.begun("one").await;
    // As long as it was, and of the same time: some tools leave it so.
    let time = folder.file().metadata().unwrap().modified().unwrap();
    folder.write(&PROMPT.replace("old", "new"));
    let file = File::options().write(true).open(folder.file()).unwrap();
    file.set_modified(time).unwrap();
    until_told(&stage, &worker, [1, 0, 0]).await;
    stage.say("b", "after").await;
    stage.answers("b", 2).await;
    worker.tell();
    stage.answers("a", 1).await;
    worker.end().await;

    let [(_, old), (_, new)] = made_by(&stage, "b").await.try_into().unwrap();
    assert!(old.starts_with("turn@1#") && new.starts_with("turn@1#") && old != new);
    assert_eq!(
        made_by(&stage, "a").await,
        [("one".to_owned(), old.clone())]
    );
    for (story, prompts) in [("a", vec![&old]), ("b", vec![&old, &new])] {
        let recorded = stage.recorded(story).await;
        let answers = recorded.iter().filter(|turn| turn.effects.is_some());
        let with: Vec<_> = answers.flat_map(|turn| &turn.made_with.prompts).collect();
        assert_eq!(with, prompts, "{story}");
    }
}

#[tokio::test]
async fn a_prompt_that_cannot_be_used_changes_nothing_and_is_told_of_until_it_can() {
    let stage = Stage::with(&["one"]).await;
    let folder = Folder::new();
    let worker = stage.worker_with(folder.0.path(), |_| Act::Answer);
    stage.answers("a", 1).await;
    until_told(&stage, &worker, [0, 0, 0]).await;
    folder.write("---\nname: turn\nversion: 2\n---\nIt is {{ nothing }}.\n");
    until_told(&stage, &worker, [0, 1, 1]).await;
    remove_file(folder.file()).unwrap();
    until_told(&stage, &worker, [0, 2, 1]).await;
    stage.say("a", "two").await;
    stage.answers("a", 2).await;
    folder.write(PROMPT);
    until_told(&stage, &worker, [0, 2, 0]).await;
    stage.say("a", "three").await;
    stage.answers("a", 3).await;
    folder.write("---\nname: turn\nversion: 2\n---\nIt is new.\n");
    until_told(&stage, &worker, [1, 2, 0]).await;
    stage.say("a", "four").await;
    stage.answers("a", 4).await;
    worker.end().await;
    let made = made_by(&stage, "a").await;
    let [one, two, three, four] = [0, 1, 2, 3].map(|n: usize| &made[n].1);
    assert!(one == two && two == three, "{made:?}");
    assert!(four.starts_with("turn@2#"), "{made:?}");
}
