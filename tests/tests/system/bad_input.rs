//! Whatever is wrong in what people, operators and other programs give: one line that says what to do and an exit code,
//! or a dead letter; nothing lost, no panic, no secret shown.

pub(crate) mod clock;
mod command_line;
mod model;
mod server;
mod stream;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use system_tests::program;
use tokio::process::Command;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

/// Part of every secret that the programs are given here.
const SECRET: &str = "hunter2";

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1/v1";

/// Exit codes.
const FAILED: i32 = 1;
const CONFIGURATION: i32 = 2;

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a program to its end, with an API key in its environment and in a folder where no fleet runs.
async fn run(name: &str, arguments: &[&str]) -> anyhow::Result<Ended> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program(name)?);
    command
        .args(arguments)
        .current_dir(&folder)
        .env_remove("REDIS_URL")
        .env("LLM_API_KEY", format!("sk-{SECRET}"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(DEADLINE, command.output())
        .await
        .with_context(|| format!("{name} {arguments:?} does not end"))??;
    let ended = Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    };
    for text in [&ended.out, &ended.err] {
        ensure!(!text.contains(SECRET), "{name} shows a secret: {ended:?}");
        ensure!(!text.contains("panicked"), "{name} panicked: {ended:?}");
    }
    Ok(ended)
}

/// The standard output of what must succeed.
async fn says(name: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let ended = run(name, arguments).await?;
    ensure!(
        ended.code == Some(0),
        "{name} {arguments:?} failed: {ended:?}"
    );
    Ok(ended.out)
}

/// Runs what must end with that code and say this, on one line.
async fn refused(name: &str, arguments: &[&str], code: i32, says: &str) -> anyhow::Result<()> {
    let ended = run(name, arguments).await?;
    let line = ended.err.trim_end();
    ensure!(
        ended.code == Some(code) && line.starts_with("error: ") && line.contains(says),
        "{name} {arguments:?} should say {says:?} and end with {code}: {ended:?}"
    );
    ensure!(line.lines().count() == 1, "not one line: {line}");
    Ok(())
}

/// A worker that must not start.
async fn worker_refused(redis: &str, more: &[&str], says: &str) -> anyhow::Result<()> {
    let run = ["run", "--redis", redis, "--llm", NOWHERE, "--model", "m"];
    refused("narrator", &[&run, more].concat(), CONFIGURATION, says).await
}
