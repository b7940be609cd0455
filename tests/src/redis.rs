//! A real Redis server in a folder of its own, that can be stopped and started with its data.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use bus::Bus;
use tempfile::TempDir;
use tokio::process::Command;

use crate::wait::eventually;
use crate::{Process, Signal};

#[derive(Debug)]
pub(crate) struct Redis {
    port: u16,
    data: PathBuf,
    process: Option<Process>,
    /// Removed with the server, unless the data are somebody else's.
    _folder: Option<TempDir>,
}

impl Redis {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut redis = Self::start_in(folder.path())?;
        redis._folder = Some(folder);
        Ok(redis)
    }

    /// A server whose data outlive it.
    pub(crate) fn start_in(data: &Path) -> anyhow::Result<Self> {
        let port = port()?;
        let mut redis = Self {
            port,
            data: data.to_owned(),
            process: None,
            _folder: None,
        };
        redis.resume()?;
        Ok(redis)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts the server again on its data.
    pub(crate) fn resume(&mut self) -> anyhow::Result<()> {
        let program = ["redis-server", "valkey-server"]
            .into_iter()
            .find(|name| is_installed(name))
            .context("there is no Redis server: run scripts/need-redis")?;
        let mut command = Command::new(program);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
            ])
            .args(["--maxmemory-policy", "noeviction", "--dir"])
            .arg(&self.data)
            .stdout(Stdio::null());
        self.process = Some(Process::start(&mut command)?);
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("Redis does not run")?;
        process.signal(signal)
    }

    /// SIGTERM: it ends in order.
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

/// Asks the bus, since it is the bus's own connection that must be back.
pub(crate) async fn answers(bus: &Bus) -> anyhow::Result<()> {
    eventually("Redis answers", async || Ok(bus.ping().await.ok())).await
}

/// A free port below those that outgoing connections are given: it must still be free when its server was away.
pub(crate) fn port() -> anyhow::Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut ports = (0..1_000).map(|_| rand::random_range(10_000..32_000));
    ports.find(free).context("no port is free")
}

fn is_installed(program: &str) -> bool {
    let version = std::process::Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}
