//! The `mock-llm` command.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use mock_llm::fault::TABLE;

fn mock(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-llm"));
    command.args(arguments).kill_on_drop(true);
    command
}

async fn run(arguments: &[&str]) -> Output {
    mock(arguments).output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn it_says_when_it_is_ready_and_stops_on_each_signal() {
    for (arguments, signal) in [
        (&["--json"][..], "-TERM"),
        (&["serve", "--json", "--seed", "3"], "-INT"),
    ] {
        let mut server = mock(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let ready = lines.next_line().await.unwrap().unwrap();
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let models = format!("{}/models", ready["base_url"].as_str().unwrap());
        assert_eq!(reqwest::get(models).await.unwrap().status(), 200);
        let id = server.id().unwrap().to_string();
        let killed = Command::new("kill")
            .args([signal, &id])
            .status()
            .await
            .unwrap();
        assert!(killed.success());
        assert_eq!(server.wait().await.unwrap().code(), Some(0));
    }
}

#[tokio::test]
async fn the_flags_reach_the_server() {
    let flags = [
        "--fault-rate",
        "1",
        "--fault-set",
        "error_529",
        "--api-key",
        "k",
        "--limit-rpm",
        "9",
    ];
    let mut server = mock(&flags).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let ready = lines.next_line().await.unwrap().unwrap();
    let url = format!("{}/chat/completions", ready.strip_prefix("ready ").unwrap());
    let asked = reqwest::Client::new()
        .post(url)
        .json(&crate::harness::asking("go"));
    assert_eq!(
        asked.try_clone().unwrap().send().await.unwrap().status(),
        401
    );
    assert_eq!(asked.bearer_auth("k").send().await.unwrap().status(), 529);
}

#[tokio::test]
async fn check_tells_good_scripts_from_bad() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (
        folder.path().join("good.yaml"),
        folder.path().join("bad.yaml"),
    );
    std::fs::write(&good, "rules: [{reply: {text: hello}}]").unwrap();
    std::fs::write(&bad, "rules:\n- reply: {fault: gremlins}").unwrap();
    let checked = run(&["check", good.to_str().unwrap()]).await;
    assert!(checked.status.success());
    assert!(text(&checked.stdout).ends_with("good.yaml is well, rules: 1\n"));
    for arguments in [
        ["check", bad.to_str().unwrap()],
        ["--scenario", bad.to_str().unwrap()],
    ] {
        let refused = run(&arguments).await;
        let told = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2));
        assert!(told.starts_with("error: "), "{told}");
        assert!(
            told.contains("bad.yaml:2 is wrong: ") && told.contains("`gremlins`"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let missing = run(&["check", "nowhere.yaml"]).await;
    assert!(text(&missing.stderr).contains("nowhere.yaml cannot be read"));
}

#[tokio::test]
async fn the_script_that_help_shows_is_well() {
    let help = run(&["check", "--help"]).await;
    let (_, script) = text(&help.stdout).split_once("optional:\n").unwrap();
    assert_eq!(script.parse::<mock_llm::Scenario>().unwrap().rules(), 4);
}

#[tokio::test]
async fn faults_are_listed_one_a_line() {
    let listed = run(&["faults"]).await;
    let names: Vec<_> = text(&listed.stdout)
        .lines()
        .map(|line| line.split(['(', ' ']).next().unwrap())
        .collect();
    assert_eq!(names, TABLE.each_ref().map(|row| row.name));
    let listed = run(&["faults", "--json"]).await;
    let first: Value = serde_json::from_str(text(&listed.stdout).lines().nth(2).unwrap()).unwrap();
    assert_eq!(
        (&first["name"], &first["unit"]),
        (&"stall".into(), &"tokens".into())
    );
}

#[tokio::test]
async fn help_teaches_and_wrong_flags_are_usage_errors() {
    let help = run(&["--help"]).await;
    for word in [
        "--ttft",
        "lognormal(",
        "x-mock-fault",
        "Examples:",
        "faults",
    ] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    for wrong in [
        ["--ttft", "soon"],
        ["--fault-set", "gremlins"],
        ["--fault-rate", "2"],
        ["--chunk-tokens", "0"],
    ] {
        let refused = run(&wrong).await;
        let told = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2));
        assert!(
            told.starts_with("error: ") && told.contains(wrong[1]),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = run(&["--listen", &address]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains(&format!("cannot listen on {address}")));
}
