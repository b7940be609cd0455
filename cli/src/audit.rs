//! `storyfleet audit`: what became of every event.

use std::process::ExitCode;

use bus::{Audit, Bus, Unreadable};

use crate::output::{Output, one_line};

/// What scripts test for; 1 would read as "could not look".
const NOT_CLEAN: u8 = 3;

pub(crate) async fn run(bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    let audit = bus.audit().await?;
    if out.json {
        out.value(&audit)?;
    } else {
        for (name, count) in [
            ("events", audit.events),
            ("answered", audit.answered),
            ("blocked", audit.blocked),
            ("failed", audit.failed),
            ("dead", audit.dead),
            ("in flight", audit.in_flight),
            ("lost", audit.lost),
            ("duplicates", audit.duplicates),
            ("out of order", audit.out_of_order),
            ("orphans", audit.orphans),
        ] {
            out.line(&format!("{name:<13}{count}"))?;
        }
        for story in &audit.wrong {
            out.line(&format!("{story} is not clean"))?;
        }
        for Unreadable { story, why } in &audit.unreadable {
            out.line(&format!("{story} is left out: {}", one_line(why)))?;
        }
        out.line(&summary(&audit))?;
    }
    Ok(if audit.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_CLEAN)
    })
}

fn summary(audit: &Audit) -> String {
    match audit.in_flight {
        _ if audit.lost + audit.orphans > 0 || !audit.unreadable.is_empty() => {
            "not clean: `storyfleet doctor` looks for the cause".to_owned()
        }
        _ if !audit.is_clean() => {
            "not clean: what was told twice or out of order stays in the story's log".to_owned()
        }
        0 if audit.events == 0 => {
            "no action was sent so far: is this the Redis, and the prefix, that you mean?"
                .to_owned()
        }
        0 => "clean: every action ended once, in order, and none was lost".to_owned(),
        count => format!("nothing lost so far, {count} under way: ask again when they have ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_doctor_can_mend_is_sent_there() {
        let audit = Audit {
            events: 1,
            answered: 1,
            ..Audit::default()
        };
        let (lost, orphans) = (1, 1);
        for (audit, says) in [
            (
                Audit {
                    lost,
                    ..audit.clone()
                },
                "`storyfleet doctor`",
            ),
            (
                Audit {
                    orphans,
                    ..audit.clone()
                },
                "`storyfleet doctor`",
            ),
            (
                Audit {
                    duplicates: 1,
                    ..audit.clone()
                },
                "stays in the story's log",
            ),
            (
                Audit {
                    out_of_order: 1,
                    ..audit.clone()
                },
                "stays in the story's log",
            ),
            (
                Audit {
                    in_flight: 1,
                    ..audit.clone()
                },
                "1 under way",
            ),
            (audit, "clean: every action ended once"),
        ] {
            assert!(summary(&audit).contains(says), "{audit:?}");
        }
    }
}
