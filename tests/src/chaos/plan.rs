//! The schedule of a run: who publishes what and when, which process suffers what and when. A pure function of the seed
//! and the length, whatever happens in the run.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use story::{Agent, EventId, InputPolicy, OutputPolicy, Policies, StoryId};

/// Worker processes of each agent.
pub(super) const PROCESSES: usize = 4;
pub(super) const SLOTS: usize = PROCESSES * Agent::ALL.len();
pub(super) const LEASE: Duration = Duration::from_secs(1);

const STORIES: usize = 50;
const PUBLISHERS: usize = 3;
/// Stories that get more than their share, so that events wait in their lanes.
const BUSY: usize = 5;
/// Actions in a second, of all publishers.
const RATE: u32 = 35;
/// Readers for each way in which a story's output is judged.
const READERS: usize = 4;
const OUTPUTS: [OutputPolicy; 3] = [OutputPolicy::Off, OutputPolicy::Hold, OutputPolicy::Retract];
const BETWEEN_BLOWS: Duration = Duration::from_millis(200);

/// Milliseconds that a process stays frozen, or what it sends and is sent under way: always past the lease.
const FROZEN: Range<u64> = 1_200..2_500;
/// Milliseconds that Redis is there and away.
const THERE: Range<u64> = 4_000..10_000;
const AWAY: Range<u64> = 200..3_000;

/// What the moderator's rules block, what its endpoint flags, what no model ever answers, and harmless things.
const TEXTS: [(&str, u32); 4] = [
    ("The card is 4111 1111 1111 1111", 3),
    ("I whisper a dubiousword", 3),
    ("I touch the cursed idol", 1),
    ("I open the door", 93),
];

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Hash tags that the stories are spread over.
    pub(crate) shards: u16,
    pub(crate) stories: Vec<(StoryId, Policies)>,
    /// What each publisher sends, in its order.
    pub(crate) actions: Vec<Vec<Planned>>,
    pub(crate) blows: Vec<(Duration, Blow)>,
    /// The stories that are watched, by their place in `stories`.
    pub(crate) watched: Vec<usize>,
}

/// An action to be published.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) id: EventId,
    /// By its place in [`Plan::stories`].
    pub(crate) story: usize,
    pub(crate) text: &'static str,
    /// Whether it is said to a character: then dialogue answers it, else the narrator.
    pub(crate) said: bool,
}

/// What happens to a process. Workers are named by their slot: whoever dies there has a successor at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// SIGKILL
    Kill(usize),
    /// SIGTERM
    End(usize),
    /// SIGSTOP
    Freeze(usize),
    /// SIGCONT
    Thaw(usize),
    /// What it tells Redis and is told comes later. So its commit comes when another has its event.
    Delay(usize),
    Undelay(usize),
    KillRedis,
    EndRedis,
    StartRedis,
    /// It holds its connections and answers nothing; what it is sent meanwhile it does when it is thawed.
    FreezeRedis,
    ThawRedis,
}

impl Plan {
    /// How many actions each publisher has.
    pub(crate) fn all(&self) -> Vec<usize> {
        self.actions.iter().map(Vec::len).collect()
    }

    /// What each publisher did in a story when it had done so many of its actions.
    pub(crate) fn published(&self, story: usize, counts: &[usize]) -> Vec<Vec<EventId>> {
        let of = |(actions, count): (&Vec<Planned>, &usize)| {
            let done = actions.iter().take(*count);
            let here = done.filter(|action| action.story == story);
            here.map(|action| action.id.clone()).collect()
        };
        self.actions.iter().zip(counts).map(of).collect()
    }

    /// # Errors
    /// Never: the names made here are well-formed.
    pub(crate) fn new(seed: u64, length: Duration) -> anyhow::Result<Self> {
        // One source of randomness for each concern, so that more blows do not make other actions.
        let source = |concern: u64| Xoshiro256PlusPlus::seed_from_u64(seed ^ (concern << 56));
        let stories = stories(&mut source(1))?;
        let mut blows = worker_blows(&mut source(2), length);
        blows.extend(redis_blows(&mut source(3), length));
        blows.sort_by_key(|(at, _)| *at);
        let actions = (0..PUBLISHERS).map(|publisher| {
            let concern = 16 + u64::try_from(publisher)?;
            actions(&mut source(concern), publisher, length)
        });
        let watched = watched(&mut source(4), &stories);
        Ok(Self {
            seed,
            shards: source(5).random_range(1..=3),
            stories,
            actions: actions.collect::<anyhow::Result<_>>()?,
            blows,
            watched,
        })
    }
}

/// The agent of a worker's slot.
pub(super) fn agent(slot: usize) -> Agent {
    Agent::ALL[slot / PROCESSES]
}

fn stories(random: &mut Xoshiro256PlusPlus) -> anyhow::Result<Vec<(StoryId, Policies)>> {
    let story = |number: usize| {
        let policies = Policies {
            input: if random.random_bool(0.5) {
                InputPolicy::Hold
            } else {
                InputPolicy::Off
            },
            output: OUTPUTS[random.random_range(0..OUTPUTS.len())],
            ..Policies::default()
        };
        Ok((format!("story-{number}").parse()?, policies))
    };
    (0..STORIES).map(story).collect()
}

/// Some stories of each output policy; where there are fewer of one, all of it.
fn watched(random: &mut Xoshiro256PlusPlus, stories: &[(StoryId, Policies)]) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..stories.len()).collect();
    numbers.shuffle(random);
    let of = |output: OutputPolicy| {
        let numbers = numbers.iter().copied();
        let numbers = numbers.filter(move |number| stories[*number].1.output == output);
        numbers.take(READERS)
    };
    OUTPUTS.into_iter().flat_map(of).collect()
}

fn actions(
    random: &mut Xoshiro256PlusPlus,
    publisher: usize,
    length: Duration,
) -> anyhow::Result<Vec<Planned>> {
    let all = (length * RATE).as_secs();
    let count = usize::try_from(all)?.div_ceil(PUBLISHERS);
    let mut times: Vec<Duration> = (0..count)
        .map(|_| length.mul_f64(random.random_range(0.0..1.0)))
        .collect();
    times.sort();
    let action = |(number, at): (usize, Duration)| {
        let stories = if random.random_bool(0.15) {
            BUSY
        } else {
            STORIES
        };
        let (text, _) = TEXTS.choose_weighted(random, |(_, weight)| *weight)?;
        Ok(Planned {
            at,
            id: format!("p{publisher}-{number}").parse()?,
            story: random.random_range(0..stories),
            text,
            said: random.random_bool(0.3),
        })
    };
    times.into_iter().enumerate().map(action).collect()
}

/// One blow in each fifth of a second, to a process that is neither frozen nor far away at that time.
fn worker_blows(random: &mut Xoshiro256PlusPlus, length: Duration) -> Vec<(Duration, Blow)> {
    let mut blows = Vec::new();
    let mut thawed = [Duration::ZERO; SLOTS];
    let mut at = BETWEEN_BLOWS;
    while at < length {
        let awake: Vec<usize> = (0..SLOTS).filter(|slot| thawed[*slot] < at).collect();
        if let Some(slot) = awake.choose(random).copied() {
            match random.random_range(0..4) {
                0 => blows.push((at, Blow::Kill(slot))),
                1 => blows.push((at, Blow::End(slot))),
                kind => {
                    thawed[slot] = at + Duration::from_millis(random.random_range(FROZEN));
                    let (begins, ends) = match kind {
                        2 => (Blow::Freeze(slot), Blow::Thaw(slot)),
                        _ => (Blow::Delay(slot), Blow::Undelay(slot)),
                    };
                    blows.extend([(at, begins), (thawed[slot], ends)]);
                }
            }
        }
        at += BETWEEN_BLOWS;
    }
    blows
}

fn redis_blows(random: &mut Xoshiro256PlusPlus, length: Duration) -> Vec<(Duration, Blow)> {
    let mut blows = Vec::new();
    let mut ways = [
        (Blow::KillRedis, Blow::StartRedis),
        (Blow::EndRedis, Blow::StartRedis),
        (Blow::FreezeRedis, Blow::ThawRedis),
    ];
    let mut at = Duration::from_millis(random.random_range(THERE));
    // By rounds of all three, so that each comes in a short run too.
    while at < length {
        ways.shuffle(random);
        for (goes, comes) in ways {
            if at >= length {
                break;
            }
            let back = at + Duration::from_millis(random.random_range(AWAY));
            blows.extend([(at, goes), (back, comes)]);
            at = back + Duration::from_millis(random.random_range(THERE));
        }
    }
    blows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::secret;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_is_a_schedule() {
        let plan = |seed| Plan::new(seed, MINUTE).unwrap();
        assert_eq!(plan(7), plan(7));
        let (one, other) = (plan(7), plan(8));
        assert_ne!(one.blows, other.blows);
        assert_ne!(one.actions, other.actions);
        assert_ne!(one.stories, other.stories);
    }

    #[test]
    fn what_rules_block_is_among_what_people_write() {
        assert!(TEXTS[0].0.contains(secret::PEOPLES));
    }

    #[test]
    fn a_minute_has_enough_of_everything() {
        for seed in 0..20 {
            let plan = Plan::new(seed, MINUTE).unwrap();
            let actions: Vec<&Planned> = plan.actions.iter().flatten().collect();
            assert!(actions.len() >= 2_000);
            assert!((0..STORIES).all(|story| actions.iter().any(|action| action.story == story)));
            let count = |wanted: fn(&Blow) -> bool| {
                plan.blows.iter().filter(|(_, blow)| wanted(blow)).count()
            };
            assert!(count(|blow| matches!(blow, Blow::Kill(_))) > 40);
            assert!(count(|blow| matches!(blow, Blow::End(_))) > 40);
            assert!(count(|blow| matches!(blow, Blow::Freeze(_))) > 40);
            assert!(count(|blow| matches!(blow, Blow::Delay(_))) > 40);
            assert!(count(|blow| matches!(blow, Blow::StartRedis)) >= 2);
            assert!(count(|blow| matches!(blow, Blow::ThawRedis)) >= 1);
            assert_eq!(plan.watched.len(), OUTPUTS.len() * READERS);
        }
    }

    #[test]
    fn who_is_frozen_or_delayed_is_so_past_the_lease_and_left_alone_until_then() {
        let plan = Plan::new(3, MINUTE).unwrap();
        let mut out = [None; SLOTS];
        for (at, blow) in plan.blows {
            match blow {
                Blow::Kill(slot) | Blow::End(slot) => assert_eq!(out[slot], None),
                Blow::Freeze(slot) | Blow::Delay(slot) => {
                    assert_eq!(out[slot].replace((at, blow)), None);
                }
                Blow::Thaw(slot) | Blow::Undelay(slot) => {
                    let (since, before) = out[slot].take().unwrap();
                    assert!(at - since > LEASE);
                    let froze = matches!(before, Blow::Freeze(_));
                    assert_eq!(froze, matches!(blow, Blow::Thaw(_)));
                }
                _ => {}
            }
        }
        assert_eq!(out, [None; SLOTS]);
    }
}
