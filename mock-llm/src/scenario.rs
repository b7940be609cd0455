//! Scripts: rules that answer or fail in the mock's place. Read from YAML, checked wholly before use.
//!
//! ```yaml
//! models: [mock]                      # others are 404; none named: every model exists
//! limits: {requests: 60, tokens: 10000, minute: sliding}   # or bucket, fixed
//! chaos: {rate: 0.05, faults: [stall(3), cut]}
//! rules:                              # the first one that matches replies
//! - when: {agent: narrator, attempt: 1}
//!   reply: {fault: stall(12)}
//! - when: {regex: "(?i)dragon", within: prompt, nth: [2, 3], probability: 0.5}
//!   reply: {text: "There are no dragons here."}
//! ```

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::calls::{Call, Endpoint};
use crate::dice::Dice;
use crate::fault::Fault;
use crate::limits::Limits;

/// How the server behaves. The default has no rules, no limits and no chaos: it answers as each agent is asked to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// The models there are; none named: every name is one.
    pub models: Vec<String>,
    pub limits: Limits,
    pub chaos: Chaos,
    rules: Vec<Rule>,
}

/// Faults at random, by seed, event and attempt: a retry rolls anew.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chaos {
    pub rate: Rate,
    /// None named: every transient one.
    pub faults: Vec<Fault>,
}

/// A probability, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Rate(f64);

/// `file` is what was to be read; the source says what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} cannot be read", .file.display())]
    Read {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{}:{} is wrong", .file.display(), .source.line())]
    Invalid { file: PathBuf, source: Invalid },
}

/// YAML that is no scenario.
#[derive(Debug)]
pub struct Invalid(Box<serde_saphyr::Error>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no probability: write 0 to 1")]
pub struct BadRate(String);

/// What to answer, and how to fail at it; a rule has at least one of the two.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "RawReply")]
pub(crate) struct Reply {
    pub(crate) text: Option<String>,
    pub(crate) fault: Option<Fault>,
}

/// A scenario in use, with what it has counted.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) scenario: Scenario,
    hits: Vec<AtomicU32>,
}

/// The call that a script is asked about.
pub(crate) struct Question<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) agent: &'a str,
    pub(crate) call: &'a Call,
    pub(crate) seed: u64,
    pub(crate) text: &'a dyn Fn(Scope) -> String,
}

/// Which text a regex is matched with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    #[default]
    LastUser,
    Prompt,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    when: When,
    reply: Reply,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct When {
    endpoint: Option<Endpoint>,
    agent: Option<String>,
    regex: Option<Pattern>,
    within: Scope,
    /// The nth call of the same event.
    attempt: Option<Numbers>,
    probability: Option<Rate>,
    /// The nth call for which all else holds.
    nth: Option<Numbers>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(u32),
    Many(Vec<u32>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(Regex);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReply {
    text: Option<String>,
    json: Option<Value>,
    fault: Option<Fault>,
}

impl Scenario {
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(file).map_err(|source| Error::Read {
            file: file.to_owned(),
            source,
        })?;
        text.parse().map_err(|source| Error::Invalid {
            file: file.to_owned(),
            source,
        })
    }

    /// The number of rules.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }
}

impl FromStr for Scenario {
    type Err = Invalid;

    /// An empty text is the default scenario.
    fn from_str(yaml: &str) -> Result<Self, Invalid> {
        let read: Option<Self> =
            serde_saphyr::from_str(yaml).map_err(|error| Invalid(Box::new(error)))?;
        Ok(read.unwrap_or_default())
    }
}

impl Script {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let hits = scenario.rules.iter().map(|_| AtomicU32::new(0)).collect();
        Self { scenario, hits }
    }

    /// The reply of the first rule that matches; else a fault of chaos, or nothing.
    pub(crate) fn reply(&self, question: &Question<'_>) -> Option<Reply> {
        let mut rules = self.scenario.rules.iter().zip(&self.hits).zip(0..);
        let found = rules.find(|((rule, hits), at)| rule.matches(question, *at, hits));
        found
            .map(|((rule, _), _)| rule.reply.clone())
            .or_else(|| self.scenario.chaos.reply(question))
    }
}

impl Rule {
    /// `at` is the rule's place, `hits` its count of calls for which all but `nth` held.
    fn matches(&self, question: &Question<'_>, at: u64, hits: &AtomicU32) -> bool {
        let When {
            endpoint,
            agent,
            regex,
            within,
            attempt,
            probability,
            nth,
        } = &self.when;
        let endpoint = match endpoint {
            Some(endpoint) => *endpoint == question.endpoint,
            // Words answer a chat only; faults strike everywhere.
            None => question.endpoint == Endpoint::Chat || self.reply.text.is_none(),
        };
        endpoint
            && holds(agent, |agent| agent == question.agent)
            && holds(regex, |regex| regex.0.is_match(&(question.text)(*within)))
            && holds(attempt, |attempt| attempt.contain(question.call.attempt))
            && holds(probability, |rate| rate.hits(&mut question.dice(at)))
            && holds(nth, |nth| {
                nth.contain(hits.fetch_add(1, Ordering::Relaxed) + 1)
            })
    }
}

fn holds<T>(condition: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
    condition.as_ref().is_none_or(test)
}

impl Chaos {
    fn reply(&self, question: &Question<'_>) -> Option<Reply> {
        let mut dice = question.dice(u64::MAX);
        if !self.rate.hits(&mut dice) {
            return None;
        }
        let fault = match self.faults.as_slice() {
            [] => *dice.pick(&Fault::transient()),
            faults => *dice.pick(faults),
        };
        Some(Reply {
            text: None,
            fault: Some(fault),
        })
    }
}

impl Question<'_> {
    /// The same for the same try of the same event; `salt` tells rules apart.
    fn dice(&self, salt: u64) -> Dice {
        let parts = [self.call.key, self.call.attempt.into(), salt].map(u64::to_le_bytes);
        Dice::of(self.seed, &[&parts[0], &parts[1], &parts[2]])
    }
}

impl Numbers {
    fn contain(&self, n: u32) -> bool {
        match self {
            Self::One(one) => *one == n,
            Self::Many(many) => many.contains(&n),
        }
    }
}

impl Rate {
    fn hits(self, dice: &mut Dice) -> bool {
        dice.chance() < self.0
    }
}

impl TryFrom<f64> for Rate {
    type Error = BadRate;

    fn try_from(rate: f64) -> Result<Self, BadRate> {
        let sensible = (0.0..=1.0).contains(&rate);
        sensible
            .then_some(Self(rate))
            .ok_or_else(|| BadRate(rate.to_string()))
    }
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let rate: f64 = text.parse().map_err(|_| BadRate(text.to_owned()))?;
        rate.try_into()
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        Regex::new(&text).map(Self)
    }
}

impl TryFrom<RawReply> for Reply {
    type Error = &'static str;

    fn try_from(raw: RawReply) -> Result<Self, &'static str> {
        let RawReply { text, json, fault } = raw;
        match (&text, &json, fault) {
            (Some(_), Some(_), _) => Err("a reply has `text` or `json`, not both"),
            (None, None, None) => Err("a reply needs `text`, `json` or `fault`"),
            _ => Ok(Self {
                text: text.or_else(|| json.map(|json| json.to_string())),
                fault,
            }),
        }
    }
}

impl Invalid {
    /// 1 when the text as a whole is meant.
    pub fn line(&self) -> u64 {
        self.0.location().map_or(1, |location| location.line())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.without_snippet().fmt(f)
    }
}

impl std::error::Error for Invalid {}
