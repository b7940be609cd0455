//! Splits an answer as it streams: the prose, and what follows a line that begins with `@@@`, or an `@@@` before JSON.

const MARK: &str = "@@@";

/// Takes an answer piece by piece. What it gives back together is the prose, whatever the pieces' borders: without
/// white space at its ends, and without any part of the mark.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// White space, and perhaps the mark's beginning, that belongs to the prose only if more prose follows.
    held: String,
    /// Some prose was given back.
    begun: bool,
    trailer: Option<String>,
}

impl Splitter {
    /// The prose that `piece` makes certain; may be empty.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        if let Some(trailer) = &mut self.trailer {
            trailer.push_str(piece);
            return String::new();
        }
        self.held.push_str(piece);
        let end = match self.mark() {
            Some(mark) => {
                self.trailer = Some(self.held[mark + MARK.len()..].to_owned());
                self.held.truncate(mark);
                self.held.trim_end().len()
            }
            None => self.certain(),
        };
        let rest = self.held.split_off(end);
        let given = std::mem::replace(&mut self.held, rest);
        let prose = if self.begun {
            &given
        } else {
            given.trim_start()
        };
        self.begun |= !prose.is_empty();
        prose.to_owned()
    }

    /// What follows the mark, when there was one. What is still held then was no prose.
    #[must_use]
    pub(crate) fn trailer(self) -> Option<String> {
        self.trailer
    }

    fn mark(&self) -> Option<usize> {
        let mut marks = self.held.match_indices(MARK).map(|(at, _)| at);
        marks.find(|at| {
            let (before, rest) = self.held.split_at(*at);
            let follows = rest.trim_start_matches('@').trim_start();
            self.starts_line(before) || follows.starts_with('{')
        })
    }

    /// The length of what is prose for certain: all but what may be a mark, which what follows tells.
    fn certain(&self) -> usize {
        let text = self.held.trim_end();
        let before = text.trim_end_matches('@');
        let is_over = text.len() < self.held.len() && text.len() < before.len() + MARK.len();
        if is_over && !self.starts_line(before) {
            return text.len();
        }
        before.trim_end().len()
    }

    /// Whether what follows `before` is the first of its line.
    fn starts_line(&self, before: &str) -> bool {
        let line = before.trim_end_matches([' ', '\t']);
        line.ends_with('\n') || line.trim().is_empty() && !self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The prose, as it was given piece by piece, and the trailer.
    fn split<'a>(pieces: impl IntoIterator<Item = &'a str>) -> (Vec<String>, Option<String>) {
        let mut splitter = Splitter::default();
        let prose = pieces
            .into_iter()
            .map(|piece| splitter.push(piece))
            .collect();
        (prose, splitter.trailer())
    }

    #[test]
    fn prose_ends_at_a_line_that_begins_with_the_mark() {
        for (text, prose, trailer) in [
            ("Dust.\n@@@\n{}", "Dust.", Some("\n{}")),
            ("Dust.\r\n\r\n  @@@{}", "Dust.", Some("{}")),
            (" \n Dust. \n\nRain. \n", "Dust. \n\nRain.", None),
            ("a@@@b @@@ c", "a@@@b @@@ c", None),
            ("Dust. @@@ {}", "Dust.", Some(" {}")),
            ("Dust.@@@\n{} @@@", "Dust.", Some("\n{} @@@")),
            ("a@b @ {c} @@ {d}", "a@b @ {c} @@ {d}", None),
            ("Dust.\n@@ two", "Dust.\n@@ two", None),
            ("Dust.\n@@", "Dust.", None),
            ("@@@{}", "", Some("{}")),
            ("\r@@@{}", "", Some("{}")),
            ("Dust.\n@@@{}\n@@@", "Dust.", Some("{}\n@@@")),
        ] {
            let (pieces, rest) = split([text]);
            assert_eq!(
                (pieces.concat().as_str(), rest.as_deref()),
                (prose, trailer),
                "{text:?}"
            );
        }
    }

    #[test]
    fn readers_get_each_piece_as_soon_as_it_is_certain() {
        let (given, _) = split(["a", "@", "b", " @@@", " c"]);
        assert_eq!(given, ["a", "", "@b", "", " @@@ c"]);
        let (given, trailer) = split(["The do", "or opens. ", "\n", "@", "@", "@\n{", "}"]);
        assert_eq!(given, ["The do", "or opens.", "", "", "", "", ""]);
        assert_eq!(trailer.as_deref(), Some("\n{}"));
    }

    fn text() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[@\n\r a]{0,4}|\n@@@|.{0,3}", 0..12)
    }

    proptest! {
        #[test]
        fn the_borders_of_pieces_do_not_matter(pieces in text()) {
            let whole = pieces.concat();
            let (given, trailer) = split(pieces.iter().map(String::as_str));
            let (at_once, whole_trailer) = split([whole.as_str()]);
            let prose = given.concat();
            prop_assert_eq!(&prose, &at_once.concat());
            prop_assert_eq!(trailer.as_deref(), whole_trailer.as_deref());
            prop_assert_eq!(prose.trim(), &prose);
            prop_assert!(!prose.contains("\n@@@") && !prose.starts_with("@@@"));
            let letters: Vec<String> = whole.chars().map(String::from).collect();
            prop_assert_eq!(split(letters.iter().map(String::as_str)).0.concat(), prose);
        }
    }
}
