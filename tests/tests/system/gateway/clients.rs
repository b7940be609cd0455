//! Clients that others wrote: Python's `websockets` and `httpx-sse`, and curl. The scripts in tests/clients read answers by
//! their deltas, are cut in the middle, come back, and compare; what they read is compared here once more with the log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use gateway::auth::Role;
use sha2::{Digest, Sha256};
use story::{Agent, Payload, Seq};
use system_tests::Options;
use tokio::process::Command;
use tokio::time::timeout;

use super::Edge;

const LONGEST: Duration = Duration::from_secs(120);

#[tokio::test]
async fn websockets_of_python_reads_every_character_once() -> anyhow::Result<()> {
    read_by("by_websockets.py", 2, 2).await
}

#[tokio::test]
async fn httpx_sse_of_python_reads_every_character_once() -> anyhow::Result<()> {
    read_by("by_httpx_sse.py", 2, 4).await
}

#[tokio::test]
async fn curl_reads_every_character_once() -> anyhow::Result<()> {
    let curl = Command::new("curl").arg("--version").output().await;
    if curl.is_err() {
        return skipped("curl");
    }
    read_by("by_curl.py", 2, 1).await
}

/// Runs a script that reads so many answers and is refused so many times.
async fn read_by(script: &str, answers: usize, refusals: usize) -> anyhow::Result<()> {
    let Some(python) = python()? else {
        return Ok(());
    };
    let edge = Edge::start_with(model()?, &[]).await?;
    let _narrator = edge.stack.worker(Agent::Narrator)?;
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let mut command = Command::new(python);
    command
        .args(["-B".into(), clients.join(script)])
        .env("GATEWAY", edge.node.url(""))
        .env("TOKEN", edge.token("mira", Role::Author)?)
        .env("STORY", edge.story.as_str())
        .kill_on_drop(true);
    let output = timeout(LONGEST, command.output()).await??;
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script}: {told}\n{errors}");
    ensure!(told.lines().count() == answers + refusals, "{told}");
    let log = edge.stack.bus.log(&edge.story, Seq(0), 100).await?;
    let narrations = log.iter().filter_map(|entry| match entry.event.payload() {
        Payload::Narration(narration) => Some(&narration.text),
        _ => None,
    });
    let mut count = 0;
    for text in narrations {
        count += 1;
        let digest = Sha256::digest(text);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = told
            .lines()
            .any(|line| line.ends_with(&format!("sha256 {digest} = {digest}")));
        ensure!(line, "{digest} of {text:?} is not in {told}");
    }
    ensure!(count == answers, "{count} answers");
    edge.stack.end().await;
    Ok(())
}

/// A model that answers slowly, and with characters of more than one byte, each time with other words.
fn model() -> anyhow::Result<Options> {
    let rules: Vec<String> = ["again", ""]
        .iter()
        .map(|when| {
            let words: String = (0..110).map(|n| format!("w{n}{when} é{n} 🜂 ")).collect();
            let text = format!("{}.\n@@@\n{{\"choices\":[],\"speak\":[]}}", words.trim());
            let text = serde_json::to_string(&text)?;
            anyhow::Ok(format!(
                "- when: {{endpoint: chat, agent: narrator, regex: \"{when}\"}}\n  reply: {{text: {text}}}\n"
            ))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Options {
        scenario: format!("rules:\n{}", rules.concat()),
        between_tokens: Duration::from_millis(12),
        ..Options::default()
    })
}

/// The Python with the clients; where there is none the test is passed over, which CI does not allow.
fn python() -> anyhow::Result<Option<PathBuf>> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    if python.exists() {
        return Ok(Some(python));
    }
    skipped("a .venv with Python clients")?;
    Ok(None)
}

fn skipped(what: &str) -> anyhow::Result<()> {
    let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    ensure!(!in_ci, "no {what} here: scripts/need-sdk gets it");
    println!("SKIPPED: there is no {what} here: scripts/need-sdk gets it");
    Ok(())
}
