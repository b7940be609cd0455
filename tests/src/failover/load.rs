//! Someone in each story who does one thing after the other, now and then to its character, and tries again until it is
//! confirmed; and someone who reads it live.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bus::{Bus, Feeds, Replicated, Seen};
use story::{Event, EventId, Payload, Policies, StoryId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::action;
use crate::chaos::CHARACTER;
use crate::wait::{DEADLINE, eventually};

/// Between two actions of a story.
const PACE: Duration = Duration::from_millis(250);
/// Of so many actions one is said to the character, so that dialogue answers it, not the narrator.
const SAID: usize = 3;

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
    /// The longest time between two answers of the narrator, or of the character.
    pub(super) wait: Duration,
}

/// How far each story is: actions that were confirmed, and answers seen.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    published: usize,
    narrated: usize,
    spoken: usize,
}

pub(super) struct Load {
    stories: Vec<watch::Receiver<Progress>>,
    over: CancellationToken,
    players: JoinSet<anyhow::Result<Option<Played>>>,
}

impl Load {
    pub(super) fn start(
        settings: &bus::Settings,
        stories: &[(StoryId, Policies)],
    ) -> anyhow::Result<Self> {
        let (over, mut players, mut all) = (CancellationToken::new(), JoinSet::new(), Vec::new());
        // As a node of the gateway reads: one connection for all stories.
        let feeds = Bus::new(settings.clone())?.feeds();
        let (tidied, end) = (feeds.clone(), over.clone());
        players.spawn(async move {
            end.run_until_cancelled(tidied.tidy()).await;
            Ok(None)
        });
        for (story, _) in stories {
            let (bus, over) = (Bus::new(settings.clone())?, over.clone());
            let (told, progress) = watch::channel(Progress::default());
            all.push(progress);
            let ways = (bus, feeds.clone());
            players.spawn(play(ways, story.clone(), Arc::new(told), over));
        }
        Ok(Self {
            stories: all,
            over,
            players,
        })
    }

    /// Waits until each story has so many answers more of the narrator, and of the character.
    pub(super) async fn answered(&mut self, more: usize) -> anyhow::Result<()> {
        self.further(|progress| [progress.narrated, progress.spoken], more)
            .await
    }

    /// Waits until in each story so much more was confirmed.
    pub(super) async fn published(&mut self, more: usize) -> anyhow::Result<()> {
        self.further(|progress| [progress.published], more).await
    }

    /// All counts that `of` gives.
    async fn further<const N: usize>(
        &mut self,
        of: fn(&Progress) -> [usize; N],
        more: usize,
    ) -> anyhow::Result<()> {
        let stories = &self.stories;
        let now = |at: &watch::Receiver<Progress>| of(&at.borrow());
        let goal = |at| now(at).map(|count| count + more);
        let goals: Vec<[usize; N]> = stories.iter().map(goal).collect();
        let went_on = eventually("each story goes on", async || {
            let is_there = |(at, goals)| now(at).iter().zip(goals).all(|(now, goal)| now >= goal);
            Ok(stories.iter().zip(&goals).all(is_there).then_some(()))
        });
        tokio::select! {
            went_on = went_on => went_on.with_context(|| {
                let stories: Vec<_> = stories.iter().map(|at| *at.borrow()).collect();
                format!("{goals:?} was to be reached, and this is: {stories:?}")
            }),
            // Nobody ends by themselves but with an error.
            ended = self.players.join_next() => match ended {
                Some(ended) => bail!("a player ended: {:?}", ended?.map(drop)),
                None => bail!("nobody plays"),
            },
        }
    }

    /// Ends it, and gives what each did.
    pub(super) async fn end(mut self) -> anyhow::Result<Vec<Played>> {
        self.over.cancel();
        let ends = async {
            let mut played = Vec::new();
            while let Some(story) = self.players.join_next().await {
                played.extend(story??);
            }
            Ok(played)
        };
        timeout(DEADLINE, ends)
            .await
            .context("a player does not end")?
    }
}

async fn play(
    (bus, feeds): (Bus, Feeds),
    id: StoryId,
    progress: Arc<watch::Sender<Progress>>,
    over: CancellationToken,
) -> anyhow::Result<Option<Played>> {
    let (done, wait) = tokio::try_join!(
        publish(&bus, &id, &progress, &over),
        look(&feeds, &id, &progress, &over)
    )?;
    let pairs = done.iter().zip(done.iter().skip(1));
    let silence = pairs.map(|(one, next)| next.at - one.at).max();
    Ok(Some(Played {
        silence: silence.unwrap_or_default(),
        id,
        done,
        wait,
    }))
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
        let number = done.len();
        let to = (number % SAID == SAID - 1).then(|| CHARACTER.to_owned());
        let event = action(story, &format!("a{number}"), "I go on.", to)?;
        let accepted = timeout(DEADLINE, insist(bus, &event)).await;
        let replicated = accepted.with_context(|| format!("{} is never accepted", event.id))??;
        done.push(Done {
            id: event.id,
            at: Instant::now(),
            replicated,
        });
        progress.send_modify(|progress| progress.published += 1);
    }
    Ok(done)
}

/// Tries until it is accepted.
async fn insist(bus: &Bus, event: &Event) -> anyhow::Result<Replicated> {
    loop {
        match bus.publish_replicated(event).await {
            Ok((_, replicated)) => return Ok(replicated),
            Err(error) if error.is_passing() => {}
            Err(error) => bail!("{} was not accepted: {error:?}", event.id),
        }
    }
}

/// Someone who reads it live. The longest time between two answers of the same kind: the other kind may hide no silence.
async fn look(
    feeds: &Feeds,
    story: &StoryId,
    progress: &watch::Sender<Progress>,
    over: &CancellationToken,
) -> anyhow::Result<Duration> {
    let mut watch = feeds.watch(story, None).await?;
    let (mut narrated, mut spoken) = (Instant::now(), Instant::now());
    let mut longest = Duration::ZERO;
    while let Some(seen) = over.run_until_cancelled(watch.next()).await {
        let Seen::Event(entry) = seen? else {
            continue;
        };
        let last = match entry.event.payload() {
            Payload::Narration(_) => {
                progress.send_modify(|progress| progress.narrated += 1);
                &mut narrated
            }
            Payload::Dialogue(_) => {
                progress.send_modify(|progress| progress.spoken += 1);
                &mut spoken
            }
            _ => continue,
        };
        longest = longest.max(last.elapsed());
        *last = Instant::now();
    }
    Ok(longest)
}
