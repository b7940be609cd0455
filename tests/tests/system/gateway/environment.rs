//! What surrounds a node: variables that are there and empty.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::Value;
use system_tests::edge::Issuer;
use system_tests::{Redis, program};
use tempfile::TempDir;
use tokio::process::Command;

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
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
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
