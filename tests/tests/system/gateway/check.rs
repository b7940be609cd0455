//! `gateway check`: each part by name, what is wrong and what to do, and an exit code that says who must act.

use std::path::Path;
use std::process::Output;

use anyhow::Context;
use serde_json::Value;
use system_tests::edge::Issuer;
use system_tests::{Redis, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Of RFC 8037.
const JWKS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

async fn check(options: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program("gateway")?);
    command.arg("check").args(options);
    Ok(command.env_remove("REDIS_URL").output().await?)
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path")
}

/// Answers each request with this.
async fn issuer(answer: String) -> anyhow::Result<(String, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/jwks.json", listener.local_addr()?);
    let serves = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            if stream.read(&mut request).await.is_ok() {
                // Whoever asked may be gone.
                let _sent = stream.write_all(answer.as_bytes()).await;
            }
        }
    };
    Ok((url, TaskTracker::new().spawn(serves)))
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_node_that_can_start_is_told_so_part_by_part() -> anyhow::Result<()> {
    let (redis, folder) = (Redis::start(&[]).await?, tempfile::tempdir()?);
    Issuer::new(folder.path())?;
    let (secrets, jwks) = (folder.path().join("secrets"), folder.path().join("jwks"));
    std::fs::write(&jwks, JWKS)?;
    let (url, issuer) = issuer(ok(JWKS)).await?;
    let (redis_url, secrets, jwks) = (redis.url(), text(&secrets)?, text(&jwks)?);
    let keys = ["--jwt-secrets", secrets, "--jwks-file", jwks];
    // As many as any machine has files for.
    let few = ["--connections", "100"];
    let options = [
        &keys[..],
        &few,
        &["--jwks-url", &url, "--redis", &redis_url],
    ]
    .concat();
    let (code, told) = said(&check(&options).await?);
    assert_eq!(code, Some(0), "{told}");
    for part in [
        "configuration: usable",
        "1 key",
        &url,
        secrets,
        jwks,
        "redis: answers",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(told.lines().all(|line| line.starts_with("ok   ")), "{told}");
    let (code, told) = said(&check(&[&options[..], &["--json"]].concat()).await?);
    let report: Value = serde_json::from_str(&told)?;
    assert_eq!((code, &report["ok"]), (Some(0), &true.into()));
    assert_eq!(report["checks"].as_array().map(Vec::len), Some(5));
    issuer.abort();
    Ok(())
}

#[tokio::test]
async fn what_may_come_is_1_and_what_must_be_changed_is_2() -> anyhow::Result<()> {
    let (redis, folder) = (Redis::start(&[]).await?, tempfile::tempdir()?);
    Issuer::new(folder.path())?;
    let (secrets, short) = (folder.path().join("secrets"), folder.path().join("short"));
    std::fs::write(&short, "too short")?;
    let (url, issuer) = issuer("HTTP/1.1 503 No\r\nconnection: close\r\n\r\n".into()).await?;
    let (redis, secrets, short) = (redis.url(), text(&secrets)?, text(&short)?);
    for (options, code, words) in [
        (
            &["--jwt-secrets", secrets, "--redis", "redis://127.0.0.1:1"][..],
            1,
            "FAIL redis",
        ),
        (&["--jwks-url", &url, "--redis", &redis], 1, "answered 503"),
        (&["--redis", &redis], 2, "give a secrets file"),
        (
            &["--jwt-secrets", short, "--redis", &redis],
            2,
            "at least 32 bytes",
        ),
        (
            &["--jwt-secrets", "/nowhere", "--redis", &redis],
            2,
            "cannot be read",
        ),
        (
            &["--jwt-secrets", "what-is-in-it", "--redis", &redis],
            2,
            "FAIL keys of (not shown",
        ),
        (
            &["--jwks-file", secrets, "--redis", &redis],
            2,
            "FAIL keys of",
        ),
    ] {
        let (ended, told) = said(&check(options).await?);
        assert_eq!(ended, Some(code), "{options:?}: {told}");
        assert!(told.contains(words), "{words}: {told}");
    }
    // A start ends with the same code.
    let mut start = Command::new(program("gateway")?);
    start.args(["run", "--jwt-secrets", "/nowhere", "--redis", &redis]);
    assert_eq!(start.output().await?.status.code(), Some(2));
    let usage = check(&["--ping", "soon"]).await?;
    assert_eq!(usage.status.code(), Some(2));
    issuer.abort();
    Ok(())
}
