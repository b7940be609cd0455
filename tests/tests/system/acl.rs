//! The users of deploy/redis/users.acl: each part of the fleet does all its work with what it may, and may nothing else.

mod sentinel;

use std::path::Path;

use anyhow::{Context, ensure};
use bus::Bus;
use gateway::auth::Role;
use serde_json::{Value, json};
use story::Agent;
use system_tests::edge::{Issuer, Node, Person, Socket, Stream};
use system_tests::{Model, Process, Redis, action, cli_program, eventually, program, worker};
use tokio::process::Command;

use crate::command::{run, told};

/// What refuses one line to die for good, and has a character speak.
const SCENARIO: &str = r#"
rules:
- when: {regex: '(?s)# Now.*cursed idol'}
  reply: {fault: context_length_exceeded}
- when: {agent: narrator}
  reply: {text: "The lamp goes on.\n@@@\n{\"choices\":[],\"speak\":[\"Sibyl\"]}"}
"#;

/// A Redis with these users, whose password is their name, and with a file of settings of its own.
async fn guarded(folder: &Path) -> anyhow::Result<Redis> {
    let rules = include_str!("../../../deploy/redis/users.acl");
    ensure!(rules.contains("user default off"), "anybody may log in");
    let mut opened = String::new();
    for line in rules.lines() {
        opened += &match line.split_once(" on ") {
            Some((user, rest)) => {
                let name = user.trim_start_matches("user ");
                format!("{user} on >{name} {rest}\n")
            }
            None => format!("{line}\n"),
        };
    }
    let (users, settings) = (folder.join("users.acl"), folder.join("redis.conf"));
    std::fs::write(&users, opened)?;
    std::fs::write(&settings, format!("aclfile {}\n", users.display()))?;
    Redis::start_from(&settings).await
}

fn url(redis: &Redis, user: &str) -> String {
    redis.url_of(&format!("{user}:{user}@"))
}

/// What one of the users is told.
async fn ask(redis: &Redis, user: &str, words: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(cli_program()?);
    command.args(["-e", "-u", &url(redis, user), "--no-auth-warning"]);
    let told = command.args(words).output().await?;
    let errors = String::from_utf8_lossy(&told.stderr);
    ensure!(told.status.success(), "{user} {words:?}: {errors}");
    Ok(String::from_utf8(told.stdout)?.trim().to_owned())
}

/// What Redis denied so far.
async fn denied(redis: &Redis) -> anyhow::Result<Vec<String>> {
    let log = ask(redis, "admin", &["ACL", "LOG"]).await?;
    let words: Vec<&str> = log.lines().collect();
    let of = |name: &str, at: usize| {
        words[at..]
            .iter()
            .skip_while(|w| **w != name)
            .nth(1)
            .copied()
    };
    let entries = (0..words.len()).filter(|at| words[*at] == "reason");
    Ok(entries
        .map(|at| format!("{:?} {:?}", of("object", at), of("username", at)))
        .collect())
}

/// What one of the users is let do, or why not.
async fn may(redis: &Redis, user: &str, words: &str) -> anyhow::Result<String> {
    let dry = ["ACL", "DRYRUN", user].into_iter().chain(words.split(' '));
    ask(redis, "admin", &dry.collect::<Vec<_>>()).await
}

async fn operate(redis: &Redis, words: &[&str]) -> anyhow::Result<String> {
    told(&url(redis, "operator"), words).await
}

/// An action fails, is sent again, fails again, and is given up.
async fn mourn(redis: &Redis, folder: &Path) -> anyhow::Result<()> {
    let url = url(redis, "operator");
    let idol = [
        "--redis",
        &url,
        "send",
        "castle",
        "I take the cursed idol.",
        "--wait",
    ];
    let failed = run(folder, &idol).await?;
    ensure!(failed.status.code() == Some(1), "{failed:?}");
    let dead = operate(redis, &["dead", "list", "--json"]).await?;
    let letter: Value = serde_json::from_str(dead.lines().next().context("a dead letter")?)?;
    let id = letter["id"].as_str().context("its id")?;
    operate(redis, &["dead", "show", "narrator", id]).await?;
    operate(redis, &["dead", "redrive", "--all"]).await?;
    eventually("it fails again", async || {
        let dead = operate(redis, &["dead", "list"]).await?;
        Ok(dead.contains("narrator").then_some(()))
    })
    .await?;
    for letter in operate(redis, &["dead", "list", "--json"]).await?.lines() {
        let letter: Value = serde_json::from_str(letter)?;
        let id = letter["id"].as_str().context("its id")?;
        operate(redis, &["dead", "purge", "narrator", id]).await?;
    }
    Ok(())
}

/// The first one on an empty Redis: it records the number of shards.
async fn create(redis: &Redis) -> anyhow::Result<()> {
    let sibyl = "Sibyl=Keeps the lamp.";
    let create = [
        "story", "create", "castle", "--input", "hold", "--output", "retract",
    ];
    operate(redis, &[&create[..], &["--character", sibyl]].concat()).await?;
    Ok(())
}

/// Stories are played, looked after and copied.
async fn operators(redis: &Redis, folder: &Path) -> anyhow::Result<()> {
    operate(redis, &["send", "castle", "I wait.", "--wait"]).await?;
    operate(
        redis,
        &["send", "castle", "Who are you?", "--to", "Sibyl", "--wait"],
    )
    .await?;
    mourn(redis, folder).await?;
    let file = folder.join("castle.ndjson").display().to_string();
    let exported = operate(redis, &["export", "--story", "castle"]).await?;
    std::fs::write(&file, exported)?;
    operate(redis, &["import", &file, "copy"]).await?;
    operate(redis, &["fork", "castle", "branch", "--at", "2"]).await?;
    let sent = operate(redis, &["send", "castle", "I go.", "--json"]).await?;
    let kept = folder.join("sent.ndjson").display().to_string();
    std::fs::write(&kept, sent)?;
    for words in [
        &["story", "list"][..],
        &["story", "show", "castle"],
        &["story", "trim", "copy", "--keep", "100", "--days", "1"],
        &["revoke", "--jti", "t1"],
        &["top", "--once"],
        &["audit"],
        &["audit", "--sent", &kept],
        &["doctor"],
        &["doctor", "--fix"],
    ] {
        operate(redis, words).await?;
    }
    let agent = self::url(redis, "agent");
    let mut replay = Command::new(program("narrator")?);
    replay.args(["replay", "--redis", &agent, "--story", "castle"]);
    let played = replay.output().await?;
    ensure!(played.status.success(), "{played:?}");
    operate(redis, &["story", "renew"]).await?;
    Ok(())
}

/// A story is made, changed, played and read over the gateway.
async fn people(node: &Node, issuer: &Issuer) -> anyhow::Result<()> {
    let token = issuer.token(&Person::new("mira", &[("*", Role::Owner)]))?;
    let client = reqwest::Client::new();
    let send = async |request: reqwest::RequestBuilder| {
        let reply = request.bearer_auth(&token).send().await?;
        let (status, text) = (reply.status(), reply.text().await?);
        ensure!(status.is_success(), "{status}: {text}");
        anyhow::Ok(text)
    };
    send(
        client
            .post(node.url("/v1/stories"))
            .json(&json!({"id": "forest"})),
    )
    .await?;
    let change = json!({"title": "The forest"});
    send(client.patch(node.url("/v1/stories/forest")).json(&change)).await?;
    let mut socket = Socket::open_as(node.address(), &token).await?;
    let join = json!({"t": "join", "story": "forest"});
    ensure!(socket.ask_for(join).await?["t"] == "ok", "not let in");
    let mut stream = Stream::open(node.address(), "forest", &token, None).await?;
    socket
        .say(&json!({"t": "typing", "story": "forest", "on": true}))
        .await?;
    let act = json!({"mode": "do", "text": "I wait."});
    send(
        client
            .post(node.url("/v1/stories/forest/events"))
            .json(&act),
    )
    .await?;
    let is_told = |frame: &Value| frame["event"]["type"] == "narration";
    socket.until("an answer", is_told).await?;
    let sent = stream
        .until("an answer", |sent| is_told(&sent.data))
        .await?;
    Stream::open(node.address(), "forest", &token, Some(&sent.id)).await?;
    send(client.get(node.url("/v1/stories/forest/events"))).await?;
    let ticket: Value = serde_json::from_str(&send(client.post(node.url("/v1/tickets"))).await?)?;
    let ticket = ticket["ticket"].as_str().context("a ticket")?;
    Socket::ask(node.address(), &format!("/v1/ws?ticket={ticket}"), &[]).await?;
    send(client.get(node.url("/v1/stories/forest"))).await?;
    Ok(())
}

/// Who runs as somebody else is told all that is missing, and that the same again ends the same.
async fn wrong_user(producer: &str, model: &str, folder: &Path) -> anyhow::Result<()> {
    let started = worker(Agent::Narrator, producer, model)?.output().await?;
    let errors = String::from_utf8(started.stderr)?;
    ensure!(started.status.code() == Some(2), "{errors}");
    for command in ["HSETNX", "INFO", "XREADGROUP", "XTRIM"] {
        ensure!(errors.contains(command), "{command}: {errors}");
    }
    let top = run(folder, &["--redis", producer, "top", "--once"]).await?;
    ensure!(top.status.code() == Some(2), "{top:?}");
    Ok(())
}

#[tokio::test]
async fn each_part_does_its_work_as_its_user() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = guarded(folder.path()).await?;
    let model = Model::start(SCENARIO, &[]).await?;
    create(&redis).await?;
    let mut fleet = Vec::new();
    for agent in Agent::ALL {
        let mut worker = worker(agent, &url(&redis, "agent"), model.url())?;
        fleet.push(Process::start(worker.args(["--lease", "1s"]))?);
    }
    let issuer = Issuer::new(folder.path())?;
    let node = Node::start(&url(&redis, "gateway"), folder.path(), &[]).await?;
    operators(&redis, folder.path()).await?;
    people(&node, &issuer).await?;
    let producer = Bus::new(bus::Settings::new(url(&redis, "producer")))?;
    producer.check_rights(bus::Role::Producer).await?;
    producer
        .publish(&action(&"forest".parse()?, "p1", "I go on.", None)?)
        .await?;
    for worker in fleet {
        assert!(worker.end().await?.success());
    }
    assert_eq!(denied(&redis).await?, Vec::<String>::new());
    let keda = Bus::new(bus::Settings::new(url(&redis, "keda")))?;
    assert!(keda.stories().await.is_err());
    assert_eq!(denied(&redis).await?, [r#"Some("smembers") Some("keda")"#]);

    let producer = url(&redis, "producer");
    wrong_user(&producer, model.url(), folder.path()).await?;
    told(&producer, &["send", "forest", "I wait."]).await?;
    Ok(())
}

/// What no part of the fleet is let do.
const NOBODY: [&str; 15] = [
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "SCAN 0",
    "CONFIG SET maxmemory 1",
    "ACL LIST",
    "SHUTDOWN",
    "DEBUG SLEEP 1",
    "SCRIPT FLUSH",
    "FUNCTION LIST",
    "REPLICAOF NO ONE",
    "MONITOR",
    "GET other",
    "XLEN sf2:{0}:work:narrator",
    "PUBLISH other word",
];

/// Tokens and tickets are the gateway's, and characters and lore are the author's.
const OF_OTHERS: [&str; 8] = [
    "SET sf:{0}:ticket:0123abcd owner",
    "GETDEL sf:{0}:ticket:0123abcd",
    "XADD sf:{0}:revoked * jti t1",
    "SET sf:{0}:revoked-until 1",
    "SPUBLISH sf:{0}:revocations word",
    "HINCRBY sf:{0}:chars:castle Sibyl 1",
    "HINCRBY sf:{0}:lore:castle lamp 1",
    "SET sf:{0}:stories 1",
];

#[tokio::test]
async fn no_user_may_do_what_is_of_another() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    each_may_do_its_own(&guarded(folder.path()).await?).await
}

async fn each_may_do_its_own(redis: &Redis) -> anyhow::Result<()> {
    let parts = ["agent", "gateway", "producer", "operator", "keda"];
    let others = ["replica", "sentinel", "backup"];
    let of_nobody = parts.iter().chain(&others).map(|user| (*user, &NOBODY[..]));
    let agent = ["DEL sf:{0}:revoked", "DEL sf:{0}:revoked-until"];
    let producer = [
        "XACK sf:{0}:dead:narrator fleet 1-0",
        "HGET sf:{0}:drafts:castle narrator",
        "HINCRBY sf:{0}:meta shards 1",
        "XRANGE sf:{0}:log:castle - +",
    ];
    let keda = [
        "XLEN sf:{0}:log:castle",
        "XADD sf:{0}:work:narrator * a b",
        "XDEL sf:{0}:work:narrator 1-0",
    ];
    let of_one = [
        ("agent", &OF_OTHERS[..]),
        ("agent", &agent),
        ("producer", &OF_OTHERS),
        ("producer", &producer),
        ("keda", &keda),
        ("backup", &["GET sf:{0}:meta"]),
    ];
    for (user, commands) in of_nobody.chain(of_one) {
        for words in commands {
            let told = may(redis, user, words).await?;
            assert!(
                told.contains("no permissions"),
                "{user} may {words}: {told}"
            );
        }
    }
    for (user, words) in [
        ("keda", "XLEN sf:{0}:work:narrator"),
        ("producer", "HGET sf:{0}:meta shards"),
        ("gateway", "SET sf:{0}:ticket:0123abcd owner"),
        ("replica", "PSYNC ? -1"),
        ("sentinel", "PUBLISH __sentinel__:hello word"),
    ] {
        assert_eq!(may(redis, user, words).await?, "OK", "{user} {words}");
    }
    Ok(())
}

/// The URL in them is the operator's.
#[tokio::test]
async fn what_the_runbooks_ask_of_redis_the_operator_may() -> anyhow::Result<()> {
    let runbooks = include_str!("../../../docs/runbooks.md");
    let folder = tempfile::tempdir()?;
    let redis = guarded(folder.path()).await?;
    let lines = runbooks
        .lines()
        .filter_map(|line| line.strip_prefix("redis-cli "));
    let mut asked = 0;
    for line in lines {
        let (_, command) = line.split_once(r#"-u "$NODE" "#).context("its server")?;
        let command = command.split(" #").next().unwrap_or(command).trim();
        // Its own options, as --latency-history, say PING.
        if !command.starts_with("--") {
            let words = command.replace('\'', "");
            assert_eq!(may(&redis, "operator", &words).await?, "OK", "{words}");
            asked += 1;
        }
    }
    assert!(asked > 0, "the runbooks ask nothing");
    Ok(())
}

/// Sentinel has it write its settings at each failover; a changed password is kept by `ACL SAVE`.
#[tokio::test]
async fn users_are_the_same_after_redis_wrote_its_settings_and_began_anew() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut redis = guarded(folder.path()).await?;
    let change = ["ACL", "SETUSER", "agent", ">new"];
    assert_eq!(ask(&redis, "admin", &change).await?, "OK");
    assert_eq!(ask(&redis, "admin", &["ACL", "SAVE"]).await?, "OK");
    assert_eq!(ask(&redis, "admin", &["CONFIG", "REWRITE"]).await?, "OK");
    redis.restart().await?;
    each_may_do_its_own(&redis).await?;
    let agent = Bus::new(bus::Settings::new(redis.url_of("agent:new@")))?;
    agent.check_rights(bus::Role::Worker).await?;
    Ok(())
}

/// As docs/operations.md has it, of a Redis that lets nobody in without a name.
#[tokio::test]
async fn a_snapshot_is_made_as_the_user_for_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = guarded(folder.path()).await?;
    let dump = folder.path().join("dump.rdb");
    ask(&redis, "backup", &["--rdb", &dump.display().to_string()]).await?;
    let written = std::fs::read(&dump)?;
    assert!(written.starts_with(b"REDIS"), "{} bytes", written.len());
    assert_eq!(denied(&redis).await?, Vec::<String>::new());
    Ok(())
}
