//! The three agents, as workers of this process.

use agent::flags::{SecondTier, Tier};
use agent::{Metrics, Models, Setup, Shutdown};
use dialogue::Dialogue;
use moderator::{Moderator, OnError};
use narrator::Narrator;
use scene::Budget;
use story::Agent;

use super::model::Model;
use crate::args::UpArgs;

/// Of all three: what the endpoint must see first would be shown by none before.
const TIER2: Tier = Tier::Llm;

pub(super) struct Fleet {
    /// Of each agent its own client, which counts its calls.
    setups: [Setup; 3],
    /// Of all three.
    pub(super) metrics: Metrics,
    moderator: Moderator,
    narrator: Narrator,
    dialogue: Dialogue,
    slots: usize,
}

impl Fleet {
    /// Does no I/O: what is wrong here is the configuration.
    pub(super) fn new(args: &UpArgs, model: &Model) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let models = args.models.as_deref().map(Models::read);
        let models = models.transpose()?.unwrap_or_default();
        let setup = |agent| {
            let settings = model.settings(metrics.llm(agent));
            anyhow::Ok(Setup {
                llm: models.client(&model.name, &settings)?,
                model: model.name.clone(),
                prompts: None,
                key_file: None,
                models: models.clone(),
            })
        };
        let judging = moderator::Options {
            second: SecondTier { tier2: TIER2 },
            input_on_error: OnError::Allow,
        };
        Ok(Self {
            setups: [
                setup(Agent::Moderator)?,
                setup(Agent::Narrator)?,
                setup(Agent::Dialogue)?,
            ],
            metrics,
            moderator: Moderator::new(judging),
            narrator: Narrator::new(Budget::default()),
            dialogue: Dialogue::new(Budget::default()),
            slots: args.workers.get(),
        })
    }

    /// Those of all three.
    pub(super) fn models(&self) -> &Models {
        &self.setups[0].models
    }

    /// Until `shutdown`. When one agent cannot go on, it asks the others to drain.
    pub(super) async fn run(self, bus: bus::Settings, shutdown: &Shutdown) -> anyhow::Result<()> {
        let settings = agent::Settings {
            name: "up".to_owned(),
            concurrency: self.slots,
            metrics: self.metrics,
            tier2: Some(TIER2),
            ..agent::Settings::new(bus)
        };
        let [moderate, narrate, speak] = self.setups;
        let (moderator, narrator, dialogue) = tokio::join!(
            agent::run(self.moderator, moderate, settings.clone(), shutdown.clone()),
            agent::run(self.narrator, narrate, settings.clone(), shutdown.clone()),
            agent::run(self.dialogue, speak, settings, shutdown.clone()),
        );
        moderator.and(narrator).and(dialogue)
    }
}
