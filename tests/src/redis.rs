//! A real Redis server in a folder of its own, that can be stopped and started with its data.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use bus::Bus;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::Process;

const START: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Redis {
    port: u16,
    folder: TempDir,
    process: Option<Process>,
}

impl Redis {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let mut redis = Self {
            port,
            folder: tempfile::tempdir()?,
            process: None,
        };
        redis.resume()?;
        Ok(redis)
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
            .arg(self.folder.path())
            .stdout(Stdio::null());
        self.process = Some(Process::start(&mut command)?);
        Ok(())
    }

    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }
}

pub(crate) async fn answers(bus: &Bus) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    while let Err(error) = bus.ping().await {
        if Instant::now() > deadline {
            return Err(error).context("Redis does not answer");
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn is_installed(program: &str) -> bool {
    let version = std::process::Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}
