//! `storyfleet token`, and the gateway's own judgement of what it makes.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use gateway::auth::{Role, Settings, Verifier};
use serde_json::Value;

use crate::command::{run, says};

fn secret_file(folder: &Path, text: &str) -> anyhow::Result<String> {
    let path = folder.join("secret");
    std::fs::write(&path, text)?;
    Ok(path.to_str().context("a path of text")?.to_owned())
}

fn verifier(file: &str) -> anyhow::Result<Verifier> {
    let mut settings = Settings::new("storyfleet", "storyfleet");
    settings.secrets = Some(file.into());
    Ok(Verifier::new(settings)?)
}

#[tokio::test]
async fn a_token_of_the_command_is_taken_for_what_was_asked() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = secret_file(
        folder.path(),
        &format!("{}\n{}\n", "n".repeat(32), "o".repeat(32)),
    )?;
    let asked = [
        "token",
        "--sub",
        "mira",
        "--name",
        "Mira",
        "--story",
        "castle=author",
        "--story",
        "team-*=owner",
        "--secret-file",
        &file,
    ];
    let said = says(folder.path(), &asked).await?;
    let token = said.strip_suffix('\n').context("a line")?;
    assert!(!token.contains(char::is_whitespace), "{said:?}");
    let found = verifier(&file)?.verify(token).await?;
    assert_eq!((&*found.sub, &*found.name), ("mira", "Mira"));
    assert_eq!(found.role(&"castle".parse()?), Some(Role::Author));
    assert_eq!(found.role(&"other".parse()?), None);
    assert!(found.may_create(&"team-1".parse()?));
    let again = says(folder.path(), &asked).await?;
    let again = verifier(&file)?.verify(again.trim()).await?;
    assert_ne!(found.jti.context("an id")?, again.jti.context("an id")?);
    Ok(())
}

#[tokio::test]
async fn its_json_tells_when_it_ends() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = secret_file(folder.path(), &"s".repeat(32))?;
    let asked = [
        "--json",
        "token",
        "--sub",
        "mira",
        "--ttl",
        "90s",
        "--secret-file",
        &file,
    ];
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    let said: Value = serde_json::from_str(&says(folder.path(), &asked).await?)?;
    let token = said["token"].as_str().context("a token")?;
    let found = verifier(&file)?.verify(token).await?;
    assert_eq!(said["expires_at"].as_u64(), Some(found.expires_at));
    assert!((now + 90..now + 120).contains(&found.expires_at));
    Ok(())
}

#[tokio::test]
async fn what_no_gateway_would_take_is_not_made() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let good = secret_file(folder.path(), &"s".repeat(32))?;
    let long = "x".repeat(65);
    let short = folder.path().join("short");
    std::fs::write(&short, "hunter2")?;
    let short = short.to_str().context("a path of text")?;
    for (arguments, says) in [
        (
            &["--sub", "mira", "--secret-file", short][..],
            "at least 32 bytes",
        ),
        (
            &["--sub", "mira", "--secret-file", "/proc/nowhere/secret"],
            "/proc/nowhere/secret cannot be read",
        ),
        (&["--sub", "", "--secret-file", &good], "`sub`"),
        (&["--sub", &long, "--secret-file", &good], "`sub`"),
        (
            &[
                "--sub",
                "mira",
                "--name",
                "a\u{202e}b",
                "--secret-file",
                &good,
            ],
            "`name`",
        ),
        (
            &[
                "--sub",
                "m",
                "--story",
                "a=owner",
                "--story",
                "a=reader",
                "--secret-file",
                &good,
            ],
            "given twice",
        ),
    ] {
        let output = run(folder.path(), &[&["token"], arguments].concat()).await?;
        let errors = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(says), "{errors}");
        assert!(!errors.contains("hunter2") && output.stdout.is_empty());
    }
    Ok(())
}
