//! Looks in, lines out: the whole way from figures to a screen, without Redis and without a terminal.

mod fails;
mod gaps;
mod names;
mod sizes;

use std::time::Duration;

use ::story::Agent;
use bus::{Backlog, Fleet, Parked, ServerLoad};
use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tokio::time::Instant;

use super::keys::{Controls, Sort};
use super::metrics::Scrape;
use super::model::{Failure, Look, Model, Page};
use super::state::{Level, State};
use super::view::{self, Looks};

const LOOKS: Looks = Looks {
    colours: true,
    every: Duration::from_secs(1),
};

fn queue(agent: Agent, shard: u16) -> Backlog {
    Backlog {
        agent,
        shard,
        length: 0,
        in_flight: 0,
        oldest: None,
        parked: Parked {
            events: 0,
            is_all: true,
        },
        ended: 0,
        dead: 0,
        buried: 0,
    }
}

fn worker(agent: Agent, consumer: &str, in_flight: u64, seen: u64) -> bus::Worker {
    bus::Worker {
        agent,
        consumer: consumer.to_owned(),
        in_flight,
        seen: Duration::from_millis(seen),
        quiet: (in_flight == 0).then_some(Duration::from_secs(75)),
        is_read: false,
    }
}

/// A narrator that is full, a moderator whose worker died, a dialogue that nobody needs.
fn busy() -> Fleet {
    let mut narrator = queue(Agent::Narrator, 0);
    (narrator.length, narrator.in_flight) = (140, 128);
    narrator.oldest = Some(Duration::from_millis(4_200));
    narrator.parked = Parked {
        events: 17,
        is_all: false,
    };
    (narrator.ended, narrator.dead, narrator.buried) = (1_000, 2, 5);
    let mut moderator = queue(Agent::Moderator, 0);
    (moderator.length, moderator.in_flight) = (3, 3);
    moderator.oldest = Some(Duration::from_secs(95));
    Fleet {
        queues: vec![moderator, narrator, queue(Agent::Dialogue, 0)],
        workers: vec![
            worker(Agent::Moderator, "moderator-5c9d-2f1a", 3, 14_000),
            worker(Agent::Narrator, "narrator-7f4b-88c1", 64, 310),
            worker(Agent::Narrator, "narrator-7f4b-9d02", 64, 1_900),
            worker(Agent::Dialogue, "dialogue-1b2c-0001", 0, 800),
            worker(Agent::Dialogue, "dialogue-1b2c-0000", 0, 7_200_000),
        ],
        servers: vec![ServerLoad {
            software: "Valkey",
            version: "8.0.1".to_owned(),
            role: "master".to_owned(),
            memory: 50 << 20,
            memory_limit: Some(1 << 30),
            commands_per_second: 4_321,
            clients: 9,
            replicas: 1,
            behind: Some(120),
            ..ServerLoad::default()
        }],
        tells_idle: true,
        ..Fleet::default()
    }
}

fn page(turns: u32) -> Page {
    let narrator = r#"{agent="narrator",le="#;
    let text = format!(
        "storyfleet_turn_seconds_bucket{narrator}\"1\"}} 10\n\
         storyfleet_turn_seconds_bucket{narrator}\"2\"}} {turns}\n\
         storyfleet_turn_seconds_bucket{narrator}\"+Inf\"}} {turns}\n\
         storyfleet_gateway_redis_up 1\n\
         storyfleet_gateway_connections{{transport=\"websocket\"}} 120\n\
         storyfleet_gateway_connections{{transport=\"sse\"}} 30\n"
    );
    Page {
        url: "http://h:9090/metrics".to_owned(),
        scrape: Ok(Scrape::read(&text).unwrap()),
    }
}

/// So many seconds after the first look.
fn look(start: Instant, seconds: i64, fleet: Result<Fleet, Failure>, pages: Vec<Page>) -> Look {
    Look {
        at: start + Duration::from_secs(seconds.unsigned_abs()),
        time: Timestamp::from_second(1_796_000_000 + seconds).unwrap(),
        fleet,
        pages,
    }
}

/// Two looks, five seconds apart.
fn model() -> (Model, Instant) {
    let (mut model, start) = (Model::of("redis://h:6379".to_owned()), Instant::now());
    model.take(look(start, 0, Ok(busy()), vec![page(10)]));
    let mut later = busy();
    later.queues[1].ended += 60;
    later.queues[1].buried += 5;
    model.take(look(start, 5, Ok(later), vec![page(110)]));
    (model, start)
}

fn screen(state: &State, controls: &mut Controls, width: u16, height: u16) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| {
        view::draw(state, controls, LOOKS, frame.area(), frame.buffer_mut());
    };
    terminal.draw(draw).unwrap();
    terminal.backend().clone()
}

#[test]
fn a_small_terminal_shows_it_all() {
    let state = model().0.state();
    insta::assert_snapshot!(screen(&state, &mut Controls::default(), 80, 24));
}

#[test]
fn a_large_terminal_shows_more_notes() {
    let state = model().0.state();
    insta::assert_snapshot!(screen(&state, &mut Controls::default(), 160, 50));
}

#[test]
fn the_help_explains_every_column_and_fits() {
    let state = model().0.state();
    let mut controls = Controls {
        help: true,
        ..Controls::default()
    };
    insta::assert_snapshot!(screen(&state, &mut controls, 80, 24));
}

#[test]
fn the_shards_that_have_most_to_do_are_shown() {
    let mut fleet = busy();
    for shard in 1..20 {
        let mut queue = queue(Agent::Narrator, shard);
        queue.length = u64::from(shard);
        fleet.queues.push(queue);
    }
    let mut model = Model::of(String::new());
    model.take(look(Instant::now(), 0, Ok(fleet), Vec::new()));
    let state = model.state();
    assert_eq!(state.agents[1].waiting, 12 + (1..20).sum::<u64>());
    let text = view::text(&state, &Controls::default(), LOOKS, 100);
    assert!(text.contains("narrator      19      19       0"), "{text}");
    assert!(text.contains("and 10 that have less to do"), "{text}");
}

#[test]
fn a_rate_is_what_ended_between_two_looks() {
    let (mut model, start) = model();
    let narrator = model.state().agents.remove(1);
    assert_eq!(narrator.agent, "narrator");
    assert_eq!(narrator.answered_per_s, Some(11.0));
    assert_eq!(narrator.failed_per_s, Some(1.0));
    // A hundred turns between the looks, evenly in their bucket.
    assert_eq!(narrator.turn_p50_s, Some(1.5));
    // A stream that began anew has no rate until it is looked at again.
    model.take(look(start, 6, Ok(busy()), Vec::new()));
    let narrator = model.state().agents.remove(1);
    assert_eq!(
        (narrator.answered_per_s, narrator.turn_p50_s),
        (Some(0.0), None)
    );
    model.take(look(
        start,
        7,
        Ok(Fleet {
            queues: vec![queue(Agent::Narrator, 0)],
            ..busy()
        }),
        Vec::new(),
    ));
    assert_eq!(model.state().agents.remove(1).answered_per_s, None);
}

#[test]
fn looks_that_are_far_apart_tell_what_was_between_them() {
    for every in [1, 9, 11, 30, 60] {
        let mut model = Model::of(String::new());
        let (start, mut fleet) = (Instant::now(), busy());
        for number in 0..200 / every {
            let turns = u32::try_from(100 + number * every * 2).unwrap();
            fleet.queues[1].ended = u64::from(turns);
            model.take(look(
                start,
                number * every,
                Ok(fleet.clone()),
                vec![page(turns)],
            ));
            let narrator = model.state().agents.remove(1);
            let is_first = number == 0;
            assert_eq!(
                narrator.answered_per_s,
                (!is_first).then_some(2.0),
                "{every}"
            );
            assert_eq!(narrator.turn_p50_s, (!is_first).then_some(1.5), "{every}");
        }
    }
}

#[test]
fn who_may_be_idle_or_gone_is_not_called_gone() {
    let mut fleet = Fleet {
        queues: vec![queue(Agent::Dialogue, 0)],
        workers: vec![worker(Agent::Dialogue, "d", 0, 60_000)],
        ..Fleet::default()
    };
    fleet.workers[0].quiet = None;
    let mut model = Model::of(String::new());
    model.take(look(Instant::now(), 0, Ok(fleet.clone()), Vec::new()));
    let state = model.state();
    assert_eq!(
        (state.agents[2].workers, state.workers[0].alive),
        (None, None)
    );
    let shown = screen(&state, &mut Controls::default(), 80, 24).to_string();
    assert!(shown.contains("WRK –: idle or none (?)"), "{shown}");
    // One that is idle would have taken it.
    fleet.queues[0].length = 1;
    model.take(look(Instant::now(), 1, Ok(fleet), Vec::new()));
    assert_eq!(model.state().agents[2].workers, Some(0));
}

#[test]
fn a_redis_that_is_lost_is_told_with_what_was_seen_before() {
    let (mut model, start) = model();
    let lost = || {
        Err(Failure {
            is_away: true,
            is_configuration: false,
            why: "Redis is not reachable (is its URL right, with rediss:// for TLS, and is it up?): refused".to_owned(),
        })
    };
    model.take(look(start, 8, lost(), Vec::new()));
    model.take(look(start, 12, lost(), Vec::new()));
    let state = model.state();
    let screen = screen(&state, &mut Controls::default(), 80, 24).to_string();
    assert!(
        screen.contains("Redis is not reachable since 2026-11-30T00:53:28Z (4 s)"),
        "{screen}"
    );
    assert!(screen.contains("narrator-7f4b-88c1"), "{screen}");
    model.take(look(start, 13, Ok(busy()), Vec::new()));
    assert_eq!(model.state().away, None);
}

#[test]
fn every_trouble_has_its_note_the_worst_first() {
    let mut fleet = busy();
    fleet.servers[0].memory = 1_000 << 20;
    fleet.servers[0].master_link = Some(false);
    fleet.servers[0].disk_failed = true;
    fleet.unreadable.push((Agent::Dialogue, 0));
    fleet.away = vec![3, 7];
    fleet.silent = vec!["127.0.0.1:7001".to_owned()];
    let mut model = Model::of(String::new());
    let silent = Page {
        url: "http://h/metrics".to_owned(),
        scrape: Err("no answer within 1500 ms".to_owned()),
    };
    model.take(look(Instant::now(), 0, Ok(fleet), vec![silent]));
    let notes = model.state().notes;
    for (level, words) in [
        (
            Level::Bad,
            "no moderator runs, and so many stories wait for one: 3",
        ),
        (
            Level::Bad,
            "moderator-5c9d-2f1a: silent for 14s, 3 in flight",
        ),
        (Level::Bad, "97 % of its maxmemory"),
        (Level::Bad, "cannot write to its disk"),
        (Level::Bad, "does not hear its master"),
        (Level::Bad, "none of ours: `storyfleet doctor`"),
        (
            Level::Bad,
            "no answer for these shards, and what waits there is not counted: 3, 7",
        ),
        (
            Level::Bad,
            "these nodes of the cluster do not answer: 127.0.0.1:7001",
        ),
        (Level::Warning, "12 wait for a place, its workers hold 128"),
        (Level::Warning, "narrator: 2 given up on"),
        (
            Level::Warning,
            "http://h/metrics does not answer: no answer within",
        ),
        (Level::Info, "≥17 wait behind their own story's turn"),
    ] {
        let found = notes
            .iter()
            .any(|note| note.level == level && note.text.contains(words));
        assert!(found, "{words}: {notes:#?}");
    }
    assert!(notes.is_sorted_by_key(|note| note.level));
}

#[test]
fn workers_are_sorted_by_the_column_that_was_chosen() {
    let state = model().0.state();
    let first = |sort, reversed| {
        let mut controls = Controls {
            sort,
            reversed,
            ..Controls::default()
        };
        let screen = screen(&state, &mut controls, 80, 40).to_string();
        let mut lines = screen.lines().skip_while(|line| !line.contains("WORKER"));
        lines.nth(1).unwrap().to_owned()
    };
    assert!(first(Sort::Agent, false).contains("dialogue-1b2c-0000"));
    assert!(first(Sort::Worker, true).contains("narrator-7f4b-9d02"));
    assert!(first(Sort::InFlight, false).contains("narrator"));
    assert!(first(Sort::Seen, false).contains("dialogue-1b2c-0000"));
}

#[test]
fn without_colours_there_are_none() {
    let state = model().0.state();
    for colours in [true, false] {
        let area = ratatui::layout::Rect::new(0, 0, 80, 24);
        let mut buffer = ratatui::buffer::Buffer::empty(area);
        let looks = Looks { colours, ..LOOKS };
        view::draw(&state, &mut Controls::default(), looks, area, &mut buffer);
        let coloured = buffer
            .content()
            .iter()
            .any(|cell| cell.fg != ratatui::style::Color::Reset);
        assert_eq!(coloured, colours);
    }
}

/// In colours that a terminal gives its text, whatever is behind it.
#[test]
fn a_warning_is_in_bold_and_in_no_colour() {
    let mut state = model().0.state();
    state.notes = vec![super::state::Note {
        level: super::state::Level::Warning,
        text: "Redis lags".to_owned(),
    }];
    let area = ratatui::layout::Rect::new(0, 0, 80, 24);
    let mut buffer = ratatui::buffer::Buffer::empty(area);
    view::draw(&state, &mut Controls::default(), LOOKS, area, &mut buffer);
    let row = |y| (0..80).map(move |x| (x, y));
    let line = |y| row(y).map(|at| buffer[at].symbol()).collect::<String>();
    let y = (0..24).find(|y| line(*y).contains("* Redis lags")).unwrap();
    let cell = &buffer[(2, y)];
    assert_eq!(cell.fg, ratatui::style::Color::Reset);
    assert!(cell.modifier.contains(ratatui::style::Modifier::BOLD));
}
