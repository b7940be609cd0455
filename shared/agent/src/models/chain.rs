//! A client of a model and of those that are asked in its place where it fails.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use llm::{Client, Manner, Settings, known_window};

use super::{Model, Models};
use crate::key;

impl Models {
    /// Asks the model of this name as `settings` say, and where it fails those of its `then`: each at its own place with its own
    /// key, or where the first one is.
    ///
    /// # Errors
    /// Words for who wrote the file or the command line.
    pub fn client(&self, name: &str, settings: &Settings) -> anyhow::Result<Client> {
        self.check_first(name)?;
        let mut chain = self.chain(name)?.into_iter();
        let first = chain.next().map(|(_, model)| model).unwrap_or_default();
        let then = chain.map(|(name, model)| {
            let at = |field: &str| format!("models.{name}.{field}");
            let settings = Settings {
                price: model.price,
                ..model.settings(settings).with_context(|| at("key_file"))?
            };
            // Whether it can be asked there.
            Client::new(settings.clone()).with_context(|| at("at"))?;
            let manner = Manner {
                name: Some(model.name.clone().unwrap_or_else(|| name.clone())),
                window: model.window.or_else(|| known_window(&name)),
                ..model.manner()
            };
            Ok(llm::Model { settings, manner })
        });
        let then = then.collect::<anyhow::Result<_>>()?;
        let first = llm::Model {
            manner: first.manner(),
            settings: Settings {
                price: first.price,
                ..settings.clone()
            },
        };
        Ok(Client::chain(first, then)?)
    }

    /// The model of this name and those that are asked in its place, in their order.
    ///
    /// # Errors
    /// When what is to be kept cannot be kept for one.
    pub(crate) fn chain(&self, name: &str) -> anyhow::Result<Vec<(String, Model)>> {
        let first = self.model(name)?;
        let then = first.then.clone();
        let names = std::iter::once(name.to_owned()).chain(then);
        names
            .map(|name| Ok((name.clone(), self.model(&name)?)))
            .collect()
    }

    /// The files with the keys of those that are asked in the place of the model of this name, each with its place.
    pub(crate) fn key_files(&self, name: &str) -> anyhow::Result<Vec<(usize, PathBuf)>> {
        let chain = self.chain(name)?.into_iter().enumerate().skip(1);
        let files = chain.filter_map(|(place, (_, model))| Some((place, model.key_file?)));
        Ok(files.collect())
    }
}

impl Model {
    /// A key is shown where it is meant for alone.
    fn settings(&self, first: &Settings) -> anyhow::Result<Settings> {
        let file = self.key_file.as_deref().map(Path::new);
        let own = file.map(key::read).transpose()?;
        Ok(match &self.at {
            Some(at) => Settings {
                base_url: at.clone(),
                api_key: own,
                headers: Vec::new(),
                ..first.clone()
            },
            None => Settings {
                api_key: own.or_else(|| first.api_key.clone()),
                ..first.clone()
            },
        })
    }

    fn manner(&self) -> Manner {
        Manner {
            name: self.name.clone(),
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            window: None,
        }
    }
}
