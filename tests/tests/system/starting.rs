//! `storyfleet` as it is first met: what was written in passing, and what it makes of it.

use std::fs;

use story::Policies;
use system_tests::{Options, Stack, program};
use tokio::process::Command;

use crate::command::{run, says, storyfleet};

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
        anyhow::Ok(command.env("REDIS_URL", stack.redis_url()).output().await?)
    };
    let output = list(&["story", "list"]).await?;
    let told = String::from_utf8(output.stderr)?;
    assert!(told.starts_with("REDIS_URL is passed over"), "{told}");
    assert!(told.contains("no fleet runs in"), "{told}");
    assert_eq!(output.status.code(), Some(1), "{told}");

    let named = list(&["story", "list", "--redis", &stack.redis_url()]).await?;
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
