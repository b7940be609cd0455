//! For how long the certificate is good: whoever looks after a node hears of it before its readers do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;
use system_tests::edge::{Issuer, Node};
use system_tests::{Redis, eventually, free_address, program};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;

/// In seconds.
const DAY: i64 = 86_400;

/// What a certificate and its key are in.
struct Files([String; 2]);

impl Files {
    /// Good from so many days after now, to so many.
    fn new(folder: &Path, days: (i64, i64)) -> anyhow::Result<Self> {
        let files = ["certificate", "key"].map(|name| folder.join(name).display().to_string());
        let files = Self(files);
        files.write(days)?;
        Ok(files)
    }

    fn write(&self, (from, until): (i64, i64)) -> anyhow::Result<()> {
        let day = |after: i64| {
            let seconds = Timestamp::now().as_second() + after * DAY;
            anyhow::Ok(date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds)?))
        };
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()])?;
        (params.not_before, params.not_after) = (day(from)?, day(until)?);
        let key = KeyPair::generate()?;
        std::fs::write(&self.0[0], params.self_signed(&key)?.pem())?;
        Ok(std::fs::write(&self.0[1], key.serialize_pem())?)
    }

    fn options(&self) -> [&str; 4] {
        ["--tls-cert", &self.0[0], "--tls-key", &self.0[1]]
    }
}

#[tokio::test]
async fn a_check_warns_of_a_certificate_that_clients_refuse_or_soon_will() -> anyhow::Result<()> {
    let (redis, folder) = (Redis::start(&[]).await?, tempfile::tempdir()?);
    Issuer::new(folder.path())?;
    let secrets = folder.path().join("secrets").display().to_string();
    for (days, mark, words) in [
        ((-400, -2), "WARN", "it ended at"),
        ((2, 400), "WARN", "it is good only from"),
        ((-80, 10), "WARN", "it ends at"),
        ((-80, 20), "ok  ", "good until"),
    ] {
        let files = Files::new(folder.path(), days)?;
        let mut check = Command::new(program("gateway")?);
        check.args(["check", "--connections", "100", "--redis", &redis.url()]);
        check
            .args(["--jwt-secrets", &secrets])
            .args(files.options());
        let output = check.output().await?;
        let told = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(0), "{told}");
        let line = told.lines().find(|line| line.contains("certificate in "));
        let line = line.with_context(|| told.clone())?;
        assert!(line.starts_with(mark) && line.contains(words), "{line}");
        let output = check.arg("--json").output().await?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let warnings = report["checks"].as_array().context("checks")?;
        let warnings = warnings.iter().filter(|one| one["warning"] == true);
        assert_eq!(warnings.count(), usize::from(mark == "WARN"), "{report}");
        assert_eq!(report["ok"], true);
    }
    Ok(())
}

#[tokio::test]
async fn a_node_tells_of_its_certificate_at_the_start_and_when_there_is_another()
-> anyhow::Result<()> {
    let (redis, folder) = (Redis::start(&[]).await?, tempfile::tempdir()?);
    Issuer::new(folder.path())?;
    let files = Files::new(folder.path(), (-80, 5))?;
    let pages = free_address()?.to_string();
    let options = [&files.options()[..], &["--internal-listen", &pages]].concat();
    let node = Node::start(&redis.url(), folder.path(), &options).await?;
    let counted = async || {
        anyhow::Ok(
            reqwest::get(format!("http://{pages}/metrics"))
                .await?
                .text()
                .await?,
        )
    };
    let logged = |words: &str| Ok(node.log()?.contains(words).then_some(()));
    eventually("it is told of", async || logged("it ends at")).await?;
    let ends = async || {
        let metrics = counted().await?;
        let name = "storyfleet_gateway_tls_certificate_not_after_timestamp_seconds ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let at: f64 = line.with_context(|| metrics.clone())?.parse()?;
        let now = Timestamp::now().as_second();
        anyhow::Ok(format!("{:.1}", (at - now as f64) / DAY as f64))
    };
    assert_eq!(ends().await?, "5.0");
    // No handshake: it speaks in the clear.
    let mut stream = TcpStream::connect(node.address()).await?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    eventually("it is counted", async || {
        let failed = "storyfleet_gateway_tls_handshakes_total{result=\"failed\"}";
        Ok(counted().await?.contains(failed).then_some(()))
    })
    .await?;
    files.write((-400, -2))?;
    eventually("the other is told of", async || logged("it ended at")).await?;
    assert_eq!(ends().await?, "-2.0");
    let metrics = counted().await?;
    let renewed = "storyfleet_gateway_tls_renewals_total{result=\"ok\"} 1";
    ensure!(metrics.contains(renewed), "{metrics}");
    std::fs::write(&files.0[1], "no key")?;
    eventually("a failure is counted", async || {
        let failed = "storyfleet_gateway_tls_renewals_total{result=\"failed\"}";
        Ok(counted().await?.contains(failed).then_some(()))
    })
    .await?;
    let client = reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .build()?;
    let page = client
        .get(format!("https://{}/", node.address()))
        .send()
        .await?;
    assert_eq!(page.status(), 200);
    let good = "storyfleet_gateway_tls_handshakes_total{result=\"ok\"} 1";
    let metrics = counted().await?;
    ensure!(metrics.contains(good), "{metrics}");
    Ok(())
}
