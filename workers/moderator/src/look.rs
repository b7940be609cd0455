//! The second tier: a moderation endpoint that sees every text, or a model that sees what the rules flagged.

use agent::{HandleError, Turn};
use llm::{Labels, Schema};
use moderation::{Finding, Rules};
use scene::plain;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use story::{Decision, LlmReport, Rating};

use crate::{JUDGE, Ruling};

/// The endpoint's categories that fiction may be full of, in stories of this rating and of higher ones: a human looks, nothing
/// is held back.
const FICTION: [(&str, Rating); 4] = [
    ("violence", Rating::General),
    ("harassment", Rating::General),
    ("violence/graphic", Rating::Teen),
    ("sexual", Rating::Mature),
];

/// Most characters of a reason that a model gives.
const REASON: usize = 200;

/// What it may name: readers are shown it.
const CATEGORIES: [&str; 17] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "illicit/weapons",
    "private-data",
    "profanity",
    "self-harm",
    "self-harm/encouragement",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// What judge.md is given.
#[derive(Debug, Serialize)]
pub(crate) struct Case {
    /// The mark around the text.
    pub(crate) fence: String,
    pub(crate) rating: Rating,
    pub(crate) categories: Vec<String>,
    pub(crate) text: String,
}

#[derive(Deserialize, JsonSchema)]
struct Judgement {
    #[schemars(with = "String", extend("enum" = ["allow", "flag", "block"]))]
    decision: Decision,
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "enum": CATEGORIES}))]
    categories: Vec<String>,
    #[serde(default)]
    reason: String,
}

pub(crate) async fn endpoint(
    turn: &Turn,
    text: &str,
    finding: Finding,
) -> Result<Ruling, HandleError> {
    let labels = Labels {
        agent: turn.agent.as_str().to_owned(),
        event: turn.event.id.as_str().to_owned(),
        traceparent: turn.event.trace.clone().map(String::from),
    };
    let told = turn.llm.moderate(None, text, &labels).await?;
    if !told.flagged {
        return Ok(Ruling::rules(finding));
    }
    let decision = gravity(&told.categories, turn.context.content.rating);
    // Whoever looks at the verdict sees all that was found, also where only the rules know its name.
    let mut categories = [finding.categories, told.categories].concat();
    categories.sort();
    categories.dedup();
    Ok(Ruling::new(decision, categories, "endpoint"))
}

/// What becomes of a text in which an endpoint found these.
fn gravity(categories: &[String], rating: Rating) -> Decision {
    let is_fiction = |category: &String| {
        let mut fiction = FICTION.into_iter();
        fiction.any(|(name, least)| name == category && rating >= least)
    };
    match !categories.is_empty() && categories.iter().all(is_fiction) {
        true => Decision::Flag,
        false => Decision::Block,
    }
}

/// The model's ruling; what it cost is in `spent`. All readers see why, and a text can ask for it to be quoted: what `rules`
/// do not let pass of the model's own words is left out.
pub(crate) async fn model(
    turn: &Turn,
    case: &Case,
    rules: &Rules,
    spent: &mut Vec<LlmReport>,
) -> Result<Ruling, HandleError> {
    let prompt = turn.prompts.get(JUDGE)?;
    let schema = Schema::of::<Judgement>("judgement");
    let judgement: Judgement =
        scene::structured(turn, prompt, prompt.render(case)?, schema, spent).await?;
    let mut categories = judgement.categories;
    categories.retain(|category| CATEGORIES.contains(&category.as_str()));
    if categories.is_empty() {
        categories.clone_from(&case.categories);
    }
    let mut ruling = Ruling::new(judgement.decision, categories, "llm");
    let reason: String = plain(&judgement.reason).chars().take(REASON).collect();
    if !reason.is_empty() && rules.judge(&reason).decision == Decision::Allow {
        ruling.reason = reason;
    }
    Ok(ruling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fiction_may_be_full_of_is_for_a_rating_to_say() {
        use Decision::{Block, Flag};
        for (categories, decisions) in [
            (["violence"].as_slice(), [Flag, Flag, Flag]),
            (&["violence", "violence/graphic"], [Block, Flag, Flag]),
            (&["sexual"], [Block, Block, Flag]),
            (&["sexual", "sexual/minors"], [Block, Block, Block]),
            (&["one that came later"], [Block, Block, Block]),
            (&[], [Block, Block, Block]),
        ] {
            let categories: Vec<String> = categories.iter().map(|&one| one.to_owned()).collect();
            let ratings = [Rating::General, Rating::Teen, Rating::Mature];
            let told = ratings.map(|rating| gravity(&categories, rating));
            assert_eq!(told, decisions, "{categories:?}");
        }
    }

    #[test]
    fn it_is_asked_for_what_a_verdict_can_be() {
        insta::assert_snapshot!(Schema::of::<Judgement>("judgement").text(), @r#"{"additionalProperties":false,"properties":{"decision":{"enum":["allow","flag","block"],"type":"string"},"categories":{"items":{"enum":["harassment","harassment/threatening","hate","hate/threatening","illicit","illicit/violent","illicit/weapons","private-data","profanity","self-harm","self-harm/encouragement","self-harm/instructions","self-harm/intent","sexual","sexual/minors","violence","violence/graphic"],"type":"string"},"type":"array"},"reason":{"type":"string"}},"required":["decision","categories","reason"],"type":"object"}"#);
        for decision in ["allow", "flag", "block"] {
            let answer = format!(r#"{{"decision":"{decision}"}}"#);
            assert!(llm::read::<Judgement>(&answer).is_ok(), "{decision}");
        }
    }
}
