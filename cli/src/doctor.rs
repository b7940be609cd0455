//! `storyfleet doctor`: what is wrong in Redis, and with `--fix` its repair.

use std::process::ExitCode;

use bus::{Error, Finding, Role};
use serde_json::json;

use tokio::time::sleep;

use crate::args::DoctorArgs;
use crate::output::{Output, one_line};
use crate::send::PATIENCE;
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
    let mut unattended = bus.unattended().await?;
    if !unattended.is_empty() {
        // Who was idle is not heard of, on a Redis before 7.2, until it has read what waits.
        sleep(PATIENCE).await;
        unattended = bus.unattended().await?;
    }
    let waits = !unattended.is_empty();
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
        out.line(sum(&findings, !warnings.is_empty(), args.fix))?;
    }
    Ok(if sick || waits {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What is left to do.
fn sum(findings: &[Finding], has_warnings: bool, fix: bool) -> &'static str {
    let left: Vec<_> = findings.iter().filter(|finding| !finding.fixed).collect();
    let is_repairable = left.iter().any(|finding| finding.repairable);
    match (findings.is_empty(), left.is_empty()) {
        (true, _) if has_warnings => "nothing else is wrong",
        (true, _) => "nothing is wrong",
        (_, true) if has_warnings => {
            "all that was found is repaired; what the warnings tell of is for you to mend"
        }
        (_, true) => "all of it is repaired",
        _ if fix || !is_repairable => "what was found and not fixed is for you to mend",
        _ => "`storyfleet doctor --fix` repairs what can be repaired without losing an event",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(repairable: bool, fixed: bool) -> Finding {
        Finding {
            what: String::new(),
            repairable,
            fixed,
        }
    }

    #[test]
    fn what_is_left_is_told_as_it_is() {
        let [fixed, open, hopeless] =
            [(true, true), (true, false), (false, false)].map(|(can, is)| finding(can, is));
        let repairs = "`storyfleet doctor --fix` repairs";
        for (findings, has_warnings, fix, says) in [
            (vec![], false, true, "nothing is wrong"),
            (vec![], true, true, "nothing else is wrong"),
            (vec![&fixed], false, true, "all of it is repaired"),
            (
                vec![&fixed],
                true,
                true,
                "what the warnings tell of is for you",
            ),
            (vec![&fixed, &hopeless], false, true, "for you to mend"),
            (
                vec![&hopeless],
                false,
                false,
                "what was found and not fixed",
            ),
            (vec![&hopeless, &open], true, false, repairs),
        ] {
            let findings: Vec<_> = findings.into_iter().cloned().collect();
            let told = sum(&findings, has_warnings, fix);
            assert!(told.contains(says), "{findings:?}: {told}");
        }
    }
}
