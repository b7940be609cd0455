//! What of a file of models may not be meant as it is written, where an agent asks one of them first: what is surely not
//! is refused.

use std::path::Path;

use anyhow::bail;
use llm::Price;

use super::{Model, Models};

/// How an agent reaches the model that it asks first, whatever the file has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct First<'a> {
    pub(crate) name: &'a str,
    pub(crate) url: &'a str,
    pub(crate) key_file: Option<&'a Path>,
}

/// A field of a model that does not count where it is asked first.
struct Unheeded {
    field: &'static str,
    /// What counts instead.
    counts: &'static str,
    /// Both say the same.
    is_same: bool,
}

impl Models {
    /// # Errors
    /// When the model of this name, which is asked first, has fields that count nowhere.
    pub(super) fn check_first(&self, name: &str) -> anyhow::Result<()> {
        let first = First {
            name,
            url: "",
            key_file: None,
        };
        let is_asked_next = self
            .models
            .values()
            .any(|model| model.then.iter().any(|next| next == name));
        if is_asked_next {
            return Ok(());
        }
        if let Some(Unheeded { field, counts, .. }) = self.unheeded(first).next() {
            bail!(
                "models.{name}.{field} counts nowhere: no model has {name} in its `then`, and where it is asked first, {counts} counts. Give that, and take `{field}` out"
            );
        }
        Ok(())
    }

    /// For the log, and for who asks whether all is well. `asked`: the fewest tokens that a prompt allows an answer.
    pub(crate) fn doubts(&self, first: First<'_>, asked: Option<u32>) -> Vec<String> {
        let name = first.name;
        let too_small = self.too_small(name, asked);
        let unheeded = self.unheeded(first).filter(|unheeded| !unheeded.is_same);
        let unheeded = unheeded.map(|Unheeded { field, counts, .. }| {
            format!("models.{name}.{field} does not count here, where {name} is asked first: {counts} does")
        });
        let all = self.unnamed(name).into_iter().chain(unheeded);
        all.chain(too_small).collect()
    }

    /// Models are named, and this one is not among them.
    fn unnamed(&self, name: &str) -> Option<String> {
        let is_named = self.models.is_empty() || self.models.contains_key(name);
        (!is_named).then(|| {
            let names: Vec<&str> = self.models.keys().map(String::as_str).collect();
            let names = names.join(", ");
            format!("--models names {names}, and not {name}, which so has no price and no limits of its own")
        })
    }

    /// Limits that no call to one of the models ever fits into, even if its prompt were nothing.
    fn too_small(&self, first: &str, asked: Option<u32>) -> Vec<String> {
        let members = self.members(first).into_iter().map(|member| member.name);
        let models =
            members.map(|name| (self.models.get(&name).cloned().unwrap_or_default(), name));
        let models: Vec<(Model, String)> = models.collect();
        // A prompt that sets no limit has that of the model asked first, or of its own.
        let kept = models.first().map_or(0, |(first, _)| first.answer());
        let each = models.iter().flat_map(|(model, name)| {
            let answer = asked.map_or_else(|| kept.min(model.answer()), u64::from);
            let most = model.max_tokens.map_or(answer, u64::from);
            self.too_small_for((name, model), answer.min(most))
        });
        each.collect()
    }

    fn too_small_for(&self, (name, model): (&str, &Model), answer: u64) -> Vec<String> {
        let days = [
            (format!("models.{name}.per_day"), model.per_day),
            ("stories.per_day".to_owned(), self.stories.per_day),
            ("people.per_day".to_owned(), self.people.per_day),
        ];
        let minute = model.tokens_per_minute.map(|a_minute| {
            let field = format!("models.{name}.tokens_per_minute");
            (field, a_minute, "minute")
        });
        let tokens = days
            .iter()
            .filter_map(|(field, day)| Some((format!("{field}.tokens"), day.tokens?, "day")));
        let tokens = minute
            .into_iter()
            .chain(tokens)
            .filter(|(_, limit, _)| *limit <= answer);
        let tokens = tokens.map(|(field, limit, time)| {
            format!("{field}: no call to {name} ever fits into {limit} a {time}, since its answer alone may have {answer} tokens")
        });
        let least = model
            .price
            .map_or(0.0, |price| Price::in_units(price.at_most(0, answer)));
        let costs = days
            .iter()
            .filter_map(|(field, day)| Some((field, day.cost.filter(|cost| *cost < least)?)));
        let costs = costs.map(|(field, cost)| {
            format!("{field}.cost: no call to {name} ever fits into {cost} a day, since its answer alone may cost {least}")
        });
        let window = model.window.or_else(|| llm::known_window(name));
        let window = window.filter(|window| *window <= answer).map(|window| {
            format!("models.{name}.window: no call to {name} ever fits into {window} tokens, since its answer alone may have {answer}")
        });
        window.into_iter().chain(tokens).chain(costs).collect()
    }

    fn unheeded(&self, first: First<'_>) -> impl Iterator<Item = Unheeded> {
        let model = self.models.get(first.name);
        let at = model.and_then(|model| model.at.as_deref());
        let at = at.map(|at| Unheeded {
            field: "at",
            counts: "the address of --llm",
            is_same: at.trim_end_matches('/') == first.url.trim_end_matches('/'),
        });
        let file = model.and_then(|model| model.key_file.as_deref());
        let file = file.map(|file| Unheeded {
            field: "key_file",
            counts: "the key of --llm-key-file or LLM_API_KEY",
            is_same: Some(file) == first.key_file,
        });
        at.into_iter().chain(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = "models: {a: {then: [b]}, b: {at: 'http://b/v1', key_file: /k}}";

    fn doubts(yaml: &str, name: &str, url: &str, key_file: Option<&str>) -> Vec<String> {
        let first = First {
            name,
            url,
            key_file: key_file.map(Path::new),
        };
        Models::parse(yaml).unwrap().doubts(first, None)
    }

    #[test]
    fn limits_that_no_call_fits_into_are_told_for_each_model_of_a_chain() {
        let yaml = "
models:
  a: {price: {input: 1, output: 2}, tokens_per_minute: 400, then: [b, c]}
  b: {price: {input: 1, output: 20}, per_day: {tokens: 400}}
  c: {price: {input: 1, output: 2}, max_tokens: 100, per_day: {tokens: 400}}
  d: {price: {input: 1, output: 2}, per_day: {tokens: 1}}
people: {per_day: {cost: 0.001}}";
        let first = First {
            name: "a",
            url: "",
            key_file: None,
        };
        let models = Models::parse(yaml).unwrap();
        assert_eq!(
            models.doubts(first, Some(400)),
            [
                "models.a.tokens_per_minute: no call to a ever fits into 400 a minute, since its answer alone may have 400 tokens",
                "models.b.per_day.tokens: no call to b ever fits into 400 a day, since its answer alone may have 400 tokens",
                "people.per_day.cost: no call to b ever fits into 0.001 a day, since its answer alone may cost 0.008",
            ]
        );
        assert_eq!(models.doubts(first, Some(399)).len(), 1);
    }

    #[test]
    fn a_window_that_an_answer_alone_fills_is_told() {
        let models = Models::parse("models: {a: {window: 400, answer: 100}}").unwrap();
        let first = First {
            name: "a",
            url: "",
            key_file: None,
        };
        assert_eq!(
            models.doubts(first, Some(400)),
            [
                "models.a.window: no call to a ever fits into 400 tokens, since its answer alone may have 400"
            ]
        );
        assert!(models.doubts(first, Some(399)).is_empty());
        assert!(models.doubts(first, None).is_empty());
    }

    #[test]
    fn a_model_that_is_not_named_beside_others_is_told() {
        let doubts = |yaml, name| doubts(yaml, name, "http://a/v1", None);
        let told = doubts("models: {a: {}, b: {}}", "c").concat();
        assert!(told.starts_with("--models names a, b, and not c"), "{told}");
        assert!(doubts("models: {a: {}}", "a").is_empty());
        assert!(doubts("stories: {per_day: {tokens: 5000}}", "a").is_empty());
    }

    #[test]
    fn an_address_or_a_key_that_counts_nowhere_is_refused_with_what_counts() {
        let settings = llm::Settings::new("http://a/v1");
        for (field, says) in [
            (
                "at: 'http://b/v1'",
                "models.b.at counts nowhere: no model has b in its `then`, and where it is asked first, the address of --llm counts. Give that, and take `at` out",
            ),
            (
                "key_file: /nowhere",
                "models.b.key_file counts nowhere: no model has b in its `then`, and where it is asked first, the key of --llm-key-file or LLM_API_KEY counts",
            ),
        ] {
            let models = Models::parse(&format!("models: {{a: {{}}, b: {{{field}}}}}")).unwrap();
            let error = models.client("b", &settings).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
            // Whoever asks another one first does not know whether somebody asks that one.
            models.client("a", &settings).unwrap();
        }
    }

    #[test]
    fn a_model_that_is_asked_first_here_and_next_elsewhere_is_only_told_of() {
        let settings = llm::Settings::new("http://c/v1");
        Models::parse(CHAIN)
            .unwrap()
            .client("b", &settings)
            .unwrap();
        assert_eq!(
            doubts(CHAIN, "b", "http://c/v1", Some("/other")),
            [
                "models.b.at does not count here, where b is asked first: the address of --llm does",
                "models.b.key_file does not count here, where b is asked first: the key of --llm-key-file or LLM_API_KEY does",
            ]
        );
        assert!(doubts(CHAIN, "b", "http://b/v1/", Some("/k")).is_empty());
        assert!(doubts(CHAIN, "a", "http://c/v1", None).is_empty());
    }
}
