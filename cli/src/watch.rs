//! `storyfleet watch`: a story as it is written, also when Redis was away or is elsewhere now.

use std::process::ExitCode;
use std::time::Duration;

use bus::{Bus, Error, Seen, Watch};
use serde_json::{Value, json};
use story::{Cursor, Seq, StoryId};
use tokio::time::timeout;

use crate::args::WatchArgs;
use crate::output::{Output, is_closed, note};
use crate::render::Renderer;
use crate::target::{Gone, Target};

/// How long nothing is seen before it is asked whether Redis is there, and whether anything is still to come.
const QUIET: Duration = Duration::from_millis(200);

/// One story, read over whichever Redis has it.
pub(crate) struct Reading<'a> {
    target: &'a Target,
    story: StoryId,
    from: Option<Cursor>,
    bus: Bus,
    pub(crate) watch: Watch,
    sight: Sight,
}

/// Tells whoever waits at a terminal that Redis is away: else a long silence looks like a slow answer.
#[derive(Debug, Default)]
struct Sight {
    /// Whether it was told.
    lost: bool,
}

impl Sight {
    /// Once when Redis is lost, once when it is back.
    fn tell(&mut self, watch: &Watch) {
        let lost = watch.is_lost();
        if lost != self.lost {
            self.lost = lost;
            note(if lost {
                "Redis is out of sight: waiting for it"
            } else {
                "Redis is back"
            });
        }
    }
}

pub(crate) async fn run(args: WatchArgs, target: &Target, out: Output) -> anyhow::Result<ExitCode> {
    let mut seq = args.from.as_ref().map_or(Seq(0), |cursor| cursor.seq);
    let bus = target.bus().await?;
    let mut reading = Reading::begin(target, bus, args.story, args.from).await?;
    let mut renderer = Renderer::new(out);
    let mut left = args.count.map_or(usize::MAX, std::num::NonZeroUsize::get);
    while left > 0 {
        let Some(seen) = reading.next().await? else {
            let over = args.until_idle && reading.is_idle(seq).await?;
            if over || is_closed() {
                break;
            }
            reading.follow().await?;
            continue;
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
            out.value(&value(&seen, &reading.watch))?;
        } else {
            out.text(&renderer.render(&seen))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl<'a> Reading<'a> {
    pub(crate) async fn begin(
        target: &'a Target,
        bus: Bus,
        story: StoryId,
        from: Option<Cursor>,
    ) -> Result<Self, Error> {
        Ok(Self {
            watch: bus.watch(&story, from.clone()).await?,
            target,
            story,
            from,
            bus,
            sight: Sight::default(),
        })
    }

    /// What comes next; `None` when nothing did for a while.
    pub(crate) async fn next(&mut self) -> Result<Option<Seen>, Error> {
        let seen = timeout(QUIET, self.watch.next()).await;
        self.sight.tell(&self.watch);
        seen.ok().transpose()
    }

    /// Goes on at another Redis when this one is lost and `storyfleet up` was started anew: its port is another one.
    pub(crate) async fn follow(&mut self) -> anyhow::Result<()> {
        if !self.watch.is_lost() || !self.target.has_moved(&self.bus)? {
            return Ok(());
        }
        // Nothing was seen yet: from where it was to begin.
        let cursor = Some(self.watch.cursor().clone()).filter(|cursor| !cursor.epoch.is_empty());
        let again = async {
            let bus = self.target.bus().await?;
            let watch = bus.watch(&self.story, cursor.or(self.from.clone())).await?;
            anyhow::Ok((bus, watch))
        };
        match again.await {
            Ok((bus, watch)) => {
                (self.bus, self.watch) = (bus, watch);
                self.sight.tell(&self.watch);
                Ok(())
            }
            Err(error) if is_unreachable(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Nothing of the story is waiting or in flight, and the log's end has been seen. An agent's commit makes the next
    /// step's work and takes its own away in one instant, so no moment between two steps looks idle.
    async fn is_idle(&self, seen: Seq) -> anyhow::Result<bool> {
        let asked = async {
            let idle = self.bus.is_idle(&self.story).await?;
            Ok(idle && self.bus.story(&self.story).await?.seq <= seen)
        };
        match asked.await {
            Err(Error::Unreachable(_)) => Ok(false),
            asked => Ok(asked?),
        }
    }
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    error.is::<Gone>() || matches!(error.downcast_ref(), Some(Error::Unreachable(_)))
}

/// What was seen, with the place after it: what `--from` takes to go on there, in the middle of an answer too.
fn value(seen: &Seen, watch: &Watch) -> Value {
    let cursor = watch.cursor().to_string();
    match seen {
        Seen::Event(entry) => json!({
            "t": "event", "seq": entry.seq, "cursor": cursor, "event": entry.event,
        }),
        Seen::Delta {
            re,
            attempt,
            i,
            n,
            text,
        } => json!({
            "t": "delta", "re": re, "attempt": attempt, "i": i, "n": n, "text": text, "cursor": cursor,
        }),
        Seen::Reset { re, attempt } => {
            json!({"t": "reset", "re": re, "attempt": attempt, "cursor": cursor})
        }
        Seen::Snapshot {
            re,
            attempt,
            upto,
            text,
        } => json!({
            "t": "snapshot", "re": re, "attempt": attempt, "upto": upto, "text": text, "cursor": cursor,
        }),
        Seen::Gap => json!({"t": "gap", "cursor": cursor}),
    }
}
