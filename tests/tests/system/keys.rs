//! Keys that are exchanged while everything runs: the model's, and those of tokens.

use std::fs;
use std::path::Path;

use anyhow::Context;
use gateway::auth::{NewToken, Role, Secrets, mint};
use secrecy::ExposeSecret;
use story::{Agent, Outcome, Policies};
use system_tests::edge::Node;
use system_tests::{Options, Stack, eventually};

const NEW: &str = "there is a new key";
const REFUSED: &str = "the model's key file does not do";

/// As secrets are exchanged: in one step, so that nobody who looks in between finds a part of it.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, file)?)
}

#[tokio::test]
async fn a_new_key_of_the_model_is_taken_while_a_worker_runs() -> anyhow::Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    stack.change_model_key("sk-first").await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("key");
    write(&file, "sk-first\n")?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let path = file.to_str().context("a path of text")?;
    let (worker, mut log) = stack.worker_with(Agent::Narrator, &["--llm-key-file", path])?;
    let first = stack.act(&story, "a", "I go on.").await?;
    assert_eq!(reader.outcome_of(&first).await?, Outcome::Answered);

    // What cannot be a key changes nothing, and is told without being shown.
    write(&file, "sk-sec\nond")?;
    log.line(REFUSED).await?;
    let second = stack.act(&story, "b", "I go on.").await?;
    assert_eq!(reader.outcome_of(&second).await?, Outcome::Answered);

    write(&file, "sk-second\n")?;
    log.line(NEW).await?;
    stack.change_model_key("sk-second").await?;
    let third = stack.act(&story, "c", "I go on.").await?;
    assert_eq!(reader.outcome_of(&third).await?, Outcome::Answered);
    assert!(log.with("sk-").is_empty(), "{:?}", log.with("sk-"));
    assert!(worker.end().await?.success());
    stack.audit(3).await?;
    stack.end().await;
    Ok(())
}

/// As a secret is exchanged: the new one is there beside the old one before anybody signs with it.
#[tokio::test]
async fn a_new_secret_of_tokens_is_taken_while_a_gateway_runs() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    stack.story("castle", Policies::default()).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("secrets");
    let [old, new] = ["old", "new"].map(|kid| format!("{kid} {}", kid.repeat(16)));
    write(&file, &old)?;
    let node = Node::start(&stack.redis_url(), folder.path(), &[]).await?;
    let client = reqwest::Client::new();
    let status = async |token: &str| {
        let ask = client.get(node.url("/v1/stories/castle"));
        anyhow::Ok(ask.bearer_auth(token).send().await?.status().as_u16())
    };
    let token = |secrets: &str| {
        let now = u64::try_from(jiff::Timestamp::now().as_second())?;
        let signs = folder.path().join("signs");
        write(&signs, secrets)?;
        let who = NewToken {
            sub: "mira".to_owned(),
            name: None,
            jti: None,
            stories: [("castle".parse()?, Role::Reader)].into_iter().collect(),
            audience: "storyfleet".to_owned(),
            issuer: "storyfleet".to_owned(),
            issued_at: now,
            expires_at: now + 600,
        };
        let token = mint(&Secrets::read(&signs)?, &who)?;
        anyhow::Ok(token.expose_secret().to_owned())
    };
    let (before, after) = (token(&old)?, token(&new)?);
    assert_eq!((status(&before).await?, status(&after).await?), (200, 401));
    write(&file, &format!("{old}\n{new}\n"))?;
    eventually("both are good", async || {
        let good = (status(&before).await?, status(&after).await?) == (200, 200);
        Ok(good.then_some(()))
    })
    .await?;
    write(&file, &new)?;
    eventually("the old one is not", async || {
        let over = (status(&before).await?, status(&after).await?) == (401, 200);
        Ok(over.then_some(()))
    })
    .await?;
    assert!(node.end().await?.success());
    stack.end().await;
    Ok(())
}
