//! `storyfleet export`, `import`, `fork`: a story as a file, and stories made of others.

use std::future::ready;
use std::pin::pin;
use std::process::ExitCode;

use agent::archive::{Archive, End, Head, Kept, Line, VERSION};
use agent::exit;
use agent::recording::{Packer, Recording};
use anyhow::{Context as _, bail};
use bus::{Bus, Replicated, Role, Stage, Story};
use futures::TryStreamExt;
use serde_json::json;
use serde_json::value::RawValue;
use story::{Seq, StoryId};

use crate::args::{ExportArgs, ForkArgs, ImportArgs};
use crate::output::Output;
use crate::replicas::{add_replicated, note_doubt};
use crate::target::Target;

/// Events written at once.
const PAGE: usize = 200;

pub(crate) async fn export(args: ExportArgs, bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    let story = bus.story(&args.story).await?;
    let end = story.seq;
    let redriven = bus.redriven(&args.story).await?;
    let head = Head {
        v: VERSION,
        story,
        redriven,
    };
    out.value(&Line::Export(Box::new(head)))?;
    let mut written = End::default();
    // What comes after the beginning of the export is not a part of it.
    let mut log = pin!(bus.whole_log(&args.story));
    while let Some(entry) = log.try_next().await?
        && entry.seq <= end
    {
        written.events += 1;
        out.value(&Line::Log(Box::new(entry)))?;
    }
    let mut recordings = pin!(bus.all_recordings(&args.story));
    let mut whole = true;
    while let Some(kept) = recordings.try_next().await? {
        if kept.seq > end {
            continue;
        }
        let place = kept.seq;
        match unpacked(kept) {
            Ok(kept) => {
                written.recordings += 1;
                out.value(&Line::Recording(kept))?;
            }
            Err(error) => {
                whole = false;
                let why = exit::line(&error);
                exit::tell(&format!("left out: the recording at seq {place}: {why}"));
            }
        }
    }
    out.value(&Line::End(written))?;
    Ok(ExitCode::from(u8::from(!whole)))
}

fn unpacked(kept: bus::Kept) -> anyhow::Result<Kept> {
    let json = String::from_utf8(Recording::unpacked(&kept.bytes)?)?;
    Ok(Kept {
        seq: kept.seq,
        epoch: kept.epoch,
        agent: kept.agent,
        id: kept.id,
        turn: RawValue::from_string(json)?,
    })
}

pub(crate) async fn import(
    args: ImportArgs,
    target: &Target,
    out: Output,
) -> anyhow::Result<ExitCode> {
    let archive = Archive::open(&args.file).map_err(exit::configuration)?;
    let bus = &target.bus().await?;
    let stage = begin(bus, &args.story).await?;
    let done = stage.through(async |stage| put(stage, archive).await).await;
    let done = done.with_context(|| format!("{} is not made", args.story))?;
    made(out, bus, &args.story, done).await
}

/// Makes the story of a file.
async fn put(stage: &mut Stage, archive: Archive) -> anyhow::Result<(End, Replicated)> {
    let of = archive.head.clone();
    let packer = Packer::default();
    let (mut events, mut recordings, mut done) = (Vec::new(), Vec::new(), End::default());
    for line in archive {
        match line.map_err(exit::configuration)? {
            Line::Log(entry) => {
                events.push(*entry);
                done.events += 1;
            }
            Line::Recording(kept) if kept.epoch == of.story.epoch => {
                let place = kept.seq;
                let Some(kept) = packed(kept, &packer)? else {
                    exit::tell(&format!(
                        "left out: the recording at seq {place} is too large"
                    ));
                    continue;
                };
                recordings.push(kept);
                done.recordings += 1;
            }
            // Of an earlier life of the log: its places mean other events.
            _ => {}
        }
        if events.len() == PAGE {
            let page = std::mem::take(&mut events);
            stage.log(page).await.map_err(of_the_file)?;
        }
        if recordings.len() == PAGE {
            stage.recordings(&std::mem::take(&mut recordings)).await?;
        }
    }
    stage.log(events).await.map_err(of_the_file)?;
    stage.recordings(&recordings).await?;
    let adopted = stage.adopt(&of.story, &of.redriven, packer.keep).await;
    Ok((done, adopted.map_err(of_the_file)?))
}

/// What is wrong with a file stays wrong.
fn of_the_file(error: bus::Error) -> anyhow::Error {
    use bus::Error::{Misplaced, Oversized, TooLarge};
    match error {
        error @ (Misplaced(_) | Oversized { .. } | TooLarge(_)) => exit::configuration(error),
        error => error.into(),
    }
}

fn packed(kept: Kept, packer: &Packer) -> anyhow::Result<Option<bus::Kept>> {
    let bytes = packer.pack_json(kept.turn.get().as_bytes())?;
    Ok(bytes.map(|bytes| bus::Kept {
        agent: kept.agent,
        id: kept.id,
        seq: kept.seq,
        epoch: kept.epoch,
        bytes,
    }))
}

pub(crate) async fn fork(args: ForkArgs, bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    let of = bus.story(&args.story).await?;
    if args.at > of.seq.0 {
        bail!(
            "{} ends at {}: --at {} is not there yet",
            of.id,
            of.seq,
            args.at
        );
    }
    let stage = begin(bus, &args.new).await?;
    let (events, replicated) = stage
        .through(async |stage| branch(stage, bus, &of, args.at).await)
        .await
        .with_context(|| format!("{} is not made", args.new))?;
    let of = End {
        events,
        recordings: 0,
    };
    made(out, bus, &args.new, (of, replicated)).await
}

/// Makes a story of what happened in another one up to a place; gives how many events that are.
async fn branch(
    stage: &mut Stage,
    bus: &Bus,
    of: &Story,
    at: u64,
) -> anyhow::Result<(u64, Replicated)> {
    let (mut last, mut events) = (Seq(0), 0);
    let log = bus.whole_log(&of.id);
    let log = log.try_take_while(|entry| ready(Ok(entry.seq.0 <= at)));
    let mut pages = pin!(log.try_chunks(PAGE));
    while let Some(page) = pages.try_next().await? {
        last = page.last().map_or(last, |entry| entry.seq);
        events += u64::try_from(page.len())?;
        stage.log(page).await?;
    }
    if last.0 != at {
        bail!(
            "{} has no event at {at} any more: retention removed it",
            of.id
        );
    }
    let redriven = bus.redriven(&of.id).await?;
    let keep = Packer::default().keep;
    let replicated = stage.adopt(of, &redriven, keep).await?;
    Ok((events, replicated))
}

async fn begin(bus: &Bus, id: &StoryId) -> anyhow::Result<Stage> {
    bus.check(Role::Operator).await?;
    let stage = bus.stage(id).await;
    stage.with_context(|| format!("{id} cannot be made"))
}

/// Gives the actions that had no answer in the log to their agents, and tells what was made.
async fn made(
    out: Output,
    bus: &Bus,
    id: &StoryId,
    (of, replicated): (End, Replicated),
) -> anyhow::Result<ExitCode> {
    let went_on = bus.go_on(id).await;
    let of_them = went_on.as_ref().map_or(Replicated::Unasked, |(_, it)| *it);
    let replicated = replicated.or_fewer(of_them);
    // Also where they were not given: the story is there.
    note_doubt(replicated);
    let (waiting, _) = went_on?;
    let End { events, recordings } = of;
    if out.json {
        let mut told =
            json!({"story": id, "events": events, "recordings": recordings, "waiting": waiting});
        add_replicated(&mut told, replicated);
        out.value(&told)?;
    } else {
        let waiting = match waiting {
            0 => String::new(),
            some => format!("; {some} actions without an answer are with their agents"),
        };
        out.line(&format!(
            "made {id}: {events} events, {recordings} recordings{waiting}"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
