//! The users of deploy/redis/acl.conf: each part of the fleet does all its work with what it may, and may nothing else.

use std::path::Path;

use anyhow::{Context, ensure};
use bus::Bus;
use gateway::auth::Role;
use serde_json::{Value, json};
use story::Agent;
use system_tests::edge::{Issuer, Node, Person, Socket, Stream};
use system_tests::{Model, Process, Redis, action, eventually, program};
use tokio::process::Command;

use crate::command::{run, says};

/// What refuses one line to die for good, and has a character speak.
const SCENARIO: &str = r#"
rules:
- when: {regex: '(?s)# Now.*cursed idol'}
  reply: {fault: context_length_exceeded}
- when: {agent: narrator}
  reply: {text: "The lamp goes on.\n@@@\n{\"choices\":[],\"speak\":[\"Sibyl\"]}"}
"#;

/// A Redis with these users, whose password is their name. Tests themselves may do all.
async fn guarded(folder: &Path) -> anyhow::Result<Redis> {
    let rules = include_str!("../../../deploy/redis/acl.conf");
    ensure!(rules.contains("user default off"), "anybody may log in");
    let rules = rules.replace("user default off", "user default on nopass ~* &* +@all");
    let open = |line: &str| match line.split_once(" on ~") {
        Some((user, rest)) => {
            let name = user.trim_start_matches("user ");
            format!("{user} on >{name} ~{rest}")
        }
        None => line.to_owned(),
    };
    let file = folder.join("acl.conf");
    std::fs::write(
        &file,
        rules.lines().map(open).collect::<Vec<_>>().join("\n"),
    )?;
    Redis::start(&["--include", &file.display().to_string()]).await
}

fn url(redis: &Redis, user: &str) -> String {
    redis.url_of(&format!("{user}:{user}@"))
}

/// What Redis denied so far.
async fn denied(redis: &Redis) -> anyhow::Result<Vec<String>> {
    let port = redis.url().rsplit_once(':').context("a port")?.1.to_owned();
    let mut log = Command::new("redis-cli");
    let log = log.args(["-p", &port, "ACL", "LOG"]).output().await?;
    let log = String::from_utf8(log.stdout)?;
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
    let port = redis.url().rsplit_once(':').context("a port")?.1.to_owned();
    let mut dry = Command::new("redis-cli");
    dry.args(["-p", &port, "ACL", "DRYRUN", user]);
    let told = dry.args(words.split(' ')).output().await?;
    Ok(String::from_utf8(told.stdout)?.trim().to_owned())
}

async fn operate(redis: &Redis, folder: &Path, words: &[&str]) -> anyhow::Result<String> {
    let url = url(redis, "operator");
    says(folder, &[&["--redis", &url][..], words].concat()).await
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
    let dead = operate(redis, folder, &["dead", "list", "--json"]).await?;
    let letter: Value = serde_json::from_str(dead.lines().next().context("a dead letter")?)?;
    let id = letter["id"].as_str().context("its id")?;
    operate(redis, folder, &["dead", "show", "narrator", id]).await?;
    operate(redis, folder, &["dead", "redrive", "--all"]).await?;
    eventually("it fails again", async || {
        let dead = operate(redis, folder, &["dead", "list"]).await?;
        Ok(dead.contains("narrator").then_some(()))
    })
    .await?;
    for letter in operate(redis, folder, &["dead", "list", "--json"])
        .await?
        .lines()
    {
        let letter: Value = serde_json::from_str(letter)?;
        let id = letter["id"].as_str().context("its id")?;
        operate(redis, folder, &["dead", "purge", "narrator", id]).await?;
    }
    Ok(())
}

/// Stories are made, played, looked after and copied.
async fn operators(redis: &Redis, folder: &Path) -> anyhow::Result<()> {
    let sibyl = "Sibyl=Keeps the lamp.";
    let create = [
        "story", "create", "castle", "--input", "hold", "--output", "retract",
    ];
    operate(
        redis,
        folder,
        &[&create[..], &["--character", sibyl]].concat(),
    )
    .await?;
    operate(redis, folder, &["send", "castle", "I wait.", "--wait"]).await?;
    operate(
        redis,
        folder,
        &["send", "castle", "Who are you?", "--to", "Sibyl", "--wait"],
    )
    .await?;
    mourn(redis, folder).await?;
    let file = folder.join("castle.ndjson").display().to_string();
    let exported = operate(redis, folder, &["export", "--story", "castle"]).await?;
    std::fs::write(&file, exported)?;
    operate(redis, folder, &["import", &file, "copy"]).await?;
    operate(redis, folder, &["fork", "castle", "branch", "--at", "2"]).await?;
    for words in [
        &["story", "list"][..],
        &["story", "show", "castle"],
        &["story", "trim", "copy", "--keep", "100", "--days", "1"],
        &["revoke", "--jti", "t1"],
        &["audit"],
        &["doctor"],
        &["doctor", "--fix"],
    ] {
        operate(redis, folder, words).await?;
    }
    let agent = self::url(redis, "agent");
    let mut replay = Command::new(program("narrator")?);
    replay.args(["replay", "--redis", &agent, "--story", "castle"]);
    let played = replay.output().await?;
    ensure!(played.status.success(), "{played:?}");
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

#[tokio::test]
async fn each_part_does_its_work_as_its_user() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = guarded(folder.path()).await?;
    let model = Model::start(SCENARIO, &[]).await?;
    let mut fleet = Vec::new();
    for agent in Agent::ALL {
        let mut worker = Command::new(program(agent.as_str())?);
        worker.args(["run", "--redis", &url(&redis, "agent")]);
        worker.args(["--llm", model.url(), "--model", "mock", "--lease", "1s"]);
        fleet.push(Process::start(&mut worker)?);
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

    for user in ["agent", "gateway", "producer", "operator", "keda"] {
        for words in [
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
        ] {
            let told = may(&redis, user, words).await?;
            assert!(
                told.contains("no permissions"),
                "{user} may {words}: {told}"
            );
        }
    }
    let told = may(&redis, "keda", "XLEN sf:{0}:log:castle").await?;
    assert!(told.contains("no permissions"), "{told}");
    assert_eq!(
        may(&redis, "keda", "XLEN sf:{0}:work:narrator").await?,
        "OK"
    );
    Ok(())
}
