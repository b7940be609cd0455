//! The mock model as a process of its own, that can be killed and started again at the same address.

use std::process::Stdio;

use anyhow::Context;
use tempfile::TempDir;
use tokio::process::Command;

use crate::redis::port;
use crate::stack::Options;
use crate::{Process, program};

#[derive(Debug)]
pub(crate) struct Model {
    /// As a worker is told it.
    pub(crate) url: String,
    options: Vec<String>,
    process: Option<Process>,
    /// Of the scenario.
    _folder: TempDir,
}

impl Model {
    pub(crate) async fn start(options: &Options) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = format!("127.0.0.1:{}", port()?);
        let url = format!("http://{address}/v1");
        let pause = format!("{}ms", options.between_tokens.as_millis());
        let mut arguments = ["--listen", &address, "--itl", &pause]
            .map(str::to_owned)
            .to_vec();
        if !options.scenario.is_empty() {
            let file = folder.path().join("scenario.yaml");
            std::fs::write(&file, &options.scenario)?;
            let file = file.into_os_string().into_string();
            arguments.extend(["--scenario".to_owned(), file.ok().context("a name")?]);
        }
        let mut model = Self {
            url,
            options: arguments,
            process: None,
            _folder: folder,
        };
        model.resume().await?;
        Ok(model)
    }

    /// Starts it again; what it counted is forgotten.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(program("mock-llm")?);
        command.args(&self.options).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        process.output()?.line("ready").await?;
        self.process = Some(process);
        Ok(())
    }

    /// SIGTERM: calls under way may finish.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.end().await?;
        }
        Ok(())
    }

    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }
}
