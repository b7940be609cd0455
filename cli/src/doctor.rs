//! `storyfleet doctor`: what is wrong in Redis, and with `--fix` its repair.

use std::process::ExitCode;

use bus::{Error, Role};
use serde_json::json;

use crate::args::DoctorArgs;
use crate::output::{Output, one_line};
use crate::target::Target;

pub(crate) async fn run(
    args: DoctorArgs,
    target: &Target,
    out: Output,
) -> anyhow::Result<ExitCode> {
    let (bus, shards) = target.reach().await?;
    match shards {
        // One of the findings.
        Err(Error::Data(_)) => {}
        shards => shards?,
    }
    if args.fix {
        bus.check_rights(Role::Operator).await?;
    }
    let mut warnings = bus.server().await?.warnings;
    let unattended = bus.unattended().await?;
    warnings.extend(unattended.into_iter().map(|(agent, entries)| {
        format!("no {agent} runs, and so many stories wait for one: {entries}; start one, or `storyfleet up`")
    }));
    let findings = bus.doctor(args.fix).await?;
    let sick = findings.iter().any(|finding| !finding.fixed);
    if out.json {
        out.value(&json!({"warnings": warnings, "findings": findings}))?;
    } else {
        for warning in &warnings {
            out.line(&format!("warning: {warning}"))?;
        }
        for finding in &findings {
            let state = if finding.fixed { "fixed" } else { "found" };
            out.line(&format!("{state}: {}", one_line(&finding.what)))?;
        }
        out.line(match (findings.is_empty(), sick) {
            (true, _) if warnings.is_empty() => "nothing is wrong",
            (true, _) => "nothing else is wrong",
            (false, true) if args.fix => "what was found and not fixed is for you to mend",
            (false, true) => {
                "`storyfleet doctor --fix` repairs what can be repaired without losing an event"
            }
            (false, false) => "all of it is repaired",
        })?;
    }
    Ok(if sick {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
