//! redis-cli, which asks servers and sentinels.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use crate::authority::{Encrypted, asking};
use crate::redis::{Redis, cli_program};
use crate::wait::DEADLINE;

/// What a node says that must answer.
pub(super) async fn command(node: &Redis, words: &[&str]) -> anyhow::Result<String> {
    redis_cli(node.tls(), &at_port(&node.port().to_string(), words)).await
}

/// For who asks until it is as wanted: nothing yet where nobody listens, there is no answer in a second, or it is an error.
pub(super) async fn ask(
    tls: Option<&Encrypted>,
    port: u16,
    words: &[&str],
) -> anyhow::Result<String> {
    cli_program()?;
    let port = port.to_string();
    let words = at_port(&port, words);
    let answer = timeout(Duration::from_secs(1), redis_cli(tls, &words)).await;
    Ok(answer.ok().and_then(Result::ok).unwrap_or_default())
}

/// An error that the server replies is an error.
fn at_port<'a>(port: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&["-e", "-p", port], words].concat()
}

pub(super) async fn redis_cli(tls: Option<&Encrypted>, words: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(cli_program()?);
    command.args(asking(tls));
    let ran = command.args(words).kill_on_drop(true).output();
    let ran = timeout(DEADLINE, ran).await;
    let ran = ran.with_context(|| format!("{words:?} is not answered"))??;
    let [out, err] = [&ran.stdout, &ran.stderr].map(|told| String::from_utf8_lossy(told));
    ensure!(ran.status.success(), "{words:?}: {out}{err}");
    Ok(out.into_owned())
}
