//! What surrounds a node: variables that are there and empty, and fewer files than its connections need.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use system_tests::edge::Issuer;
use system_tests::{Output, Process, Redis, eventually, free_address, program};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

/// What any node needs.
struct Place {
    redis: Redis,
    folder: TempDir,
    address: SocketAddr,
}

impl Place {
    async fn new() -> anyhow::Result<Self> {
        let (redis, folder) = (Redis::start(&[]).await?, tempfile::tempdir()?);
        Issuer::new(folder.path())?;
        let address = free_address()?;
        Ok(Self {
            redis,
            folder,
            address,
        })
    }

    /// The gateway, which may have so many files open.
    fn gateway(&self, files: u32, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -n {files}; exec \"$0\" \"$@\""));
        command.arg(program("gateway")?).args(words);
        command.args([
            "--redis",
            &self.redis.url(),
            "--listen",
            &self.address.to_string(),
        ]);
        command
            .arg("--jwt-secrets")
            .arg(self.folder.path().join("secrets"));
        Ok(command)
    }

    fn run(&self, files: u32, words: &[&str]) -> anyhow::Result<(Process, Output)> {
        let words = [&["run"], words].concat();
        let mut process = Process::start(self.gateway(files, &words)?.stderr(Stdio::piped()))?;
        let log = process.child().stderr.take().context("a pipe")?;
        Ok((process, Output::of(log)))
    }
}

#[tokio::test]
async fn variables_that_are_empty_are_not_given_and_commas_may_have_spaces() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let mut check = place.gateway(4_096, &["check", "--json", "--connections", "100"])?;
    for name in [
        "TLS_CERT",
        "TLS_KEY",
        "INTERNAL_LISTEN",
        "PING",
        "JWKS_URL",
        "ORIGINS",
        "PRESENCE",
    ] {
        check.env(format!("STORYFLEET_{name}"), "");
    }
    check.env("STORYFLEET_TRUSTED_PROXIES", "10.0.0.1 , ::1,192.0.2.0/24 ");
    let output = check.output().await?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(
        report["checks"].as_array().map(Vec::len),
        Some(3),
        "{report}"
    );
    check.env("STORYFLEET_TRUSTED_PROXIES", "");
    assert_eq!(check.output().await?.status.code(), Some(0));
    check.env("STORYFLEET_TRUSTED_PROXIES", "10.0.0.1 ::1");
    assert_eq!(check.output().await?.status.code(), Some(2));
    Ok(())
}

#[tokio::test]
async fn fewer_files_than_connections_need_are_told_of() -> anyhow::Result<()> {
    let place = Place::new().await?;
    for (files, is_short) in [(1_000, true), (2_000, false)] {
        let mut check = place.gateway(files, &["check", "--connections", "1000"])?;
        let output = check.output().await?;
        let told = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(0), "{told}");
        let warns = told.lines().any(|line| {
            line.starts_with("WARN") && line.contains("--connections") && line.contains("1000")
        });
        assert_eq!(warns, is_short, "{told}");
        let (node, mut log) = place.run(files, &["--connections", "1000"])?;
        let line = log.line("listening").await?;
        ensure!(line.contains("tls=false"), "{line}");
        assert_eq!(log.with("LimitNOFILE").len(), usize::from(is_short));
        node.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn that_no_connection_can_be_accepted_is_logged_once_in_a_minute() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let (node, mut log) = place.run(48, &["--connections", "1000"])?;
    log.line("listening").await?;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(TcpStream::connect(place.address).await?);
    }
    log.line("not accepted").await?;
    // It is tried again each 50 ms: several times while nothing is free.
    let mut last = streams.pop().context("a stream")?;
    last.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let answer = timeout(Duration::from_millis(600), last.read_u8()).await;
    ensure!(answer.is_err(), "the last one is served: {answer:?}");
    assert_eq!(log.with("not accepted").len(), 1, "{:?}", log.with(""));
    drop((streams, last));
    eventually("it accepts again", async || {
        let asked = reqwest::get(format!("http://{}/", place.address)).await;
        Ok(asked.ok())
    })
    .await?;
    assert_eq!(log.with("not accepted").len(), 1, "{:?}", log.with(""));
    node.end().await?;
    Ok(())
}
