//! What models cost, what their providers grant, and what stories and people may use of them: a file (YAML) that all
//! workers of a fleet have. docs/models.md has an example with all its fields. What is not there is not limited.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bus::{Budget, Limits, Unit};
use llm::{Encoding, Price};
use serde::{Deserialize, Deserializer};

use crate::file::text;
use crate::flags;
use crate::prompts::first_line;

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

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Model {
    pub(crate) price: Option<Price>,
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
    calls_at_once: Option<u64>,
    answer: Option<u64>,
    pub(crate) window: Option<u64>,
    pub(crate) tokenizer: Option<Encoding>,
    per_day: Day,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Wait(Duration);

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Each {
    per_day: Day,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Day {
    tokens: Option<u64>,
    cost: Option<f64>,
}

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
            let at = |field: &str| format!("models.{name}.{field}");
            for (field, limit) in [
                ("requests_per_minute", model.requests_per_minute),
                ("tokens_per_minute", model.tokens_per_minute),
                ("calls_at_once", model.calls_at_once),
                ("answer", model.answer),
                ("window", model.window),
            ] {
                some(&at(field), limit)?;
            }
            if model.window.is_some_and(|window| window <= model.answer()) {
                bail!(
                    "{}: an answer of {} tokens leaves no room in it for a prompt",
                    at("window"),
                    model.answer()
                );
            }
            if model.price.is_some_and(|price| !price.is_sound()) {
                bail!(
                    "{}: a price is a number, 0 or more, and {} at most",
                    at("price"),
                    Price::MOST
                );
            }
            model.per_day.check(&at("per_day"))?;
            let costs = [&model.per_day, &self.stories.per_day, &self.people.per_day];
            if model.price.is_none() && costs.iter().any(|day| day.cost.is_some()) {
                bail!(
                    "{} is missing: a cost per day can only be kept for models whose price is known",
                    at("price")
                );
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

    /// What may not be meant: models are named, and this one is not among them.
    pub(crate) fn doubt(&self, name: &str) -> Option<String> {
        let is_named = self.models.is_empty() || self.models.contains_key(name);
        (!is_named).then(|| {
            let names: Vec<&str> = self.models.keys().map(String::as_str).collect();
            let names = names.join(", ");
            format!("--models names {names}, and not {name}, which so has no price and no limits of its own")
        })
    }

    /// What the tokens of the model of this name cost, where that is known.
    ///
    /// # Errors
    /// When a cost per day is to be kept, and it is not.
    pub fn price(&self, name: &str) -> anyhow::Result<Option<Price>> {
        Ok(self.model(name)?.price)
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

impl Model {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            requests_per_minute: self.requests_per_minute.unwrap_or(0),
            tokens_per_minute: self.tokens_per_minute.unwrap_or(0),
            at_once: self.calls_at_once.unwrap_or(0),
        }
    }

    /// Most tokens of an answer whose request sets no limit.
    pub(crate) fn answer(&self) -> u64 {
        self.answer.unwrap_or(1_000)
    }
}

impl Day {
    fn check(&self, at: &str) -> anyhow::Result<()> {
        some(&format!("{at}.tokens"), self.tokens)?;
        match self.cost {
            Some(cost) if !cost.is_finite() || cost <= 0.0 => {
                bail!("{at}.cost must be more than 0: leave it out where there is no limit")
            }
            _ => Ok(()),
        }
    }

    fn budgets(self, whose: String) -> impl Iterator<Item = Budget> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is more than 0, and saturates"
        )]
        let cost = self.cost.map(|cost| (cost * 1e6) as u64);
        let each = [(Unit::Tokens, self.tokens), (Unit::Cost, cost)];
        each.into_iter().filter_map(move |(unit, a_day)| {
            let whose = whose.clone();
            a_day.map(|a_day| Budget { unit, whose, a_day })
        })
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

/// What is wrong, and the line that it is in.
fn misread(error: &serde_saphyr::Error, yaml: &str) -> anyhow::Error {
    let what = first_line(&error.to_string());
    let at = error
        .location()
        .and_then(|at| usize::try_from(at.line()).ok());
    let line = at.and_then(|at| yaml.lines().nth(at.saturating_sub(1)));
    match line {
        Some(line) => anyhow!("{what}: `{}`", line.trim()),
        None => anyhow!(what),
    }
}

fn some(at: &str, limit: Option<u64>) -> anyhow::Result<()> {
    if limit == Some(0) {
        bail!("{at}: 0 would let nobody through; leave it out where there is no limit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
    fn a_model_that_is_not_named_beside_others_is_told() {
        let doubt = |yaml, name| Models::parse(yaml).unwrap().doubt(name);
        let told = doubt("models: {a: {}, b: {}}", "c").unwrap();
        assert!(told.starts_with("--models names a, b, and not c"), "{told}");
        assert_eq!(doubt("models: {a: {}}", "a"), None);
        assert_eq!(doubt("stories: {per_day: {tokens: 5}}", "a"), None);
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
