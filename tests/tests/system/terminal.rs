//! What people at a terminal meet: `up` after its own death, `watch` through it, help, names, a model that is not there.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};
use serde_json::Value;
use story::Policies;
use system_tests::{Options, Process, Redis, Signal, Stack, eventually, program};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::command::{run, says, state_of, storyfleet, up};

async fn refused(arguments: &[&str], code: i32, words: &str) -> anyhow::Result<()> {
    let nowhere = tempfile::tempdir()?;
    refused_in(nowhere.path(), arguments, code, words).await
}

async fn refused_in(data: &Path, arguments: &[&str], code: i32, words: &str) -> anyhow::Result<()> {
    let ended = run(data, arguments).await?;
    let errors = String::from_utf8(ended.stderr)?;
    ensure!(
        ended.status.code() == Some(code) && errors.contains(words) && errors.lines().count() == 1,
        "{arguments:?} should say {words:?} and end with {code}: {errors}"
    );
    Ok(())
}

#[tokio::test]
async fn up_goes_on_after_it_was_killed_and_watch_follows_it() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, first) = up(data.path(), &[]).await?;
    let mut command = storyfleet(data.path(), &["watch", "demo"])?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = Process::start(&mut command)?;
    let (mut out, mut errors) = (watch.output()?, watch.errors()?);
    let send = ["send", "demo", "--wait", "--id"];
    says(data.path(), &[&send[..], &["turn-1", "I knock"]].concat()).await?;
    out.line("> Player: I knock").await?;

    fleet.kill().await?;
    // Nobody answers it yet.
    says(data.path(), &["send", "demo", "I wait", "--id", "turn-2"]).await?;
    let (fleet, second) = up(data.path(), &[]).await?;
    assert_ne!(first["redis"], second["redis"]);
    errors.line("Redis is out of sight").await?;
    says(data.path(), &[&send[..], &["turn-2", "I wait"]].concat()).await?;
    says(data.path(), &[&send[..], &["turn-3", "I enter"]].concat()).await?;
    out.line("> Player: I enter").await?;
    errors.line("Redis is back").await?;
    assert_eq!(errors.with("").len(), 2, "{:?}", errors.with(""));
    for text in ["I knock", "I wait", "I enter"] {
        assert_eq!(out.with(&format!("> Player: {text}")).len(), 1, "{text}");
    }
    let audit: Value = serde_json::from_str(&says(data.path(), &["audit", "--json"]).await?)?;
    assert_eq!((&audit["answered"], &audit["lost"]), (&3.into(), &0.into()));
    watch.kill().await?;
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn after_a_power_cut_every_command_says_to_start_up_again() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, ready) = up(data.path(), &[]).await?;
    let (state, pid) = state_of(data.path())?;
    fleet.kill().await?;
    rustix::process::kill_process(pid, Signal::KILL)?;
    let redis = state["redis"].as_str().context("an address")?;
    let listens = redis.trim_start_matches("redis://").to_owned();
    eventually("the end of Redis", async || {
        Ok(tokio::net::TcpStream::connect(&listens).await.err())
    })
    .await?;
    assert_eq!(ready["redis"], state["redis"]);
    for command in [
        &["audit"][..],
        &["doctor"],
        &["send", "demo", "I wait"],
        &["watch", "demo"],
    ] {
        let says = format!("and its {redis} with it: start `storyfleet up` again");
        refused_in(data.path(), command, 1, &says).await?;
    }
    let (fleet, _) = up(data.path(), &[]).await?;
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_redis_of_others_that_is_away_is_no_end_of_up() -> anyhow::Result<()> {
    let (redis, data) = (Redis::start(&[]).await?, tempfile::tempdir()?);
    let (fleet, _) = up(data.path(), &["--redis", &redis.url()]).await?;
    let listens = redis.url().trim_start_matches("redis://").to_owned();
    drop(redis);
    eventually("the end of Redis", async || {
        Ok(tokio::net::TcpStream::connect(&listens).await.err())
    })
    .await?;
    refused_in(data.path(), &["audit"], 1, "Redis is not reachable").await?;
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_named() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    stack.story("castle", Policies::default()).await?;
    let redis = stack.redis_url();
    for arguments in [
        &["--redis", &redis, "audit"][..],
        &["--redis", &redis, "doctor"],
        &["--redis", &redis, "story", "list"],
        &["--help"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full")?;
        let mut command = Command::new(program("storyfleet")?);
        command.args(arguments).stdout(full).stderr(Stdio::piped());
        let ended = command.spawn()?.wait_with_output().await?;
        let errors = String::from_utf8(ended.stderr)?;
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {errors}");
        let says = "error: standard output cannot be written: No space left on device";
        assert!(errors.starts_with(says), "{arguments:?}: {errors}");
    }
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn help_shows_no_password_of_the_environment() -> anyhow::Result<()> {
    for (name, command) in [
        ("storyfleet", "up"),
        ("narrator", "run"),
        ("moderator", "check"),
    ] {
        let help = Command::new(program(name)?)
            .args([command, "--help"])
            .env("LLM_URL", "https://mira:hunter2@models.local/v1")
            .env("REDIS_URL", "redis://mira:hunter2@redis.local")
            .env("LLM_API_KEY", "hunter2")
            .output()
            .await?;
        let help = String::from_utf8(help.stdout)?;
        assert!(
            help.contains("LLM_URL") && !help.contains("hunter2"),
            "{help}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_be_told_to_be_the_orphan_is_not_ended() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, _) = up(data.path(), &[]).await?;
    let file = data.path().join("state.json");
    let (state, pid) = state_of(data.path())?;
    fleet.kill().await?;
    let mut other = state.clone();
    other["redis_pid"] = std::process::id().into();
    std::fs::write(&file, other.to_string())?;
    refused_in(data.path(), &["up"], 1, "end the process that holds").await?;
    rustix::process::test_kill_process(pid).context("it was ended all the same")?;

    std::fs::write(&file, state.to_string())?;
    let (fleet, _) = up(data.path(), &[]).await?;
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn watch_ends_quietly_when_nobody_reads_it_any_more() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    stack.act(&story, "a1", "I wait.").await?;
    let mut command = Command::new(program("storyfleet")?);
    command
        .args(["--redis", &stack.redis_url(), "watch", "castle"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut watch = Process::start(&mut command)?;
    let errors = watch.errors()?;
    let out = watch.child().stdout.take().context("a pipe")?;
    let mut lines = BufReader::new(out).lines();
    assert_eq!(lines.next_line().await?.as_deref(), Some("> Mira: I wait."));
    // Nothing more is written in the story, so that no write fails.
    drop(lines);
    assert!(watch.gone().await?.success());
    assert_eq!(errors.with(""), Vec::<String>::new());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn help_is_help_and_no_error() -> anyhow::Result<()> {
    let nowhere = tempfile::tempdir()?;
    let bare = Command::new(program("storyfleet")?).output().await?;
    let errors = String::from_utf8(bare.stderr)?;
    assert_eq!(bare.status.code(), Some(2));
    assert!(
        errors.contains("Usage: storyfleet") && !errors.contains("error:"),
        "{errors}"
    );
    for arguments in [
        &["help"][..],
        &["help", "--help"],
        &["help", "dead", "redrive"],
        &["dead", "--help"],
        &["doctor", "--help"],
        &["up", "--help"],
    ] {
        let help = says(nowhere.path(), arguments).await?;
        assert!(help.contains("Usage: storyfleet"), "{help}");
        assert!(help.contains("Options of every command:"), "{help}");
    }
    refused(&["help", "sing"], 2, "unrecognized subcommand 'sing'").await
}

#[tokio::test]
async fn what_says_nothing_and_names_that_are_none_are_refused() -> anyhow::Result<()> {
    for (arguments, words) in [
        (&["send", "demo", ""][..], "write some words"),
        (&["send", "demo", " \n\t"], "write some words"),
        (
            &["send", "demo", "I wait", "--as", " "],
            "1 to 64 characters",
        ),
        (
            &["send", "demo", "I wait", "--as", "a\u{1b}[2J"],
            "1 to 64 characters",
        ),
        (
            &["send", "demo", "I wait", "--to", "a\nb"],
            "1 to 64 characters",
        ),
        (
            &["send", "demo", "I nod", "--mode", "do", "--to", "Sibyl"],
            "leave --mode out",
        ),
        (
            &["bench", "--floor", "--rounds", "1", "--events", "10"],
            "10 is not in 1000..",
        ),
        (
            &[
                "story",
                "create",
                "x",
                "--character",
                "Ada=a",
                "--character",
                " Ada =b",
            ],
            "--character Ada is given twice",
        ),
        (
            &["story", "create", "x", "--lore", "sea=a", "--lore", "sea=b"],
            "--lore sea is given twice",
        ),
    ] {
        let stack_less = [&["--redis", "redis://127.0.0.1:1"], arguments].concat();
        refused(&stack_less, 2, words).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_written_is_named_with_the_way_out() -> anyhow::Result<()> {
    // Root, too, makes no file there.
    for folder in ["/proc/self", "/proc/storyfleet"] {
        let says = format!(
            "cannot write {}",
            if folder == "/proc/self" {
                "/proc/"
            } else {
                folder
            }
        );
        refused_in(Path::new(folder), &["up"], 1, &says).await?;
        refused_in(Path::new(folder), &["up"], 1, "give another --data DIR").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_model_is_named_and_one_that_is_not_there_is_told_once() -> anyhow::Result<()> {
    let stack = Stack::start(Options {
        scenario: "models: [tiny, large]".to_owned(),
        ..Options::default()
    })
    .await?;
    refused(&["up", "--llm", stack.llm()], 2, "--model M is needed").await?;
    refused(&["up", "--llm", stack.llm()], 2, "offers tiny, large").await?;
    let nowhere = "http://127.0.0.1:1/v1";
    refused(&["up", "--llm", nowhere], 2, "does not list its models").await?;
    for (llm, model, warning) in [
        (
            nowhere,
            "tiny",
            Some("the model at http://127.0.0.1:1/v1 is not usable"),
        ),
        (
            stack.llm(),
            "huge",
            Some("does not offer the model huge: it offers tiny, large"),
        ),
        (
            stack.llm().trim_end_matches("/v1"),
            "tiny",
            Some("it lists no models: see that --llm ends as the server's API does"),
        ),
        (stack.llm(), "tiny", None),
    ] {
        let data = tempfile::tempdir()?;
        let arguments = [
            "up",
            "--redis",
            &stack.redis_url(),
            "--llm",
            llm,
            "--model",
            model,
        ];
        let mut command = storyfleet(data.path(), &arguments)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut fleet = Process::start(&mut command)?;
        let (mut out, errors) = (fleet.output()?, fleet.errors()?);
        out.line("ready: ").await?;
        // As when its terminal is closed.
        fleet.signal(Signal::HUP)?;
        assert!(fleet.gone().await?.success());
        assert_eq!(
            errors.with("").len(),
            usize::from(warning.is_some()),
            "{errors:?}"
        );
        assert_eq!(
            errors.with(warning.unwrap_or("never")).len(),
            errors.with("").len()
        );
    }
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_logged_is_chosen_as_for_the_workers() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let mut command = storyfleet(data.path(), &["up", "--json"])?;
    // The form of a worker's logs, which is no filter.
    command
        .env("STORYFLEET_LOG", "json")
        .env("RUST_LOG", "info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut fleet = Process::start(&mut command)?;
    let mut errors = fleet.errors()?;
    errors.line("taking events").await?;
    assert!(fleet.end().await?.success());
    Ok(())
}
