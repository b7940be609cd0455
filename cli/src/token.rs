//! `storyfleet token`: a token for development, signed with the gateway's own secret. Nothing is asked of Redis.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use ::story::EventId;
use agent::exit;
use anyhow::{Context, anyhow};
use gateway::auth::{Grants, NewToken, Secrets, mint};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::args::TokenArgs;
use crate::output::{Output, note};

pub(crate) fn run(args: TokenArgs, out: Output) -> anyhow::Result<ExitCode> {
    let secrets = Secrets::read(&args.secret_file).context("--secret-file");
    let secrets = secrets.map_err(exit::configuration)?;
    if args.stories.is_empty() {
        note(
            "token: it lets its person do nothing: --story castle=author lets them write in a story",
        );
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("this machine's clock is before 1970")?;
    let new = NewToken {
        issued_at: now.as_secs(),
        expires_at: (now + args.ttl).as_secs(),
        // So that it can be revoked alone.
        jti: Some(EventId::new(now.as_millis().try_into()?, rand::random()).into()),
        stories: grants(&args)?,
        sub: args.sub,
        name: args.name,
        audience: args.aud,
        issuer: args.iss,
    };
    let token = mint(&secrets, &new).map_err(exit::configuration)?;
    let token = token.expose_secret();
    if out.json {
        out.value(&json!({"token": token, "expires_at": new.expires_at}))?;
    } else {
        out.line(token)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn grants(args: &TokenArgs) -> anyhow::Result<Grants> {
    for (i, (story, _)) in args.stories.iter().enumerate() {
        if args.stories[..i].iter().any(|(other, _)| other == story) {
            let twice = anyhow!("--story {story} is given twice: give each story one role");
            return Err(exit::configuration(twice));
        }
    }
    Ok(args.stories.iter().cloned().collect())
}
