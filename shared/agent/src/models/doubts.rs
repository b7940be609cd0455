//! What of a file of models may not be meant as it is written, where an agent asks one of them first: what is surely not
//! is refused.

use std::path::Path;

use anyhow::bail;

use super::Models;

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

    /// For the log, and for who asks whether all is well.
    pub(crate) fn doubts(&self, first: First<'_>) -> Vec<String> {
        let name = first.name;
        let unheeded = self.unheeded(first).filter(|unheeded| !unheeded.is_same);
        let unheeded = unheeded.map(|Unheeded { field, counts, .. }| {
            format!("models.{name}.{field} does not count here, where {name} is asked first: {counts} does")
        });
        self.unnamed(name).into_iter().chain(unheeded).collect()
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
        Models::parse(yaml).unwrap().doubts(First {
            name,
            url,
            key_file: key_file.map(Path::new),
        })
    }

    #[test]
    fn a_model_that_is_not_named_beside_others_is_told() {
        let doubts = |yaml, name| doubts(yaml, name, "http://a/v1", None);
        let told = doubts("models: {a: {}, b: {}}", "c").concat();
        assert!(told.starts_with("--models names a, b, and not c"), "{told}");
        assert!(doubts("models: {a: {}}", "a").is_empty());
        assert!(doubts("stories: {per_day: {tokens: 5}}", "a").is_empty());
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
