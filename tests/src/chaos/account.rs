//! The driver's own account of one story: what it published against what the log has. Plain code that shares nothing
//! with `bus::audit` but `story::outcome`, the definition of an end.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use story::{
    Action, AuthorKind, Event, EventId, InputPolicy, LogEntry, Mode, Outcome, OutputPolicy,
    Payload, Policies, Seq, outcome,
};

use crate::chaos::secret;

const MODERATOR: &str = "moderator";

/// What one story promised and gave.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Account {
    pub actions: u64,
    pub answered: u64,
    pub blocked: u64,
    /// By class.
    pub failed: BTreeMap<String, u64>,
    /// Of whatever event: each has its dead letter.
    pub failures: u64,
    pub lost: u64,
    pub twice: u64,
    pub out_of_order: u64,
    /// Events that nobody was to see.
    pub leaked: u64,
    /// Each thing that is wrong, with the events that show it.
    #[serde(skip)]
    pub(crate) wrong: Vec<String>,
}

/// Who answers an action or a beat. One lane is answered in the order of its causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Narrator,
    Dialogue,
}

/// How an end came into the log: what waits for a verdict may be passed by what does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    Straight,
    Moderated,
}

/// A log by its events.
struct Log<'a> {
    entries: &'a [LogEntry],
    places: HashMap<&'a EventId, u64>,
    /// The ends of each event, with their places.
    ends: HashMap<&'a EventId, Vec<(u64, Outcome)>>,
}

/// Accounts for a story. `published` has the actions of each publisher, in its order; `seq` is the story's own count of the
/// events in its log.
pub(crate) fn account(
    published: &[Vec<EventId>],
    policies: Policies,
    (entries, seq): (&[LogEntry], Seq),
) -> Account {
    let mut account = Account::default();
    account.is_whole(entries.len(), seq);
    let log = Log::new(entries, &mut account);
    for id in published.iter().flatten() {
        account.action(&log, id);
        if policies.input == InputPolicy::Hold {
            account.unseen(&log, id);
        }
    }
    account.secrets(&log, policies);
    account.strangers(&log, published);
    account.speakers(&log);
    account.answers_in_order(&log, policies);
    for ids in published {
        account.actions_in_order(&log, ids);
    }
    account
}

impl<'a> Log<'a> {
    fn new(entries: &'a [LogEntry], account: &mut Account) -> Self {
        let mut log = Self {
            entries,
            places: HashMap::new(),
            ends: HashMap::new(),
        };
        for (place, LogEntry { seq, event }) in (1..).zip(entries) {
            if seq.0 != place {
                account.lost += 1;
                account
                    .wrong
                    .push(format!("place {place} of the log has {seq}"));
            }
            if log.places.insert(&event.id, place).is_some() {
                account.twice += 1;
                account
                    .wrong
                    .push(format!("{} is twice in the log", event.id));
            }
            account.failures += u64::from(matches!(event.payload(), Payload::Failed(_)));
            if let Some((outcome, causes)) = log.end(event) {
                for cause in causes {
                    log.ends.entry(cause).or_default().push((place, outcome));
                }
            }
        }
        log
    }

    /// What `event` ends. A moderator that fails to judge what readers have seen already ends nothing.
    fn end(&self, event: &'a Event) -> Option<(Outcome, &'a [EventId])> {
        let (outcome, causes) = outcome(event)?;
        let judged = causes
            .first()
            .and_then(|id| self.event(*self.places.get(id)?));
        let afterwards = outcome == Outcome::Failed
            && event.author.id == MODERATOR
            && judged.is_some_and(|event| event.author.kind == AuthorKind::Agent);
        (!afterwards).then_some((outcome, causes))
    }

    fn ends(&self, id: &EventId) -> &[(u64, Outcome)] {
        self.ends.get(id).map_or(&[], Vec::as_slice)
    }

    fn event(&self, place: u64) -> Option<&'a Event> {
        let at = usize::try_from(place).ok()?.checked_sub(1)?;
        Some(&self.entries.get(at)?.event)
    }

    /// All that the log says of an event.
    fn story_of(&self, id: &EventId) -> String {
        let of = |entry: &&LogEntry| entry.event.id == *id || entry.event.cause.contains(id);
        let lines = self.entries.iter().filter(of);
        let lines = lines.map(|entry| format!("\n    {} {}", entry.seq, entry.event.encode()));
        lines.collect()
    }
}

impl Account {
    fn is_whole(&mut self, found: usize, seq: Seq) {
        if u64::try_from(found) != Ok(seq.0) {
            self.lost += 1;
            self.wrong
                .push(format!("the log has {found} events of {seq}"));
        }
    }

    /// An action ends once. Before its end it is in the log, unless its end is the moderator's.
    fn action(&mut self, log: &Log<'_>, id: &EventId) {
        self.actions += 1;
        let ends = log.ends(id);
        let Some((end, outcome)) = ends.first().copied() else {
            return self.lost(log, id, "has no end");
        };
        match outcome {
            Outcome::Answered => self.answered += 1,
            Outcome::Blocked => self.blocked += 1,
            Outcome::Failed => *self.failed.entry(class(log, end)).or_default() += 1,
        }
        if ends.len() > 1 {
            self.twice(log, id, &format!("has {} ends", ends.len()));
        }
        let moderator = log
            .event(end)
            .is_some_and(|event| event.author.id == MODERATOR);
        match log.places.get(id) {
            None if !moderator => self.lost(log, id, "is not in the log"),
            Some(place) if *place > end => self.out_of_order(log, id, "comes after its end"),
            _ => {}
        }
    }

    /// What was blocked before anyone saw it never gets a place.
    fn unseen(&mut self, log: &Log<'_>, id: &EventId) {
        let blocked = log.ends(id).iter().any(|(end, outcome)| {
            let verdict = log.event(*end).map(Event::payload);
            *outcome == Outcome::Blocked
                && matches!(verdict, Some(Payload::Verdict(verdict)) if verdict.target == *id)
        });
        if blocked && log.places.contains_key(id) {
            self.leaked(log, id, "was blocked and is in the log");
        }
    }

    fn secrets(&mut self, log: &Log<'_>, policies: Policies) {
        for LogEntry { event, .. } in log.entries {
            if let Some(words) = secret::leaked(policies, &event.encode()) {
                self.leaked(log, &event.id, &format!("has {words:?}"));
            }
        }
    }

    /// What people did in the log is what was published.
    fn strangers(&mut self, log: &Log<'_>, published: &[Vec<EventId>]) {
        let people = log
            .entries
            .iter()
            .filter(|entry| entry.event.author.kind == AuthorKind::User);
        for entry in people {
            if !published.iter().flatten().any(|id| *id == entry.event.id) {
                self.twice += 1;
                self.wrong
                    .push(format!("nobody published {}", entry.event.id));
            }
        }
    }

    /// Each character that a beat calls on speaks once, or fails to. A beat that was taken back has forgotten whom.
    fn speakers(&mut self, log: &Log<'_>) {
        for LogEntry { event, .. } in log.entries {
            let Payload::Narration(narration) = event.payload() else {
                continue;
            };
            let ends = log.ends(&event.id).len();
            if event.extra.contains_key("retracted") || ends == narration.speak.len() {
                continue;
            }
            let what = format!("calls {}, of whom {ends} speak", narration.speak.len());
            if ends < narration.speak.len() {
                self.lost(log, &event.id, &what);
            } else {
                self.twice(log, &event.id, &what);
            }
        }
    }

    /// The ends of a lane follow the places of their causes.
    fn answers_in_order(&mut self, log: &Log<'_>, policies: Policies) {
        let mut latest: HashMap<(Lane, Way), u64> = HashMap::new();
        for LogEntry { event, .. } in log.entries {
            let Some((outcome, causes)) = log.end(event) else {
                continue;
            };
            let straight = policies.output != OutputPolicy::Hold
                || outcome == Outcome::Failed && event.author.id != MODERATOR;
            let way = if straight {
                Way::Straight
            } else {
                Way::Moderated
            };
            for cause in causes {
                // What was blocked before anyone saw it has no place.
                let Some(place) = log.places.get(cause) else {
                    continue;
                };
                let Some(lane) = log.event(*place).and_then(lane) else {
                    continue;
                };
                let latest = latest.entry((lane, way)).or_default();
                if place < latest {
                    self.out_of_order(log, cause, &format!("is answered after {latest}"));
                }
                *latest = (*latest).max(*place);
            }
        }
    }

    /// What one publisher did comes in the order in which it was published; what the moderator kept back has the place
    /// of its end.
    fn actions_in_order(&mut self, log: &Log<'_>, ids: &[EventId]) {
        let mut latest = 0;
        for id in ids {
            let end = || log.ends(id).first().map(|(place, _)| *place);
            let Some(place) = log.places.get(id).copied().or_else(end) else {
                continue;
            };
            if place < latest {
                self.out_of_order(log, id, &format!("comes after {latest}"));
            }
            latest = latest.max(place);
        }
    }

    fn lost(&mut self, log: &Log<'_>, id: &EventId, what: &str) {
        self.lost += 1;
        self.wrong.push(format!("{id} {what}:{}", log.story_of(id)));
    }

    fn twice(&mut self, log: &Log<'_>, id: &EventId, what: &str) {
        self.twice += 1;
        self.wrong.push(format!("{id} {what}:{}", log.story_of(id)));
    }

    fn out_of_order(&mut self, log: &Log<'_>, id: &EventId, what: &str) {
        self.out_of_order += 1;
        self.wrong.push(format!("{id} {what}:{}", log.story_of(id)));
    }

    fn leaked(&mut self, log: &Log<'_>, id: &EventId, what: &str) {
        self.leaked += 1;
        self.wrong.push(format!("{id} {what}:{}", log.story_of(id)));
    }

    /// Adds the account of another story.
    pub(crate) fn add(&mut self, other: Self) {
        self.actions += other.actions;
        self.answered += other.answered;
        self.blocked += other.blocked;
        for (class, count) in other.failed {
            *self.failed.entry(class).or_default() += count;
        }
        self.failures += other.failures;
        self.lost += other.lost;
        self.twice += other.twice;
        self.out_of_order += other.out_of_order;
        self.leaked += other.leaked;
        self.wrong.extend(other.wrong);
    }
}

fn class(log: &Log<'_>, place: u64) -> String {
    match log.event(place).map(Event::payload) {
        Some(Payload::Failed(failed)) => failed.class.clone(),
        _ => String::new(),
    }
}

fn lane(cause: &Event) -> Option<Lane> {
    match cause.payload() {
        Payload::Action(Action {
            mode: Mode::Say,
            to: Some(_),
            ..
        })
        | Payload::Narration(_) => Some(Lane::Dialogue),
        Payload::Action(_) => Some(Lane::Narrator),
        _ => None,
    }
}
