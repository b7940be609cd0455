//! What each command of `storyfleet` that writes tells of replicas that should have what it wrote, where there is none.

use anyhow::Context;
use serde_json::Value;
use system_tests::{Options, Stack};

use crate::command::{run, told};

/// Of the story "castle".
const ARCHIVE: &str = "castle.ndjson";

/// Each that is to write something: with replicas that are waited for, and without.
const COMMANDS: [[&[&str]; 2]; 9] = [
    [
        &["story", "create", "castle"],
        &["story", "create", "forest"],
    ],
    [
        &["send", "castle", "I wait."],
        &["send", "castle", "I wait."],
    ],
    [&["story", "renew", "castle"], &["story", "renew", "castle"]],
    [&["revoke", "--sub", "mira"], &["revoke", "--sub", "mira"]],
    [
        &["fork", "castle", "--at", "1", "f1"],
        &["fork", "castle", "--at", "1", "f2"],
    ],
    [&["import", ARCHIVE, "i1"], &["import", ARCHIVE, "i2"]],
    [
        &["story", "trim", "old1", "--keep", "100", "--days", "1"],
        &["story", "trim", "old2", "--keep", "100", "--days", "1"],
    ],
    [
        &["dead", "redrive", "narrator", "0/1-1"],
        &["dead", "redrive", "narrator", "0/1-2"],
    ],
    [
        &["dead", "redrive", "--class", "rate"],
        &["dead", "redrive", "--class", "crash"],
    ],
];

#[tokio::test]
async fn what_no_replica_has_is_told_by_every_command_that_writes() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    letters(&stack).await?;
    for story in ["old1", "old2"] {
        is_old(&stack, story).await?;
    }
    let (folder, url) = (tempfile::tempdir()?, stack.redis_url());
    let archive = folder.path().join(ARCHIVE);
    let archive = archive.to_str().context("a path of text")?;
    for pair in COMMANDS {
        for (command, options) in pair.into_iter().zip([&["--wait-replicas", "1"][..], &[]]) {
            if command[0] == "import" {
                std::fs::write(archive, told(&url, &["export", "--story", "castle"]).await?)?;
            }
            let file = |word: &&'static str| if *word == ARCHIVE { archive } else { *word };
            let command: Vec<&str> = command.iter().map(file).collect();
            let words = [&["--redis", &url, "--json"], &command[..], options].concat();
            let ended = run(folder.path(), &words).await?;
            assert!(ended.status.success(), "{command:?}: {ended:?}");
            let value: Value = serde_json::from_slice(&ended.stdout)?;
            let errors = String::from_utf8(ended.stderr)?;
            let is_told = errors.contains("it is done, and only 0 replicas have it yet");
            if options.is_empty() {
                assert_eq!(value["replicated"], Value::Null, "{command:?}: {value}");
                assert!(!errors.contains("replicas"), "{command:?}: {errors}");
            } else {
                assert_eq!(value["replicated"], "short", "{command:?}: {value}");
                assert_eq!(value["replicas"], 0, "{command:?}: {value}");
                assert!(is_told, "{command:?}: {errors}");
                let again = errors.contains("sent again with --id ");
                assert_eq!(again, command[0] == "send", "{command:?}: {errors}");
            }
        }
    }
    stack.end().await;
    Ok(())
}

/// Dead letters that go to their lanes again.
async fn letters(stack: &Stack) -> anyhow::Result<()> {
    for (entry, class) in [
        ("1-1", "x"),
        ("1-2", "x"),
        ("1-3", "rate"),
        ("1-4", "crash"),
    ] {
        let letter = [
            "XADD",
            "sf:{0}:dead:narrator",
            entry,
            "story",
            "castle",
            "id",
            entry,
        ];
        let reason = [
            "part", "0", "e", "{", "reason", "r", "class", class, "tries", "3",
        ];
        stack.redis(&[&letter[..], &reason].concat()).await?;
    }
    Ok(())
}

/// Makes a story of whose log the oldest event may go.
async fn is_old(stack: &Stack, story: &str) -> anyhow::Result<()> {
    told(&stack.redis_url(), &["story", "create", story]).await?;
    let log = format!("sf:{{0}}:log:{story}");
    stack
        .redis(&["XADD", &log, "1-0", "e", "{}", "t", "0"])
        .await?;
    let context = format!("sf:{{0}}:ctx:{story}");
    stack.redis(&["HSET", &context, "seq", "100000"]).await
}
