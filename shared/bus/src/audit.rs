//! The account of all stories: every action ended once, in order, or is on its way.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use story::{AuthorKind, Event, EventId, LogEntry, Outcome, Payload, Seq, StoryId, outcome};

use crate::doctor::Waiting;
use crate::reply::read;
use crate::{Bus, Error};

/// Events in one read.
const PAGE: usize = 500;

/// What became of every action of every story.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// The actions that were accepted.
    pub events: u64,
    pub answered: u64,
    pub blocked: u64,
    pub failed: u64,
    /// Dead letters, of whatever event.
    pub dead: u64,
    /// Actions without an end whose turn is yet to come.
    pub in_flight: u64,
    /// Actions without an end that are nowhere.
    pub lost: u64,
    /// Ends after the first; an answer to a redriven action after its failure is none.
    pub duplicates: u64,
    /// Responses of an agent to something earlier than what it answered before.
    pub out_of_order: u64,
    /// Turns, waiting events and drafts that nobody will go on with.
    pub orphans: u64,
}

impl Audit {
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.out_of_order == 0 && self.orphans == 0
    }
}

impl Bus {
    /// Reads all there is. The fleet may run meanwhile.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn audit(&self) -> Result<Audit, Error> {
        let mut audit = Audit::default();
        let stories = self.stories().await?;
        for shard in self.keys.shards() {
            let mut accounts = BTreeMap::new();
            for story in stories
                .iter()
                .filter(|story| self.keys.shard(story) == shard)
            {
                let mut account = Account::default();
                account.accepted(self.accepted(story).await?);
                self.read_log(story, &mut account).await?;
                accounts.insert(story, account);
            }
            let lanes = self.lanes(shard, &stories).await?;
            // What left its lane since the first look has its end in the log by now.
            for (story, account) in &mut accounts {
                self.read_log(story, account).await?;
                account.close(
                    lanes.steps.iter().filter(|step| step.story == **story),
                    &mut audit,
                );
            }
            audit.orphans += count(lanes.orphans.len());
        }
        for agent in story::Agent::ALL {
            audit.dead += count(self.dead(agent).await?.len());
        }
        Ok(audit)
    }

    async fn read_log(&self, story: &StoryId, account: &mut Account) -> Result<(), Error> {
        loop {
            let page = self.log(story, account.read, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for entry in page {
                account.read = entry.seq;
                account.entry(entry);
            }
        }
    }

    /// The ids that were published, with the time in ms.
    async fn accepted(&self, story: &StoryId) -> Result<Vec<(EventId, f64)>, Error> {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.keys.seen(story))
            .arg(0)
            .arg(-1)
            .arg("WITHSCORES");
        let rows: Vec<(String, f64)> = read(self.link.query(&cmd).await?)?;
        let rows = rows
            .into_iter()
            .map(|(id, at)| Some((id.parse().ok()?, at)));
        Ok(rows.flatten().collect())
    }
}

/// The account of one story.
#[derive(Default)]
struct Account {
    read: Seq,
    /// When each id was accepted that is remembered.
    accepted: HashMap<EventId, f64>,
    /// The time of the oldest event that retention left, when it removed any.
    since: Option<f64>,
    places: HashMap<EventId, Seq>,
    actions: HashSet<EventId>,
    ends: HashMap<EventId, Vec<Outcome>>,
    /// The latest place that each agent answered or failed at.
    answered: HashMap<(String, Outcome), Seq>,
    duplicates: u64,
    out_of_order: u64,
}

impl Account {
    fn accepted(&mut self, ids: Vec<(EventId, f64)>) {
        self.accepted.extend(ids);
    }

    fn entry(&mut self, LogEntry { seq, event }: LogEntry) {
        if self.places.is_empty() && seq > Seq(1) {
            #[expect(
                clippy::cast_precision_loss,
                reason = "milliseconds of this age are exact"
            )]
            let since = event.at.as_millisecond() as f64;
            self.since = Some(since);
        }
        if self.places.contains_key(&event.id) {
            self.duplicates += 1;
            return;
        }
        if awaits_an_end(&event) {
            self.actions.insert(event.id.clone());
        }
        self.end(&event);
        self.places.insert(event.id, seq);
    }

    fn end(&mut self, event: &Event) {
        let Some((outcome, causes)) = outcome(event) else {
            return;
        };
        let redriven = causes.iter().any(|cause| self.failed(cause));
        if outcome != Outcome::Blocked && !redriven {
            let author = match event.payload() {
                Payload::Failed(failed) => failed.agent.clone(),
                payload => format!("{} {}", event.author.id, payload.kind()),
            };
            let latest = self.answered.entry((author, outcome)).or_default();
            let places = causes.iter().filter_map(|cause| self.places.get(cause));
            for place in places {
                self.out_of_order += u64::from(place < latest);
                *latest = (*latest).max(*place);
            }
        }
        for cause in causes {
            self.ends.entry(cause.clone()).or_default().push(outcome);
        }
    }

    fn failed(&self, id: &EventId) -> bool {
        self.ends
            .get(id)
            .is_some_and(|ends| ends.contains(&Outcome::Failed))
    }

    fn close<'a>(&self, steps: impl Iterator<Item = &'a Waiting>, audit: &mut Audit) {
        let waiting: HashSet<&EventId> = steps
            .flat_map(|step| step.cause.iter().chain([&step.id]))
            .collect();
        let held = self.accepted.iter().filter(|(id, at)| {
            !self.places.contains_key(id) && self.since.is_none_or(|since| **at >= since)
        });
        let events: HashSet<&EventId> = self.actions.iter().chain(held.map(|(id, _)| id)).collect();
        audit.events += count(events.len());
        audit.duplicates += self.duplicates;
        audit.out_of_order += self.out_of_order;
        for id in events {
            let ends = self.ends.get(id).map_or(&[][..], Vec::as_slice);
            match ends.last() {
                Some(Outcome::Answered) => audit.answered += 1,
                Some(Outcome::Blocked) => audit.blocked += 1,
                Some(Outcome::Failed) => audit.failed += 1,
                None if waiting.contains(id) => audit.in_flight += 1,
                None => audit.lost += 1,
            }
            let after_the_first = ends
                .iter()
                .skip_while(|end| **end == Outcome::Failed)
                .skip(1);
            audit.duplicates += count(after_the_first.count());
        }
    }
}

/// Whether it is a person's action that some agent must answer.
fn awaits_an_end(event: &Event) -> bool {
    matches!(event.payload(), Payload::Action(_)) && event.author.kind == AuthorKind::User
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
