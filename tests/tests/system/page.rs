//! The page on which a worker or a gateway tells whether it is ready.

use std::process::Stdio;

use anyhow::Context;
use serde_json::Value;
use system_tests::{Output, Process, eventually};
use tokio::process::Command;

/// A worker that was given a command, its log, and its page.
pub(crate) async fn serving(worker: &mut Command) -> anyhow::Result<(Process, Output, String)> {
    worker.args(["--log", "json", "--metrics-listen", "127.0.0.1:0"]);
    let mut worker = Process::start(worker.stderr(Stdio::piped()))?;
    let mut log = worker.errors()?;
    let serving: Value = serde_json::from_str(&log.line("/readyz").await?)?;
    let address = serving["address"].as_str().context("an address")?;
    Ok((worker, log, format!("http://{address}/readyz")))
}

/// Waits until a page says that, whatever its status.
pub(crate) async fn page_says(page: &str, words: &str) -> anyhow::Result<()> {
    eventually(&format!("{page} says {words:?}"), async || {
        let text = reqwest::get(page).await?.text().await?;
        Ok(text.contains(words).then_some(()))
    })
    .await
}

/// Waits until a page says that and nothing else.
pub(crate) async fn is_ready(page: &str) -> anyhow::Result<()> {
    eventually(&format!("{page} is ready"), async || {
        let text = reqwest::get(page).await?.text().await?;
        Ok((text == "ready\n").then_some(()))
    })
    .await
}
