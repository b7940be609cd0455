//! What operators are told: an audit while events are under way, a sick Redis, dead letters that are not there.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use story::{Agent, Policies};
use system_tests::{Options, Stack, eventually, program};
use tokio::process::Command;

use crate::command::{run, storyfleet, told};

/// Ends with this code and says this on one line.
async fn refused(stack: &Stack, code: i32, arguments: &[&str], words: &str) -> anyhow::Result<()> {
    let (nowhere, url) = (tempfile::tempdir()?, stack.redis_url());
    let ended = run(nowhere.path(), &[&["--redis", &url], arguments].concat()).await?;
    let errors = String::from_utf8(ended.stderr)?;
    ensure!(
        ended.status.code() == Some(code)
            && errors.starts_with("error: ")
            && errors.contains(words)
            && errors.lines().count() == 1
            && ended.stdout.is_empty(),
        "{arguments:?} should say {words:?}: {errors}"
    );
    Ok(())
}

#[tokio::test]
async fn an_audit_is_clean_only_when_nothing_is_under_way() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    for id in ["a1", "a2"] {
        stack.act(&story, id, "I wait.").await?;
    }
    let audit = told(&stack.redis_url(), &["audit"]).await?;
    assert!(
        audit.contains("nothing lost so far, 2 under way"),
        "{audit}"
    );
    assert!(!audit.contains("clean"), "{audit}");
    let _narrator = stack.worker(Agent::Narrator)?;
    stack.audit(2).await?;
    let audit = told(&stack.redis_url(), &["audit"]).await?;
    assert!(audit.contains("clean: every action ended once"), "{audit}");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn one_spoilt_story_hides_no_other() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    for story in ["castle", "forest"] {
        let story = stack.story(story, Policies::default()).await?;
        stack.act(&story, "a1", "I wait.").await?;
    }
    stack.redis(&["SET", "sf:{0}:seen:castle", "x"]).await?;
    let (nowhere, url) = (tempfile::tempdir()?, stack.redis_url());
    let audit = run(nowhere.path(), &["--redis", &url, "audit"]).await?;
    let said = String::from_utf8(audit.stdout)?;
    assert_eq!(audit.status.code(), Some(3), "{said}");
    assert!(said.contains("castle is left out: "), "{said}");
    assert!(said.contains("in flight    1\n"), "{said}");
    let doctor = run(nowhere.path(), &["--redis", &url, "doctor"]).await?;
    let said = String::from_utf8(doctor.stdout)?;
    assert_eq!(doctor.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the key sf:{0}:seen:castle is a string"),
        "{said}"
    );
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_redis_without_memory_is_told_in_words_that_help() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    // The first one also records the number of shards.
    told(&stack.redis_url(), &["story", "create", "castle"]).await?;
    stack.redis(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    refused(
        &stack,
        1,
        &["send", "castle", "I wait."],
        "raise its maxmemory",
    )
    .await?;
    for command in [
        &[
            "story",
            "create",
            "forest",
            "--character",
            "Sibyl=Keeps the lamp.",
        ][..],
        &["story", "renew"],
        &["revoke", "--sub", "mira"],
    ] {
        refused(&stack, 1, command, "raise its maxmemory").await?;
    }
    let (nowhere, url) = (tempfile::tempdir()?, stack.redis_url());
    let doctor = run(nowhere.path(), &["--redis", &url, "doctor", "--fix"]).await?;
    let said = String::from_utf8(doctor.stdout)?;
    assert_eq!(doctor.status.code(), Some(1), "{said}");
    assert!(said.contains("found: Redis has no memory left"), "{said}");
    // Nothing of the story is there.
    stack.redis(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    assert_eq!(
        told(&stack.redis_url(), &["story", "list"]).await?,
        "castle\n"
    );
    assert_eq!(
        told(&stack.redis_url(), &["doctor"])
            .await?
            .matches("forest")
            .count(),
        0
    );
    told(&stack.redis_url(), &["story", "create", "forest"]).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_that_is_not_there_is_an_error() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    stack.story("castle", Policies::default()).await?;
    for command in ["show", "redrive", "purge"] {
        for id in ["0/1-0", "nonsense"] {
            let words = format!("narrator has no dead letter {id}");
            refused(&stack, 2, &["dead", command, "narrator", id], &words).await?;
        }
    }
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn all_dead_letters_are_sent_again_once() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    for id in ["b1", "b2"] {
        let fields = [
            ("story", &b"castle"[..]),
            ("id", id.as_bytes()),
            ("part", b"0"),
            ("e", b"{"),
        ];
        stack.smuggle(Agent::Narrator, &fields).await?;
        reader.end_of(&id.parse()?).await?;
    }
    stack.smuggle(Agent::Narrator, &[("e", b"{}")]).await?;
    eventually("three dead letters", async || {
        Ok((stack.bus.dead_count(Agent::Narrator).await? == 3).then_some(()))
    })
    .await?;
    assert!(narrator.end().await?.success());

    let listed = told(&stack.redis_url(), &["dead", "list", "--json"]).await?;
    for line in listed.lines() {
        let letter: Value = serde_json::from_str(line)?;
        assert_eq!(letter["agent"], "narrator", "{letter}");
    }
    let none = told(&stack.redis_url(), &["dead", "redrive", "--class", "rate"]).await?;
    assert_eq!(none, "in their lanes again: 0\n");
    let (nowhere, url) = (tempfile::tempdir()?, stack.redis_url());
    for redriven in [2, 0] {
        let all = ["--redis", &url, "dead", "redrive", "--all", "--json"];
        let ended = run(nowhere.path(), &all).await?;
        let counts: Value = serde_json::from_slice(&ended.stdout)?;
        assert_eq!(
            (&counts["redriven"], &counts["left"]),
            (&redriven.into(), &1.into())
        );
        let errors = String::from_utf8(ended.stderr)?;
        assert_eq!(ended.status.code(), Some(1), "{errors}");
        assert!(errors.contains("can only be purged"), "{errors}");
    }
    assert_eq!(stack.bus.backlog(Agent::Narrator).await?, 1);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_was_published_under_another_id_is_put_aside_and_nothing_is_lost() -> anyhow::Result<()>
{
    let stack = Stack::start(Options::default()).await?;
    let _narrator = stack.worker(Agent::Narrator)?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let event = system_tests::action(&story, "inner", "I wait.", None)?;
    let script = concat!(
        include_str!("../../../shared/bus/scripts/lane.lua"),
        include_str!("../../../shared/bus/scripts/publish.lua")
    );
    let mut words = ["EVAL", script, "10"].map(str::to_owned).to_vec();
    words.extend(["ctx", "seen", "log", "live"].map(|key| format!("sf:{{0}}:{key}:castle")));
    for agent in ["moderator", "narrator"] {
        words.push(format!("sf:{{0}}:work:{agent}"));
        words.extend(["turn", "parked"].map(|key| format!("sf:{{0}}:{key}:{agent}:castle")));
    }
    let json = event.encode();
    words.extend(["castle", "outer", "action", &json, "1000", "86400000", "0"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    stack.redis(&words).await?;
    for id in ["outer", "inner"] {
        reader.end_of(&id.parse()?).await?;
    }
    let audit = stack.audit(0).await?;
    assert_eq!(
        (audit.failed, audit.lost, audit.dead),
        (2, 0, 1),
        "{audit:?}"
    );
    let letter = stack.bus.dead(Agent::Narrator).await?.remove(0);
    assert!(
        letter
            .reason
            .contains("published as \"outer\" of castle, and its event calls itself \"inner\""),
        "{}",
        letter.reason
    );
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn sending_to_nobody_says_so_and_waits() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    stack.story("castle", Policies::default()).await?;
    let mut command = Command::new(program("storyfleet")?);
    command
        .args([
            "--redis",
            &stack.redis_url(),
            "send",
            "castle",
            "I wait.",
            "--wait",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut send = system_tests::Process::start(&mut command)?;
    let mut errors = send.errors()?;
    errors.line("no narrator runs at the moment").await?;
    let (nowhere, url) = (tempfile::tempdir()?, stack.redis_url());
    let send_only = ["--redis", &url, "send", "castle", "I wait.", "--id", "a2"];
    let sent = run(nowhere.path(), &send_only).await?;
    assert!(sent.status.success(), "{sent:?}");
    let errors = String::from_utf8(sent.stderr).context("text")?;
    assert!(
        errors.contains("no narrator runs at the moment"),
        "{errors}"
    );
    the_doctor_says_so(&url).await?;
    let again = storyfleet(nowhere.path(), &send_only)?
        .stdout(std::fs::File::options().write(true).open("/dev/full")?)
        .stderr(Stdio::piped())
        .spawn()?
        .wait_with_output()
        .await?;
    let errors = String::from_utf8(again.stderr).context("text")?;
    assert!(
        errors.starts_with(
            "error: a2 was sent all the same: standard output cannot be written: No space left"
        ),
        "{errors}"
    );
    let _narrator = stack.worker(Agent::Narrator)?;
    assert!(send.gone().await?.success());
    stack.end().await;

    let slow = Stack::start(Options {
        between_tokens: Duration::from_millis(50),
        ..Options::default()
    })
    .await?;
    let _narrator = slow.worker(Agent::Narrator)?;
    slow.story("castle", Policies::default()).await?;
    let (nowhere, url) = (tempfile::tempdir()?, slow.redis_url());
    let sent = run(
        nowhere.path(),
        &["--redis", &url, "send", "castle", "I wait.", "--wait"],
    )
    .await?;
    let errors = String::from_utf8(sent.stderr).context("text")?;
    assert_eq!(errors, "", "somebody is there");
    slow.end().await;
    Ok(())
}

async fn the_doctor_says_so(url: &str) -> anyhow::Result<()> {
    let nowhere = tempfile::tempdir()?;
    let doctor = run(nowhere.path(), &["--redis", url, "doctor"]).await?;
    let said = String::from_utf8(doctor.stdout).context("text")?;
    assert!(
        said.contains("no narrator runs, and so many stories wait for one: 1"),
        "{said}"
    );
    assert_eq!(doctor.status.code(), Some(1));
    Ok(())
}

#[tokio::test]
async fn what_was_accepted_and_is_gone_is_named_and_nothing_else_is_said_of_it()
-> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    stack.act(&story, "a1", "I wait.").await?;
    let _narrator = stack.worker(Agent::Narrator)?;
    stack.audit(1).await?;
    let (folder, url) = (tempfile::tempdir()?, stack.redis_url());
    let file = folder.path().join("sent.ndjson").display().to_string();
    let audit = async |lines: &str| {
        std::fs::write(&file, lines)?;
        let ended = run(folder.path(), &["--redis", &url, "audit", "--sent", &file]).await?;
        let told = [ended.stdout, ended.stderr].concat();
        anyhow::Ok((ended.status.code(), String::from_utf8(told)?))
    };
    let there = r#"{"story":"castle","id":"a1","status":"sent","seq":1}"#;
    let gone = r#"{"story":"castle","id":"a2"}"#;
    let (code, told) = audit(&format!("{there}\n\n")).await?;
    assert!(
        code == Some(0) && told.contains("1 of 1"),
        "{code:?} {told}"
    );
    let (code, told) = audit(&format!("{there}\n{gone}\n")).await?;
    assert!(
        code == Some(3) && told.contains("castle/a2 was accepted and is gone"),
        "{told}"
    );
    assert!(
        told.contains("not clean: what is gone and was sent within the last day was lost")
            && !told.contains("none was lost"),
        "{told}"
    );
    let (code, told) = audit(&format!("{there}\n{{\"story\":7}}\n")).await?;
    assert!(
        code == Some(2) && told.contains("line 2"),
        "{code:?} {told}"
    );
    stack.end().await;
    Ok(())
}
