//! A turn that is made anew from its recording, and gone through by the agent itself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use clap::Args;
use llm::{Client, Deadlines, Tape};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::judge::Judge;
use crate::recording::{MadeWith, Recording};
use crate::{Agent, DraftSender, Prompts, Turn, Window, exit};

/// Most agents that are kept for other turns: a fleet has a few kinds, a file may say anything.
const MADE: usize = 64;

/// Makes agents as the recordings say, and has them go through turns.
pub(crate) struct Player<A, B> {
    build: B,
    means: Means,
    /// By what they were made with.
    made: Mutex<HashMap<String, Arc<Made<A>>>>,
}

/// What is not as it was recorded.
#[derive(Default)]
pub(crate) struct Means {
    /// Says which answer is better.
    pub(crate) judge: Option<Judge>,
    /// A model that answers; the recording does where there is none.
    pub(crate) live: Option<Client>,
    /// Another model's name.
    pub(crate) model: Option<String>,
    pub(crate) prompts: Option<PathBuf>,
    /// The agent's own options that count in place of the recorded ones.
    pub(crate) changed: Map<String, Value>,
    /// How many times as fast as it went the recording answers; 0 = at once.
    pub(crate) speed: f64,
}

/// An agent as a recording says.
struct Made<A> {
    agent: A,
    prompts: Prompts,
    /// Answers with recordings.
    offline: Client,
}

/// How a recorded turn went this time, with the recording in the model's place.
pub(crate) struct Played {
    /// Gone through twice.
    pub(crate) twice: [Recording<'static>; 2],
    /// What the agent asked and the recording has no answer to.
    pub(crate) unanswered: Vec<Box<RawValue>>,
}

impl<A: Agent, B> Player<A, B> {
    pub(crate) fn new(build: B, means: Means) -> Self {
        Self {
            build,
            means,
            made: Mutex::default(),
        }
    }

    pub(crate) fn judge(&self) -> Option<&Judge> {
        self.means.judge.as_ref()
    }

    /// Whether a model answers anew.
    pub(crate) fn is_live(&self) -> bool {
        self.means.live.is_some()
    }

    pub(crate) async fn play<O>(&self, recorded: &Recording<'_>) -> anyhow::Result<Played>
    where
        B: Fn(&O) -> A,
        O: Args + Serialize + DeserializeOwned,
    {
        let made = self.made(&recorded.made_with)?;
        let tape = |speed| made.offline.playing(recorded.calls.clone(), speed);
        if self.means.speed > 0.0 {
            // To be watched only: what agents wait for at most would come sooner or later than it did.
            let _ = self.once(&made, recorded, tape(self.means.speed)).await;
        }
        let (first, unanswered) = self.once(&made, recorded, tape(0.0)).await;
        let (second, _) = self.once(&made, recorded, tape(0.0)).await;
        Ok(Played {
            twice: [first, second],
            unanswered,
        })
    }

    /// How it goes with the model; none where no model answers.
    pub(crate) async fn live<O>(
        &self,
        recorded: &Recording<'_>,
    ) -> anyhow::Result<Option<Recording<'static>>>
    where
        B: Fn(&O) -> A,
        O: Args + Serialize + DeserializeOwned,
    {
        let Some(live) = &self.means.live else {
            return Ok(None);
        };
        let made = self.made(&recorded.made_with)?;
        Ok(Some(self.once(&made, recorded, live.taped()).await.0))
    }

    async fn once(
        &self,
        made: &Made<A>,
        recorded: &Recording<'_>,
        (llm, tape): (Client, Tape),
    ) -> (Recording<'static>, Vec<Box<RawValue>>) {
        let model = self
            .means
            .model
            .as_ref()
            .unwrap_or(&recorded.made_with.model);
        let turn = Turn {
            agent: recorded.agent,
            event: recorded.event.clone().into_owned(),
            part: recorded.part,
            held: recorded.held,
            context: recorded.context.clone().into_owned(),
            waiting: recorded.waiting.clone().into_owned(),
            draft: DraftSender::off(),
            now: recorded.now,
            llm,
            model: model.clone(),
            window: recorded.made_with.window.map(Window::fixed),
            prompts: made.prompts.clone(),
        };
        let ended = made.agent.handle(&turn).await;
        let made_with = MadeWith {
            model: model.clone(),
            options: made.agent.options(),
            prompts: made.prompts.references(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..recorded.made_with.clone().into_owned()
        };
        let again = Recording::new(&turn, &made_with, tape.take(), ended.as_ref());
        (again.into_owned(), tape.unanswered())
    }

    fn made<O>(&self, with: &MadeWith) -> anyhow::Result<Arc<Made<A>>>
    where
        B: Fn(&O) -> A,
        O: Args + Serialize + DeserializeOwned,
    {
        let mut options = with.options.clone();
        if let Value::Object(all) = &mut options {
            all.extend(self.means.changed.clone());
        }
        let asked = (with.accept_done, with.price, &with.chain);
        let key = format!("{asked:?} {options}");
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.get(&key) {
            return Ok(Arc::clone(made));
        }
        let options: O = serde_json::from_value(options)
            .context("the agent has other options than when this was recorded")
            .map_err(exit::configuration)?;
        let agent = (self.build)(&options);
        let prompts = agent.prompts(self.means.prompts.as_deref());
        let one = Arc::new(Made {
            agent,
            prompts: prompts.map_err(exit::configuration)?,
            offline: offline(with)?,
        });
        if made.len() == MADE {
            made.clear();
        }
        made.insert(key, Arc::clone(&one));
        Ok(one)
    }
}

/// A client of the models that were asked, whom nobody answers.
fn offline(with: &MadeWith) -> Result<Client, llm::Error> {
    let model = |manner: &llm::Manner, price| llm::Model {
        settings: llm::Settings {
            accept_done: with.accept_done,
            price,
            deadlines: Deadlines::NONE,
            ..llm::Settings::new("http://recorded.invalid/v1")
        },
        manner: manner.clone(),
    };
    let mut links = with
        .chain
        .iter()
        .map(|link| model(&link.manner, link.price));
    let first = links.next();
    let first = first.unwrap_or_else(|| model(&llm::Manner::default(), with.price));
    Client::chain(first, links.collect())
}
