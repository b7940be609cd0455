//! Agents that do not go the way they went.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use futures::StreamExt;
use llm::{Message, Request};
use serde_json::json;

use super::compare::Level;
use super::*;
use crate::recording::{self, MadeWith};
use crate::{Effects, HandleError, NoOptions, Turn};

/// Asks the model these things, and says how often it was asked itself where it counts.
#[derive(Clone)]
struct Asker {
    asks: Vec<&'static str>,
    counts: Option<Arc<AtomicU32>>,
}

impl Asker {
    fn new(asks: &[&'static str]) -> Self {
        Self {
            asks: asks.to_vec(),
            counts: None,
        }
    }
}

impl Agent for Asker {
    fn agent(&self) -> story::Agent {
        story::Agent::Narrator
    }

    fn takes(&self) -> &'static [&'static str] {
        &["action"]
    }

    async fn handle(&self, turn: &Turn) -> Result<Effects, HandleError> {
        let mut effects = Effects::default();
        for ask in &self.asks {
            let (answer, _) = turn.llm.answer(&request(ask)).await?;
            effects.fields.push(field("summary", &answer));
        }
        if let Some(counts) = &self.counts {
            let count = counts.fetch_add(1, Relaxed).to_string();
            effects.fields.push(field("count", &count));
        }
        Ok(effects)
    }
}

fn request(ask: &str) -> Request {
    let rules = "Write plainly.\nWrite little.";
    Request {
        model: "mock".to_owned(),
        messages: vec![
            Message::system(rules.to_owned()),
            Message::user(format!("The lamp is out.\n{ask}")),
        ],
        ..Request::default()
    }
}

/// A call that was answered.
fn call((ask, answer): &(&str, &str)) -> llm::Recorded {
    let delta = json!({"delta": {"content": answer}, "finish_reason": "stop"});
    let frame = json!({"choices": [delta]});
    let body = format!("data: {frame}\n\ndata: [DONE]\n\n").into_bytes();
    let answer = llm::Answer {
        status: 200,
        pieces: vec![(0, body.len())],
        body: llm::Text(body),
        ended: true,
        ..llm::Answer::default()
    };
    llm::Recorded {
        request: request(ask).body(),
        line: 0,
        moved: false,
        tries: vec![llm::Try {
            answer: Some(answer),
            ..llm::Try::default()
        }],
        took: None,
    }
}

/// A turn in which these calls were made.
fn turn(calls: &[(&str, &str)]) -> Found {
    let event = json!({
        "v": 1, "id": "a1", "type": "action", "story": "castle", "author": {"kind": "user", "id": "mira"},
        "mode": "do", "text": "I wait.", "at": "2026-11-24T01:02:03Z",
    });
    let event: story::Event = serde_json::from_value(event).unwrap();
    let fields = calls.iter().map(|(_, answer)| field("summary", answer));
    let effects = Effects {
        fields: fields.collect(),
        ..Effects::default()
    };
    let recording = Recording {
        v: recording::VERSION,
        agent: story::Agent::Narrator,
        part: 0,
        held: false,
        context: Cow::default(),
        waiting: Cow::default(),
        now: event.at,
        event: Cow::Owned(event.clone()),
        made_with: Cow::Owned(MadeWith {
            version: String::new(),
            model: "mock".to_owned(),
            accept_done: false,
            price: None,
            chain: Vec::new(),
            window: None,
            options: json!({}),
            prompts: Vec::new(),
        }),
        calls: calls.iter().map(call).collect(),
        effects: Some(Cow::Owned(effects)),
        failed: None,
    };
    Found {
        seq: story::Seq(2),
        place: story::Seq(2),
        agent: "narrator".to_owned(),
        id: event.id,
        epoch: "e".to_owned(),
        json: Ok(serde_json::to_vec(&recording).unwrap()),
    }
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

async fn gone_through(agent: Asker, found: Found) -> (Went, u8) {
    let player = Player::new(|_: &NoOptions| agent.clone(), Means::default());
    let verdict = verdict(&player, found).await;
    let mut tally = Tally::default();
    tally.add(&verdict);
    let code = tally.code(false);
    (verdict.went.unwrap(), code)
}

fn levels(went: &Went) -> Vec<Level> {
    let found = went.differences.iter();
    found.map(|found| found.level).collect()
}

#[tokio::test]
async fn an_agent_that_goes_as_it_went_is_the_same() {
    let agent = Asker::new(&["Why?", "When?"]);
    let recorded = turn(&[("Why?", "It rained."), ("When?", "At night.")]);
    let (went, code) = gone_through(agent, recorded).await;
    assert_eq!((went.outcome, code), (Outcome::Same, 0));
}

#[test]
fn what_an_answer_costs_counts_where_no_model_answers_anew() {
    let found = turn(&[("Why?", "It rained.")]);
    let at = |cost: Option<f64>| {
        let mut recording: serde_json::Value =
            serde_json::from_slice(found.json.as_ref().unwrap()).unwrap();
        recording["effects"]["spent"] = json!([{"model": "m", "prompt": "p", "cost": cost}]);
        recording.to_string().into_bytes()
    };
    let (priced, not) = (at(Some(0.5)), at(None));
    let read = |json| Recording::read(json).unwrap();
    for (live, differences) in [(true, 0), (false, 1)] {
        let found = super::compare::differences(&read(&priced), &read(&not), live);
        assert_eq!(found.len(), differences, "{live}: {found:?}");
    }
}

#[tokio::test]
async fn an_agent_that_goes_two_ways_is_not_deterministic() {
    let agent = Asker {
        counts: Some(Arc::default()),
        ..Asker::new(&["Why?"])
    };
    let (went, code) = gone_through(agent, turn(&[("Why?", "It rained.")])).await;
    assert_eq!((went.outcome, code), (Outcome::Unstable, UNSTABLE));
    let [found] = &went.differences[..] else {
        panic!("{:?}", went.differences);
    };
    // Of the two ways, and not of the recording.
    assert_eq!(found.level, Level::Effects);
    assert!(found.recorded.contains("\"0\"") && found.replayed.contains("\"1\""));
}

#[tokio::test]
async fn a_call_that_is_not_recorded_is_shown_beside_the_nearest_that_is() {
    let agent = Asker::new(&["Why is it out?", "Who was there?", "When did it go out?"]);
    let recorded = turn(&[
        ("Why is it out?", "It rained."),
        ("Who was here?", "Nobody."),
    ]);
    let (went, code) = gone_through(agent, recorded).await;
    assert_eq!((went.outcome, code), (Outcome::Missing, MISSING));
    assert_eq!(levels(&went), [Level::Prompt], "{:?}", went.differences);
}

#[tokio::test]
async fn a_call_that_is_made_no_more_is_a_difference() {
    let recorded = turn(&[("Why?", "It rained."), ("When?", "At night.")]);
    let (went, code) = gone_through(Asker::new(&["Why?"]), recorded).await;
    assert_eq!((went.outcome, code), (Outcome::Differs, DIFFERS));
    assert_eq!(levels(&went), [Level::Request, Level::Effects]);
}

#[tokio::test]
async fn a_recording_that_cannot_be_used_is_named_and_keeps_no_other_from_its_turn() {
    let agent = Asker::new(&["Why?"]);
    let player = Player::new(|_: &NoOptions| agent.clone(), Means::default());
    let mut tally = Tally::default();
    let good = || turn(&[("Why?", "It rained.")]);
    let changed = |from: &str, to: &str| {
        let json = String::from_utf8(good().json.unwrap()).unwrap();
        let json = json.replacen(from, to, 1);
        Ok(json.into_bytes())
    };
    for (json, words) in [
        (Recording::unpacked(b"no zstd"), "cannot be unpacked"),
        (Ok(b"{}".to_vec()), "cannot be read"),
        (
            changed(&format!(r#""v":{}"#, recording::VERSION), r#""v":9"#),
            "version 9",
        ),
        (
            changed(r#""options":{}"#, r#""options":[[]]"#),
            "other options",
        ),
    ] {
        let found = Found { json, ..good() };
        let verdict = verdict(&player, found).await;
        tally.add(&verdict);
        let Err(why) = verdict.went else {
            panic!("{words}: it was gone through");
        };
        assert!(why.contains(words), "{why}");
    }
    assert_eq!(tally.code(true), exit::CONFIGURATION);
    tally.add(&verdict(&player, good()).await);
    assert_eq!(tally.code(false), exit::CONFIGURATION);
    assert_eq!(tally.outcomes_named()["same"], 1);
    assert_eq!(tally.outcomes_named()["unusable"], 4);
}

#[tokio::test]
async fn what_nobody_counted_is_taken_to_cost_a_token_for_four_bytes() {
    let json = turn(&[("Why?", "It rained.")]).json.unwrap();
    let mut recording = Recording::read(&json).unwrap();
    let asked = recording.calls[0].request.get().len();
    let all = |tries: usize| u64::try_from((tries * asked + "It rained.".len()).div_ceil(4));
    assert_eq!(Ok(recording.cost()), all(1));
    // Each try asks it all again.
    let again = recording.calls[0].tries[0].clone();
    recording.calls[0].tries.insert(0, again);
    assert_eq!(Ok(recording.cost()), all(2));
    let found = |recording: &Recording<'_>| Found {
        json: Ok(serde_json::to_vec(recording).unwrap()),
        ..turn(&[])
    };
    let broken = || Found {
        json: Ok(Vec::new()),
        ..turn(&[])
    };
    let turns = || futures::stream::iter([Ok(found(&recording)), Ok(broken())]).boxed();
    assert_eq!(cost(turns(), false).await.unwrap(), recording.cost());
    assert_eq!(cost(turns(), true).await.unwrap(), 2 * recording.cost());
}

#[test]
fn what_unfolds_to_more_than_fits_into_memory_is_not_read() {
    let most = recording::MAX_JSON;
    let json = String::from_utf8(turn(&[("Why?", "It rained.")]).json.unwrap()).unwrap();
    let at = json.find(r#""body":""#).unwrap();
    let end = at + json[at..].find(r#"","pieces"#).unwrap() + 1;
    // Of half a mebibyte, so many times.
    let block = "x".repeat(1 << 19);
    for (blocks, is_read) in [(most >> 19, true), ((most >> 19) + 1, false)] {
        let again = format!(",[{},0,\"\"]", block.len()).repeat(blocks - 1);
        let folded = format!(r#""folded":[[0,0,"{block}"]{again}]"#);
        let json = [&json[..at], &folded, &json[end..]].concat();
        let read = Recording::read(json.as_bytes());
        assert_eq!(read.is_ok(), is_read, "{:?}", read.err());
    }
}
