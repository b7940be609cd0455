//! `storyfleet watch`: a story as it is written.

use std::process::ExitCode;
use std::time::Duration;

use bus::{Bus, Seen, Watch};
use serde_json::{Value, json};
use story::{Seq, StoryId};
use tokio::time::timeout;

use crate::args::WatchArgs;
use crate::output::Output;
use crate::render::Renderer;

/// How long nothing is seen before it is asked whether anything is still to come.
const QUIET: Duration = Duration::from_millis(200);

pub(crate) async fn run(args: WatchArgs, bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    let mut seq = args.from.as_ref().map_or(Seq(0), |cursor| cursor.seq);
    let mut watch = bus.watch(&args.story, args.from).await?;
    let mut renderer = Renderer::new(out);
    let mut left = args.count.map_or(usize::MAX, std::num::NonZeroUsize::get);
    while left > 0 {
        let next = watch.next();
        let seen = if args.until_idle {
            match timeout(QUIET, next).await {
                Ok(seen) => seen?,
                Err(_) if is_idle(bus, &args.story, seq).await? => break,
                Err(_) => continue,
            }
        } else {
            next.await?
        };
        match &seen {
            Seen::Event(entry) => {
                seq = entry.seq;
                left -= 1;
            }
            Seen::Gap => seq = Seq(0),
            _ => {}
        }
        if out.json {
            out.value(&value(&seen, &watch))?;
        } else {
            out.text(&renderer.render(&seen))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Nothing of the story is waiting or in flight, and the log's end has been seen. An agent's commit makes the next step's work and
/// takes its own away in one instant, so no moment between two steps looks idle.
async fn is_idle(bus: &Bus, story: &StoryId, seen: Seq) -> anyhow::Result<bool> {
    Ok(bus.is_idle(story).await? && bus.story(story).await?.seq <= seen)
}

fn value(seen: &Seen, watch: &Watch) -> Value {
    match seen {
        Seen::Event(entry) => json!({
            "t": "event", "seq": entry.seq, "cursor": watch.cursor().to_string(), "event": entry.event,
        }),
        Seen::Delta {
            re,
            attempt,
            i,
            n,
            text,
        } => json!({
            "t": "delta", "re": re, "attempt": attempt, "i": i, "n": n, "text": text,
        }),
        Seen::Reset { re, attempt } => json!({"t": "reset", "re": re, "attempt": attempt}),
        Seen::Snapshot {
            re,
            attempt,
            upto,
            text,
        } => json!({
            "t": "snapshot", "re": re, "attempt": attempt, "upto": upto, "text": text,
        }),
        Seen::Gap => json!({"t": "gap"}),
    }
}
