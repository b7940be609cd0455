//! `storyfleet` as its users run it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;
use serde_json::Value;
use story::Policies;
use system_tests::{Options, Process, Relay, Signal, Stack, eventually, program};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn storyfleet(data: &Path, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(program("storyfleet")?);
    command
        .arg("--data")
        .arg(data)
        .args(arguments)
        .env_remove("REDIS_URL");
    Ok(command)
}

pub(crate) async fn run(data: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let run = storyfleet(data, arguments)?.output();
    Ok(timeout(DEADLINE, run)
        .await
        .with_context(|| format!("{arguments:?} does not end"))??)
}

/// The standard output of a command that must succeed.
pub(crate) async fn says(data: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(data, arguments).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{arguments:?} ended with {}: {errors}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The same of a command that is given this Redis and no folder.
pub(crate) async fn told(redis: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let nowhere = tempfile::tempdir()?;
    says(nowhere.path(), &[&["--redis", redis], arguments].concat()).await
}

/// A running `up` and its `ready` line.
pub(crate) async fn up(data: &Path, arguments: &[&str]) -> anyhow::Result<(Process, Value)> {
    let arguments = [&["up", "--json"], arguments].concat();
    let mut process = Process::start(storyfleet(data, &arguments)?.stdout(Stdio::piped()))?;
    let out = process.child().stdout.take().context("a pipe")?;
    let line = timeout(DEADLINE, BufReader::new(out).lines().next_line()).await??;
    let ready = serde_json::from_str(&line.context("no ready line")?)?;
    Ok((process, ready))
}

#[tokio::test]
async fn up_send_watch_and_audit_work_as_the_readme_shows_them() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, ready) = up(data.path(), &[]).await?;
    let internal = ready["internal"].as_str().context("its pages")?;
    for (page, words) in [
        ("metrics", "storyfleet_gateway_"),
        ("livez", "live"),
        ("readyz", "ready"),
    ] {
        let answer = reqwest::get(format!("{internal}/{page}")).await?;
        assert_eq!(answer.status(), 200, "{page}");
        let text = answer.text().await?;
        assert!(text.contains(words), "{page}: {text}");
    }
    assert_eq!(ready["ready"], true);
    assert_eq!(says(data.path(), &["story", "list"]).await?, "demo\n");

    let answer = says(
        data.path(),
        &["send", "demo", "I open the door", "--wait", "--json"],
    )
    .await?;
    let answer: Value = serde_json::from_str(&answer)?;
    assert_eq!(answer["type"], "narration");

    let agents = ready["agents"].as_str().context("their page")?;
    let counted = reqwest::get(format!("{agents}/metrics")).await?;
    let counted = counted.text().await?;
    for line in [
        "storyfleet_answer_seconds_count{agent=\"narrator\"} 1\n",
        "storyfleet_first_words_seconds_count{agent=\"narrator\"} 1\n",
        "storyfleet_llm_calls_total{agent=\"narrator\",result=\"ok\"} 1\n",
        "storyfleet_redis_up{agent=\"dialogue\"} 1\n",
    ] {
        assert!(counted.contains(line), "{line}: {counted}");
    }
    for (name, mode) in [("appendonlydir", 0o700), ("redis.log", 0o600)] {
        let found = std::fs::metadata(data.path().join(name))?.permissions();
        assert_eq!(found.mode() & 0o777, mode, "{name}");
    }
    let targets = std::fs::read(data.path().join("prometheus.json"))?;
    let targets: Value = serde_json::from_slice(&targets)?;
    let page = |target: &Value| format!("http://{}", target["targets"][0].as_str().unwrap_or(""));
    assert_eq!(
        (page(&targets[0]), page(&targets[1])),
        (agents.into(), internal.into())
    );

    let watched = says(data.path(), &["watch", "demo", "--until-idle"]).await?;
    assert!(watched.contains("> Player: I open the door\n"), "{watched}");
    let text = answer["text"].as_str().context("a text")?;
    assert!(watched.contains(&text.replace('\n', "\n  ")), "{watched}");

    let audit: Value = serde_json::from_str(&says(data.path(), &["audit", "--json"]).await?)?;
    assert_eq!(
        (&audit["answered"], &audit["lost"]),
        (&1.into(), &0.into()),
        "{audit}"
    );
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn what_was_told_is_there_after_a_restart_and_an_id_counts_once() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, _) = up(data.path(), &[]).await?;
    let send = [
        "send",
        "demo",
        "I open the door",
        "--id",
        "turn-1",
        "--wait",
        "--json",
    ];
    let first = says(data.path(), &send).await?;
    assert!(fleet.end().await?.success());

    let (fleet, _) = up(data.path(), &[]).await?;
    assert_eq!(says(data.path(), &send).await?, first);
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn who_is_spoken_to_answers_and_nobody_is_asked_who_is_not_there() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, _) = up(data.path(), &[]).await?;
    let line = ["send", "demo", "Who are you?", "--wait", "--json", "--to"];
    let answer: Value =
        serde_json::from_str(&says(data.path(), &[&line[..], &["Sibyl"]].concat()).await?)?;
    assert_eq!(
        (&answer["type"], &answer["character"]),
        (&"dialogue".into(), &"Sibyl".into())
    );

    let stranger = run(data.path(), &[&line[..], &["Sybil"]].concat()).await?;
    let errors = String::from_utf8(stranger.stderr)?;
    assert_eq!(stranger.status.code(), Some(2), "{errors}");
    assert!(errors.contains("it has Corvin, Sibyl, Wren"), "{errors}");
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_second_up_on_the_same_folder_says_so() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, _) = up(data.path(), &[]).await?;
    let second = run(data.path(), &["up"]).await?;
    assert_eq!(second.status.code(), Some(1));
    let says = String::from_utf8(second.stderr)?;
    assert!(says.contains("already runs in"), "{says}");
    assert!(fleet.end().await?.success());
    Ok(())
}

/// What `up` left in the folder, and the process of its Redis.
pub(crate) fn state_of(data: &Path) -> anyhow::Result<(Value, Pid)> {
    let state: Value = serde_json::from_slice(&std::fs::read(data.join("state.json"))?)?;
    let pid = i32::try_from(state["redis_pid"].as_i64().context("a pid")?)?;
    Ok((state, Pid::from_raw(pid).context("a pid is not 0")?))
}

#[tokio::test]
async fn up_ends_in_order_when_its_redis_dies() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, _) = up(data.path(), &[]).await?;
    let file = data.path().join("state.json");
    let (_, pid) = state_of(data.path())?;
    rustix::process::kill_process(pid, Signal::KILL)?;
    assert_eq!(fleet.gone().await?.code(), Some(1));
    assert!(!file.exists(), "the state file is left");
    let again = run(data.path(), &["audit"]).await?;
    let says = String::from_utf8(again.stderr)?;
    assert!(says.contains("start `storyfleet up`"), "{says}");
    Ok(())
}

/// The model has begun an answer, and nothing more comes of it.
#[tokio::test]
async fn who_ends_an_up_that_answers_is_told_what_it_waits_for() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let mut command = storyfleet(data.path(), &["up", "--json"])?;
    let mut fleet = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (mut out, mut errors) = (fleet.output()?, fleet.errors()?);
    let ready: Value = serde_json::from_str(&out.line("ready").await?)?;
    let admin = ready["llm"].as_str().context("an address")?;
    let admin = admin.replace("/v1", "/admin");
    let stalls = "rules: [{when: {agent: narrator}, reply: {fault: stall(3)}}]";
    let client = reqwest::Client::new();
    let set = client.post(format!("{admin}/scenario")).body(stalls);
    set.send().await?.error_for_status()?;
    says(data.path(), &["send", "demo", "I wait.", "--id", "a1"]).await?;
    eventually("a call for a1", async || {
        let calls = reqwest::get(format!("{admin}/calls?event=a1")).await?;
        let calls: Value = calls.json().await?;
        let rows = calls["calls"]["events"].as_array().context("rows")?;
        Ok((!rows.is_empty()).then_some(()))
    })
    .await?;
    fleet.signal(Signal::INT)?;
    errors.line("Ctrl-C again lets go of it").await?;
    fleet.signal(Signal::INT)?;
    assert!(fleet.gone().await?.success());
    Ok(())
}

#[tokio::test]
async fn watching_a_quiet_story_ends_while_another_is_busy() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let data = tempfile::tempdir()?;
    for story in ["quiet", "busy"] {
        stack.story(story, Policies::default()).await?;
    }
    // Nobody answers it.
    stack.act(&"busy".parse()?, "a1", "I wait").await?;
    let url = stack.redis_url();
    says(
        data.path(),
        &["--redis", &url, "watch", "quiet", "--until-idle"],
    )
    .await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_may_have_been_accepted_is_said_so_with_the_id_to_send_it_again() -> anyhow::Result<()>
{
    let (stack, data) = (
        Stack::start(Options::default()).await?,
        tempfile::tempdir()?,
    );
    stack.story("castle", Policies::default()).await?;
    let relay = Relay::before(&stack.redis_url()).await?;
    relay.lose("I knock");
    let send = ["--redis", &relay.url(), "send", "castle", "I knock"];
    let output = run(data.path(), &send).await?;
    let told = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{told}");
    let words = "it may have been accepted: send it again with --id ";
    let (_, id) = told.split_once(words).context(told.clone())?;
    let id = id.split(':').next().context("an id")?;
    relay.mend();
    let again = says(data.path(), &[&send[..], &["--id", id]].concat()).await?;
    assert!(again.contains("was sent before"), "{again}");
    // What was refused was not accepted.
    let refused = run(
        data.path(),
        &["--redis", &relay.url(), "send", "moat", "I knock"],
    )
    .await?;
    let told = String::from_utf8(refused.stderr)?;
    assert!(!told.contains("may have been"), "{told}");
    stack.end().await;
    Ok(())
}
