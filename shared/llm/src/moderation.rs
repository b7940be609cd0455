//! The moderation endpoint: is a text harmful, and how.

use std::collections::{BTreeMap, BTreeSet};

use async_openai::traits::RequestOptionsBuilder;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use crate::chain::Api;
use crate::{Class, Client, Error, Labels};

/// The endpoint's judgement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moderation {
    pub flagged: bool,
    /// The endpoint's names of what it flagged, sorted.
    pub categories: Vec<String>,
}

impl Client {
    /// Asks `/moderations` about `text`; without a model the provider takes its default one.
    pub async fn moderate(
        &self,
        model: Option<&str>,
        text: &str,
        labels: &Labels,
    ) -> Result<Moderation, Error> {
        let (headers, question) = (&labels.headers(), &Question { model, input: text });
        let ask = |api: Api| async move {
            api.moderations()
                .headers(headers.clone())
                .create_byot(question)
                .await
        };
        let reel = self.reel(0, || {
            let body = to_raw_value(question);
            body.expect("texts always serialise").into()
        });
        let answer: Answer = self.unary(0, reel, ask).await?;
        answer.try_into()
    }
}

#[derive(Serialize)]
struct Question<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    input: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Judgement>,
}

#[derive(Deserialize)]
struct Judgement {
    flagged: bool,
    #[serde(default)]
    categories: BTreeMap<String, Option<bool>>,
}

/// One that judges nothing is no answer. What only a category says is flagged too: endpoints set their own thresholds.
impl TryFrom<Answer> for Moderation {
    type Error = Error;

    fn try_from(answer: Answer) -> Result<Self, Error> {
        if answer.results.is_empty() {
            let what = "the moderation endpoint answered without a result";
            return Err(Error::new(Class::Provider, what));
        }
        let flagged = answer.results.iter().any(|result| result.flagged);
        let categories = answer
            .results
            .into_iter()
            .flat_map(|result| result.categories);
        let named: BTreeSet<_> = categories
            .filter(|(_, is)| *is == Some(true))
            .map(|(name, _)| name)
            .collect();
        Ok(Self {
            flagged: flagged || !named.is_empty(),
            categories: named.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flagged_categories_of_all_results_are_named_once() {
        let answer: Answer = serde_json::from_str(
            r#"{"id":"m","model":"x","results":[
                {"flagged":false,"categories":{"hate":false,"violence":null},"category_scores":{"hate":0.1}},
                {"flagged":true,"categories":{"violence":true,"hate/threatening":true},"category_applied_input_types":{}}]}"#,
        )
        .unwrap();
        let told = Moderation {
            flagged: true,
            categories: vec!["hate/threatening".into(), "violence".into()],
        };
        assert_eq!(Moderation::try_from(answer).unwrap(), told);
    }

    #[test]
    fn a_category_alone_flags_and_an_answer_without_results_is_none() {
        let told = |json| Moderation::try_from(serde_json::from_str::<Answer>(json).unwrap());
        let named = told(r#"{"results":[{"flagged":false,"categories":{"hate":true}}]}"#).unwrap();
        assert!(named.flagged, "{named:?}");
        assert!(!told(r#"{"results":[{"flagged":false}]}"#).unwrap().flagged);
        let error = told(r#"{"results":[]}"#).unwrap_err();
        assert_eq!(error.class, Class::Provider);
    }
}
