//! What another prompt changes.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use story::{Agent, Policies};
use system_tests::{Options, Stack};
use tempfile::TempDir;

use super::{JSON, Replayed, end, replay, turns};

/// The prompts of the workspace, with other words in one of them.
pub(super) fn prompts(file: &str, from: &str, to: &str) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../prompts");
    for agent in std::fs::read_dir(ours)? {
        let agent = agent?;
        if !agent.file_type()?.is_dir() {
            continue;
        }
        let copy = folder.path().join(agent.file_name());
        std::fs::create_dir(&copy)?;
        for prompt in std::fs::read_dir(agent.path())? {
            let prompt = prompt?;
            std::fs::copy(prompt.path(), copy.join(prompt.file_name()))?;
        }
    }
    let changed = folder.path().join(file);
    let text = std::fs::read_to_string(&changed)?;
    assert_eq!(text.matches(from).count(), 1, "{file}");
    std::fs::write(&changed, text.replace(from, to))?;
    Ok(folder)
}

/// One word of a prompt, and how the lines that it is in are shown.
struct Change {
    agent: Agent,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    shown: [&'static str; 2],
}

const CHANGES: [Change; 2] = [
    Change {
        agent: Agent::Narrator,
        file: "narrator/system.md",
        from: "You are the narrator of",
        to: "You are the teller of",
        shown: [
            "- You are the [-narrator-] of",
            "+ You are the {+teller+} of",
        ],
    },
    Change {
        agent: Agent::Dialogue,
        file: "dialogue/system.md",
        from: "Write only the words",
        to: "Write just the words",
        shown: ["Write [-only-] the words", "Write {+just+} the words"],
    },
];

#[tokio::test]
async fn one_other_word_of_a_prompt_is_shown_where_it_is_with_what_follows_from_it()
-> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let fleet = stack.fleet()?;
    for id in ["a1", "a2"] {
        let action = stack.act(&story, id, "I open the door.").await?;
        reader.end_of(&action).await?;
    }
    let said = stack.say(&story, "a3", "Who are you?").await?;
    reader.end_of(&said).await?;
    end(fleet).await?;
    let recorded = turns(&stack, &story).await?;
    for change in &CHANGES {
        let of_agent = recorded.iter().filter(|turn| turn.agent == change.agent);
        change.is_shown(&stack, of_agent.count()).await?;
    }
    stack.end().await;
    Ok(())
}

impl Change {
    async fn is_shown(&self, stack: &Stack, turns: usize) -> anyhow::Result<()> {
        let same = self.with(stack, self.from, &[]).await?;
        assert_eq!(same.code, Some(0), "{same:#?}");

        let text = self.with(stack, self.to, &[]).await?;
        assert_eq!(text.code, Some(1), "{text:#?}");
        for words in self.shown {
            let shown = text.out.matches(words).count();
            assert_eq!(shown, turns, "{words}: {}", text.out);
        }
        let json = self.with(stack, self.to, &JSON).await?;
        assert_eq!(json.code, Some(1), "{json:#?}");
        let lines = json.lines()?;
        let (sum, all) = lines.split_last().context("a sum")?;
        assert_eq!(sum["outcomes"]["differs"], turns, "{sum}");
        for turn in all {
            let expected = ["effects", "prompt", "request"];
            assert_eq!(levels(turn), expected.into(), "{turn}");
        }
        Ok(())
    }

    /// The story's turns with other words in the prompt.
    async fn with(&self, stack: &Stack, words: &str, more: &[&str]) -> anyhow::Result<Replayed> {
        let folder = prompts(self.file, self.from, words)?;
        let path = folder.path().display().to_string();
        let told = [&["--story", "castle", "--prompts", &path], more].concat();
        replay(stack, self.agent, &told).await
    }
}

fn levels(turn: &Value) -> BTreeSet<&str> {
    let found = turn["differences"].as_array().into_iter().flatten();
    found.filter_map(|found| found["level"].as_str()).collect()
}
