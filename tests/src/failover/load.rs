//! Someone in each story who does one thing after the other, and tries again until it is confirmed; and someone who looks
//! at what is answered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bus::{Bus, Replicated};
use story::{EventId, Outcome, Seq, StoryId, outcome};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::action;
use crate::wait::eventually;

/// Between two actions of a story.
const PACE: Duration = Duration::from_millis(100);
/// Between two looks at a story's answers.
const LOOK: Duration = Duration::from_millis(50);

/// What was confirmed to who did it.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) id: EventId,
    pub(super) at: Instant,
    pub(super) replicated: Replicated,
}

/// What happened in one story.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) id: StoryId,
    pub(super) done: Vec<Done>,
    /// The longest time between two confirmations.
    pub(super) silence: Duration,
    /// The longest time between two answers.
    pub(super) wait: Duration,
}

/// How far each story is: actions that were confirmed, and answers seen.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    published: usize,
    answered: usize,
}

pub(super) struct Load {
    stories: Vec<watch::Receiver<Progress>>,
    over: CancellationToken,
    players: JoinSet<anyhow::Result<Played>>,
}

impl Load {
    pub(super) fn start(settings: &bus::Settings, stories: &[StoryId]) -> anyhow::Result<Self> {
        let (over, mut players, mut all) = (CancellationToken::new(), JoinSet::new(), Vec::new());
        for story in stories {
            let (bus, over) = (Bus::new(settings.clone())?, over.clone());
            let (told, progress) = watch::channel(Progress::default());
            all.push(progress);
            players.spawn(play(bus, story.clone(), Arc::new(told), over));
        }
        Ok(Self {
            stories: all,
            over,
            players,
        })
    }

    /// Waits until each story has so many answers more.
    pub(super) async fn answered(&self, more: usize) -> anyhow::Result<()> {
        self.further(|progress| progress.answered, more).await
    }

    /// Waits until in each story so much more was confirmed.
    pub(super) async fn published(&self, more: usize) -> anyhow::Result<()> {
        self.further(|progress| progress.published, more).await
    }

    async fn further(&self, of: fn(&Progress) -> usize, more: usize) -> anyhow::Result<()> {
        let goals: Vec<usize> = self
            .stories
            .iter()
            .map(|at| of(&at.borrow()) + more)
            .collect();
        eventually("each story goes on", async || {
            let mut stories = self.stories.iter().zip(&goals);
            Ok(stories
                .all(|(at, goal)| of(&at.borrow()) >= *goal)
                .then_some(()))
        })
        .await
    }

    /// Ends it, and gives what each did.
    pub(super) async fn end(mut self) -> anyhow::Result<Vec<Played>> {
        self.over.cancel();
        let mut played = Vec::new();
        while let Some(story) = self.players.join_next().await {
            played.push(story??);
        }
        Ok(played)
    }
}

async fn play(
    bus: Bus,
    id: StoryId,
    progress: Arc<watch::Sender<Progress>>,
    over: CancellationToken,
) -> anyhow::Result<Played> {
    let (done, wait) = tokio::try_join!(
        publish(&bus, &id, &progress, &over),
        look(&bus, &id, &progress, &over)
    )?;
    let pairs = done.iter().zip(done.iter().skip(1));
    let silence = pairs.map(|(one, next)| next.at - one.at).max();
    Ok(Played {
        silence: silence.unwrap_or_default(),
        id,
        done,
        wait,
    })
}

async fn publish(
    bus: &Bus,
    story: &StoryId,
    progress: &watch::Sender<Progress>,
    over: &CancellationToken,
) -> anyhow::Result<Vec<Done>> {
    let mut done = Vec::new();
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !over.is_cancelled() {
        ticks.tick().await;
        let event = action(story, &format!("a{}", done.len()), "I go on.", None)?;
        let replicated = loop {
            match bus.publish_replicated(&event).await {
                Ok((_, replicated)) => break replicated,
                Err(error) if error.is_passing() => {}
                Err(error) => bail!("{} was not accepted: {error:?}", event.id),
            }
        };
        done.push(Done {
            id: event.id,
            at: Instant::now(),
            replicated,
        });
        progress.send_modify(|progress| progress.published += 1);
    }
    Ok(done)
}

/// The longest time between two looks of which the second found something new.
async fn look(
    bus: &Bus,
    story: &StoryId,
    progress: &watch::Sender<Progress>,
    over: &CancellationToken,
) -> anyhow::Result<Duration> {
    let (mut read, mut last, mut longest) = (Seq(0), Instant::now(), Duration::ZERO);
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !over.is_cancelled() {
        ticks.tick().await;
        let page = match bus.log(story, read, 100).await {
            Ok(page) => page,
            Err(error) if error.is_passing() => continue,
            Err(error) => return Err(error.into()),
        };
        let ends = page.iter().filter_map(|entry| outcome(&entry.event));
        let answered = ends.filter(|(end, _)| *end == Outcome::Answered).count();
        read = page.last().map_or(read, |entry| entry.seq);
        if answered > 0 {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            progress.send_modify(|progress| progress.answered += answered);
        }
        // A replica that took over without the end of the log counts from an earlier place on.
        if page.is_empty() {
            read = read.min(bus.story(story).await.map_or(read, |story| story.seq));
        }
    }
    Ok(longest)
}
