//! The three agents, as workers of this process.

use agent::{Setup, Shutdown};
use dialogue::Dialogue;
use moderator::{Moderator, OnError, Tier};
use narrator::Narrator;
use scene::Budget;

use super::model::Model;
use crate::args::UpArgs;

pub(super) struct Fleet {
    setup: Setup,
    moderator: Moderator,
    narrator: Narrator,
    dialogue: Dialogue,
    slots: usize,
}

impl Fleet {
    /// Does no I/O: what is wrong here is the configuration.
    pub(super) fn new(args: &UpArgs, model: &Model) -> anyhow::Result<Self> {
        let setup = Setup {
            llm: model.client()?,
            model: model.name.clone(),
            prompts: None,
            key_file: None,
        };
        let judging = moderator::Options {
            tier2: Tier::Llm,
            input_on_error: OnError::Allow,
        };
        Ok(Self {
            setup,
            moderator: Moderator::new(judging),
            narrator: Narrator::new(Budget::default()),
            dialogue: Dialogue::new(Budget::default()),
            slots: args.workers.get(),
        })
    }

    /// Until `shutdown`. When one agent cannot go on, it asks the others to drain.
    pub(super) async fn run(self, bus: bus::Settings, shutdown: &Shutdown) -> anyhow::Result<()> {
        let settings = agent::Settings {
            name: "up".to_owned(),
            concurrency: self.slots,
            ..agent::Settings::new(bus)
        };
        let (moderator, narrator, dialogue) = tokio::join!(
            agent::run(
                self.moderator,
                self.setup.clone(),
                settings.clone(),
                shutdown.clone()
            ),
            agent::run(
                self.narrator,
                self.setup.clone(),
                settings.clone(),
                shutdown.clone()
            ),
            agent::run(self.dialogue, self.setup, settings, shutdown.clone()),
        );
        moderator.and(narrator).and(dialogue)
    }
}
