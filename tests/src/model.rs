//! The mock model as a process of its own, that can be killed and started again at the same address.

use std::process::Stdio;

use anyhow::{Context, ensure};
use mock_llm::fault;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{Process, eventually, free_address, program};

#[derive(Debug)]
pub struct Model {
    url: String,
    arguments: Vec<String>,
    /// Who does not show it is refused.
    key: Option<String>,
    process: Option<Process>,
    /// Of the scenario.
    _folder: TempDir,
}

impl Model {
    /// One that plays by `scenario` (empty: none), with further options: `["--seed", "7"]`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(scenario: &str, options: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?.to_string();
        let mut arguments = vec!["--listen".to_owned(), address.clone()];
        arguments.extend(options.iter().map(ToString::to_string));
        if !scenario.is_empty() {
            let file = folder.path().join("scenario.yaml");
            std::fs::write(&file, scenario)?;
            let file = file.into_os_string().into_string();
            arguments.extend(["--scenario".to_owned(), file.ok().context("a name")?]);
        }
        let mut model = Self {
            url: format!("http://{address}/v1"),
            arguments,
            key: None,
            process: None,
            _folder: folder,
        };
        model.resume().await?;
        Ok(model)
    }

    /// Its address, as workers are told it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many calls it answered with a fault.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn faults(&self) -> anyhow::Result<u64> {
        let calls = self.calls().await?;
        let outcomes = calls["outcomes"].as_object().context("outcomes")?;
        let faults = fault::TABLE.iter().filter_map(|row| outcomes.get(row.name));
        Ok(faults.filter_map(Value::as_u64).sum())
    }

    /// How often it was asked.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn requests(&self) -> anyhow::Result<u64> {
        self.calls().await?["total"].as_u64().context("how often")
    }

    /// Waits until it was asked so often.
    ///
    /// # Errors
    /// When it was not, or more often.
    pub async fn is_asked(&self, times: usize) -> anyhow::Result<()> {
        eventually(&format!("it is asked {times} times"), async || {
            let asked = usize::try_from(self.requests().await?)?;
            ensure!(asked <= times, "it was asked {asked} times");
            Ok((asked == times).then_some(()))
        })
        .await
    }

    /// What it tells of all of them together.
    async fn calls(&self) -> anyhow::Result<Value> {
        let admin = self.url.replace("/v1", "/admin");
        let report = reqwest::get(format!("{admin}/calls?limit=0")).await?;
        let mut report: Value = report.json().await?;
        Ok(report["calls"].take())
    }

    /// Starts it again; what it counted is forgotten.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(program("mock-llm")?);
        command.args(&self.arguments).stdout(Stdio::piped());
        command.envs(self.key.iter().map(|key| ("MOCK_LLM_API_KEY", key)));
        let mut process = Process::start(&mut command)?;
        process.output()?.line("ready").await?;
        self.process = Some(process);
        Ok(())
    }

    /// From now on only `key` is good.
    pub(crate) async fn change_key(&mut self, key: &str) -> anyhow::Result<()> {
        self.kill().await?;
        self.key = Some(key.to_owned());
        self.resume().await
    }

    /// SIGTERM: calls under way may finish.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(mut self) -> anyhow::Result<()> {
        Process::end_if(&mut self.process).await
    }

    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Process::kill_if(&mut self.process).await
    }
}
