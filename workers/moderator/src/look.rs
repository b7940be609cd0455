//! The second tier: a moderation endpoint that sees every text, or a model that sees what the rules flagged.

use agent::{HandleError, Turn};
use llm::{Labels, Schema};
use scene::plain;
use serde::{Deserialize, Serialize};
use story::{Decision, LlmReport};

use crate::rules::Finding;
use crate::{JUDGE, Ruling};

/// The endpoint's categories that fiction may be full of: a human looks, nothing is held back.
const FICTION: [&str; 3] = ["violence", "violence/graphic", "harassment"];

/// Most characters of a reason that a model gives.
const REASON: usize = 200;

const SCHEMA: &str = r#"{"type":"object","properties":{"decision":{"type":"string","enum":["allow","flag","block"]},"categories":{"type":"array","items":{"type":"string"}},"reason":{"type":"string"}},"required":["decision","categories","reason"],"additionalProperties":false}"#;

/// What judge.md is given.
#[derive(Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) categories: Vec<String>,
    pub(crate) text: String,
}

#[derive(Deserialize)]
struct Judgement {
    decision: Decision,
    #[serde(default)]
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
    let fiction = |category: &String| FICTION.contains(&category.as_str());
    let decision = if !told.categories.is_empty() && told.categories.iter().all(fiction) {
        Decision::Flag
    } else {
        Decision::Block
    };
    // Whoever looks at the verdict sees all that was found, also where only the rules know its name.
    let mut categories = [finding.categories, told.categories].concat();
    categories.sort();
    categories.dedup();
    Ok(Ruling::new(decision, categories, "endpoint"))
}

/// The model's ruling, and what it cost.
pub(crate) async fn model(turn: &Turn, case: &Case) -> Result<(Ruling, LlmReport), HandleError> {
    let prompt = turn.prompts.get(JUDGE)?;
    let schema = Schema::new("judgement", SCHEMA)?;
    let (answer, report) = scene::whole(turn, prompt, prompt.render(case)?, schema).await?;
    let judgement: Judgement = serde_json::from_str(&answer)
        .map_err(|error| HandleError::permanent(llm::Class::Schema.as_str(), error))?;
    let mut ruling = Ruling::new(judgement.decision, judgement.categories, "llm");
    let reason: String = plain(&judgement.reason).chars().take(REASON).collect();
    if !reason.is_empty() {
        ruling.reason = reason;
    }
    Ok((ruling, report))
}
