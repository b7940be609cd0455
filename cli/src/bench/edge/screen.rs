//! What a reader of numbered words has, and whether each came once: a word that is not the next one was lost or doubled.

use serde::Deserialize;

/// Bytes of a word.
const WORD: usize = 8;

/// What the bench looks at of a message.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a> {
    pub(super) t: &'a str,
    #[serde(default)]
    pub(super) cursor: Option<String>,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) code: Option<String>,
    #[serde(default)]
    pub(super) event: Option<Told>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Told {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: String,
    #[serde(default)]
    pub(super) text: Option<String>,
}

/// Words that a reader has of a story whose answers are all equally long.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pub(super) cursor: Option<String>,
    /// Words of an answer.
    length: u64,
    answers: u64,
    /// Of the answer that is being told.
    words: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Times that the reader was told to begin anew.
    pub(super) gaps: u64,
}

impl Screen {
    pub(super) fn new(length: u64) -> Self {
        Self {
            length,
            ..Self::default()
        }
    }

    /// All words so far.
    pub(super) fn words(&self) -> u64 {
        self.answers * self.length + self.words
    }

    pub(super) fn take(&mut self, frame: Frame<'_>) {
        let text = frame.text.as_deref().unwrap_or_default();
        match frame.t {
            "delta" => self.words = self.join(self.words, text),
            // In the place of what is there.
            "snapshot" => {
                let whole = self.join(0, text);
                self.lost += self.words.saturating_sub(whole) * WORD as u64;
                self.words = whole;
            }
            "reset" => self.words = 0,
            "event" => {
                let narrated = frame.event.filter(|event| event.kind == "narration");
                if let Some(event) = narrated {
                    let whole = self.join(0, event.text.as_deref().unwrap_or_default());
                    self.lost += self.length.saturating_sub(whole) * WORD as u64;
                    self.answers += 1;
                    self.words = 0;
                }
            }
            "gap" => self.gaps += 1,
            _ => {}
        }
        if frame.cursor.is_some() {
            self.cursor = frame.cursor;
        }
    }

    /// Counts what is missing or there again between the words so far and `text`; gives the words with it.
    fn join(&mut self, mut words: u64, text: &str) -> u64 {
        for word in text.as_bytes().chunks(WORD) {
            let number = std::str::from_utf8(&word[1..]).ok();
            let number = number.and_then(|text| text.trim().parse::<u64>().ok());
            match number {
                Some(number) if number >= words => {
                    self.lost += (number - words) * WORD as u64;
                    words = number + 1;
                }
                _ => self.doubled += word.len() as u64,
            }
        }
        words
    }
}

/// A word of an answer.
pub(super) fn word(number: u64) -> String {
    format!("w{number:06} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(frames: &[(&'static str, std::ops::Range<u64>)]) -> Screen {
        let mut screen = Screen::new(4);
        for (t, words) in frames {
            let text: String = words.clone().map(word).collect();
            let told = Told {
                kind: "narration".to_owned(),
                id: "r".to_owned(),
                text: Some(text.clone()),
            };
            screen.take(Frame {
                t,
                cursor: None,
                text: Some(text),
                id: None,
                code: None,
                event: Some(told),
            });
        }
        screen
    }

    #[test]
    fn each_word_counts_once() {
        for (frames, words, lost, doubled) in [
            (vec![("delta", 0..1), ("delta", 1..3)], 3, 0, 0),
            (vec![("delta", 0..1), ("snapshot", 0..3)], 3, 0, 0),
            (
                vec![("delta", 0..1), ("event", 0..4), ("delta", 0..1)],
                5,
                0,
                0,
            ),
            (vec![("delta", 0..1), ("delta", 2..3)], 3, 8, 0),
            (vec![("delta", 0..2), ("delta", 1..3)], 3, 0, 8),
            (vec![("delta", 0..2), ("snapshot", 0..1)], 1, 8, 0),
            (vec![("event", 0..3)], 4, 8, 0),
        ] {
            let screen = screen(&frames);
            let counted = (screen.words(), screen.lost, screen.doubled);
            assert_eq!(counted, (words, lost, doubled), "{frames:?}");
        }
    }
}
