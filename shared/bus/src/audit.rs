//! The account of all stories: every action ended once, in order, or is on its way.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use story::{
    Agent, Event, EventId, LogEntry, Outcome, OutputPolicy, Payload, Seq, StoryId, outcome,
    responses,
};

use crate::cut::{Cut, Hole};
use crate::lanes::{Lanes, Orphan};
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
    /// Actions whose end went with a log that was destroyed, if they had one.
    pub unknown: u64,
    /// Ends after the first, except one more for each time that what had failed was redriven.
    pub duplicates: u64,
    /// Responses and failures of an agent for something earlier than what it ended before. Where responses are held a
    /// failure may overtake one, and the two are looked at each by itself.
    pub out_of_order: u64,
    /// Turns, waiting events and drafts that nobody will go on with.
    pub orphans: u64,
    /// The stories that what is lost, told twice, out of order or orphaned is of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<StoryId>,
    /// The stories whose log was destroyed from its beginning on, though retention let nothing of it go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<Cut>,
    /// Events that were destroyed between others, whatever they were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<Hole>,
    /// Stories that are not in the account, since what is stored of them is not what this version writes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
}

/// A story that cannot be accounted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    pub story: StoryId,
    pub why: String,
}

/// What is wrong with one story.
pub(crate) struct Inspected {
    pub(crate) orphans: Vec<Orphan>,
    /// The actions that are nowhere, each with its event if the log has it.
    pub(crate) lost: Vec<(EventId, Option<Event>)>,
    /// Where the log ended then.
    pub(crate) end: Seq,
    pub(crate) holes: Vec<Hole>,
    /// How many events the story counts, when its log ends before.
    pub(crate) ahead: Option<Seq>,
    pub(crate) cut: Option<Cut>,
}

impl Audit {
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let destroyed = !(self.cut.is_empty() && self.holes.is_empty());
        self.faults() == 0 && !destroyed && self.unreadable.is_empty()
    }

    fn faults(&self) -> u64 {
        self.lost + self.duplicates + self.out_of_order + self.orphans
    }
}

impl Bus {
    /// Reads all there is. The fleet may run meanwhile.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn audit(&self) -> Result<Audit, Error> {
        let mut audit = Audit::default();
        for story in self.stories().await? {
            let before = audit.faults();
            match self.audit_story(&story, &mut audit).await {
                Err(error) if error.is_of_the_data() => audit.unreadable.push(Unreadable {
                    why: error.to_string(),
                    story: story.clone(),
                }),
                audited => _ = audited?,
            }
            if audit.faults() > before {
                audit.wrong.push(story);
            }
        }
        for agent in Agent::ALL {
            audit.dead += self.dead_count(agent).await?;
        }
        Ok(audit)
    }

    /// What the doctor can do something about.
    pub(crate) async fn inspect(&self, story: &StoryId) -> Result<Inspected, Error> {
        self.audit_story(story, &mut Audit::default()).await
    }

    async fn audit_story(&self, story: &StoryId, audit: &mut Audit) -> Result<Inspected, Error> {
        let accepted = self.accepted(story).await?;
        let mut account = Account::default();
        self.read_log(story, &mut account).await?;
        let (held, since) = self.settled(story).await?;
        account.expect(story, &accepted, since);
        let mut lanes = self.lanes(story).await?;
        // What left its lane since then has its end in the log by now; what was accepted since then is left out.
        self.read_log(story, &mut account).await?;
        account.redriven = self.redriven(story).await?;
        account.held = held;
        let (end, counted) = (account.read, account.counted);
        let ahead = Some(counted).filter(|counted| end > Seq(0) && *counted > end);
        let holes = self.holes(story, &mut account).await?;
        audit.holes.extend(holes.iter().cloned());
        let mut missing = account.close(&lanes.waiting, audit);
        self.strays(story, &mut missing, &mut lanes, audit).await?;
        let cut = self
            .cut(story, (end, counted), &accepted, &mut missing)
            .await?;
        audit.unknown += cut.as_ref().map_or(0, |cut| cut.actions);
        audit.cut.extend(cut.clone());
        audit.lost += count(missing.len());
        let mut lost = Vec::new();
        for (id, place) in missing {
            let event = match place {
                Some(Seq(place)) => self.log(story, Seq(place - 1), 1).await?.pop(),
                None => None,
            };
            lost.push((id, event.map(|entry| entry.event)));
        }
        audit.orphans += count(lanes.orphans.len());
        Ok(Inspected {
            orphans: lanes.orphans,
            lost,
            end,
            holes,
            ahead,
            cut,
        })
    }

    async fn holes(&self, story: &StoryId, account: &mut Account) -> Result<Vec<Hole>, Error> {
        let mut holes = std::mem::take(&mut account.holes);
        if !holes.is_empty() {
            // Retention may have run meanwhile: what is missing before the first event is its work.
            let first = self.log(story, Seq(0), 1).await?.pop();
            holes.retain(|(from, _)| first.as_ref().is_some_and(|first| first.seq < *from));
        }
        let holes = holes.into_iter().map(|(from, upto)| Hole {
            story: story.clone(),
            from,
            upto,
        });
        Ok(holes.collect())
    }

    /// Takes out of `missing` what a work stream has though no lane says so.
    async fn strays(
        &self,
        story: &StoryId,
        missing: &mut Vec<(EventId, Option<Seq>)>,
        lanes: &mut Lanes,
        audit: &mut Audit,
    ) -> Result<(), Error> {
        if missing.is_empty() {
            return Ok(());
        }
        let ids = missing.iter().map(|(id, _)| id.clone()).collect();
        let strays = self.in_work(story, &ids).await?;
        missing.retain(|(id, _)| !strays.contains_key(id));
        audit.in_flight += count(strays.len());
        let agents: HashSet<Agent> = strays.into_values().collect();
        let known = |agent: &Agent| lanes.orphans.iter().any(|orphan| orphan.agent == *agent);
        let unknown: Vec<Agent> = agents.into_iter().filter(|agent| !known(agent)).collect();
        lanes.orphans.extend(unknown.into_iter().map(|agent| {
            let what = "an entry is there without its turn";
            Orphan { agent, what }
        }));
        Ok(())
    }

    async fn read_log(&self, story: &StoryId, account: &mut Account) -> Result<(), Error> {
        loop {
            let page = self.page(story, account.read, PAGE).await?;
            account.counted = page.end;
            if page.entries.is_empty() {
                return Ok(());
            }
            for entry in page.entries {
                let (from, upto) = (Seq(account.read.0 + 1), Seq(entry.seq.0 - 1));
                if account.read > Seq(0) && from <= upto {
                    account.holes.push((from, upto));
                }
                if account.read == Seq(0) {
                    account.begins = entry.seq;
                }
                account.read = entry.seq;
                account.entry(entry);
            }
        }
    }

    /// How often each event of a story was sent again after its failure.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn redriven(&self, story: &StoryId) -> Result<BTreeMap<EventId, u64>, Error> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.keys.redriven(story));
        let rows: Vec<(String, u64)> = read(self.link.query(&cmd).await?)?;
        let rows = rows
            .into_iter()
            .map(|(id, times)| Some((id.parse().ok()?, times)));
        Ok(rows.flatten().collect())
    }

    /// Whether responses wait for the moderator, and the time in ms of the newest event that retention removed.
    async fn settled(&self, story: &StoryId) -> Result<(bool, f64), Error> {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.ctx(story)).arg("output").arg("since");
        let (output, since): (Option<String>, Option<f64>) = read(self.link.query(&cmd).await?)?;
        let output = output.and_then(|policy| policy.parse().ok());
        Ok((output == Some(OutputPolicy::Hold), since.unwrap_or(0.0)))
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
    /// The first place that was read; 0 = none.
    begins: Seq,
    /// The log's end by its own count.
    counted: Seq,
    /// The first and the last place of every hole between two events of the log.
    holes: Vec<(Seq, Seq)>,
    places: HashMap<EventId, Seq>,
    actions: HashSet<EventId>,
    /// The actions that must have an end, or be on their way to it.
    expected: HashSet<EventId>,
    /// Events that end something, in the log's order.
    ends: Vec<Event>,
    redriven: BTreeMap<EventId, u64>,
    /// Whether responses wait for the moderator.
    held: bool,
    duplicates: u64,
    out_of_order: u64,
}

impl Account {
    fn entry(&mut self, LogEntry { seq, event }: LogEntry) {
        if self.places.contains_key(&event.id) {
            self.duplicates += 1;
            return;
        }
        if event.awaits_an_end() {
            self.actions.insert(event.id.clone());
        }
        self.places.insert(event.id.clone(), seq);
        if outcome(&event).is_some() {
            self.ends.push(event);
        }
    }

    /// Expects an end of every action read so far, and of what was accepted and is not in the log: the moderator has it.
    /// Retention may have removed what was accepted up to `since`, and something else even more: answers among it, too.
    fn expect(&mut self, story: &StoryId, accepted: &[(EventId, f64)], since: f64) {
        self.expected = std::mem::take(&mut self.actions);
        let unplaced = accepted
            .iter()
            .filter(|(id, at)| !self.places.contains_key(id) && *at > since);
        let unplaced: Vec<&EventId> = unplaced.map(|(id, _)| id).collect();
        let is_whole = self.counted == Seq(0) || (self.begins == Seq(1) && self.holes.is_empty());
        let answers = match is_whole || unplaced.is_empty() {
            true => HashSet::new(),
            false => responses(story, accepted.iter().map(|(id, _)| id)),
        };
        let actions = unplaced.into_iter().filter(|id| !answers.contains(id));
        self.expected.extend(actions.cloned());
    }

    /// Gives the actions that are nowhere, each with its place in the log, in the log's order.
    fn close(
        mut self,
        waiting: &HashSet<EventId>,
        audit: &mut Audit,
    ) -> Vec<(EventId, Option<Seq>)> {
        let ended = self.ended();
        audit.events += count(self.expected.len());
        audit.duplicates += self.duplicates;
        audit.out_of_order += self.out_of_order;
        let mut lost = Vec::new();
        for id in self.expected {
            match ended.get(&id) {
                Some(Outcome::Answered) => audit.answered += 1,
                Some(Outcome::Blocked) => audit.blocked += 1,
                Some(Outcome::Failed) => audit.failed += 1,
                None if waiting.contains(&id) => audit.in_flight += 1,
                None => lost.push((self.places.get(&id).copied(), id)),
            }
        }
        lost.sort();
        lost.into_iter().map(|(place, id)| (id, place)).collect()
    }

    /// The end of each event, counting what there is too much of and what came too early.
    fn ended(&mut self) -> HashMap<EventId, Outcome> {
        let mut ended: HashMap<EventId, Outcome> = HashMap::new();
        let mut latest: HashMap<(String, bool), Seq> = HashMap::new();
        for event in std::mem::take(&mut self.ends) {
            let Some((outcome, causes)) = outcome(&event) else {
                continue;
            };
            for cause in causes {
                let before = ended.insert(cause.clone(), outcome);
                let allowed =
                    before.is_none_or(|end| end == Outcome::Failed && self.sent_again(cause));
                self.duplicates += u64::from(!allowed && self.expected.contains(cause));
            }
            // What was sent again stands behind what came after it.
            let again = causes.iter().any(|cause| self.redriven.contains_key(cause));
            if let (Some(agent), false) = (agent(&event), again) {
                let apart = self.held && outcome == Outcome::Failed;
                let latest = latest.entry((agent, apart)).or_default();
                for place in causes.iter().filter_map(|cause| self.places.get(cause)) {
                    self.out_of_order += u64::from(place < latest);
                    *latest = (*latest).max(*place);
                }
            }
        }
        ended
    }

    /// Takes one of the times that the event was redriven, if any is left.
    fn sent_again(&mut self, id: &EventId) -> bool {
        match self.redriven.get_mut(id) {
            Some(times @ 1..) => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }
}

/// The agent whose lane an end comes from. Verdicts come in the moderator's order, which is the log's.
fn agent(end: &Event) -> Option<String> {
    match end.payload() {
        Payload::Narration(_) => Some(Agent::Narrator.to_string()),
        Payload::Dialogue(_) => Some(Agent::Dialogue.to_string()),
        Payload::Failed(failed) => Some(failed.agent.clone()),
        _ => None,
    }
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
