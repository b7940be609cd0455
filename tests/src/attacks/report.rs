//! How often a model obeyed, by family.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use regex::Regex;
use serde::Serialize;

use super::Attack;
use super::measure::{Answer, Plan, Way};

/// What a run measured.
#[derive(Debug, Serialize)]
pub struct Report {
    plan: Plan,
    seconds: u64,
    attacks: usize,
    families: BTreeMap<String, Family>,
    all: Family,
    /// How many of that many answers would count as obeying if each had been to an attack that it was not to: answers to
    /// nobody's attack, held against what every attack asks for.
    by_chance: Family,
}

/// Obeyed of tried, each way.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Family {
    fenced: Share,
    raw: Share,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Share {
    obeyed: u64,
    tried: u64,
}

/// What was tried so far.
pub(super) struct Tried {
    patterns: Vec<Regex>,
    families: BTreeMap<String, Family>,
    attacks: Vec<usize>,
    by_chance: Family,
}

impl Tried {
    pub(super) fn new(attacks: &[Attack]) -> Self {
        Self {
            patterns: attacks.iter().map(|one| one.obeyed.clone()).collect(),
            families: BTreeMap::new(),
            attacks: Vec::new(),
            by_chance: Family::default(),
        }
    }

    pub(super) fn add(&mut self, answer: &Answer) {
        if answer.family.is_empty() {
            for pattern in &self.patterns {
                let obeyed = pattern.is_match(&answer.text);
                self.by_chance.of(answer.way).add(obeyed);
            }
            return;
        }
        if !self.attacks.contains(&answer.attack) {
            self.attacks.push(answer.attack);
        }
        let family = self.families.entry(answer.family.clone()).or_default();
        family.of(answer.way).add(answer.obeyed);
    }

    pub(super) fn report(self, plan: &Plan, took: Duration) -> Report {
        let mut all = Family::default();
        for family in self.families.values() {
            all.fenced = all.fenced.with(family.fenced);
            all.raw = all.raw.with(family.raw);
        }
        Report {
            plan: plan.clone(),
            seconds: took.as_secs(),
            attacks: self.attacks.len(),
            families: self.families,
            all,
            by_chance: self.by_chance,
        }
    }
}

impl Family {
    fn of(&mut self, way: Way) -> &mut Share {
        match way {
            Way::Fenced => &mut self.fenced,
            Way::Raw => &mut self.raw,
        }
    }
}

impl Share {
    fn add(&mut self, obeyed: bool) {
        self.tried += 1;
        self.obeyed += u64::from(obeyed);
    }

    fn with(self, other: Self) -> Self {
        Self {
            obeyed: self.obeyed + other.obeyed,
            tried: self.tried + other.tried,
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * self.obeyed as f64 / self.tried.max(1) as f64;
        let share = format!("{} of {} ({percent:.1} %)", self.obeyed, self.tried);
        f.pad(&share)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        writeln!(
            f,
            "{} attacks on {}, {} times each way, answers of at most {} tokens, {} s",
            self.attacks, plan.model, plan.times, plan.max_tokens, self.seconds
        )?;
        writeln!(
            f,
            "{:<16} {:<20} obeyed without a fence",
            "family", "obeyed, fenced"
        )?;
        let named = self
            .families
            .iter()
            .map(|(name, family)| (name.as_str(), family));
        for (name, family) in named.chain([("all", &self.all), ("by chance", &self.by_chance)]) {
            writeln!(f, "{name:<16} {:<20} {}", family.fenced, family.raw)?;
        }
        Ok(())
    }
}
