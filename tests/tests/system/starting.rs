//! `storyfleet` as it is first met: what was written in passing, and what it makes of it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use story::{Agent, InputPolicy, Policies};
use system_tests::{Options, Process, Stack, program};
use tokio::process::Command;

use crate::command::{run, says, storyfleet, up};

#[tokio::test]
async fn up_does_not_listen_where_its_model_is_to_be() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    for option in ["--listen", "--internal-listen"] {
        let llm = ["--llm", "http://localhost:8089/v1", "--model", "m"];
        let up = [&["up", option, "127.0.0.1:8089"], &llm[..]].concat();
        let output = run(data.path(), &up).await?;
        let told = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains(&format!("{option} is where --llm is")),
            "{told}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_folder_that_is_named_counts_more_than_a_variable() -> anyhow::Result<()> {
    let (stack, data) = (
        Stack::start(Options::default()).await?,
        tempfile::tempdir()?,
    );
    stack.story("castle", Policies::default()).await?;
    let list = async |arguments: &[&str]| {
        let mut command = storyfleet(data.path(), arguments)?;
        command.env("REDIS_URL", stack.redis_url());
        // Of a Redis that is not asked.
        command.env("STORYFLEET_REDIS_CA", data.path().join("ca.pem"));
        anyhow::Ok(command.output().await?)
    };
    let output = list(&["story", "list"]).await?;
    let told = String::from_utf8(output.stderr)?;
    assert!(told.starts_with("REDIS_URL is passed over"), "{told}");
    assert!(told.contains("no fleet runs in"), "{told}");
    assert_eq!(output.status.code(), Some(1), "{told}");

    let mut named = storyfleet(
        data.path(),
        &["story", "list", "--redis", &stack.redis_url()],
    )?;
    let named = named.env("REDIS_URL", "redis://nowhere").output().await?;
    assert_eq!(String::from_utf8(named.stdout)?, "castle\n");
    assert_eq!(String::from_utf8(named.stderr)?, "");

    let mut unnamed = Command::new(program("storyfleet")?);
    unnamed.args(["story", "list"]).current_dir(data.path());
    let unnamed = unnamed.env("REDIS_URL", stack.redis_url()).output().await?;
    assert_eq!(String::from_utf8(unnamed.stdout)?, "castle\n");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn who_names_a_redis_needs_no_folder() -> anyhow::Result<()> {
    let (stack, data) = (
        Stack::start(Options::default()).await?,
        tempfile::tempdir()?,
    );
    fs::write(data.path().join("state.json"), "half of i")?;
    let broken = run(data.path(), &["story", "list"]).await?;
    assert_eq!(broken.status.code(), Some(1));
    let list = ["--redis", &stack.redis_url(), "story", "list"];
    assert_eq!(says(data.path(), &list).await?, "");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_sent_after_up_was_killed_is_said_to_wait_for_nobody() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, _) = up(data.path(), &[]).await?;
    fleet.kill().await?;
    // Its Redis is still there, and has just heard of each agent.
    let send = run(data.path(), &["send", "demo", "I wait."]).await?;
    let told = String::from_utf8(send.stderr)?;
    assert!(send.status.success(), "{told}");
    assert!(
        told.contains("nobody seems to run: start it again"),
        "{told}"
    );
    let (fleet, _) = up(data.path(), &[]).await?;
    assert!(fleet.end().await?.success());
    Ok(())
}

/// Whose Redis has another port.
#[tokio::test]
async fn who_waits_is_told_the_end_by_the_up_that_is_started_again() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, _) = up(data.path(), &[]).await?;
    fleet.kill().await?;
    let wait = ["send", "demo", "I wait.", "--wait"];
    let mut command = storyfleet(data.path(), &wait)?;
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut send = Process::start(&mut command)?;
    let mut errors = send.errors()?;
    errors.line("start it again; waiting").await?;
    let (fleet, _) = up(data.path(), &[]).await?;
    assert!(send.gone().await?.success());
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn who_waits_hears_of_a_narrator_that_has_just_ended() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    stack.act(&story, "a1", "I wait.").await?;
    stack.audit(1).await?;
    narrator.kill().await?;
    let wait = ["send", "castle", "I wait.", "--wait"];
    let mut command = storyfleet(Path::new("/nowhere"), &wait)?;
    command.args(["--redis", &stack.redis_url()]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut send = Process::start(&mut command)?;
    // It counts as there for a while: asked once, nobody would be told.
    let mut errors = send.errors()?;
    errors.line("no narrator runs at the moment").await?;
    send.kill().await?;
    stack.end().await;
    Ok(())
}

/// The moderator has done its part, and on a Redis before 7.2 it is not heard of while it has nothing to do.
#[tokio::test]
async fn who_waits_hears_of_the_one_that_is_missing_and_of_no_other() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let held = Policies {
        input: InputPolicy::Hold,
        ..Policies::default()
    };
    stack.story("castle", held).await?;
    let moderator = stack.worker(Agent::Moderator)?;
    let wait = ["send", "castle", "I wait.", "--id", "a1", "--wait"];
    let mut command = storyfleet(Path::new("/nowhere"), &wait)?;
    command.args(["--redis", &stack.redis_url()]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut send = Process::start(&mut command)?;
    let mut errors = send.errors()?;
    let told = errors.line("no ").await?;
    assert!(told.contains("no narrator runs at the moment"), "{told}");
    moderator.end().await?;
    let narrator = stack.worker(Agent::Narrator)?;
    assert!(send.gone().await?.success());
    assert!(errors.line("no moderator").await.is_err());
    narrator.end().await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_up_says_to_try_can_be_typed() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let mut command = storyfleet(data.path(), &["up"])?;
    let mut fleet = Process::start(command.stdout(Stdio::piped()))?;
    let mut out = fleet.output()?;
    let ready = out.line("Try: ").await?;
    let (_, typed) = ready.split_once("Try: ").context("what to try")?;
    let typed = Command::new("sh").args(["-c", typed]).output();
    let sent = String::from_utf8(typed.await?.stdout)?;
    assert!(sent.starts_with("sent "), "{ready}: {sent}");
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_cannot_start_says_that_alone() -> anyhow::Result<()> {
    let (stack, folder) = (
        Stack::start(Options::default()).await?,
        tempfile::tempdir()?,
    );
    let url = stack.redis_url();
    says(folder.path(), &["--redis", &url, "story", "create", "x"]).await?;
    let secrets = folder.path().join("secrets");
    fs::write(&secrets, "a".repeat(64))?;
    let mut gateway = Command::new("sh");
    // Fewer files than its connections need, of which it warns.
    gateway.args(["-c", "ulimit -n 1000; exec \"$@\"", "sh"]);
    gateway
        .arg(program("gateway")?)
        .arg("run")
        .env("REDIS_URL", url);
    gateway.arg("--jwt-secrets").arg(secrets);
    gateway.args(["--listen", "127.0.0.1:0", "--shards", "2"]);
    let output = gateway.output().await?;
    let told = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.starts_with("error: the number of shards"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    stack.end().await;
    Ok(())
}
