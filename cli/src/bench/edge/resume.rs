//! How soon a reader who was cut off in the middle of an answer has what they missed, and whether every character of it
//! came once. Half of the readers have WebSockets, half SSE.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::future::try_join_all;
use story::StoryId;
use tokio::time::{interval, sleep};

use super::client::Transport;
use super::reader::{Back, Cut, Reader, Told};
use super::report::{Group, Row};
use super::screen::word;
use super::stage::{Node, Side, Stage};
use super::teller::{Teller, Telling};
use crate::bench::report::percentile;
use crate::bench::stage::LOOK;

/// Between two words of an answer.
const EVERY: Duration = Duration::from_millis(40);
/// How long a reader reads before a cut, and is away after it; in ms.
const STAY: Range<u64> = 100..300;
const AWAY: Range<u64> = 100..300;
/// So long that it is still told when the last reader was cut.
const ENDLESS: u64 = 1_000_000;
/// So short that each absence sees the end of one.
const SHORT: u64 = 6;
const AWAY_FROM_SHORT: Range<u64> = 350..600;
/// Tokens of a long gap, and of a chunk when it is told at full speed.
const LONG: u64 = 4_000;
const CHUNK: u64 = 24;

#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Each has two readers.
    pub(super) stories: usize,
    /// Of each reader.
    pub(super) cuts: usize,
}

/// What all cuts of one kind came to.
#[derive(Default)]
struct Account {
    backs: Vec<Back>,
    lost: u64,
    doubled: u64,
    gaps: u64,
}

/// The stories of one kind of cut, and their readers.
struct Scene {
    stories: Vec<StoryId>,
    teller: Teller,
    readers: Vec<Reader>,
    told: Told,
    length: u64,
}

pub(super) async fn measure(stage: &Stage, plan: Plan) -> anyhow::Result<Vec<Group>> {
    let node = stage.node(Side::Gateway).await?;
    let mut groups = Vec::new();
    for (name, cut, length, away) in [
        ("clean close", Cut::Clean, ENDLESS, AWAY),
        ("silent cut", Cut::Silent, ENDLESS, AWAY),
        ("across a commit", Cut::Reset, SHORT, AWAY_FROM_SHORT),
    ] {
        let key = name.replace(' ', "-");
        let scene = Scene::new(stage, (&node, &key), plan, length).await?;
        let done = scene.while_told((cut, away), plan.cuts).await?;
        groups.push(done.group(name));
    }
    let scene = Scene::new(stage, (&node, "long-gap"), plan, LONG).await?;
    let done = scene.long_gaps(plan.cuts.div_ceil(2)).await?;
    groups.push(done.group("a gap of 4,000 tokens"));
    node.end().await?;
    Ok(groups)
}

impl Scene {
    async fn new(
        stage: &Stage,
        (node, name): (&Node, &str),
        plan: Plan,
        length: u64,
    ) -> anyhow::Result<Self> {
        let stories = stage.stories(name, plan.stories).await?;
        let told = Told::new(AtomicU64::new(0));
        let mut readers = Vec::new();
        for (number, story) in stories.iter().enumerate() {
            for transport in [Transport::Socket, Transport::Stream] {
                let token = stage.issuer.token(&format!("{name}-{number}"))?;
                let way = (node.address, transport);
                readers.push(Reader::new(way, token, story.as_str(), (&told, length)));
            }
        }
        Ok(Self {
            stories,
            teller: Teller::new(&stage.bus),
            readers,
            told,
            length,
        })
    }

    /// Readers are cut while answers are told word by word.
    async fn while_told(self, cut: (Cut, Range<u64>), cuts: usize) -> anyhow::Result<Account> {
        let Self {
            stories,
            mut teller,
            readers,
            told,
            length,
        } = self;
        let (done, begun) = (AtomicBool::new(false), Arc::clone(&told));
        let telling = async {
            while !done.load(Relaxed) {
                let mut answers = teller.begin(&stories).await?;
                let mut ticks = interval(EVERY);
                for number in 0..length {
                    if length == ENDLESS && done.load(Relaxed) {
                        return Ok(());
                    }
                    ticks.tick().await;
                    say(&mut answers, &word(number), 1).await?;
                    begun.fetch_add(1, Relaxed);
                }
                commit(answers, length).await?;
            }
            anyhow::Ok(())
        };
        let reading = async {
            let cutting = readers.into_iter().map(|mut reader| {
                let cut = cut.clone();
                async move {
                    let backs = cut_off(&mut reader, cut, cuts).await?;
                    anyhow::Ok((reader, backs))
                }
            });
            let cutting = try_join_all(cutting).await;
            done.store(true, Relaxed);
            cutting
        };
        let ((), mut read) = tokio::try_join!(telling, reading)?;
        // To the last word, so that what comes twice at the end shows too.
        let all = told.load(Relaxed);
        try_join_all(read.iter_mut().map(|(reader, _)| reader.read_until(all))).await?;
        let mut account = Account::default();
        for (reader, backs) in read {
            account.add(&reader);
            account.backs.extend(backs);
        }
        Ok(account)
    }

    /// Readers are away while nearly all of a long answer is told.
    async fn long_gaps(mut self, rounds: usize) -> anyhow::Result<Account> {
        let mut account = Account::default();
        for _ in 0..rounds {
            let mut answers = self.teller.begin(&self.stories).await?;
            say(&mut answers, &word(0), 1).await?;
            let begun = self.told.fetch_add(1, Relaxed) + 1;
            let read = self.readers.iter_mut().map(|reader| async move {
                reader.read_until(begun).await?;
                reader.cut(Cut::Reset).await;
                anyhow::Ok(())
            });
            try_join_all(read).await?;
            for from in (1..self.length).step_by(CHUNK as usize) {
                let until = self.length.min(from + CHUNK);
                let text: String = (from..until).map(word).collect();
                say(&mut answers, &text, u32::try_from(until - from)?).await?;
                self.told.fetch_add(until - from, Relaxed);
            }
            let back = self.readers.iter_mut().map(|reader| async move {
                sleep(Duration::from_millis(rand::random_range(0..1_000))).await;
                reader.come_back().await
            });
            account.backs.extend(try_join_all(back).await?);
            commit(answers, self.length).await?;
        }
        for reader in &self.readers {
            account.add(reader);
        }
        Ok(account)
    }
}

impl Account {
    fn add(&mut self, reader: &Reader) {
        self.lost += reader.screen.lost;
        self.doubled += reader.screen.doubled;
        self.gaps += reader.screen.gaps;
    }

    fn group(&self, name: &str) -> Group {
        let sorted = |of: fn(&Back) -> Duration| {
            let mut waits: Vec<Duration> = self.backs.iter().map(of).collect();
            waits.sort_unstable();
            waits
        };
        let (first, all) = (sorted(|back| back.first), sorted(|back| back.all));
        let rows = [
            Row::new("first missing character, p50, ms", percentile(&first, 0.5)),
            Row::new("first missing character, p99, ms", percentile(&first, 0.99)),
            Row::new("all that was missed, p50, ms", percentile(&all, 0.5)).at_most(5.0),
            Row::new("all that was missed, p99, ms", percentile(&all, 0.99)).at_most(50.0),
            Row::new("characters lost", self.lost as f64).at_most(0.0),
            Row::new("characters doubled", self.doubled as f64).at_most(0.0),
            Row::new("told to begin anew", self.gaps as f64).at_most(0.0),
        ];
        let cuts = self.backs.len();
        Group::new(format!("{cuts} readers back after a cut: {name}"), rows)
    }
}

async fn cut_off(
    reader: &mut Reader,
    (cut, away): (Cut, Range<u64>),
    cuts: usize,
) -> anyhow::Result<Vec<Back>> {
    let mut backs = Vec::new();
    reader.read_until(1).await?;
    for _ in 0..cuts {
        let stay = rand::random_range(STAY);
        reader.read_for(Duration::from_millis(stay)).await?;
        reader.cut(cut).await;
        let had = reader.screen.words();
        sleep(Duration::from_millis(rand::random_range(away.clone()))).await;
        let mut looks = interval(LOOK);
        while reader.told() <= had {
            looks.tick().await;
        }
        backs.push(reader.come_back().await?);
    }
    Ok(backs)
}

async fn say(answers: &mut [Telling], text: &str, tokens: u32) -> anyhow::Result<()> {
    try_join_all(answers.iter_mut().map(|answer| answer.tell(text, tokens))).await?;
    Ok(())
}

async fn commit(answers: Vec<Telling>, length: u64) -> anyhow::Result<()> {
    let whole: String = (0..length).map(word).collect();
    let commits = answers
        .into_iter()
        .map(|answer| answer.commit(whole.clone()));
    try_join_all(commits).await?;
    Ok(())
}
