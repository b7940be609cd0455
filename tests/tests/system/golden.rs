//! Golden stories: what agents ask models and make of their answers is as it was recorded, until somebody says otherwise.

use std::path::Path;

use anyhow::{Context, ensure};
use story::Agent;
use system_tests::program;
use tokio::process::Command;

#[tokio::test]
async fn the_golden_stories_go_as_they_went() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut stories = 0;
    for entry in std::fs::read_dir(&folder)? {
        let file = entry?.path();
        if file.extension().is_none_or(|kind| kind != "ndjson") {
            continue;
        }
        stories += 1;
        for agent in Agent::ALL {
            let mut command = Command::new(program(agent.as_str())?);
            command.env_remove("STORYFLEET_PROMPTS");
            command.arg("replay").arg("--from-file").arg(&file);
            let ended = command.output().await.context("the agent runs")?;
            let told = String::from_utf8_lossy(&ended.stdout);
            ensure!(
                ended.status.success(),
                "{agent}, {}: {}\n{told}{}\nWhere this is meant: make golden",
                file.display(),
                ended.status,
                String::from_utf8_lossy(&ended.stderr)
            );
        }
    }
    ensure!(stories > 0, "no story in {}", folder.display());
    Ok(())
}
