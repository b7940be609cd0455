//! What people do in a run, and what the model answers: long texts in which each word is another, so that none can be lost,
//! doubled or moved unseen.

use std::fmt::Write;
use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use story::{OutputPolicy, Policies, StoryId};

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub cuts: u32,
    pub readers: u32,
    pub stories: u32,
    pub seed: u64,
}

/// Words that the moderator's rules always block.
pub(super) const CARD: &str = "5555 5555 5555 4444";
/// Tokens of an answer.
const LENGTHS: [u32; 8] = [300, 430, 620, 880, 1_250, 1_800, 2_600, 4_000];
/// Of the answer that is taken back.
const TAKEN_BACK: u32 = 500;
pub(super) const CHARACTER: &str = "Sibyl";
/// How long a connection is left alone, at most; one of sixteen is for so much longer: a cut would mend one that hangs.
const STAY: Duration = Duration::from_millis(7_000);
const LONG_STAY: u32 = 6;
/// How long a reader is away, at most; one of eight is away for so much longer.
const AWAY: Duration = Duration::from_millis(400);
const LONG_AWAY: u32 = 6;

/// A source of randomness of its own for each concern.
pub(super) fn source(seed: u64, concern: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed ^ (concern << 40))
}

/// The stories: what the first one's model says may be taken back.
pub(super) fn stories(count: u32) -> anyhow::Result<Vec<(StoryId, Policies)>> {
    let story = |number| {
        let mut policies = Policies::default();
        if number == 0 {
            policies.output = OutputPolicy::Retract;
        }
        Ok((format!("story-{number}").parse()?, policies))
    };
    (0..count).map(story).collect()
}

/// What somebody does next in a story, and to whom they say it.
pub(super) fn action(
    story: usize,
    count: u32,
    random: &mut impl RngExt,
) -> (String, Option<&'static str>) {
    if story == 0 && count.is_multiple_of(2) {
        return (format!("I wait for {TAKEN_BACK} heartbeats"), None);
    }
    let length = LENGTHS[random.random_range(0..LENGTHS.len())];
    let to = (count % 4 == 3).then_some(CHARACTER);
    (format!("I wait for {length} heartbeats"), to)
}

pub(super) fn stay(random: &mut impl RngExt) -> Duration {
    let most = if random.random_ratio(1, 16) {
        STAY * LONG_STAY
    } else {
        STAY
    };
    random.random_range(Duration::from_millis(5)..most)
}

pub(super) fn away(random: &mut impl RngExt) -> Duration {
    let most = if random.random_ratio(1, 8) {
        AWAY * LONG_AWAY
    } else {
        AWAY
    };
    random.random_range(Duration::ZERO..most)
}

/// The mock's rules.
pub(super) fn scenario() -> String {
    let mut rules = "rules:\n".to_owned();
    let lengths = LENGTHS.iter().copied().chain([TAKEN_BACK]);
    for length in lengths {
        let text = serde_json::Value::from(format!(
            "{}\n@@@\n{{\"choices\":[],\"speak\":[]}}",
            text(length)
        ));
        // A write to a String cannot fail.
        let _ = writeln!(
            rules,
            "- when: {{endpoint: chat, agent: narrator, regex: '(?s)# Now.*for {length} heartbeats'}}\n  reply: {{text: {text}}}"
        );
    }
    rules
}

/// About so many tokens, in sentences.
fn text(tokens: u32) -> String {
    let mut text = String::new();
    for word in 0..tokens {
        let space = if word == 0 { "" } else { " " };
        let _ = match word % 25 {
            24 => write!(text, "{space}w{word}."),
            7 => write!(text, "{space}é{word}"),
            13 => write!(text, "{space}{word}…"),
            19 => write!(text, "{space}{word}🜂"),
            _ => write!(text, "{space}w{word}"),
        };
        if tokens == TAKEN_BACK && word == 400 {
            text.push_str(" It reads ");
            text.push_str(CARD);
            text.push('.');
        }
    }
    text.push('.');
    text
}

/// The narrator's prompts with room for long answers.
pub(super) const PROMPTS: [(&str, &str); 3] = [
    (
        "system.md",
        include_str!("../../../prompts/narrator/system.md"),
    ),
    ("turn.md", include_str!("../../../prompts/narrator/turn.md")),
    (
        "outline.md",
        include_str!("../../../prompts/narrator/outline.md"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_an_answer_comes_twice() {
        let text = text(4_000);
        let mut words: Vec<&str> = text.split(' ').collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!((words.len(), all), (4_000, 4_000));
    }

    #[test]
    fn the_first_story_has_something_to_take_back() {
        let (first, _) = action(0, 0, &mut source(1, 1));
        assert!(first.contains("500 heartbeats"));
        assert!(text(TAKEN_BACK).contains(CARD) && !text(4_000).contains(CARD));
    }
}
