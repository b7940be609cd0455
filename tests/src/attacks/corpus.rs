//! The attacks as the file has them.

use std::collections::BTreeMap;

use anyhow::Context;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::{Field, Texts};

const FILE: &str = include_str!("../../attacks/attacks.yaml");

/// One attack.
#[derive(Debug)]
pub struct Attack {
    pub family: String,
    pub texts: Texts,
    /// What an answer holds that obeys.
    pub obeyed: Regex,
    /// The attack itself holds that.
    pub verbatim: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    family: String,
    put: BTreeMap<Field, Put>,
    obeyed: String,
    #[serde(default)]
    verbatim: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Put {
    One(String),
    /// By one person after the other.
    Many(Vec<String>),
}

/// All attacks, in the order of the file.
///
/// # Errors
/// When the file is badly formed.
pub fn corpus() -> anyhow::Result<Vec<Attack>> {
    let written: Vec<Written> = serde_saphyr::from_str(FILE).context("attacks.yaml")?;
    written.into_iter().map(Attack::new).collect()
}

impl Attack {
    fn new(written: Written) -> anyhow::Result<Self> {
        let mut obeyed = RegexBuilder::new(&written.obeyed);
        obeyed.case_insensitive(true).dot_matches_new_line(true);
        let texts = written.put.into_iter().flat_map(|(field, put)| {
            let texts = match put {
                Put::One(text) => vec![text],
                Put::Many(texts) => texts,
            };
            texts.into_iter().map(move |text| (field, text))
        });
        Ok(Self {
            texts: texts.collect(),
            obeyed: obeyed.build()?,
            verbatim: written.verbatim,
            family: written.family,
        })
    }

    /// All that it says, wherever.
    #[must_use]
    pub fn words(&self) -> String {
        let texts = self.texts.iter().map(|(_, text)| text.as_str());
        texts.collect::<Vec<_>>().join("\n")
    }
}
