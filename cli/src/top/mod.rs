//! `storyfleet top`: the fleet live in a terminal, as a table in text, or as JSON. Reads only.
//!
//! `source` looks, `model` makes rates and reasons of the looks, `view` makes lines of those; the latter two know neither
//! Redis nor a terminal. `screen` owns the terminal and gives it back whatever happens.

mod keys;
pub(crate) mod metrics;
mod model;
mod notes;
mod screen;
mod source;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use agent::{Shutdown, exit};
use anyhow::anyhow;
use crossterm::event::EventStream;
use futures::FutureExt;
use futures::StreamExt;
use futures::future::{LocalBoxFuture, OptionFuture};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::TaskTracker;

use self::keys::{Controls, Flow};
use self::model::{Look, Model};
use self::screen::Screen;
use self::source::Source;
use self::view::Looks;
use crate::args::TopArgs;
use crate::output::Output;
use crate::target::Target;

/// Columns of the table in text.
const TEXT_COLUMNS: u16 = 100;

pub(crate) async fn run(args: TopArgs, target: &Target, out: Output) -> anyhow::Result<ExitCode> {
    let source = Source::new(target, args.metrics.clone()).await?;
    let model = Model::new(&source);
    if args.once || (!out.json && !io::stdout().is_terminal()) {
        once(&args, source, model, out).await?;
    } else if out.json {
        Box::pin(stream(&args, source, model, out)).await?;
    } else {
        Box::pin(live(&args, source, model)).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Two looks: a rate is what came between them.
async fn once(
    args: &TopArgs,
    mut source: Source<'_>,
    mut model: Model,
    out: Output,
) -> anyhow::Result<()> {
    for at in 0..2 {
        if at > 0 {
            sleep(args.every).await;
        }
        let look = source.look().await;
        if let Err(failure) = &look.fleet {
            let why = anyhow!("{}", failure.why);
            return Err(if failure.is_configuration {
                exit::configuration(why)
            } else {
                why
            });
        }
        model.take(look);
    }
    let state = model.whole();
    if out.json {
        return out.value(&state);
    }
    let looks = Looks {
        colours: false,
        every: args.every,
    };
    out.text(&view::text(
        &state,
        &Controls::default(),
        looks,
        TEXT_COLUMNS,
    ))
}

/// One object for each look.
async fn stream(
    args: &TopArgs,
    mut source: Source<'_>,
    mut model: Model,
    out: Output,
) -> anyhow::Result<()> {
    let tasks = TaskTracker::new();
    let shutdown = Shutdown::on_signals(&tasks)?;
    let mut ticks = interval(args.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let look = async {
            ticks.tick().await;
            source.look().await
        };
        let Some(look) = shutdown.drain.run_until_cancelled(look).await else {
            return Ok(());
        };
        model.take(look);
        out.value(&model.state())?;
    }
}

/// A look under way has the source, and gives it back.
type Looking<'a> = LocalBoxFuture<'a, (Source<'a>, Look)>;

fn looking(mut source: Source<'_>) -> Looking<'_> {
    async move {
        let look = source.look().await;
        (source, look)
    }
    .boxed_local()
}

/// Keys are answered also while Redis is not.
async fn live(args: &TopArgs, source: Source<'_>, mut model: Model) -> anyhow::Result<()> {
    let tasks = TaskTracker::new();
    let shutdown = Shutdown::on_signals(&tasks)?;
    let mut screen = Screen::open()?;
    let mut keys = EventStream::new();
    let mut controls = Controls::default();
    let looks = Looks {
        colours: args.colours(),
        every: args.every,
    };
    let mut ticks = interval(args.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut resting, mut under_way) = (Some(source), None::<Looking<'_>>);
    loop {
        screen.draw(|area, buffer| {
            view::draw(&model.state(), &mut controls, looks, area, buffer);
        })?;
        let look = OptionFuture::from(under_way.as_mut());
        tokio::select! {
            () = shutdown.drain.cancelled() => return Ok(()),
            event = keys.next() => match event {
                None => return Ok(()),
                Some(event) => if controls.take(&event?) == Flow::End {
                    return Ok(());
                },
            },
            Some((source, look)) = look => {
                model.take(look);
                (resting, under_way) = (Some(source), None);
            }
            _ = ticks.tick() => if !controls.paused && let Some(source) = resting.take() {
                under_way = Some(looking(source));
            },
        }
    }
}
