//! What models cost, what their providers grant, and what stories and people may use of them: a file (YAML) that all
//! workers of a fleet have. docs/models.md has an example with all its fields. What is not there is not limited.

mod chain;
mod doubts;
mod member;
mod misread;
mod model;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bus::{Budget, Limits};
use serde::{Deserialize, Deserializer};

pub(crate) use self::doubts::First;
pub use self::member::Member;
use self::misread::misread;
pub(crate) use self::model::Model;
use self::model::{Day, Each};
use crate::file::text;
use crate::flags;

/// The most bytes of a file.
const MAX_BYTES: u64 = 256 * 1024;

/// What is known of models. Empty: nothing is limited, and nobody is asked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    wait: Wait,
    models: BTreeMap<String, Model>,
    stories: Each,
    people: Each,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Wait(Duration);

impl Models {
    /// # Errors
    /// Words for who wrote the file.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let name = file.display();
        let yaml = match text(file, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => bail!(
                "the file of models {name} has more than {} KiB",
                MAX_BYTES / 1024
            ),
            yaml => yaml.with_context(|| format!("the file of models {name} cannot be read"))?,
        };
        Self::parse(&yaml).with_context(|| format!("the file of models {name} does not do"))
    }

    pub(crate) fn parse(yaml: &str) -> anyhow::Result<Self> {
        let models: Self = serde_saphyr::from_str(yaml).map_err(|error| misread(&error, yaml))?;
        models.check()?;
        Ok(models)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (name, model) in &self.models {
            model.check(&format!("models.{name}"))?;
            let costs = [&model.per_day, &self.stories.per_day, &self.people.per_day];
            if model.price.is_none() && costs.iter().any(|day| day.cost.is_some()) {
                bail!(
                    "models.{name}.price is missing: a cost per day can only be kept for models whose price is known"
                );
            }
            for (place, next) in model.then.iter().enumerate() {
                let at = format!("models.{name}.then");
                if !self.models.contains_key(next) {
                    bail!("{at}: there is no models.{next}");
                }
                if next == name || model.then[..place].contains(next) {
                    bail!("{at}: {next} would be asked twice");
                }
            }
        }
        self.stories.per_day.check("stories.per_day")?;
        self.people.per_day.check("people.per_day")
    }

    /// `name`, as the fleet's command line names it.
    ///
    /// # Errors
    /// When what is to be kept cannot be kept for it.
    pub(crate) fn model(&self, name: &str) -> anyhow::Result<Model> {
        let model = self.models.get(name).cloned().unwrap_or_default();
        let costs = [self.stories.per_day.cost, self.people.per_day.cost];
        if model.price.is_none() && costs.iter().any(Option::is_some) {
            bail!("models.{name}.price is missing: a cost per day is to be kept");
        }
        Ok(model)
    }

    /// How long a call may wait for its turn.
    pub(crate) fn wait(&self) -> Duration {
        self.wait.0
    }

    /// What a call to `model` for `story`, and for each of `people`, counts against.
    pub(crate) fn budgets(
        &self,
        (name, model): (&str, &Model),
        story: &str,
        people: &[String],
    ) -> Vec<Budget> {
        let whose = [
            (format!("model:{name}"), model.per_day),
            (format!("story:{story}"), self.stories.per_day),
        ];
        let people = people.iter();
        let people = people.map(|person| (format!("person:{person}"), self.people.per_day));
        let all = whose.into_iter().chain(people);
        all.flat_map(|(whose, day)| day.budgets(whose)).collect()
    }

    /// Whether a call to `model` must be asked for.
    pub(crate) fn limits(&self, model: &Model) -> bool {
        let days = [model.per_day, self.stories.per_day, self.people.per_day];
        model.limits() != Limits::default() || days.iter().any(|day| *day != Day::default())
    }
}

impl Default for Wait {
    fn default() -> Self {
        Self(Duration::from_secs(300))
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wait = flags::pause(&text);
        wait.map(Self)
            .map_err(|wanted| serde::de::Error::custom(format!("wait `{text}`: {wanted}")))
    }
}

#[cfg(test)]
mod tests {
    use bus::Unit;
    use secrecy::ExposeSecret;

    use super::*;

    /// The example in docs/models.md.
    fn example() -> &'static str {
        let (_, yaml) = include_str!("../../../docs/models.md")
            .split_once("```yaml\n")
            .unwrap();
        yaml.split_once("```").unwrap().0
    }

    #[test]
    fn the_example_says_what_it_says() {
        let models = Models::parse(example()).unwrap();
        let model = models.model("gpt-4o-mini").unwrap();
        assert_eq!(models.wait(), Duration::from_secs(300));
        let limits = Limits {
            requests_per_minute: 500,
            tokens_per_minute: 200_000,
            at_once: 50,
        };
        assert_eq!((model.limits(), model.answer()), (limits, 1_000));
        let budgets = models.budgets(("gpt-4o-mini", &model), "castle", &["mira".to_owned()]);
        let told: Vec<_> = budgets
            .iter()
            .map(|budget| (budget.whose.as_str(), budget.unit, budget.a_day))
            .collect();
        assert_eq!(
            told,
            [
                ("model:gpt-4o-mini", Unit::Tokens, 5_000_000),
                ("model:gpt-4o-mini", Unit::Cost, 20_000_000),
                ("story:castle", Unit::Tokens, 200_000),
                ("person:mira", Unit::Cost, 500_000),
            ]
        );
    }

    #[test]
    fn a_file_that_does_not_do_is_refused_with_what_to_write() {
        for (yaml, says) in [
            (
                "models: {m: {tokens_per_minute: 0}}",
                "models.m.tokens_per_minute: 0 would let nobody through",
            ),
            (
                "models: {m: {window: 1000}}",
                "models.m.window: an answer of 1000 tokens leaves no room",
            ),
            ("models: {m: {window: 0}}", "models.m.window: 0 would"),
            ("models: {m: {tokenizer: mine}}", "o200k_base"),
            ("models: {m: {tokens_per_minute: -5}}", "tokens_per_minute"),
            ("models: {m: {token_per_minute: 5}}", "token_per_minute"),
            (
                "models: {m: {price: {input: -1, output: 1}}}",
                "models.m.price: a price is a number, 0 or more",
            ),
            ("models: {m: {price: {input: 1}}}", "output"),
            (
                "models: {m: {per_day: {cost: 5}}}",
                "models.m.price is missing",
            ),
            (
                "models: {m: {}}\nstories: {per_day: {cost: 5}}",
                "models.m.price is missing",
            ),
            (
                "stories: {per_day: {cost: -5}}",
                "stories.per_day.cost must be more than 0",
            ),
            (
                "stories: {per_day: {cost: 0.0000009}}",
                "stories.per_day.cost must be more than 0, and 0.000001 at least",
            ),
            (
                "people: {per_day: {tokens: 0}}",
                "people.per_day.tokens: 0 would let nobody through",
            ),
            ("wait: soon", "write it like 500ms, 10s or 1m"),
            ("model: {}", "model"),
            ("- a", ""),
        ] {
            let error = Models::parse(yaml).unwrap_err().to_string();
            assert!(error.contains(says), "{yaml}: {error}");
        }
    }

    #[test]
    fn a_chain_and_a_manner_that_do_not_do_are_refused_with_their_place() {
        for (yaml, says) in [
            (
                "models: {m: {then: [n]}}",
                "models.m.then: there is no models.n",
            ),
            (
                "models: {m: {then: [m]}}",
                "models.m.then: m would be asked twice",
            ),
            (
                "models: {m: {then: [n, n]}, n: {}}",
                "models.m.then: n would be asked twice",
            ),
            (
                "models: {m: {then: [a, b, c, d, e, f, g, h, i]}, a: {}, b: {}, c: {}, d: {}, e: {}, f: {}, g: {}, h: {}, i: {}}",
                "models.m.then: more than 8 models",
            ),
            (
                "models: {m: {max_tokens: 0}}",
                "models.m.max_tokens: 0 would",
            ),
            (
                "models: {m: {temperature: 2.5}}",
                "models.m.temperature: it is a number from 0 to 2",
            ),
        ] {
            let error = Models::parse(yaml).unwrap_err().to_string();
            assert!(error.contains(says), "{yaml}: {error}");
        }
    }

    #[test]
    fn a_model_is_asked_at_its_place_with_its_key_and_never_with_another_ones() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-own\n").unwrap();
        let yaml = format!(
            "models: {{a: {{then: [b, c, d]}}, b: {{at: 'http://b/v1'}}, c: {{at: 'http://c/v1', key_file: {0}}}, d: {{name: dd}}}}",
            file.display()
        );
        let models = Models::parse(&yaml).unwrap();
        let settings = llm::Settings {
            api_key: Some("sk-first".into()),
            ..llm::Settings::new("http://a/v1")
        };
        let client = models.client("a", &settings).unwrap();
        let keys: Vec<_> = (0..4)
            .map(|place| client.key(place).map(|key| key.expose_secret().to_owned()))
            .collect();
        let own = |key: &str| Some(key.to_owned());
        assert_eq!(
            keys,
            [own("sk-first"), None, own("sk-own"), own("sk-first")]
        );
        let addresses: Vec<_> = client.addresses().collect();
        assert_eq!(
            addresses,
            ["http://a/v1", "http://b/v1", "http://c/v1", "http://a/v1"]
        );
        let names: Vec<_> = client
            .manners()
            .map(|(manner, _)| manner.name.clone())
            .collect();
        assert_eq!(names, [None, own("b"), own("c"), own("dd")]);
        let files = models.key_files("a").unwrap();
        assert_eq!(files, [(2, file.clone())]);
        std::fs::remove_file(&file).unwrap();
        let error = format!("{:#}", models.client("a", &settings).unwrap_err());
        assert!(
            error.starts_with("models.c.key_file: the key file"),
            "{error}"
        );
    }

    #[test]
    fn an_address_that_is_none_is_told_with_its_model() {
        let models = Models::parse("models: {a: {then: [b]}, b: {at: 'b:80'}}").unwrap();
        let error = models.client("a", &llm::Settings::default()).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.starts_with("models.b.at: ") && error.contains("must start with http"),
            "{error}"
        );
    }

    #[test]
    fn a_cost_cannot_be_kept_for_a_model_without_a_price() {
        let models = Models::parse("stories: {per_day: {cost: 5}}").unwrap();
        let error = models.model("m").unwrap_err().to_string();
        assert!(error.contains("models.m.price is missing"), "{error}");
    }

    #[test]
    fn nobody_is_asked_where_nothing_is_limited() {
        let models = Models::parse("models: {m: {price: {input: 1, output: 2}}}").unwrap();
        assert!(!models.limits(&models.model("m").unwrap()));
        assert!(!models.limits(&models.model("other").unwrap()));
        let models = Models::parse("people: {per_day: {tokens: 5}}").unwrap();
        assert!(models.limits(&models.model("other").unwrap()));
    }
}
