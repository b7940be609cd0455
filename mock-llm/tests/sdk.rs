//! The real OpenAI SDK accepts the mock. Needs a Python that has `openai`: the one that `STORYFLEET_SDK_PYTHON` names,
//! or the workspace's `.venv` (`python3 -m venv .venv && .venv/bin/pip install openai`).

use std::path::{Path, PathBuf};

use mock_llm::Options;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

fn python() -> Option<PathBuf> {
    let named = std::env::var_os("STORYFLEET_SDK_PYTHON").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    named.or_else(|| usual.exists().then_some(usual))
}

#[tokio::test]
async fn the_openai_sdk_is_served() {
    let Some(python) = python() else {
        let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(
            !in_ci,
            "no Python with `openai`: set STORYFLEET_SDK_PYTHON or make .venv"
        );
        eprintln!("SKIPPED: the OpenAI SDK was not tried: set STORYFLEET_SDK_PYTHON or make .venv");
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let script = async {
        let mut script = Command::new(python);
        script.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk_openai.py"));
        let output = script
            .arg(base)
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .await
            .unwrap();
        shutdown.cancel();
        output
    };
    let serving = mock_llm::serve(listener, Options::default(), shutdown.clone());
    let (served, output) = tokio::join!(serving, script);
    served.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(told.lines().count(), 7);
}
