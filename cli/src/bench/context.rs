//! `storyfleet bench --context`: how long it takes to build what a model is asked with, for a story of 500 events that goes
//! on. Without Redis: the context is in memory, as one read gives it.

use std::process::ExitCode;
use std::time::Duration;

use agent::{Agent as _, Bounds, DraftSender, Turn, Window};
use llm::{Counting, Encoding};
use narrator::Narrator;
use scene::Budget;
use serde::Serialize;
use story::{
    Action, Agent, Author, AuthorKind, Character, Context, Event, LogEntry, Mode, Narration,
    Payload, Seq, Status,
};
use tokio::time::Instant;

use super::{report, show};
use crate::args::BenchArgs;
use crate::output::{Output, note};

/// Events of the story, and its characters and facts.
const EVENTS: u64 = 500;
const CHARACTERS: usize = 12;
const FACTS: usize = 40;

/// What a turn's context may take at the 99th percentile.
const GOAL: Duration = Duration::from_millis(2);

#[derive(Debug, Serialize)]
struct Report {
    events: u64,
    turns: u64,
    /// Of the tokeniser, once in a process.
    load_ms: f64,
    built: Vec<Built>,
    goal_ms: f64,
}

/// One turn after the other of the same story.
#[derive(Debug, Serialize)]
struct Built {
    counting: Counting,
    window: u64,
    /// Of the last prompt.
    tokens: usize,
    first_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

pub(super) fn run(args: &BenchArgs, out: Output) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        note("bench: this is a debug build: `make bench-context` measures a release build");
    }
    let turns = if args.quick { 20 } else { 2_000 };
    let exact = Counting::Exact(Encoding::O200k);
    let began = Instant::now();
    llm::Counter::new(exact).load();
    let load = began.elapsed();
    let measured = [
        (Counting::Estimate(333), 8_192),
        (exact, 8_192),
        (exact, 128_000),
    ];
    let built = measured.map(|(counting, tokens)| built(counting, tokens, turns));
    let report = Report {
        events: EVENTS,
        turns,
        load_ms: millis(load),
        built: built.into_iter().collect::<anyhow::Result<_>>()?,
        goal_ms: millis(GOAL),
    };
    show(out, &report, Report::text)
}

fn built(counting: Counting, tokens: u64, turns: u64) -> anyhow::Result<Built> {
    // With the largest window, all of the story that fits.
    let history = if tokens > 8_192 {
        usize::MAX
    } else {
        Budget::default().history
    };
    let narrator = Narrator::new(Budget {
        history,
        ..Budget::default()
    });
    let mut turn = turn(
        &narrator,
        Bounds {
            tokens,
            answer: 1_000,
            is_assumed: false,
            counting,
        },
    )?;
    let (mut times, mut used) = (Vec::new(), 0);
    for number in 0..turns {
        // What was answered last is new to each turn.
        turn.context.history.remove(0);
        turn.context.history.push(told(EVENTS + number + 1)?);
        turn.event = acted(EVENTS + number + 2)?;
        let began = Instant::now();
        let asked = narrator.request(&turn);
        times.push(began.elapsed());
        let asked = asked.map_err(|error| anyhow::anyhow!("{error}"))?;
        let tokens = asked.and_then(|(_, manifest)| manifest.tokens);
        used = tokens.map_or(0, |tokens| tokens.used);
    }
    let first = times[0];
    times.sort_unstable();
    let at = |share| report::percentile(&times, share);
    Ok(Built {
        counting,
        window: tokens,
        tokens: used,
        first_ms: millis(first),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
    })
}

fn turn(narrator: &Narrator, bounds: Bounds) -> anyhow::Result<Turn> {
    Ok(Turn {
        agent: Agent::Narrator,
        event: acted(EVENTS + 1)?,
        part: 0,
        held: false,
        context: context()?,
        waiting: Vec::new(),
        draft: DraftSender::off(),
        now: jiff::Timestamp::UNIX_EPOCH,
        llm: llm::Client::new(llm::Settings::new("http://127.0.0.1:1/v1"))?,
        model: "none".to_owned(),
        window: Some(Window::fixed(bounds)),
        prompts: narrator.prompts(None)?,
    })
}

fn context() -> anyhow::Result<Context> {
    let characters = (0..CHARACTERS).map(|number| {
        let character = Character {
            description: prose(number as u64, 2),
            ..Character::default()
        };
        (format!("Person {number}"), character)
    });
    let lore = (0..FACTS).map(|number| (format!("place {number}"), prose(number as u64, 3)));
    Ok(Context {
        title: "The lamp".to_owned(),
        premise: prose(7, 4),
        summary: prose(8, 12),
        characters: characters.collect(),
        lore: lore.collect(),
        history: (1..=EVENTS).map(told).collect::<anyhow::Result<_>>()?,
        ..Context::default()
    })
}

/// What a person does and what the narrator answers, in turns.
fn told(seq: u64) -> anyhow::Result<LogEntry> {
    let narration = Narration {
        text: prose(seq, 6),
        choices: Vec::new(),
        speak: Vec::new(),
        status: Status::Complete,
        llm: None,
    };
    let event = match seq % 2 {
        0 => {
            let mut event = event(seq, AuthorKind::Agent, Payload::Narration(narration))?;
            event.cause = vec![format!("e{}", seq - 1).parse()?];
            event
        }
        _ => acted(seq)?,
    };
    Ok(LogEntry {
        seq: Seq(seq),
        event,
    })
}

fn acted(seq: u64) -> anyhow::Result<Event> {
    let action = Action {
        mode: Mode::Do,
        text: prose(seq, 1),
        to: None,
        choice: None,
        target: None,
    };
    event(seq, AuthorKind::User, Payload::Action(action))
}

fn event(seq: u64, kind: AuthorKind, payload: Payload) -> anyhow::Result<Event> {
    let author = Author {
        kind,
        id: "mira".to_owned(),
        name: "Mira".to_owned(),
    };
    let (id, story) = (format!("e{seq}").parse()?, "bench".parse()?);
    Ok(Event::new(
        id,
        story,
        author,
        payload,
        jiff::Timestamp::UNIX_EPOCH,
    ))
}

/// So many sentences, others for each `seed`.
fn prose(seed: u64, sentences: u64) -> String {
    const WHO: [&str; 5] = ["The keeper", "A fox", "Nobody", "The tide", "Mira's lamp"];
    const DOES: [&str; 7] = [
        "waits for",
        "remembers",
        "turns from",
        "hums to",
        "lights",
        "counts",
        "follows",
    ];
    const WHAT: [&str; 11] = [
        "the old harbour",
        "a bell under water",
        "place 3",
        "the crème light",
        "someone's steps",
        "the ninth stair",
        "snow on the rail",
        "a letter",
        "the door",
        "what was promised",
        "the long way home",
    ];
    let pick = |from: &[&'static str], at: u64| from[usize::try_from(at).unwrap_or(0) % from.len()];
    let sentence = |number: u64| {
        let at = seed.wrapping_mul(31).wrapping_add(number.wrapping_mul(17));
        let (who, does, what) = (pick(&WHO, at), pick(&DOES, at), pick(&WHAT, at));
        format!("{who} {does} {what}, {at} paces away. ")
    };
    (0..sentences).map(sentence).collect()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

impl Report {
    fn text(&self) -> String {
        let head = format!(
            "{} turns of a story of {} events, ms (the goal at p99: {}); the tokeniser is loaded in {:.0}, once\n\n{:<22}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            self.turns,
            self.events,
            self.goal_ms,
            self.load_ms,
            "tokens",
            "window",
            "used",
            "first",
            "p50",
            "p99",
            "max"
        );
        let row = |built: &Built| {
            let how = match built.counting {
                Counting::Exact(_) => "counted exactly",
                Counting::Estimate(_) => "estimated",
            };
            format!(
                "\n{how:<22}{:>9}{:>9}{:>9.2}{:>9.2}{:>9.2}{:>9.2}",
                built.window,
                built.tokens,
                built.first_ms,
                built.p50_ms,
                built.p99_ms,
                built.max_ms
            )
        };
        head + &self.built.iter().map(row).collect::<String>()
    }
}
