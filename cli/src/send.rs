//! `storyfleet send`: one action, and with `--wait` how it ended.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use agent::exit;
use anyhow::{Context, anyhow};
use bus::{Bus, Error, Published, Replicated, Role, Seen};
use serde_json::json;
use story::{
    Action, Agent, Author, AuthorKind, Cursor, Event, EventId, InputPolicy, Mode, Outcome,
    OutputPolicy, Payload, StoryId, Tag, outcome, passed,
};
use tokio::time::{sleep, timeout};

use crate::args::{SendArgs, SendMode};
use crate::output::{Output, note, one_line};
use crate::render;
use crate::replicas::{add_replicated, note_doubt_and};
use crate::target::Target;
use crate::watch::Reading;

/// How long an answer may be on its way before it is asked whether anybody makes one: one that was made before is there sooner.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);
/// How long until it is asked again: who has just ended is known to be gone after a while.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: SendArgs, target: &Target, out: Output) -> anyhow::Result<ExitCode> {
    let (mode, wait) = (mode(&args)?, args.wait);
    let bus = &target.bus().await.context("nothing was sent")?;
    if let Some(name) = &args.to {
        is_there(name, &args.story, bus).await?;
    }
    bus.check_rights(Role::Producer).await?;
    let event = action(args, mode);
    let published = bus.publish_replicated(&event).await;
    let (published, replicated) = published.map_err(|error| refused(error, &event.id))?;
    let again = format!(
        "; sent again with --id {}, it counts once and is told anew",
        event.id
    );
    note_doubt_and(replicated, &again);
    if !wait || !out.json {
        tell(&event, (published, replicated), out).with_context(|| sent(&event.id))?;
    }
    if !wait {
        if published != Published::Duplicate {
            ask_who_is_there(&event, (bus, target), "").await;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (end, ended) = {
        let ending = pin!(terminal(&event, published, (bus, target)));
        let ended = waited_for(ending, &event, (bus, target)).await;
        ended.with_context(|| sent(&event.id))?
    };
    let told = if out.json {
        out.value(&ended)
    } else {
        out.text(&render::event(&ended, out))
    };
    told.with_context(|| sent(&event.id))?;
    Ok(match end {
        Outcome::Answered => ExitCode::SUCCESS,
        Outcome::Blocked | Outcome::Failed => ExitCode::FAILURE,
    })
}

/// The end, and until then once that nobody makes one.
async fn waited_for<T>(
    mut ending: impl Future<Output = T> + Unpin,
    event: &Event,
    way: (&Bus, &Target),
) -> T {
    let mut pause = PATIENCE;
    loop {
        if let Ok(ended) = timeout(pause, &mut ending).await {
            return ended;
        }
        if ask_who_is_there(event, way, "; waiting").await {
            return ending.await;
        }
        pause = AGAIN;
    }
}

/// Says so, and gives true, when one who would act on the event does not run. What was sent is sent: that it could not be
/// asked is no failure, and a producer needs no permission for it.
async fn ask_who_is_there(event: &Event, (bus, target): (&Bus, &Target), and: &str) -> bool {
    // Its agents were heard of a moment ago.
    if target.is_left_behind().unwrap_or_default() {
        note(&format!(
            "`storyfleet up` was killed, so nobody seems to run: start it again{and}"
        ));
        return true;
    }
    let mut missing = who_is_missing(event, bus).await.unwrap_or_default();
    if !missing.is_empty() {
        // Who was idle is not heard of, on a Redis before 7.2, until it has read what was sent.
        sleep(PATIENCE).await;
        missing = who_is_missing(event, bus).await.unwrap_or_default();
    }
    for agent in &missing {
        note(&format!(
            "no {agent} runs at the moment, so nobody answers: start one, or `storyfleet up`{and}"
        ));
    }
    !missing.is_empty()
}

/// Of those on the event's way to its end, the ones who have work to do and do not run.
async fn who_is_missing(event: &Event, bus: &Bus) -> Result<Vec<Agent>, Error> {
    let policies = bus.story(&event.story).await?.policies;
    let is_judged = policies.input == InputPolicy::Hold || policies.output == OutputPolicy::Hold;
    let moderator = is_judged.then_some(Agent::Moderator);
    let answers = passed(event).into_iter().map(|step| step.agent);
    let mut missing = Vec::new();
    for agent in moderator.into_iter().chain(answers) {
        if bus.is_unattended(agent, &event.story).await? {
            missing.push(agent);
        }
    }
    Ok(missing)
}

/// Whoever sends it again under another id may say it twice.
fn refused(error: Error, id: &EventId) -> anyhow::Error {
    match error {
        Error::Unheard(error) => anyhow::Error::from(*error).context(format!(
            "it may have been accepted: send it again with --id {id}"
        )),
        error => error.into(),
    }
}

/// What is true although it could not be written.
fn sent(id: &EventId) -> String {
    format!("{id} was sent all the same")
}

/// Nobody answers for a name that the story does not have.
async fn is_there(name: &str, id: &StoryId, bus: &Bus) -> anyhow::Result<()> {
    let story = bus.story(id).await?;
    if story.characters.contains_key(name) {
        return Ok(());
    }
    let names: Vec<_> = story.characters.keys().map(|name| one_line(name)).collect();
    let has = if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    };
    Err(exit::configuration(anyhow!(
        "{id} has no character {}: it has {has}",
        one_line(name)
    )))
}

/// Only words that are said are said to somebody: a character hears nothing else, and the narrator would answer.
fn mode(args: &SendArgs) -> anyhow::Result<SendMode> {
    match (args.mode, &args.to) {
        (None, None) => Ok(SendMode::Do),
        (None | Some(SendMode::Say), Some(_)) => Ok(SendMode::Say),
        (Some(mode), None) => Ok(mode),
        (Some(SendMode::Do | SendMode::Story), Some(_)) => Err(exit::configuration(anyhow!(
            "--to is for words that are said: leave --mode out, or write --mode say"
        ))),
    }
}

fn action(args: SendArgs, mode: SendMode) -> Event {
    let now = jiff::Timestamp::now();
    let new_id = || EventId::new(now.as_millisecond().max(0).cast_unsigned(), rand::random());
    let author = Author {
        kind: AuthorKind::User,
        id: args.name.clone(),
        name: args.name,
    };
    let action = Action {
        mode: mode.into(),
        text: args.text,
        to: args.to,
        choice: None,
        target: None,
    };
    let id = args.id.unwrap_or_else(new_id);
    let mut event = Event::new(id, args.story, author, Payload::Action(action), now);
    event.trace = Some(story::Traceparent::new(rand::random(), rand::random()));
    event
}

fn tell(
    Event { story, id, .. }: &Event,
    (published, replicated): (Published, Replicated),
    out: Output,
) -> anyhow::Result<()> {
    let (status, seq) = match published {
        Published::Logged(seq) => ("sent", Some(seq)),
        Published::Held => ("held", None),
        Published::Duplicate => ("duplicate", None),
    };
    if out.json {
        let mut told = json!({"story": story, "id": id, "status": status, "seq": seq});
        add_replicated(&mut told, replicated);
        out.value(&told)?;
        return Ok(());
    }
    out.line(&match published {
        Published::Logged(_) => format!("sent {id}"),
        Published::Held => format!("sent {id}: readers see it once the moderator lets it pass"),
        Published::Duplicate => format!("{id} was sent before: it counts once"),
    })?;
    Ok(())
}

/// The event that ends the action. What was sent before may have ended more than once, when it failed and was sent
/// again: of the ends that are there the last one counts, else the first one to come.
async fn terminal(
    Event { story, id, .. }: &Event,
    published: Published,
    (bus, target): (&Bus, &Target),
) -> anyhow::Result<(Outcome, Event)> {
    let known = bus.story(story).await?;
    let (from, upto) = match published {
        Published::Logged(seq) => {
            let cursor = Cursor {
                epoch: known.cursor_epoch().to_owned(),
                seq,
                tag: Tag::of(id),
                draft: None,
            };
            (Some(cursor), seq)
        }
        Published::Held | Published::Duplicate => (None, known.seq),
    };
    let mut reading = Reading::begin(target, bus.clone(), story.clone(), from).await?;
    let mut last = None;
    loop {
        if let Some(end) = last.take_if(|_| reading.watch.cursor().seq >= upto) {
            return Ok(end);
        }
        let Some(seen) = reading.next().await? else {
            reading.follow().await?;
            continue;
        };
        let Seen::Event(entry) = seen else {
            continue;
        };
        if let Some((end, causes)) = outcome(&entry.event)
            && causes.contains(id)
        {
            last = Some((end, entry.event));
        }
    }
}

impl From<SendMode> for Mode {
    fn from(mode: SendMode) -> Self {
        match mode {
            SendMode::Do => Self::Do,
            SendMode::Say => Self::Say,
            SendMode::Story => Self::Story,
        }
    }
}
