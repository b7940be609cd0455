//! A machine whose clock is an hour wrong.

use std::process::Stdio;

use anyhow::bail;
use story::{Agent, Policies};
use system_tests::{Options, Process, Stack, eventually, free_address, program};
use tokio::process::Command;

/// libfaketime takes the place of the clock, in the process itself: it ends like any.
pub(crate) fn wrong(program: &str, offset: &str) -> anyhow::Result<Option<Command>> {
    let library = std::fs::read_dir("/usr/lib")?.filter_map(Result::ok);
    let library = library
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|library| library.exists());
    let Some(library) = library else {
        if std::env::vars_os().any(|(name, _)| name == "CI") {
            bail!("there is no faketime: scripts/need-faketime");
        }
        println!("SKIPPED: there is no faketime: scripts/need-faketime installs it");
        return Ok(None);
    };
    let mut command = Command::new(self::program(program)?);
    command.env("LD_PRELOAD", library).env("FAKETIME", offset);
    Ok(Some(command))
}

#[tokio::test]
async fn a_worker_with_a_wrong_clock_says_so_and_tells_events_by_that_of_redis()
-> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    for (offset, words) in [("+1h", "ahead of"), ("-1h", "behind")] {
        let Some(mut command) = wrong("narrator", offset)? else {
            return Ok(());
        };
        command.args(["run", "--redis", &stack.redis_url(), "--llm", stack.llm()]);
        let mut worker = Process::start(command.args(["--model", "mock"]).stderr(Stdio::piped()))?;
        let mut log = worker.errors()?;
        let told = log.line("this machine's clock is").await?;
        assert!(told.contains(words), "{told}");
        let story = stack
            .story(
                &format!("story{}", offset.len() + words.len()),
                Policies::default(),
            )
            .await?;
        let mut reader = stack.hear(&story).await?;
        let before = jiff::Timestamp::now();
        let action = stack.act(&story, "a", "I go on.").await?;
        let answer = reader.end_of(&action).await?;
        let late = answer.at.duration_since(before).as_secs();
        assert!((-1..60).contains(&late), "{late}: {answer:?}");
        assert!(worker.end().await?.success());
    }
    assert_eq!(stack.bus.backlog(Agent::Narrator).await?, 0);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_gateway_with_a_wrong_clock_says_why_nobody_comes_in() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let folder = tempfile::tempdir()?;
    let secrets = folder.path().join("secrets");
    std::fs::write(&secrets, "0123456789012345678901234567890123456789")?;
    let Some(mut command) = wrong("gateway", "+1h")? else {
        return Ok(());
    };
    command.args([
        "run",
        "--redis",
        &stack.redis_url(),
        "--listen",
        "127.0.0.1:0",
    ]);
    let internal = free_address()?;
    command.args(["--internal-listen", &internal.to_string(), "--jwt-secrets"]);
    let mut gateway = Process::start(command.arg(&secrets).stderr(Stdio::piped()))?;
    let mut log = gateway.errors()?;
    log.line("s ahead of Redis's").await?;
    let ready = format!("http://{internal}/readyz");
    eventually("readiness tells", async || {
        let ready = reqwest::get(&ready).await?.text().await?;
        Ok(ready
            .contains("ready, but this machine's clock is 3600 s ahead")
            .then_some(()))
    })
    .await?;
    assert!(gateway.end().await?.success());
    stack.end().await;
    Ok(())
}
