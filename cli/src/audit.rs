//! `storyfleet audit`: what became of every event.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use bus::{Audit, Bus, Cut, Hole, Unreadable};
use serde::{Deserialize, Serialize};
use story::{EventId, StoryId};

use crate::args::AuditArgs;
use crate::output::{Output, one_line};
use crate::target::Target;

/// What scripts test for; 1 would read as "could not look".
const NOT_CLEAN: u8 = 3;

const DOCTOR: &str = "not clean: `storyfleet doctor` looks for the cause";
const DESTROYED: &str = "not clean: a log was destroyed, or a part of it, by something else than `story trim`: only a backup has it";
const TOLD: &str = "not clean: what was told twice or out of order stays in the story's log";
/// Ids are remembered for a day ([`Bus::missing`]).
const GONE: &str = "\
not clean: what is gone and was sent within the last day was lost, so have who sent it send it again; what is older \
may have been trimmed, taken back or blocked instead";

/// The longest line of a file of what was sent.
const MAX_LINE_BYTES: u64 = 64 * 1_024;

/// What was found, as JSON.
#[derive(Debug, Serialize)]
struct Found {
    #[serde(flatten)]
    audit: Audit,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Sent>,
}

/// What became of the events that were known to be accepted.
#[derive(Debug, Serialize)]
struct Sent {
    events: usize,
    missing: Vec<Accepted>,
}

/// A line of `send --json`; what else it has is passed over.
#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    story: StoryId,
    id: EventId,
}

pub(crate) async fn run(
    args: &AuditArgs,
    target: &Target,
    out: Output,
) -> anyhow::Result<ExitCode> {
    let known = args.sent.as_deref().map(read).transpose();
    let known = known.map_err(exit::configuration)?;
    let bus = &target.bus().await?;
    let audit = bus.audit().await?;
    let sent = match known {
        Some(known) => Some(look(&known, bus).await?),
        None => None,
    };
    let is_clean = audit.is_clean() && sent.as_ref().is_none_or(|sent| sent.missing.is_empty());
    tell(Found { audit, sent }, out)?;
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_CLEAN)
    })
}

async fn look(known: &BTreeMap<StoryId, Vec<EventId>>, bus: &Bus) -> anyhow::Result<Sent> {
    let mut sent = Sent {
        events: known.values().map(Vec::len).sum(),
        missing: Vec::new(),
    };
    for (story, ids) in known {
        let missing = bus.missing(story, ids).await?.into_iter();
        sent.missing.extend(missing.map(|id| Accepted {
            story: story.clone(),
            id,
        }));
    }
    Ok(sent)
}

/// The events of a file, or of stdin (`-`), by story.
fn read(path: &Path) -> anyhow::Result<BTreeMap<StoryId, Vec<EventId>>> {
    let name = path.display();
    let file: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(stdin()),
        false => Box::new(File::open(path).with_context(|| format!("cannot read {name}"))?),
    };
    let mut lines = BufReader::new(file);
    let mut known: BTreeMap<StoryId, Vec<EventId>> = BTreeMap::new();
    for number in 1.. {
        let mut line = Vec::new();
        let read = lines
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {name}"))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Accepted { story, id } = serde_json::from_slice(&line).map_err(|error| {
            anyhow!(
                "{name}, line {number}: it is not {{\"story\":…,\"id\":…}}, as `send --json` writes it: {}",
                one_line(&error.to_string())
            )
        })?;
        known.entry(story).or_default().push(id);
    }
    Ok(known)
}

fn tell(found: Found, out: Output) -> anyhow::Result<()> {
    if out.json {
        out.value(&found)?;
    } else {
        let Found { audit, sent } = found;
        for (name, count) in [
            ("events", audit.events),
            ("answered", audit.answered),
            ("blocked", audit.blocked),
            ("failed", audit.failed),
            ("dead", audit.dead),
            ("in flight", audit.in_flight),
            ("lost", audit.lost),
            ("unknown", audit.unknown),
            ("duplicates", audit.duplicates),
            ("out of order", audit.out_of_order),
            ("orphans", audit.orphans),
        ] {
            out.line(&format!("{name:<13}{count}"))?;
        }
        for story in &audit.wrong {
            out.line(&format!("{story} is not clean"))?;
        }
        for Cut {
            story,
            begins,
            actions,
        } in &audit.cut
        {
            let what = match begins {
                Some(begins) => format!("its log begins at {begins}"),
                None => "its log is gone".to_owned(),
            };
            out.line(&format!(
                "{story}: {what}, and with what was before how {actions} actions ended"
            ))?;
        }
        for hole @ Hole { story, .. } in &audit.holes {
            out.line(&format!("{story}: its log has no {hole}"))?;
        }
        for Unreadable { story, why } in &audit.unreadable {
            out.line(&format!("{story} is left out: {}", one_line(why)))?;
        }
        let is_all_there = sent.as_ref().is_none_or(|sent| sent.missing.is_empty());
        if let Some(Sent { events, missing }) = sent {
            for Accepted { story, id } in &missing {
                out.line(&format!("{story}/{id} was accepted and is gone"))?;
            }
            let there = events - missing.len();
            out.line(&format!("{there} of {events} that were sent are there"))?;
        }
        for line in endings(&audit, is_all_there) {
            out.line(&line)?;
        }
    }
    Ok(())
}

/// What it comes to, and what to do: each of what is wrong.
fn endings(audit: &Audit, is_all_there: bool) -> Vec<String> {
    let doctors = audit.lost + audit.orphans > 0 || !audit.unreadable.is_empty();
    let is_destroyed = !(audit.cut.is_empty() && audit.holes.is_empty());
    let wrong = [
        (doctors, DOCTOR),
        (is_destroyed, DESTROYED),
        (audit.duplicates + audit.out_of_order > 0, TOLD),
        (!is_all_there, GONE),
    ];
    let wrong = wrong.into_iter().filter(|(is_so, _)| *is_so);
    let wrong: Vec<String> = wrong.map(|(_, words)| words.to_owned()).collect();
    if wrong.is_empty() {
        vec![summary(audit)]
    } else {
        wrong
    }
}

/// Of what is not wrong.
fn summary(audit: &Audit) -> String {
    match audit.in_flight {
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
    use story::Seq;

    use super::*;

    fn cut() -> Cut {
        Cut {
            story: "castle".parse().unwrap(),
            begins: None,
            actions: 1,
        }
    }

    fn hole() -> Hole {
        Hole {
            story: "castle".parse().unwrap(),
            from: Seq(2),
            upto: Seq(2),
        }
    }

    #[test]
    fn only_what_the_doctor_can_mend_is_sent_there() {
        let audit = Audit {
            events: 1,
            answered: 1,
            ..Audit::default()
        };
        let with = |change: fn(&mut Audit)| {
            let mut changed = audit.clone();
            change(&mut changed);
            changed
        };
        for (audit, says) in [
            (with(|audit| audit.lost = 1), "`storyfleet doctor`"),
            (with(|audit| audit.orphans = 1), "`storyfleet doctor`"),
            (
                with(|audit| audit.duplicates = 1),
                "stays in the story's log",
            ),
            (
                with(|audit| audit.out_of_order = 1),
                "stays in the story's log",
            ),
            (
                with(|audit| audit.cut = vec![cut()]),
                "only a backup has it",
            ),
            (
                with(|audit| audit.holes = vec![hole()]),
                "only a backup has it",
            ),
            (with(|audit| audit.in_flight = 1), "1 under way"),
            (with(|_| {}), "clean: every action ended once"),
        ] {
            let [ending] = &endings(&audit, true)[..] else {
                panic!("{audit:?}");
            };
            assert!(ending.contains(says), "{audit:?}");
        }
    }

    #[test]
    fn what_is_gone_hides_nothing_else_that_is_wrong() {
        let clean = Audit {
            events: 1,
            answered: 1,
            ..Audit::default()
        };
        assert_eq!(endings(&clean, false), [GONE]);
        let all = Audit {
            lost: 1,
            duplicates: 1,
            cut: vec![cut()],
            ..clean
        };
        assert_eq!(endings(&all, false), [DOCTOR, DESTROYED, TOLD, GONE]);
    }
}
