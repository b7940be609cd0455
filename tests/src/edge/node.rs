//! One node of the gateway as a process, which keeps its address when it is started again.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::Context;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::wait::eventually;
use crate::{Build, Process, Signal, free_address};

/// Tests do as much as many people, and each test of a limit gives it itself.
const UNLIMITED: [(&str, &str); 2] = [("--requests", "100000"), ("--publishes", "1000000")];

#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    arguments: Vec<String>,
    log: PathBuf,
    build: Build,
    process: Option<Process>,
}

impl Node {
    /// A node on the Redis at `redis` that takes the tokens of the secrets in `folder`, where it also logs; with further
    /// options: `["--ping", "1s"]`. It listens when this returns.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(redis: &str, folder: &Path, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_of(Build::current()?, redis, folder, options).await
    }

    /// The same of another build.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_of(
        build: Build,
        redis: &str,
        folder: &Path,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let secrets = folder.join("secrets").display().to_string();
        let listen = address.to_string();
        let own = ["run", "--redis", redis, "--listen", &listen];
        let own = own.into_iter().chain(["--jwt-secrets", &secrets]);
        let usual = UNLIMITED.iter().filter(|(name, _)| !options.contains(name));
        let usual = usual.flat_map(|(name, most)| [*name, *most]);
        let arguments = own.chain(usual).chain(options.iter().copied());
        let arguments = arguments.map(str::to_owned);
        let mut node = Self {
            address,
            arguments: arguments.collect(),
            log: folder.join(format!("gateway-{}.log", address.port())),
            build,
            process: None,
        };
        node.resume().await?;
        Ok(node)
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it logged so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log).context("a log cannot be read")
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Process::kill_if(&mut self.process).await
    }

    /// Starts it again at its address.
    ///
    /// # Errors
    /// When it does not listen.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(self.build.program("gateway")?);
        command.args(&self.arguments).stderr(log);
        self.process = Some(Process::start(&mut command)?);
        eventually("a gateway listens", async || {
            Ok(TcpStream::connect(self.address).await.ok().map(drop))
        })
        .await
    }

    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("the node does not run")?;
        process.signal(signal)
    }

    /// SIGTERM, and its end.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub async fn end(mut self) -> anyhow::Result<ExitStatus> {
        let process = self.process.take().context("the node does not run")?;
        process.end().await
    }

    /// Whether it ended by itself.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match &mut self.process {
            Some(process) => process.ended(),
            None => Ok(None),
        }
    }
}
