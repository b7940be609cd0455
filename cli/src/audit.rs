//! `storyfleet audit`: what became of every event.

use std::process::ExitCode;

use bus::Bus;

use crate::output::Output;

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
        out.line(if audit.is_clean() {
            "clean: every action ended once, in order, and none was lost"
        } else {
            "not clean: `storyfleet doctor` looks for the cause"
        })?;
    }
    Ok(if audit.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_CLEAN)
    })
}
