//! A real Redis server in a folder of its own, that can be stopped and started with its data.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, bail, ensure};
use bus::Bus;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::authority::{Encrypted, listening};
use crate::wait::{DEADLINE, eventually};
use crate::{Authority, Process, Signal, free_address};

/// Ports tried for a server.
pub(crate) const PORTS: usize = 5;
/// In the folder of its data.
const LOG: &str = "redis.log";

#[derive(Debug)]
pub struct Redis {
    port: u16,
    data: PathBuf,
    /// What it reads its settings from, and writes them to when it is told to.
    file: Option<PathBuf>,
    /// Settings that only this server has.
    settings: Vec<String>,
    /// `None` = it speaks in the clear.
    tls: Option<Encrypted>,
    process: Option<Process>,
    /// Removed with the server, unless the data are somebody else's.
    _folder: Option<TempDir>,
}

/// What a server is beside its settings.
pub(crate) enum Kind<'a> {
    Usual,
    /// With a file of its own.
    Of(&'a Path),
    Encrypted(&'a Encrypted),
}

impl Redis {
    /// A server that listens, with further settings: `["--requirepass", "…"]`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(settings: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut redis = Self::start_with(folder.path(), settings, Kind::Usual).await?;
        redis._folder = Some(folder);
        Ok(redis)
    }

    /// A server with its own file of settings, which it may change.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_from(file: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut redis = Self::start_with(folder.path(), &[], Kind::Of(file)).await?;
        redis._folder = Some(folder);
        Ok(redis)
    }

    /// A server that speaks TLS and nothing else, with whoever `authority` vouches for.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_encrypted(authority: &Authority, settings: &[&str]) -> anyhow::Result<Self> {
        let (folder, tls) = (tempfile::tempdir()?, Encrypted::by(authority)?);
        let kind = Kind::Encrypted(&tls);
        let mut redis = Self::start_with(folder.path(), settings, kind).await?;
        redis._folder = Some(folder);
        Ok(redis)
    }

    /// A server whose data outlive it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_in(data: &Path) -> anyhow::Result<Self> {
        Self::start_with(data, &[], Kind::Usual).await
    }

    /// Ends it in order and starts it again on its data and settings.
    ///
    /// # Errors
    /// When it does not end, or not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.end().await?;
        self.resume().await
    }

    pub(crate) async fn start_with(
        data: &Path,
        settings: &[&str],
        kind: Kind<'_>,
    ) -> anyhow::Result<Self> {
        let (file, tls) = match kind {
            Kind::Usual => (None, None),
            Kind::Of(file) => (Some(file.to_owned()), None),
            Kind::Encrypted(tls) => (None, Some(tls.clone())),
        };
        // A port that was free, or the one that a node of a cluster has beside it, may be somebody's by now.
        for _ in 0..PORTS {
            let mut redis = Self {
                port: free_address()?.port(),
                data: data.to_owned(),
                file: file.clone(),
                settings: settings.iter().map(ToString::to_string).collect(),
                tls: tls.clone(),
                process: None,
                _folder: None,
            };
            redis.spawn()?;
            if redis.serves().await? {
                return Ok(redis);
            }
        }
        bail!("Redis ended at once, on {PORTS} ports");
    }

    /// Whether it does not end before. Its own log tells: at its port somebody else may answer, and a node of a cluster
    /// may listen there before it finds the other port taken.
    async fn serves(&mut self) -> anyhow::Result<bool> {
        let process = self.process.as_mut().context("Redis does not run")?;
        let (log, own) = (self.data.join(LOG), format!("{}:", process.id()));
        eventually("Redis serves", async || {
            if process.ended()?.is_some() {
                return Ok(Some(false));
            }
            // There is none before its first line.
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            let mut lines = log.lines().filter(|line| line.starts_with(&own));
            let ready = lines.any(|line| line.contains("Ready to accept connections"));
            Ok(ready.then_some(true))
        })
        .await
    }

    /// How it speaks TLS, if it does.
    pub(crate) fn tls(&self) -> Option<&Encrypted> {
        self.tls.as_ref()
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("")
    }

    /// For who logs in: `user:password@`.
    #[must_use]
    pub fn url_of(&self, login: &str) -> String {
        let scheme = if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        format!("{scheme}://{login}127.0.0.1:{}", self.port)
    }

    /// One command without the bus: what a program of other people, or an accident, could put there. Gives the first
    /// line of the reply.
    ///
    /// # Errors
    /// When Redis refuses.
    pub async fn command(&self, words: &[&[u8]]) -> anyhow::Result<String> {
        let mut message = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            message.extend(format!("${}\r\n", word.len()).into_bytes());
            message.extend_from_slice(word);
            message.extend(b"\r\n");
        }
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        stream.write_all(&message).await?;
        let mut lines = BufReader::new(stream).lines();
        let reply = timeout(DEADLINE, lines.next_line()).await??;
        let reply = reply.context("Redis hung up")?;
        ensure!(!reply.starts_with('-'), "Redis refused: {reply}");
        Ok(reply)
    }

    /// Starts the server again on its data, and waits until it serves.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        if !self.serves().await? {
            let log = std::fs::read_to_string(self.data.join(LOG))?;
            bail!("Redis ended at once: {}", log.lines().last().unwrap_or("-"));
        }
        Ok(())
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(server_program()?);
        command
            .args(&self.file)
            .args(["--bind", "127.0.0.1"])
            .args(listening(self.tls.as_ref(), self.port))
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
            ])
            .args(["--maxmemory-policy", "noeviction"])
            .args(["--logfile", LOG, "--dir"])
            .arg(&self.data)
            .args(&self.settings);
        self.process = Some(Process::start(&mut command)?);
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("Redis does not run")?;
        process.signal(signal)
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// SIGTERM: it ends in order.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        Process::end_if(&mut self.process).await
    }

    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Process::kill_if(&mut self.process).await
    }
}

/// Asks the bus, since it is the bus's own connection that must be back.
pub(crate) async fn answers(bus: &Bus) -> anyhow::Result<()> {
    eventually("Redis answers", async || Ok(bus.ping().await.ok())).await
}

/// What runs as a server or a sentinel on this machine.
pub(crate) fn server_program() -> anyhow::Result<&'static str> {
    static FOUND: OnceLock<Option<&str>> = OnceLock::new();
    one_of(["redis-server", "valkey-server"], &FOUND)
}

/// What asks a server from the command line on this machine.
///
/// # Errors
/// When there is none.
pub fn cli_program() -> anyhow::Result<&'static str> {
    static FOUND: OnceLock<Option<&str>> = OnceLock::new();
    one_of(["redis-cli", "valkey-cli"], &FOUND)
}

/// The first that is installed; it is looked for once.
fn one_of(
    programs: [&'static str; 2],
    found: &OnceLock<Option<&'static str>>,
) -> anyhow::Result<&'static str> {
    let found = found.get_or_init(|| programs.into_iter().find(|name| is_installed(name)));
    let [one, other] = programs;
    found.with_context(|| format!("there is no {one} and no {other}: run scripts/need-redis"))
}

fn is_installed(program: &str) -> bool {
    let version = std::process::Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_whose_port_was_taken_meanwhile_does_not_come_back_unnoticed() {
        let mut redis = Redis::start(&[]).await.unwrap();
        redis.kill().await.unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, redis.port())).unwrap();
        let error = redis.resume().await.unwrap_err().to_string();
        assert!(error.contains("Failed listening on port"), "{error}");
    }
}
