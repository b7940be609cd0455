//! `check --health`, as containers have it asked: with no argument more than the environment of the program that is asked.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use story::{Agent, Policies};
use system_tests::edge::{Issuer, Node};
use system_tests::{Model, Options, Process, Signal, Stack, eventually, free_address, program};
use tokio::net::TcpListener;
use tokio::process::Command;

/// Each program, the variable that tells it where its page is, and the page.
const PROGRAMS: [(&str, &str, &str); 5] = [
    ("narrator", "STORYFLEET_METRICS_LISTEN", "/readyz"),
    ("dialogue", "STORYFLEET_METRICS_LISTEN", "/readyz"),
    ("moderator", "STORYFLEET_METRICS_LISTEN", "/readyz"),
    ("gateway", "STORYFLEET_INTERNAL_LISTEN", "/readyz"),
    ("mock-llm", "MOCK_LLM_LISTEN", "/healthz"),
];

/// What the health command of a program ends with, and the one line that it writes.
async fn asked(name: &str, listen: &str) -> anyhow::Result<(Option<i32>, String)> {
    let of = PROGRAMS.iter().find(|(program, ..)| *program == name);
    let (_, variable, _) = of.context("one of the programs")?;
    let mut command = Command::new(program(name)?);
    command.args(["check", "--health"]).env_clear();
    let output = command.env(variable, listen).output().await?;
    let written = String::from_utf8([output.stdout, output.stderr].concat())?;
    let lines: Vec<_> = written.lines().collect();
    assert_eq!(lines.len(), 1, "{name}: {written:?}");
    Ok((output.status.code(), lines[0].to_owned()))
}

/// Waits until it ends with this code, and gives its line.
async fn says(name: &str, listen: &str, code: i32) -> anyhow::Result<String> {
    let what = format!("{name} check --health ends with {code}");
    eventually(&what, async || {
        let (ended, line) = asked(name, listen).await?;
        Ok((ended == Some(code)).then_some(line))
    })
    .await
}

/// Where a worker of this agent serves its pages.
async fn worker(stack: &Stack, agent: Agent) -> anyhow::Result<(Process, String)> {
    let options = ["--metrics-listen", "127.0.0.1:0", "--log", "json"];
    let (worker, mut log) = stack.worker_with(agent, &options)?;
    let serving: serde_json::Value = serde_json::from_str(&log.line("/readyz").await?)?;
    let address = serving["address"].as_str().context("an address")?;
    Ok((worker, address.to_owned()))
}

#[tokio::test]
async fn a_worker_says_whether_it_is_ready_and_why_it_is_not() -> anyhow::Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    for agent in Agent::ALL {
        let (worker, listen) = worker(&stack, agent).await?;
        let name = agent.as_str();
        assert_eq!(says(name, &listen, 0).await?, "ready");
        stack.kill_redis().await?;
        let line = says(name, &listen, 1).await?;
        let words = "says 503: not ready: Redis does not answer, or refuses: ";
        let (url, why) = line.split_once(words).context(line.clone())?;
        assert_eq!(url, format!("error: http://{listen}/readyz "));
        assert!(!why.is_empty(), "{line}");
        stack.resume_redis().await?;
        assert_eq!(says(name, &listen, 0).await?, "ready");
        assert!(worker.end().await?.success());
    }
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_drains_says_so() -> anyhow::Result<()> {
    let stack = Stack::start(Options {
        between_tokens: Duration::from_millis(100),
        ..Options::default()
    })
    .await?;
    let (worker, listen) = worker(&stack, Agent::Narrator).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let action = stack.act(&story, "a1", "I go on.").await?;
    stack.asked(&action, 1).await?;
    worker.signal(Signal::TERM)?;
    let line = says("narrator", &listen, 1).await?;
    assert!(line.ends_with("says 503: not ready: it was asked to end, and takes nothing new"));
    assert!(worker.gone().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_gateway_says_whether_it_is_ready_and_why_it_is_not() -> anyhow::Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    let folder = tempfile::tempdir()?;
    Issuer::new(folder.path())?;
    let listen = free_address()?.to_string();
    let options = ["--internal-listen", &listen];
    let node = Node::start(&stack.redis_url(), folder.path(), &options).await?;
    assert_eq!(says("gateway", &listen, 0).await?, "ready");
    stack.kill_redis().await?;
    let line = says("gateway", &listen, 1).await?;
    assert!(line.contains("/readyz says 503: Redis does not"), "{line}");
    stack.resume_redis().await?;
    assert_eq!(says("gateway", &listen, 0).await?, "ready");
    // Connections are taken, and nothing is said: the page waits for Redis, and not as long as who asks.
    stack.signal_redis(Signal::STOP)?;
    let line = says("gateway", &listen, 1).await?;
    assert!(line.contains("/readyz says 503: Redis does not"), "{line}");
    stack.signal_redis(Signal::CONT)?;
    assert!(node.end().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_mock_model_says_that_it_is_well() -> anyhow::Result<()> {
    let model = Model::start("", &[]).await?;
    let listen = model.url().replace("http://", "").replace("/v1", "");
    assert_eq!(asked("mock-llm", &listen).await?, (Some(0), "ok".into()));
    model.end().await?;
    let (code, line) = asked("mock-llm", &listen).await?;
    assert_eq!(code, Some(1), "{line}");
    Ok(())
}

#[tokio::test]
async fn where_nobody_listens_or_speaks_nobody_is_well() -> anyhow::Result<()> {
    // Connections are taken, since the system does that, and nobody ever reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silent = &silent.local_addr()?.to_string();
    let nobody = "127.0.0.1:1";
    let each = PROGRAMS.map(|(name, _, page)| async move {
        let (code, line) = asked(name, nobody).await?;
        let words = format!(
            "error: http://{nobody}{page} cannot be read: see that the program runs and listens there: Connection refused"
        );
        assert!(code == Some(1) && line.starts_with(&words), "{line}");
        let line = asked(name, silent).await?;
        let words = format!("error: http://{silent}{page} cannot be read: no answer within 3s");
        assert_eq!(line, (Some(1), words));
        anyhow::Ok(())
    });
    try_join_all(each).await?;
    Ok(())
}

#[tokio::test]
async fn whoever_does_not_say_where_the_page_is_is_told_how() -> anyhow::Result<()> {
    for (name, variable, _) in PROGRAMS {
        // Port 0 is no page's.
        for listen in [None, Some("127.0.0.1:0"), Some("nowhere")] {
            let mut command = Command::new(program(name)?);
            command.args(["check", "--health"]).env_clear();
            command.envs(listen.map(|listen| (variable, listen)));
            let output = command.stdout(Stdio::null()).output().await?;
            let line = String::from_utf8(output.stderr)?;
            assert_eq!(output.status.code(), Some(2), "{name} {listen:?}: {line}");
            assert_eq!(line.lines().count(), 1, "{name}: {line}");
            assert!(line.contains("listen"), "{name} {listen:?}: {line}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_a_worker_needs_must_be_given_where_more_is_looked_at() -> anyhow::Result<()> {
    let mut command = Command::new(program("narrator")?);
    let output = command.arg("check").env_clear().output().await?;
    let line = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("--llm") && line.contains("--model"), "{line}");
    Ok(())
}
