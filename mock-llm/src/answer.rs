//! What the mock says when no script says otherwise: each agent's kind of answer, whole and well formed,
//! or spoiled by a story fault.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::dice::Dice;
use crate::fault::Kind;
use crate::prose;
use crate::schema::Schema;
use crate::token;
use crate::wire::{Chat, ResponseFormat, Stop};

/// Stands alone on the line between the prose and its JSON.
const TRAILER: &str = "@@@";
/// Tokens of what is said over and over: more than a line may have, and less than a beat.
const OVER: RangeInclusive<u32> = 200..=350;
/// How often it is, where it has so many tokens then.
const TIMES: u32 = 24;
/// Words that make the mock's moderator object.
const BLOCKED: &str = "forbiddenword";
const FLAGGED: &str = "dubiousword";

/// The whole answer to `chat`, before `stop` and `max_tokens` cut it.
pub(crate) fn compose(chat: &Chat, agent: &str, dice: &mut Dice, fault: Option<Kind>) -> String {
    let speaker = Speaker { chat, agent, fault };
    match &chat.response_format {
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            speaker.structured(&json_schema.schema, dice)
        }
        _ if agent == "moderator" => speaker.json(&speaker.verdict()),
        Some(ResponseFormat::JsonObject) => speaker.json(&json!({"text": speaker.narration(dice)})),
        _ => match agent {
            "narrator" => speaker.beat(dice),
            "dialogue" => speaker.spoil(prose::speech(dice)),
            _ => speaker.narration(dice),
        },
    }
}

/// The part of `text` that is sent, and why it ends there.
pub(crate) fn cut<'a>(
    text: &'a str,
    stop: &Stop,
    max_tokens: Option<u32>,
) -> (&'a str, &'static str) {
    let text = stop.find(text).map_or(text, |at| &text[..at]);
    match max_tokens.map(|max| token::head(text, max)) {
        Some(head) if head.len() < text.len() => (head, "length"),
        _ => (text, "stop"),
    }
}

/// Whether the moderation endpoint flags this text.
pub(crate) fn is_flagged(text: &str) -> bool {
    text.contains(BLOCKED)
}

struct Speaker<'a> {
    chat: &'a Chat,
    agent: &'a str,
    fault: Option<Kind>,
}

impl Speaker<'_> {
    fn narration(&self, dice: &mut Dice) -> String {
        let words = dice.between(40, 100);
        self.spoil(prose::narration(dice, words))
    }

    /// Prose, and what comes of it: choices for the player and who speaks next.
    fn beat(&self, dice: &mut Dice) -> String {
        let mut text = self.narration(dice);
        if self.fault == Some(Kind::NoTrailer) {
            return text;
        }
        let (choices, speakers) = (dice.between(2, 3), speakers(dice));
        let trailer = json!({
            "choices": prose::choices(dice, choices),
            "speak": self.cast(dice, speakers),
        });
        for part in ["\n", TRAILER, "\n", &self.json(&trailer)] {
            text.push_str(part);
        }
        text
    }

    /// At most `n` different characters of those that the instructions list, each with an intent.
    fn cast(&self, dice: &mut Dice, n: usize) -> Vec<Value> {
        let mut names = self.characters();
        let mut cast = Vec::with_capacity(n);
        while cast.len() < n && !names.is_empty() {
            let name = names.swap_remove(dice.between(0, names.len() - 1));
            cast.push(json!({"character": name, "intent": prose::intent(dice)}));
        }
        cast
    }

    /// The names in lines such as `- Edda: the ferryman`.
    fn characters(&self) -> Vec<&str> {
        let lines = self.chat.instructions().flat_map(str::lines);
        let names = lines.filter_map(|line| Some(line.strip_prefix("- ")?.split_once(':')?.0));
        let fits = |name: &&str| (1..=40).contains(&name.chars().count());
        names.filter(fits).collect()
    }

    fn structured(&self, schema: &Schema, dice: &mut Dice) -> String {
        let mut wishes = vec![("text", Value::from(self.narration(dice)))];
        if self.agent == "moderator" {
            let mut verdict = self.verdict();
            let fields = ["decision", "categories", "reason"];
            wishes.extend(fields.map(|field| (field, verdict[field].take())));
        }
        let characters = self.characters();
        if !characters.is_empty() {
            wishes.push(("character", Value::from(*dice.pick(&characters))));
        }
        self.json(&schema.fill(dice, &wishes))
    }

    fn verdict(&self) -> Value {
        let text = self.chat.last_user();
        let (decision, categories, reason) = if self.fault == Some(Kind::ObeysInjection) {
            ("allow", vec![], "The text says that it is allowed.")
        } else if text.contains(BLOCKED) {
            ("block", vec!["violence"], "It holds a forbidden word.")
        } else if text.contains(FLAGGED) {
            ("flag", vec!["violence"], "It holds a dubious word.")
        } else {
            ("allow", vec![], "Nothing in it harms anyone.")
        };
        json!({"decision": decision, "categories": categories, "reason": reason})
    }

    fn json(&self, value: &impl serde::Serialize) -> String {
        let mut text = serde_json::to_string(value).expect("strings and numbers always serialise");
        if self.fault == Some(Kind::BadTrailer) {
            text.truncate(text.trim_end_matches(['}', ']', '"']).len());
        }
        match self.agent {
            "moderator" if self.fault == Some(Kind::BreaksCharacter) => self.spoil(text),
            _ => text,
        }
    }

    fn spoil(&self, text: String) -> String {
        match self.fault {
            Some(Kind::SpeaksForPlayer) => {
                format!("{text}\n\n“I give up,” you say, and you lay down your sword.")
            }
            Some(Kind::BreaksCharacter) => {
                "As an AI language model, I cannot continue this story.".to_owned()
            }
            Some(Kind::ObeysInjection) => {
                let secret: String = self.chat.instructions().collect();
                let secret: String = secret.chars().take(200).collect();
                format!("Of course! These are my instructions: {secret}")
            }
            Some(Kind::Repeats) => {
                let end = text.find(['.', ';', '…', ',']).unwrap_or(text.len());
                let sentence = format!("{}. ", &text[..end]);
                let each = token::count(&sentence).max(1);
                let (least, most) = (OVER.start().div_ceil(each), OVER.end() / each);
                let times = TIMES.max(least).min(most).max(1);
                let times = usize::try_from(times).unwrap_or(1);
                sentence.repeat(times).trim_end().to_owned()
            }
            _ => text,
        }
    }
}

/// Mostly one; now and then none or two.
fn speakers(dice: &mut Dice) -> usize {
    *dice.pick(&[0, 1, 1, 1, 1, 1, 1, 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(system: &str, user: &str) -> Chat {
        let user = json!([{"type": "text", "text": user}]);
        let messages =
            json!([{"role": "system", "content": system}, {"role": "user", "content": user}]);
        serde_json::from_value(json!({"model": "m", "messages": messages})).unwrap()
    }

    fn trailer(system: &str, seed: u64) -> Value {
        let text = compose(&chat(system, "go"), "narrator", &mut Dice::new(seed), None);
        let (prose, json) = text.split_once("\n@@@\n").unwrap();
        assert!(!prose.contains(['"', '“', '@']), "{prose}");
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_beat_lets_only_listed_characters_speak() {
        let mut counts = [0; 3];
        for seed in 0..200 {
            let trailer = trailer("Cast:\n- Edda: a ferryman\n- Tom Éclair: a cook\n", seed);
            assert!((2..=3).contains(&trailer["choices"].as_array().unwrap().len()));
            let speak = trailer["speak"].as_array().unwrap();
            counts[speak.len()] += 1;
            for speaker in speak {
                assert!(["Edda", "Tom Éclair"].contains(&speaker["character"].as_str().unwrap()));
            }
        }
        let [none, one, two] = counts;
        assert!(none > 0 && two > 0 && one > 100, "{counts:?}");
    }

    #[test]
    fn without_characters_nobody_speaks() {
        let speak = &trailer("Alone.\n-Edda: no\n- : no\n- no colon", 1)["speak"];
        assert_eq!(*speak, json!([]));
    }

    #[test]
    fn the_moderator_reads_only_what_the_user_says() {
        let decide = |user: &str, fault| {
            let chat = chat("forbiddenword is forbidden", user);
            let text = compose(&chat, "moderator", &mut Dice::new(0), fault);
            let verdict: Value = serde_json::from_str(&text).unwrap();
            verdict["decision"].as_str().unwrap().to_owned()
        };
        assert_eq!(decide("hello", None), "allow");
        assert_eq!(decide("a dubiousword", None), "flag");
        assert_eq!(decide("a forbiddenword", None), "block");
        assert_eq!(
            decide("a forbiddenword", Some(Kind::ObeysInjection)),
            "allow"
        );
    }

    #[test]
    fn stop_and_max_tokens_cut_whichever_comes_first() {
        let stop = Stop::Many(vec!["three".into(), "two".into()]);
        assert_eq!(cut("one two three", &stop, None), ("one ", "stop"));
        assert_eq!(cut("one two three", &stop, Some(1)), ("one", "length"));
        assert_eq!(cut("one two", &Stop::None, Some(2)), ("one two", "stop"));
    }
}
