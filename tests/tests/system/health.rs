//! `check --health`, as containers have it asked: with no argument more than the environment of the program that is asked.

use std::process::Stdio;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use story::{Agent, Policies};
use system_tests::edge::{Issuer, Node};
use system_tests::{
    Model, Options, Process, Signal, Stack, cli_program, eventually, free_address, program,
};
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

/// Waits until it ends well.
async fn is_ready(name: &str, listen: &str) -> anyhow::Result<()> {
    eventually(&format!("the {name} is ready"), async || {
        let ended = asked(name, listen).await?;
        Ok((ended == (Some(0), "ready".to_owned())).then_some(()))
    })
    .await
}

/// Waits until it fails with these words in its line, and gives what comes before and after them: for a moment it may fail
/// of something else.
async fn is_not(name: &str, listen: &str, words: &str) -> anyhow::Result<(String, String)> {
    let mut told = String::new();
    eventually(&format!("the {name} {words:?}"), async || {
        let (ended, line) = asked(name, listen).await?;
        told.clone_from(&line);
        let parts = line.split_once(words).filter(|_| ended == Some(1));
        Ok(parts.map(|(before, after)| (before.to_owned(), after.to_owned())))
    })
    .await
    .with_context(|| told.clone())
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
        is_ready(name, &listen).await?;
        stack.kill_redis().await?;
        let words = "says 503: not ready: Redis does not answer, or refuses: ";
        let (url, why) = is_not(name, &listen, words).await?;
        assert_eq!(url, format!("error: http://{listen}/readyz "));
        assert!(!why.is_empty());
        stack.resume_redis().await?;
        is_ready(name, &listen).await?;
        assert!(worker.end().await?.success());
    }
    stack.end().await;
    Ok(())
}

/// How often the server refused anything.
async fn refused_calls(stack: &Stack) -> anyhow::Result<u64> {
    let ask = ["-u", &stack.redis_url(), "INFO", "errorstats"];
    let told = Command::new(cli_program()?).args(ask).output().await?;
    let told = String::from_utf8(told.stdout)?;
    let count = told
        .lines()
        .find_map(|line| line.strip_prefix("errorstat_READONLY:count="));
    Ok(count.map_or(Ok(0), |count| count.trim().parse())?)
}

/// Of a worker whose Redis is a replica, until it is a master again.
async fn waits_for_a_master(
    stack: &Stack,
    listen: &str,
    log: &mut system_tests::Output,
) -> anyhow::Result<()> {
    let words = "this Redis is a replica and takes no writes";
    is_not("narrator", listen, words).await?;
    let before = refused_calls(stack).await?;
    eventually("it asked again and again", async || {
        let (code, line) = asked("narrator", listen).await?;
        ensure!(code == Some(1) && line.contains(words), "{line}");
        Ok((refused_calls(stack).await? >= before + 5).then_some(()))
    })
    .await?;
    stack.redis(&["REPLICAOF", "NO", "ONE"]).await?;
    is_ready("narrator", listen).await?;
    log.line("Redis answers again").await?;
    for line in ["Redis does not answer", "Redis answers again"] {
        assert_eq!(log.with(line).len(), 1, "{:#?}", log.with("Redis"));
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_of_a_replica_is_not_ready_and_says_so_once() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let port = free_address()?.port().to_string();
    let replica = ["REPLICAOF", "127.0.0.1", &port];
    let options = ["--metrics-listen", "127.0.0.1:0", "--log", "json"];
    // Of one that becomes a replica, then of one that is a replica when the worker starts.
    for is_one in [false, true] {
        if is_one {
            stack.redis(&replica).await?;
        }
        let (worker, mut log) = stack.worker_with(Agent::Narrator, &options)?;
        let serving: serde_json::Value = serde_json::from_str(&log.line("/readyz").await?)?;
        let listen = serving["address"].as_str().context("an address")?;
        if !is_one {
            is_ready("narrator", listen).await?;
            stack.redis(&replica).await?;
        }
        waits_for_a_master(&stack, listen, &mut log).await?;
        assert!(worker.end().await?.success());
    }
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_drains_says_so() -> anyhow::Result<()> {
    // So that it is not over before anybody asks.
    let silent = Options::playing("rules: [{reply: {fault: stall(600)}}]");
    let stack = Stack::start(silent).await?;
    let (worker, listen) = worker(&stack, Agent::Narrator).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let action = stack.act(&story, "a1", "I go on.").await?;
    stack.asked(&action, 1).await?;
    worker.signal(Signal::TERM)?;
    let words = "says 503: not ready: it was asked to end, and takes nothing new";
    let (_, more) = is_not("narrator", &listen, words).await?;
    assert_eq!(more, "");
    // It hands on what it has.
    assert!(worker.end().await?.success());
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
    is_ready("gateway", &listen).await?;
    stack.kill_redis().await?;
    let words = "/readyz says 503: Redis does not";
    is_not("gateway", &listen, words).await?;
    stack.resume_redis().await?;
    is_ready("gateway", &listen).await?;
    // Connections are taken, and nothing is said: the page waits for Redis, and not as long as who asks.
    stack.signal_redis(Signal::STOP)?;
    is_not("gateway", &listen, words).await?;
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
