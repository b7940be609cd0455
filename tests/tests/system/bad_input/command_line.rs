//! Flags, ids, policies, URLs, prompts and event files.

use std::path::Path;

use anyhow::Context;
use story::{Agent, MAX_EVENT_BYTES, Policies};
use system_tests::{Options, Stack};

use super::stream::action_of;
use super::{CONFIGURATION, FAILED, NOWHERE, refused, run, worker_refused};

#[rustfmt::skip]
const STORYFLEET: [(&[&str], &str); 15] = [
    (&["--quux"],                                          "unexpected argument '--quux'"),
    (&["quux"],                                            "unrecognized subcommand 'quux'; --help"),
    (&["send", "castle"],                                  "<TEXT>"),
    (&["send", "Castle", "x"],                             "'Castle' is not a story id: use 1 to 64"),
    (&["send", "castle", "x", "--id", ""],                 "--id"),
    (&["send", "castle", "x", "--mode", "sing"],           "do, say, story"),
    (&["story", "create", "x", "--input", "maybe"],        "use one of hold, off"),
    (&["story", "create", "x", "--output", "maybe"],       "use one of hold, retract, off"),
    (&["watch", "castle", "--from", "7"],                  "a cursor is"),
    (&["dead", "show", "bard", "0/1-1"],                   "use moderator, narrator or dialogue"),
    (&["up", "--fault-rate", "2"],                         "0 to 1"),
    (&["up", "--log-filter", "a=b=c"],                     "the log filter"),
    (&["--shards", "0", "--redis", "redis://h", "audit"],  "1..=65535"),
    (&["--prefix", "a b", "--redis", "redis://h", "audit"], "the key prefix"),
    (&["audit", "redis://:hunter2@h"],                     "unexpected argument 'redis://…@h'"),
];

#[rustfmt::skip]
const NARRATOR: [(&[&str], &str); 11] = [
    (&["--quux"],                     "unexpected argument '--quux'"),
    (&["--lease", "10"],              "write it like 500ms, 10s or 1m"),
    (&["--lease", "99ms"],            "'--lease <LEASE>': at least 100ms"),
    (&["--lease", "1000000000000000000s"], "'--lease <LEASE>': at most 1 day"),
    (&["--llm-timeout", "0s"],        "'--llm-timeout <LLM_TIMEOUT>': at least 1ms"),
    (&["--llm-patience", "25h"],      "at most 1 day"),
    (&["--concurrency", "0"],         "--concurrency"),
    (&["--log-filter", "a=b=c"],      "the log filter"),
    (&["--metrics-listen", "port"],   "--metrics-listen"),
    (&["--llm-key-file", "/nowhere"], "--llm-key-file"),
    (&["--pod", ""],                  "'--pod <POD>': there is nothing in it"),
];

#[tokio::test]
async fn a_wrong_command_line_is_refused() -> anyhow::Result<()> {
    for (arguments, says) in STORYFLEET {
        refused("storyfleet", arguments, CONFIGURATION, says).await?;
    }
    for (arguments, says) in NARRATOR {
        worker_refused("redis://127.0.0.1:1", arguments, says).await?;
    }
    refused("narrator", &["run"], CONFIGURATION, "--llm <URL>").await?;
    let nameless = ["run", "--llm", "http://h/v1", "--model", ""];
    refused("narrator", &nameless, CONFIGURATION, "'--model <MODEL>'").await?;
    let judge = ["run", "--tier2", "oracle"];
    for agent in ["moderator", "narrator", "dialogue"] {
        refused(agent, &judge, CONFIGURATION, "off, endpoint, llm").await?;
    }
    for (name, flag) in [("mock-llm", "--ttft"), ("chaos", "--minutes")] {
        refused(name, &[flag, "soon"], CONFIGURATION, "invalid value 'soon'").await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_longest_story_id_is_taken_and_one_letter_more_is_refused() -> anyhow::Result<()> {
    let redis = ["--redis", "redis://127.0.0.1:1", "send"];
    let id = "a".repeat(64);
    let taken = [&redis[..], &[&id, "x"]].concat();
    refused("storyfleet", &taken, FAILED, "Redis is not reachable").await?;
    let id = "a".repeat(65);
    let long = [&redis[..], &[&id, "x"]].concat();
    refused("storyfleet", &long, CONFIGURATION, "not a story id").await
}

#[tokio::test]
async fn a_wrong_url_is_refused() -> anyhow::Result<()> {
    for (url, says) in [
        ("http://:hunter2@h", "it starts with redis://"),
        ("127.0.0.1:6379", "it starts with redis://"),
        ("redis://", "write it like redis://"),
        ("redis://:hunter2@h:port", "write it like redis://"),
        ("redis+sentinel://:hunter2@h:1", "<name of the master>"),
    ] {
        for command in ["audit", "up"] {
            let arguments = ["--redis", url, command];
            refused("storyfleet", &arguments, CONFIGURATION, says).await?;
        }
        worker_refused(url, &[], says).await?;
    }
    for (url, says) in [
        ("nonsense", "write it like https://"),
        ("ftp://h/v1", "must start with http"),
        ("https://u:hunter2@h/v1", "must not hold a password"),
        ("https://h/v1?key=hunter2", "must end before"),
    ] {
        refused("storyfleet", &["up", "--llm", url], CONFIGURATION, says).await?;
        for agent in Agent::ALL {
            let arguments = ["run", "--llm", url, "--model", "m"];
            refused(agent.as_str(), &arguments, CONFIGURATION, says).await?;
        }
    }
    Ok(())
}

/// Also where a fleet of `up` runs, and where a Redis of one's own would be started.
#[tokio::test]
async fn files_of_tls_without_the_redis_that_they_are_of_are_refused() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let state = r#"{"redis":"redis://127.0.0.1:1","redis_pid":null,"prefix":"sf","shards":1}"#;
    std::fs::write(data.path().join("state.json"), state)?;
    let data = data.path().to_str().context("a path of text")?;
    let files = [
        &["--redis-ca", "ca.crt"][..],
        &["--redis-cert", "own.crt", "--redis-key", "own.key"],
    ];
    let says = "are of a Redis that is named";
    for files in files {
        for command in [
            &["up"][..],
            &["bench", "--floor", "--quick"],
            &["audit"],
            &["audit", "--data", data],
        ] {
            let arguments = [files, command].concat();
            refused("storyfleet", &arguments, CONFIGURATION, says).await?;
        }
        let plain = [files, &["--redis", "redis://127.0.0.1:1", "up"]].concat();
        refused(
            "storyfleet",
            &plain,
            CONFIGURATION,
            "certificates are for TLS",
        )
        .await?;
        // There is a default here, which is in the clear.
        let worker = [&["run", "--llm", NOWHERE, "--model", "m"], files].concat();
        refused(
            "narrator",
            &worker,
            CONFIGURATION,
            "certificates are for TLS",
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_check_ends_as_the_start_would() -> anyhow::Result<()> {
    let check = ["check", "--redis", "redis://127.0.0.1:1", "--model", "m"];
    for (llm, code) in [(NOWHERE, FAILED), ("nonsense", CONFIGURATION)] {
        let checked = run("narrator", &[&check[..], &["--llm", llm]].concat()).await?;
        assert_eq!(checked.code, Some(code), "{checked:?}");
    }
    let redis = [
        "check", "--redis", "nonsense", "--model", "m", "--llm", NOWHERE,
    ];
    let checked = run("narrator", &redis).await?;
    assert_eq!(checked.code, Some(CONFIGURATION), "{checked:?}");
    Ok(())
}

#[tokio::test]
async fn without_a_fleet_a_command_says_how_to_start_one() -> anyhow::Result<()> {
    refused("storyfleet", &["audit"], FAILED, "start `storyfleet up`").await
}

#[tokio::test]
async fn an_unusable_prompt_is_named_with_its_line_and_its_variable() -> anyhow::Result<()> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../prompts/narrator");
    let long = "x".repeat(256 * 1024 + 1);
    for (turn, says) in [
        (
            "---\nname: narrator-turn\nversion: 2\n---\nNow:\n{{ histery }}\n",
            "narrator/turn.md, line 6: there is no variable `histery`",
        ),
        (
            "---\nname: narrator-turn\nversion: 2\n---\n{% fro line in history %}\n",
            "narrator/turn.md, line 5: syntax error",
        ),
        (
            "---\nname: narrator-turn\nversion: two\n---\nNow.\n",
            "narrator/turn.md: the front matter is wrong",
        ),
        (
            "Now.\n",
            "narrator/turn.md: it must begin with a line `---`",
        ),
        (
            "---\nname: narrator-tern\nversion: 2\n---\nNow.\n",
            "narrator/turn.md: its name must be 'narrator-turn'",
        ),
        (
            &long,
            "narrator/turn.md has more than 256 KiB: make it shorter",
        ),
    ] {
        let folder = tempfile::tempdir()?;
        let narrator = folder.path().join("narrator");
        std::fs::create_dir(&narrator)?;
        for file in ["system.md", "outline.md"] {
            std::fs::copy(shipped.join(file), narrator.join(file))?;
        }
        std::fs::write(narrator.join("turn.md"), turn)?;
        let folder = folder.path().to_str().context("a path of text")?;
        worker_refused("redis://127.0.0.1:1", &["--prompts", folder], says).await?;
    }
    for agent in Agent::ALL {
        let run = ["run", "--llm", NOWHERE, "--model", "m"];
        let arguments = [&run[..], &["--prompts", "/nowhere"]].concat();
        let says = format!("prompt /nowhere/{agent}/");
        refused(agent.as_str(), &arguments, CONFIGURATION, &says).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_event_file_of_64_kib_is_answered_and_one_byte_more_is_refused() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("event.json");
    let path = file.to_str().context("a path of text")?;
    let once = ["once", "--llm", stack.llm(), "--model", "m", path];

    let event = action_of(&story, "a1", MAX_EVENT_BYTES)?.encode();
    std::fs::write(&file, &event)?;
    assert_eq!(run("narrator", &once).await?.code, Some(0));
    std::fs::write(&file, format!("{event} "))?;
    refused("narrator", &once, CONFIGURATION, "at most 65536").await?;
    for (bytes, says) in [
        (&b"\xff"[..], "not valid JSON"),
        (b"{", "not valid JSON"),
        (br#"{"v":1,"id":"a"}"#, "missing field"),
    ] {
        std::fs::write(&file, bytes)?;
        refused("narrator", &once, CONFIGURATION, says).await?;
    }
    std::fs::write(&file, event.replace("action", "dance"))?;
    refused("narrator", &once, CONFIGURATION, "narrator takes action").await?;
    let gone = ["once", "--llm", stack.llm(), "--model", "m", "/nowhere"];
    refused("narrator", &gone, CONFIGURATION, "/nowhere cannot be read").await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn an_answer_to_a_story_that_is_not_there_is_refused() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let redis = stack.redis_url();
    let words = "there is no story 'nosuch': `storyfleet story list` names those there are";
    for command in [
        &["send", "nosuch", "x"][..],
        &["story", "show", "nosuch"],
        &["watch", "nosuch"],
        &["export", "--story", "nosuch"],
        &["fork", "nosuch", "other", "--at", "1"],
        &["story", "renew", "nosuch"],
        &["story", "trim", "nosuch", "--keep", "100", "--days", "1"],
    ] {
        let arguments = [&["--redis", &redis], command].concat();
        refused("storyfleet", &arguments, CONFIGURATION, words).await?;
    }
    let replay = ["replay", "--redis", &redis, "--story", "nosuch"];
    refused("narrator", &replay, CONFIGURATION, words).await?;
    let create = ["--redis", &redis, "story", "create", "castle"];
    run("storyfleet", &create).await?;
    refused("storyfleet", &create, CONFIGURATION, "choose another id").await?;
    stack.end().await;
    Ok(())
}
