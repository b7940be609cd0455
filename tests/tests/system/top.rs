//! `storyfleet top`: the same figures as Redis, the audit and the dead letters have, and a terminal that is given back
//! whatever happens.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use story::{Agent, Policies};
use system_tests::{Options, Process, Signal, Stack, Terminal, eventually};

use crate::command::{run, says, storyfleet, told, up};

/// A model that never says anything: who asked it stays in flight.
const SILENT: &str = "rules: [{reply: {fault: stall(600)}}]";

async fn state(stack: &Stack) -> anyhow::Result<Value> {
    let top = ["top", "--every", "200ms", "--once", "--json"];
    Ok(serde_json::from_str(
        &told(&stack.redis_url(), &top).await?,
    )?)
}

fn row<'a>(state: &'a Value, agent: &str) -> &'a Value {
    let rows = state["agents"].as_array().map_or(&[][..], Vec::as_slice);
    rows.iter()
        .find(|row| row["agent"] == agent)
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn what_waits_is_in_flight_parked_and_dead_is_what_redis_has() -> anyhow::Result<()> {
    let stack = Stack::start(Options::playing(SILENT)).await?;
    let four = ["--concurrency", "4"];
    let (_narrator, _) = stack.worker_with(Agent::Narrator, &four)?;
    let _moderator = stack.worker(Agent::Moderator)?;
    for name in 0..10 {
        let story = stack
            .story(&format!("story-{name}"), Policies::default())
            .await?;
        for event in 0..=name % 3 {
            stack.act(&story, &format!("a{event}"), "I wait.").await?;
        }
    }
    stack.smuggle(Agent::Moderator, &[("e", b"{}")]).await?;
    eventually("four calls and a dead letter", async || {
        let state = state(&stack).await?;
        let narrator = row(&state, "narrator");
        // Of a Redis that has just begun nobody can tell who was heard of since.
        let is_known = narrator["in_flight"] == 4 && narrator["workers"] == 1;
        let there = is_known && row(&state, "moderator")["dead"] == 1;
        Ok(there.then_some(()))
    })
    .await?;
    let state = state(&stack).await?;
    let narrator = row(&state, "narrator");
    assert_eq!(stack.bus.backlog(Agent::Narrator).await?, 10);
    assert_eq!(
        (&narrator["waiting"], &narrator["workers"]),
        (&6.into(), &1.into()),
        "{narrator}"
    );
    // Three stories with one behind their turn, three with two.
    assert_eq!(
        (&narrator["parked"], &narrator["parked_is_all"]),
        (&9.into(), &true.into())
    );
    assert!(narrator["oldest_ms"].as_u64().context("an age")? > 0);
    assert_eq!(narrator["answered_per_s"], 0.0);
    let audit: Value =
        serde_json::from_str(&told(&stack.redis_url(), &["audit", "--json"]).await?)?;
    let all = ["waiting", "in_flight", "parked"].map(|name| narrator[name].as_u64().unwrap_or(0));
    assert_eq!(audit["in_flight"], all.iter().sum::<u64>());
    assert_eq!(
        row(&state, "moderator")["dead"],
        stack.bus.dead_count(Agent::Moderator).await?
    );
    let workers = state["workers"].as_array().context("workers")?;
    let held: Vec<_> = workers
        .iter()
        .map(|each| (&each["agent"], &each["in_flight"]))
        .collect();
    assert_eq!(
        held,
        [
            (&"moderator".into(), &0.into()),
            (&"narrator".into(), &4.into())
        ]
    );
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn the_fleet_of_up_is_shown_with_its_readers_and_times() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (fleet, ready) = up(data.path(), &[]).await?;
    let internal = ready["internal"].as_str().context("its pages")?;
    says(data.path(), &["send", "demo", "I light the lamp", "--wait"]).await?;
    let text = says(data.path(), &["top", "--metrics", internal]).await?;
    assert!(
        text.contains("Readers 0: 0 by WebSocket, 0 by SSE; gateways 1"),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line.starts_with("narrator")),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
    let missing = says(
        data.path(),
        &["top", "--once", "--metrics", "http://127.0.0.1:1"],
    )
    .await?;
    assert!(
        missing.contains("* http://127.0.0.1:1/metrics does not answer: "),
        "{missing}"
    );
    assert!(fleet.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn one_object_a_look_until_it_is_asked_to_end() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let mut command = live(&stack, &["--json"])?;
    let mut top = Process::start(command.stdout(std::process::Stdio::piped()))?;
    let output = top.output()?;
    eventually("three looks", async || {
        Ok((output.with("\"time\"").len() >= 3).then_some(()))
    })
    .await?;
    for line in output.with("") {
        let state: Value = serde_json::from_str(&line)?;
        assert_eq!(state["agents"].as_array().map(Vec::len), Some(3), "{line}");
    }
    assert!(top.end().await?.success());
    stack.end().await;
    Ok(())
}

fn live(stack: &Stack, arguments: &[&str]) -> anyhow::Result<tokio::process::Command> {
    let url = stack.redis_url();
    let options = ["--redis", &url, "top", "--every", "200ms"];
    storyfleet(Path::new("nowhere"), &[&options, arguments].concat())
}

#[tokio::test]
async fn the_terminal_is_given_back_however_it_ends() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    for way in ["q", "\u{3}", "\u{1b}", "TERM", "HUP"] {
        let mut terminal = Terminal::open(80, 24)?;
        let before = terminal.modes()?;
        let top = terminal.run(&live(&stack, &[])?)?;
        terminal.shows("narrator").await?;
        assert!(terminal.is_taken(), "{way:?}");
        assert_ne!(terminal.modes()?, before, "{way:?}");
        match way {
            "TERM" => top.signal(Signal::TERM)?,
            "HUP" => top.signal(Signal::HUP)?,
            key => terminal.press(key)?,
        }
        assert!(top.gone().await?.success(), "{way:?}");
        eventually("the first page is back", async || {
            Ok((!terminal.is_taken()).then_some(()))
        })
        .await?;
        assert_eq!(terminal.modes()?, before, "{way:?}");
    }
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn keys_and_another_size_change_what_is_shown() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let mut terminal = Terminal::open(80, 24)?;
    let top = terminal.run(&live(&stack, &[])?)?;
    terminal.shows("AGENT▲").await?;
    terminal.press("\t")?;
    terminal.shows("WORKER▲").await?;
    terminal.press("r")?;
    terminal.shows("WORKER▼").await?;
    terminal.press("?")?;
    terminal
        .shows("events behind their own story's turn")
        .await?;
    terminal.press("?")?;
    terminal.press("p")?;
    terminal.shows("held still").await?;
    stack.story("castle", Policies::default()).await?;
    stack.act(&"castle".parse()?, "a1", "I wait.").await?;
    terminal.press("p")?;
    terminal
        .shows("no narrator runs, and so many stories wait for one: 1")
        .await?;
    terminal.resize(120, 40)?;
    eventually("the last line is the last", async || {
        let screen = terminal.screen();
        Ok((screen.lines().count() == 40 && screen.contains("q end")).then_some(()))
    })
    .await?;
    terminal.press("q")?;
    assert!(top.gone().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_redis_that_is_lost_is_waited_for() -> anyhow::Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    let mut terminal = Terminal::open(100, 24)?;
    let top = terminal.run(&live(&stack, &[])?)?;
    terminal.shows("cmds/s").await?;
    stack.kill_redis().await?;
    terminal.shows("Redis is not reachable since").await?;
    terminal.press("?")?;
    terminal.shows("turns that workers have in hand").await?;
    terminal.press("?")?;
    stack.resume_redis().await?;
    eventually("Redis is back", async || {
        Ok(
            (!terminal.screen().contains("not reachable") && terminal.screen().contains("cmds/s"))
                .then_some(()),
        )
    })
    .await?;
    terminal.press("q")?;
    assert!(top.gone().await?.success());
    stack.kill_redis().await?;
    let nowhere = tempfile::tempdir()?;
    let once = run(
        nowhere.path(),
        &["--redis", &stack.redis_url(), "top", "--once"],
    )
    .await?;
    assert_eq!(once.status.code(), Some(1));
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_died_is_not_called_alive_by_a_redis_that_begins_anew() -> anyhow::Result<()>
{
    let mut stack = Stack::start(Options::playing(SILENT)).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    let story = stack.story("castle", Policies::default()).await?;
    stack.act(&story, "a1", "I wait.").await?;
    let alive = async |stack: &Stack| {
        let state = state(stack).await?;
        anyhow::Ok((
            state["workers"][0]["alive"].clone(),
            row(&state, "narrator")["workers"].clone(),
        ))
    };
    eventually("it is alive", async || {
        Ok((alive(&stack).await? == (true.into(), 1.into())).then_some(()))
    })
    .await?;
    narrator.kill().await?;
    stack.kill_redis().await?;
    stack.resume_redis().await?;
    let mut seen = Vec::new();
    eventually("it is known that it is gone", async || {
        let now = alive(&stack).await?;
        assert_ne!(now.0, true, "after {seen:?}");
        let is_gone = now == (false.into(), 0.into());
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        Ok(is_gone.then_some(()))
    })
    .await?;
    assert_eq!(seen[0], (Value::Null, Value::Null), "{seen:?}");
    stack.end().await;
    Ok(())
}
