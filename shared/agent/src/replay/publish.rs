//! What came of turns, told as a story of its own: the log up to the first of them, then each event and its answer anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::ready;

use bus::{Bus, Stage};
use futures::{Stream, TryStreamExt};
use story::{
    Agent, Decision, Event, EventId, LogEntry, Outcome, OutputPolicy, Payload, Seq, StoryId,
};

use super::report::{Verdict, Went};
use super::source::{Known, Source};
use crate::recording::{Packer, Recording};
use crate::{Emitted, exit};

/// Events written at once.
const AT_ONCE: usize = 200;

pub(crate) struct Publication {
    stage: Stage,
    /// What is known of the story that the turns are of.
    of: Known,
    /// In their order; all of them are in memory.
    told: Vec<Told>,
}

/// A turn that was answered.
struct Told {
    /// Of its answer, in the log; of its failure, where it is answered only now.
    place: Seq,
    answered: Vec<Event>,
    answers: Vec<Event>,
    /// Those that were recorded, which readers may have seen.
    recorded: Vec<EventId>,
}

/// What the whole log says of what is told.
#[derive(Default)]
struct Said {
    /// The places of what the turns answer, of what that answers, and of how it was answered.
    places: HashMap<EventId, Seq>,
    /// What the turns answer, and what that answers.
    asked: BTreeMap<Seq, Event>,
    /// What was taken back from readers, or never shown to them.
    gone: HashSet<EventId>,
}

/// The log up to a place, and the turns that are told behind it.
#[derive(Default)]
struct Base {
    ids: HashSet<EventId>,
    /// How what is in it ended so far.
    ends: HashMap<EventId, Outcome>,
}

impl Publication {
    /// # Errors
    /// When there is such a story: a replay never writes into one. When the story's answers are judged: these are not. When
    /// the agent tells readers nothing.
    pub(crate) async fn begin(
        bus: &Bus,
        id: &StoryId,
        of: Known,
        agent: Agent,
    ) -> anyhow::Result<Self> {
        let what = if agent == Agent::Moderator {
            "the moderator tells readers nothing: --publish-to is for the others".to_owned()
        } else if of.story.policies.output != OutputPolicy::Off {
            format!(
                "the answers of {} are judged before or after readers see them, and those of a replay are not: they are not told",
                of.story.id
            )
        } else {
            bus.check(bus::Role::Operator).await?;
            return Ok(Self {
                stage: bus.stage(id).await?,
                of,
                told: Vec::new(),
            });
        };
        Err(exit::configuration(anyhow::anyhow!(what)))
    }

    /// A turn without an answer is left out: nobody is to answer it now.
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        let Ok(Went {
            again,
            answers: recorded,
            ..
        }) = &verdict.went
        else {
            return;
        };
        let Some(effects) = &again.effects else {
            return;
        };
        let answers = effects.emit.iter().map(|emitted| match emitted {
            Emitted::New(event) | Emitted::Passed(event) => event.clone(),
        });
        self.told.push(Told {
            place: verdict.place,
            answered: answered(again).collect(),
            answers: answers.collect(),
            recorded: recorded.clone(),
        });
    }

    /// Makes the story, unless there is nothing to tell; gives how many events it has.
    pub(crate) async fn end(self, source: &Source) -> anyhow::Result<u64> {
        let Self {
            stage,
            of,
            mut told,
        } = self;
        let mut said = said(source, &told).await?;
        told.retain(|turn| said.shows(turn));
        last_answers(&mut told);
        let Some(first) = told.iter().map(|turn| turn.place).min() else {
            return Ok(0);
        };
        let mut base = base(source, first).await?;
        told.retain(|turn| base.takes(turn, &of));
        if told.is_empty() {
            return Ok(0);
        }
        let needed: HashSet<EventId> = told.iter().flat_map(Told::asks).cloned().collect();
        said.asked.retain(|_, event| needed.contains(&event.id));
        stage
            .through(async |stage| {
                let mut writer = Writer::new(stage);
                copy(source, first, &base, &mut writer).await?;
                tell(told, said, &mut writer).await?;
                let events = writer.end().await?;
                let keep = Packer::default().keep;
                stage.adopt(&of.story, &of.redriven, keep).await?;
                Ok(events)
            })
            .await
    }
}

impl Told {
    fn events(&self) -> impl Iterator<Item = &Event> {
        self.answered.iter().chain(&self.answers)
    }

    /// What it answers, and what that answers.
    fn asks(&self) -> impl Iterator<Item = &EventId> {
        let answered = self.answered.iter().map(|event| &event.id);
        answered.chain(self.events().flat_map(|event| &event.cause))
    }
}

impl Said {
    /// Whether readers were told of the turn: the log has what it answers and how it was answered, if it was.
    fn shows(&self, turn: &Told) -> bool {
        let mut answered = turn.answered.iter().map(|event| &event.id);
        let is_logged = |id: &EventId| self.places.contains_key(id) && !self.gone.contains(id);
        answered.all(is_logged) && turn.recorded.iter().all(is_logged)
    }
}

/// Of the turns of an event that failed and was sent again, the last is told: one with the same answer, or one whose beat the
/// event joined.
fn last_answers(told: &mut Vec<Told>) {
    // Answers, and the actions that they are to.
    let mut known: HashSet<EventId> = HashSet::new();
    told.reverse();
    told.retain(|turn| {
        let actions = || turn.answered.iter().filter(|event| event.awaits_an_end());
        // What joined it may have a turn of its own.
        let own = turn
            .answered
            .iter()
            .take(1)
            .filter(|event| event.awaits_an_end());
        let mut all = turn.answers.iter().chain(own);
        let is_last = all.all(|event| !known.contains(&event.id));
        if is_last {
            let all = turn.answers.iter().chain(actions());
            known.extend(all.map(|event| event.id.clone()));
        }
        is_last
    });
    told.reverse();
}

impl Base {
    /// Whether the turn can be told behind it; adds it then. Not one that ends an action again, unless that failed and was
    /// sent again.
    fn takes(&mut self, turn: &Told, of: &Known) -> bool {
        let is_action = |event: &&Event| event.awaits_an_end();
        let actions = turn.answered.iter().filter(is_action);
        let actions: HashSet<_> = actions.map(|event| &event.id).collect();
        let new = || turn.events().filter(|event| !self.ids.contains(&event.id));
        let ends: Vec<_> = new().flat_map(ends).collect();
        let mut of_actions = ends.iter().filter(|(id, _)| actions.contains(id));
        let again = of_actions.any(|(id, _)| match self.ends.get(id) {
            None => false,
            Some(Outcome::Failed) => !of.redriven.contains_key(id),
            Some(_) => true,
        });
        if !again {
            let ids: Vec<_> = new().map(|event| event.id.clone()).collect();
            self.ids.extend(ids);
            self.ends.extend(ends);
        }
        !again
    }
}

/// Puts events one behind the other, each once.
struct Writer<'a> {
    stage: &'a mut Stage,
    ids: HashSet<EventId>,
    last: u64,
    page: Vec<LogEntry>,
}

impl<'a> Writer<'a> {
    fn new(stage: &'a mut Stage) -> Self {
        Self {
            stage,
            ids: HashSet::new(),
            last: 0,
            page: Vec::new(),
        }
    }

    async fn put(&mut self, event: Event) -> anyhow::Result<()> {
        if self.ids.insert(event.id.clone()) {
            self.last += 1;
            let seq = Seq(self.last);
            self.page.push(LogEntry { seq, event });
        }
        if self.page.len() == AT_ONCE {
            self.stage.log(std::mem::take(&mut self.page)).await?;
        }
        Ok(())
    }

    /// Gives how many there are.
    async fn end(self) -> anyhow::Result<u64> {
        self.stage.log(self.page).await?;
        Ok(u64::try_from(self.ids.len())?)
    }
}

async fn said(source: &Source, told: &[Told]) -> anyhow::Result<Said> {
    let asked: HashSet<&EventId> = told.iter().flat_map(Told::asks).collect();
    let recorded: HashSet<&EventId> = told.iter().flat_map(|turn| &turn.recorded).collect();
    let (mut said, mut log) = (Said::default(), source.log());
    while let Some(LogEntry { seq, event }) = log.try_next().await? {
        match event.payload() {
            Payload::Retracted(taken) => said.gone.insert(taken.target.clone()),
            Payload::Verdict(verdict) if verdict.decision == Decision::Block => {
                said.gone.insert(verdict.target.clone())
            }
            _ => false,
        };
        if asked.contains(&event.id) || recorded.contains(&event.id) {
            said.places.insert(event.id.clone(), seq);
        }
        if asked.contains(&event.id) {
            said.asked.insert(seq, event);
        }
    }
    Ok(said)
}

/// The log before a place.
fn before(
    source: &Source,
    place: Seq,
) -> impl Stream<Item = anyhow::Result<LogEntry>> + Unpin + use<> {
    let log = source.log();
    log.try_take_while(move |entry| ready(Ok(entry.seq < place)))
}

async fn base(source: &Source, place: Seq) -> anyhow::Result<Base> {
    let (mut base, mut log) = (Base::default(), before(source, place));
    while let Some(entry) = log.try_next().await? {
        base.ends.extend(ends(&entry.event));
        base.ids.insert(entry.event.id);
    }
    Ok(base)
}

/// The log before a place, but for what is answered only later, or never: somebody would take it for lost.
async fn copy(
    source: &Source,
    place: Seq,
    base: &Base,
    writer: &mut Writer<'_>,
) -> anyhow::Result<()> {
    let (mut log, mut left_out) = (before(source, place), HashSet::new());
    while let Some(LogEntry { event, .. }) = log.try_next().await? {
        let waits = event.awaits_an_end() && !base.ends.contains_key(&event.id);
        let orphaned = event.cause.iter().any(|cause| left_out.contains(cause));
        if waits || orphaned {
            left_out.insert(event.id);
        } else {
            writer.put(event).await?;
        }
    }
    Ok(())
}

/// Each turn, and before it what it answers, with all that the log has before that and a later turn answers.
async fn tell(told: Vec<Told>, mut said: Said, writer: &mut Writer<'_>) -> anyhow::Result<()> {
    for turn in told {
        let upto = turn.asks().filter_map(|id| said.places.get(id)).max();
        while let Some(first) = said.asked.first_entry()
            && upto.is_some_and(|upto| first.key() <= upto)
        {
            writer.put(first.remove()).await?;
        }
        for answer in turn.answers {
            writer.put(answer).await?;
        }
    }
    Ok(())
}

/// What `event` ends, and how.
fn ends(event: &Event) -> impl Iterator<Item = (EventId, Outcome)> {
    let ended = story::outcome(event).into_iter();
    ended.flat_map(|(outcome, causes)| causes.iter().map(move |id| (id.clone(), outcome)))
}

/// The event of a turn, and what joined it.
fn answered<'a>(turn: &'a Recording<'_>) -> impl Iterator<Item = Event> + 'a {
    let merged = turn.effects.as_ref().map_or(0, |effects| effects.merged);
    let joined = turn.waiting.iter().take(merged);
    std::iter::once(&*turn.event).chain(joined).cloned()
}
