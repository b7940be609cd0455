//! Agents that do not go the way they went.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use llm::{Message, Request};
use serde_json::json;

use super::compare::Level;
use super::*;
use crate::recording::MadeWith;
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
            let (answer, _) = turn.llm.complete(&request(ask)).await?;
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
            options: json!({}),
            prompts: Vec::new(),
        }),
        calls: calls.iter().map(call).collect(),
        effects: Some(Cow::Owned(effects)),
        failed: None,
    };
    Found {
        seq: story::Seq(2),
        agent: "narrator".to_owned(),
        id: event.id,
        epoch: "e".to_owned(),
        json: serde_json::to_vec(&recording).unwrap(),
    }
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

async fn gone_through(agent: Asker, found: Found) -> (Verdict, u8) {
    let player = Player::new(|_: &NoOptions| agent.clone(), Means::default());
    let verdict = verdict(&player, found).await.unwrap();
    let mut tally = Tally::default();
    tally.add(&verdict);
    let code = tally.code(false);
    (verdict, code)
}

fn levels(verdict: &Verdict) -> Vec<Level> {
    let found = verdict.differences.iter();
    found.map(|found| found.level).collect()
}

#[tokio::test]
async fn an_agent_that_goes_as_it_went_is_the_same() {
    let agent = Asker::new(&["Why?", "When?"]);
    let recorded = turn(&[("Why?", "It rained."), ("When?", "At night.")]);
    let (verdict, code) = gone_through(agent, recorded).await;
    assert_eq!((verdict.outcome, code), (Outcome::Same, 0));
}

#[tokio::test]
async fn an_agent_that_goes_two_ways_is_not_deterministic() {
    let agent = Asker {
        counts: Some(Arc::default()),
        ..Asker::new(&["Why?"])
    };
    let (verdict, code) = gone_through(agent, turn(&[("Why?", "It rained.")])).await;
    assert_eq!((verdict.outcome, code), (Outcome::Unstable, UNSTABLE));
    let [found] = &verdict.differences[..] else {
        panic!("{:?}", verdict.differences);
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
    let (verdict, code) = gone_through(agent, recorded).await;
    assert_eq!((verdict.outcome, code), (Outcome::Missing, MISSING));
    assert_eq!(
        levels(&verdict),
        [Level::Prompt],
        "{:?}",
        verdict.differences
    );
}

#[tokio::test]
async fn a_call_that_is_made_no_more_is_a_difference() {
    let recorded = turn(&[("Why?", "It rained."), ("When?", "At night.")]);
    let (verdict, code) = gone_through(Asker::new(&["Why?"]), recorded).await;
    assert_eq!((verdict.outcome, code), (Outcome::Differs, DIFFERS));
    assert_eq!(levels(&verdict), [Level::Request, Level::Effects]);
}
