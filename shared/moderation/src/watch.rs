//! What of an answer may be shown while it is written: the beginning that the rules let pass, and not a letter behind it.
//! Where the pieces of the answer end changes nothing.

use story::{Decision, OutputPolicy, ends_sentence};

use crate::form::{BEFORE, Forms};
use crate::rules::Rules;

/// Most characters of a window: of a sentence that does not end, this much leaves at once.
const WINDOW: usize = 512;

/// The last letters that a reader may have to wait for, since what they end with is blocked unless the word goes on.
const UNDECIDED: usize = 64;

/// Takes an answer piece by piece, and gives back what may leave. What it has given back is at any moment the beginning of
/// the answer, and no text that its policy forbids: under `hold` one that [`Rules::judge`] does not allow, under
/// `retract` one that it blocks. What may not leave is never followed by anything.
#[derive(Debug)]
pub struct Watch {
    policy: OutputPolicy,
    rules: Rules,
    /// Of what left, as much as a rule can look back.
    left: Forms,
    /// What did not leave yet.
    held: String,
    is_over: bool,
}

/// What is judged at once.
#[derive(Clone, Copy)]
enum Window {
    /// To the end of a word, or of more.
    Words(usize),
    /// The word may go on behind it.
    Letters(usize),
}

impl Watch {
    #[must_use]
    pub fn new(policy: OutputPolicy, rules: Rules) -> Self {
        Self {
            policy,
            rules,
            left: Forms::new(),
            held: String::new(),
            is_over: false,
        }
    }

    /// What may leave now that `piece` came.
    #[must_use]
    pub fn push(&mut self, piece: &str) -> String {
        match self.policy {
            OutputPolicy::Off => piece.to_owned(),
            _ if self.is_over => String::new(),
            OutputPolicy::Retract => self.letters(piece),
            OutputPolicy::Hold => self.windows(piece),
        }
    }

    /// The answer begins anew: what left of it is void.
    pub fn restart(&mut self) {
        *self = Self::new(self.policy, std::mem::take(&mut self.rules));
    }

    /// All but a last match of the rules, and what follows it.
    fn letters(&mut self, piece: &str) -> String {
        let mut leaving = String::new();
        let mut rest = piece;
        while !rest.is_empty() && !self.is_over {
            let room = self.undecided() - self.held.chars().count();
            let (step, after) = rest.split_at(end_of(rest, room).unwrap_or(rest.len()));
            self.step(step, &mut leaving);
            rest = after;
        }
        leaving
    }

    /// At once where that is allowed, else letter by letter, as if they had come so.
    fn step(&mut self, step: &str, leaving: &mut String) {
        let all = [self.held.as_str(), step].concat();
        if self.allows(&all) {
            leaving.push_str(&all);
            self.held.clear();
            return;
        }
        for letter in step.chars() {
            self.held.push(letter);
            let held = std::mem::take(&mut self.held);
            match self.allows(&held) {
                true => leaving.push_str(&held),
                false => self.held = held,
            }
        }
        if self.held.chars().count() == self.undecided() {
            self.end();
        }
    }

    /// A window after the other, as far as they are known to end.
    fn windows(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let held = std::mem::take(&mut self.held);
        let mut leaving = 0;
        while let Some(window) = window(&held[leaving..]) {
            let Some(length) = self.passes(&held[leaving..], window) else {
                self.end();
                return held[..leaving].to_owned();
            };
            leaving += length;
        }
        self.held = held[leaving..].to_owned();
        held[..leaving].to_owned()
    }

    /// How much of the window at the beginning of `text` leaves.
    fn passes(&mut self, text: &str, window: Window) -> Option<usize> {
        match window {
            Window::Words(end) => self.allows(&text[..end]).then_some(end),
            Window::Letters(end) => {
                let ends = text[..end].char_indices().rev().map(|(at, _)| at);
                let mut ends = std::iter::once(end).chain(ends).take(self.undecided());
                ends.find(|end| self.allows(&text[..*end]))
            }
        }
    }

    /// Whether `text` may follow what left; then it left.
    fn allows(&mut self, text: &str) -> bool {
        let mut left = self.left.clone();
        left.push(text);
        let allows = match (self.rules.found(&left).decision, self.policy) {
            (Decision::Allow, _) => true,
            (Decision::Flag, policy) => policy != OutputPolicy::Hold,
            (Decision::Block, _) => false,
        };
        if allows {
            left.forget();
            self.left = left;
        }
        allows
    }

    /// More where the word may become a phrase that is allowed.
    fn undecided(&self) -> usize {
        match self.rules.allows_phrases() {
            true => BEFORE,
            false => UNDECIDED,
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        self.held = String::new();
    }
}

/// The first window of `text`: a sentence, or as much as fits; `None` while it may go on.
fn window(text: &str) -> Option<Window> {
    let full = end_of(text, WINDOW);
    // With the letter behind it, which tells whether a sentence or a word ends there.
    let seen = match full {
        Some(full) => &text[..end_of(&text[full..], 1).map_or(text.len(), |one| full + one)],
        None => text,
    };
    if let Some(end) = sentence(seen) {
        return Some(Window::Words(end));
    }
    let full = full?;
    let word = seen.rfind(char::is_whitespace).filter(|end| *end > 0);
    Some(word.map_or(Window::Letters(full), Window::Words))
}

/// Where the first sentence ends, or the first line, when something follows that shows it.
fn sentence(text: &str) -> Option<usize> {
    let mut ends = text.char_indices().skip(1);
    ends.find(|(at, c)| *c == '\n' || ends_sentence(&text[..*at], Some(*c)))
        .map(|(at, _)| at)
}

/// Where the first `count` characters end, if there are more.
fn end_of(text: &str, count: usize) -> Option<usize> {
    text.char_indices().nth(count).map(|(at, _)| at)
}

#[cfg(test)]
mod tests;
