//! Takes the marks that fence text in prompts out of an answer: small models copy them.

/// So many angle brackets of one kind in a row are a mark.
const LENGTH: usize = 3;

/// Takes an answer piece by piece. What it gives back together is the answer without marks, whatever the pieces' borders.
#[derive(Debug, Default)]
pub(crate) struct Unfenced {
    /// The angle brackets of one kind that may grow to a mark.
    run: String,
}

impl Unfenced {
    /// `piece` without marks, as far as that is certain.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        let mut text = String::with_capacity(self.run.len() + piece.len());
        for c in piece.chars() {
            if !self.run.starts_with(c) {
                text.push_str(&self.rest());
            }
            match c {
                '<' | '>' => self.run.push(c),
                _ => text.push(c),
            }
        }
        text
    }

    /// What is no mark after all, when nothing more comes, or not the same.
    pub(crate) fn rest(&mut self) -> String {
        let run = std::mem::take(&mut self.run);
        if run.len() < LENGTH {
            run
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unfenced<'a>(pieces: impl IntoIterator<Item = &'a str>) -> String {
        let mut unfenced = Unfenced::default();
        let mut text: String = pieces
            .into_iter()
            .map(|piece| unfenced.push(piece))
            .collect();
        text.push_str(&unfenced.rest());
        text
    }

    #[test]
    fn only_marks_are_taken_out() {
        for (answer, text) in [
            ("<<<Dust falls.>>>", "Dust falls."),
            ("<<<<a>>>>>\n<<<b", "a\nb"),
            ("1 < 2 << 3 >> <i>x</i>", "1 < 2 << 3 >> <i>x</i>"),
            ("<<>><<>>>", "<<>><<"),
            ("falls.>>", "falls.>>"),
        ] {
            assert_eq!(unfenced([answer]), text);
        }
    }

    proptest! {
        #[test]
        fn the_borders_of_pieces_do_not_matter(pieces in prop::collection::vec("[<> a]{0,4}|.{0,3}", 0..12)) {
            let text = unfenced(pieces.iter().map(String::as_str));
            prop_assert_eq!(&text, &unfenced([pieces.concat().as_str()]));
            prop_assert!(text.chars().filter(|c| !"<>".contains(*c)).eq(pieces.concat().chars().filter(|c| !"<>".contains(*c))));
        }
    }
}
