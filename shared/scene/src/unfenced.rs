//! Answers without the fences of prompts: small models copy what they see, so that whatever a model answers goes through
//! [`Unfenced`].

use agent::fence::Fence;

/// So many angle brackets of one kind in a row are a bracket of a fence.
const LENGTH: usize = 3;

/// A whole answer without fences.
pub(crate) fn taken_out(fence: Fence<'_>, answer: &str) -> String {
    let mut unfenced = Unfenced::new(fence);
    let text = unfenced.push(answer);
    text + &unfenced.rest()
}

/// Takes an answer piece by piece. What it gives back together is the answer without fences, whatever the pieces' borders:
/// without their brackets, also one or two of them beside a mark, and without marks and the space that is between a mark
/// and what it is around.
#[derive(Debug)]
pub(crate) struct Unfenced {
    mark: String,
    /// The angle brackets of one kind that may grow to those of a fence.
    run: String,
    /// What may grow to the mark, perhaps behind a space or brackets.
    held: String,
    /// The mark was the last: brackets behind it belong to it.
    marked: bool,
    /// So does a space, unless one in front did.
    spaced: bool,
}

impl Unfenced {
    pub(crate) fn new(fence: Fence<'_>) -> Self {
        Self {
            mark: fence.mark(),
            run: String::new(),
            held: String::new(),
            marked: false,
            spaced: false,
        }
    }

    /// `piece` without fences, as far as that is certain.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        let mut text = String::with_capacity(self.run.len() + self.held.len() + piece.len());
        for c in piece.chars() {
            if !self.run.starts_with(c) {
                self.end_run(&mut text);
            }
            match c {
                '<' | '>' => self.run.push(c),
                _ => self.unmarked(c, &mut text),
            }
        }
        text
    }

    /// What is no fence after all, when nothing more comes.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = String::new();
        self.end_run(&mut text);
        text.push_str(&std::mem::take(&mut self.held));
        text
    }

    fn end_run(&mut self, text: &mut String) {
        let run = std::mem::take(&mut self.run);
        let closes = self.marked && run.starts_with('>');
        if run.len() < LENGTH && !closes {
            for c in run.chars() {
                self.unmarked(c, text);
            }
        }
    }

    fn unmarked(&mut self, c: char, text: &mut String) {
        if std::mem::take(&mut self.marked) && c == ' ' && !self.spaced {
            return;
        }
        self.held.push(c);
        while !self.may_be_mark() {
            text.push(self.held.remove(0));
        }
        if self.held.ends_with(&self.mark) {
            // Where a space in front is gone with it, one behind is between two words.
            (self.marked, self.spaced) = (true, self.held.starts_with(' '));
            self.held.clear();
        }
    }

    fn may_be_mark(&self) -> bool {
        let brackets = self.held.trim_start_matches('<');
        let held = self.held.strip_prefix(' ').unwrap_or(brackets);
        self.mark.starts_with(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use story::Context;

    const MARK: &str = "k482915";

    fn unfenced<'a>(pieces: impl IntoIterator<Item = &'a str>) -> String {
        let context = Context {
            fence: MARK.to_owned(),
            ..Context::default()
        };
        let mut unfenced = Unfenced::new(Fence::of(&context));
        let mut text: String = pieces
            .into_iter()
            .map(|piece| unfenced.push(piece))
            .collect();
        text.push_str(&unfenced.rest());
        text
    }

    #[test]
    fn only_fences_are_taken_out() {
        for (answer, text) in [
            ("<<<Dust falls.>>>", "Dust falls."),
            ("<<<<a>>>>>\n<<<b", "a\nb"),
            ("1 < 2 << 3 >> <i>x</i>", "1 < 2 << 3 >> <i>x</i>"),
            ("<<>><<>>>", "<<>><<"),
            ("falls.>>", "falls.>>"),
            ("<<<k482915 Dust falls. k482915>>>", "Dust falls."),
            ("<<<k482915 a k482915>>>\n<<<k482915 b", "a\nb"),
            ("The k482915 door k482915.", "The door."),
            ("k482915", ""),
            ("k48<<<2915", ""),
            ("<<k482915 a k482915>>\nb <k482915 c", "a\nb c"),
            ("a k482915>> b k482915 > c", "a b > c"),
            ("k48 k4829 482915 K 482", "k48 k4829 482915 K 482"),
            (" k48291", " k48291"),
        ] {
            assert_eq!(unfenced([answer]), text, "{answer}");
        }
    }

    proptest! {
        #[test]
        fn the_borders_of_pieces_do_not_matter(pieces in prop::collection::vec("[<> a]{0,4}|.{0,3}|k482915|k4|k48|2915| ", 0..12)) {
            let whole = pieces.concat();
            let text = unfenced(pieces.iter().map(String::as_str));
            prop_assert_eq!(&text, &unfenced([whole.as_str()]));
            let letters: Vec<String> = whole.chars().map(String::from).collect();
            prop_assert_eq!(&text, &unfenced(letters.iter().map(String::as_str)));
            if !whole.contains('k') {
                prop_assert!(text.chars().filter(|c| !"<>".contains(*c)).eq(whole.chars().filter(|c| !"<>".contains(*c))));
            }
        }

        #[test]
        fn a_copied_prompt_has_no_mark_left(texts in prop::collection::vec("[a-z .]{0,12}", 1..6), cuts in prop::collection::vec(1_usize..9, 1..40)) {
            let copied: String = texts.iter().map(|text| format!("<<<{MARK} {text} {MARK}>>>\n")).collect();
            let mut pieces = Vec::new();
            let mut rest = copied.as_str();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, more) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            let expected: String = texts.iter().map(|text| format!("{text}\n")).collect();
            prop_assert_eq!(unfenced(pieces), expected);
        }
    }
}
