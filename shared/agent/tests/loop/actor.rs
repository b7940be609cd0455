//! The agent of the tests, which does with each event what it is told.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, Effects, Emitted, HandleError, Prompts, Turn, prompts};
use story::{LlmReport, Narration, Payload, Status};
use tokio::sync::watch;

/// The agent's only prompt. Its name in each answer is all that becomes of it.
pub(crate) const PROMPT: &str = "---\nname: turn\nversion: 1\n---\nIt is old.\n";

/// What the agent does with an event.
pub(crate) enum Act {
    Answer,
    AnswerWhenTold,
    /// The same, and nothing is read before.
    AnswerAtOnceWhenTold,
    AnswerAfter(Duration),
    Hang,
    Panic,
    Fail(HandleError),
    FailWhenTold(HandleError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Begun,
    Dropped,
}

pub(crate) struct Actor {
    pub(crate) agent: story::Agent,
    pub(crate) merges: usize,
    pub(crate) act: Box<dyn Fn(&str) -> Act + Send + Sync>,
    pub(crate) marks: Arc<watch::Sender<Vec<(String, Mark)>>>,
    pub(crate) tell: watch::Receiver<bool>,
}

/// Marks a turn that was dropped before its end.
struct Watched {
    id: String,
    marks: Arc<watch::Sender<Vec<(String, Mark)>>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mark = (std::mem::take(&mut self.id), Mark::Dropped);
        self.marks.send_modify(|marks| marks.push(mark));
    }
}

impl Agent for Actor {
    fn agent(&self) -> story::Agent {
        self.agent
    }

    fn takes(&self) -> &'static [&'static str] {
        &["action", "narration"]
    }

    fn merges(&self) -> usize {
        self.merges
    }

    fn prompts(&self, folder: Option<&Path>) -> Result<Prompts, prompts::Error> {
        Prompts::load(self.agent, &[("turn.md", PROMPT)], folder, ())
    }

    async fn handle(&self, turn: &Turn) -> Result<Effects, HandleError> {
        let id = turn.event.id.to_string();
        self.marks
            .send_modify(|marks| marks.push((id.clone(), Mark::Begun)));
        // A beat fails by whatever joined it.
        let mut joined = turn
            .waiting
            .iter()
            .map(|event| (self.act)(event.id.as_str()));
        let fails =
            joined.find(|act| matches!(act, Act::Fail(_) | Act::FailWhenTold(_) | Act::Panic));
        match fails.unwrap_or_else(|| (self.act)(&id)) {
            Act::Answer => {
                turn.draft.send("It rains.").await;
                Ok(answer(turn))
            }
            Act::AnswerWhenTold => {
                turn.draft.send("It rains.").await;
                self.told().await;
                Ok(answer(turn))
            }
            Act::AnswerAtOnceWhenTold => {
                self.told().await;
                Ok(answer(turn))
            }
            Act::AnswerAfter(time) => {
                tokio::time::sleep(time).await;
                Ok(answer(turn))
            }
            Act::Hang => {
                let _watched = Watched {
                    id,
                    marks: Arc::clone(&self.marks),
                };
                turn.draft.send("And then").await;
                std::future::pending().await
            }
            Act::Panic => panic!("poison"),
            Act::Fail(error) => Err(error),
            Act::FailWhenTold(error) => {
                self.told().await;
                Err(error)
            }
        }
    }
}

impl Actor {
    async fn told(&self) {
        let mut tell = self.tell.clone();
        tell.wait_for(|told| *told)
            .await
            .expect("the test still runs");
    }
}

fn answer(turn: &Turn) -> Effects {
    let prompt = turn
        .prompts
        .get("turn")
        .expect("it is checked at the start");
    let report = LlmReport {
        prompt: prompt.reference().to_owned(),
        ..LlmReport::default()
    };
    let narration = Narration {
        text: "It rains.".into(),
        choices: Vec::new(),
        speak: Vec::new(),
        status: Status::Complete,
        llm: Some(report),
    };
    let merged = turn.waiting.len();
    Effects {
        emit: vec![Emitted::New(
            turn.respond(Payload::Narration(narration), merged),
        )],
        merged,
        ..Effects::default()
    }
}
