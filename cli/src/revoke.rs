//! `storyfleet revoke`: tokens that count no more. Every gateway hears of it at once and closes their connections.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bus::{Bus, Revoked};
use serde_json::json;

use crate::args::RevokeArgs;
use crate::output::{Output, one_line};
use crate::replicas::{add_replicated, note_doubt};

pub(crate) async fn run(args: RevokeArgs, bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("this machine's clock is before 1970")?
        .as_secs();
    let until = now + args.lasts.as_secs();
    let (what, at) = match (args.what.sub, args.what.jti) {
        (Some(sub), _) => (Revoked::User(sub), now),
        // It is one token, whenever some other clock says that it was issued.
        (None, jti) => (Revoked::Token(jti.context("--sub or --jti")?), until),
    };
    let (revoked, replicated) = bus.revoke_replicated(&what, at, until).await?;
    note_doubt(replicated);
    let (kind, id) = match &revoked.what {
        Revoked::User(sub) => ("sub", sub),
        Revoked::Token(jti) => ("jti", jti),
    };
    if out.json {
        let mut told = json!({kind: id, "at": revoked.at, "until": revoked.until});
        add_replicated(&mut told, replicated);
        out.value(&told)?;
    } else {
        let whose = match &revoked.what {
            Revoked::User(_) => "the tokens that they have count no more",
            Revoked::Token(_) => "the token counts no more",
        };
        out.line(&format!("{}: {whose}", one_line(id)))?;
    }
    Ok(ExitCode::SUCCESS)
}
