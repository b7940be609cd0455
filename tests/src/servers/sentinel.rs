//! A real sentinel, which watches over a master.

use std::path::Path;

use anyhow::bail;
use tokio::process::Command;

use super::cli::ask;
use super::{NAME, SENTINELS, at};
use crate::authority::{Encrypted, listening};
use crate::redis::{PORTS, Redis, server_program};
use crate::wait::eventually;
use crate::{Process, free_address};

#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    process: Process,
}

impl Sentinel {
    /// One that watches over `master`, speaks as it does, and has further settings. Its file and log are in `folder`.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn start(folder: &Path, master: &Redis, settings: &str) -> anyhow::Result<Self> {
        let (tls, at) = (master.tls(), master.port().to_string());
        // A port that was free may be somebody's by now.
        for _ in 0..PORTS {
            let mut sentinel = Self::spawn(folder, &at, tls, settings)?;
            let port = sentinel.port;
            let answers = eventually("a sentinel answers", async || {
                if sentinel.process.ended()?.is_some() {
                    return Ok(Some(false));
                }
                // Whoever else answers there watches over nothing.
                let of = ask(tls, port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await?;
                Ok(of.contains(&at).then_some(true))
            })
            .await?;
            if answers {
                return Ok(sentinel);
            }
        }
        bail!("a sentinel ended at once, on {PORTS} ports");
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a program is given, with the credentials of a user, if they need some: `"user:password@"`.
    #[must_use]
    pub fn url_of(&self, credentials: &str) -> String {
        format!("redis+sentinel://{credentials}{}/{NAME}", at(self.port))
    }

    fn spawn(
        folder: &Path,
        master: &str,
        tls: Option<&Encrypted>,
        settings: &str,
    ) -> anyhow::Result<Self> {
        // It writes it anew.
        let file = folder.join("sentinel.conf");
        let quorum = SENTINELS / 2 + 1;
        let settings = format!(
            "{settings}sentinel monitor {NAME} 127.0.0.1 {master} {quorum}\n\
             sentinel down-after-milliseconds {NAME} 2000\n\
             sentinel failover-timeout {NAME} 10000\n"
        );
        std::fs::write(&file, settings)?;
        let port = free_address()?.port();
        let mut command = Command::new(server_program()?);
        command
            .arg(&file)
            .args(["--sentinel", "--bind", "127.0.0.1"]);
        command
            .args(listening(tls, port))
            .args(["--logfile", "sentinel.log", "--dir"]);
        let process = Process::start(command.arg(folder))?;
        Ok(Self { port, process })
    }
}
