//! A reader's place in a story: which life of the log, after which event, and how far inside a running draft.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::{EventId, Seq};

/// `<epoch>-<seq>-<tag>`, inside a draft `<epoch>-<seq>-<tag>:<response id>.<attempt>.<i>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The log's life; letters and digits.
    pub epoch: String,
    /// The last event seen; 0 = none.
    pub seq: Seq,
    /// Of the event at `seq`.
    pub tag: Tag,
    pub draft: Option<Position>,
}

/// The next chunk a reader needs of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub response: EventId,
    pub attempt: u32,
    pub i: u32,
}

/// Four characters that tell one history from another that has the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag([u8; 4]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is <epoch>-<seq>-<tag> or <epoch>-<seq>-<tag>:<response id>.<attempt>.<i>")]
pub struct CursorError;

impl Tag {
    /// The tag of the place before the first event.
    pub const START: Self = Self(*b"0000");

    #[must_use]
    pub fn of(id: &EventId) -> Self {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let digest = Sha256::digest(id.as_str());
        Self(std::array::from_fn(|i| DIGITS[usize::from(digest[i] & 31)]))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.epoch, self.seq, self.tag)?;
        match &self.draft {
            Some(at) => write!(f, ":{}.{}.{}", at.response, at.attempt, at.i),
            None => Ok(()),
        }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (place, draft) = match text.split_once(':') {
            Some((place, draft)) => (place, Some(position(draft).ok_or(CursorError)?)),
            None => (text, None),
        };
        let parts: Vec<&str> = place.split('-').collect();
        let [epoch, seq, tag] = parts[..] else {
            return Err(CursorError);
        };
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
        if epoch.is_empty() || epoch.len() > 32 || !word(epoch) || !word(tag) {
            return Err(CursorError);
        }
        Ok(Self {
            epoch: epoch.to_owned(),
            seq: Seq(number(seq).ok_or(CursorError)?),
            tag: Tag(tag.as_bytes().try_into().map_err(|_| CursorError)?),
            draft,
        })
    }
}

/// `<response id>.<attempt>.<i>`; the id may itself have dots.
fn position(text: &str) -> Option<Position> {
    let mut parts = text.rsplitn(3, '.');
    let i = number(parts.next()?)?;
    let attempt = number(parts.next()?)?;
    let response = parts.next()?.parse().ok()?;
    Some(Position {
        response,
        attempt: u32::try_from(attempt).ok()?,
        i: u32::try_from(i).ok()?,
    })
}

/// Digits only, in their one spelling: no sign, no leading zero.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_it_was_written(
            epoch in "[0-9a-zA-Z]{1,32}",
            seq: u64,
            tag in "[a-z0-9]{4}",
            draft in prop::option::of(("[^\\p{Cc}]{1,16}", any::<u32>(), any::<u32>())),
        ) {
            let cursor = Cursor {
                epoch,
                seq: Seq(seq),
                tag: Tag(tag.as_bytes().try_into().unwrap()),
                draft: draft.map(|(response, attempt, i)| Position {
                    response: response.parse().unwrap(),
                    attempt,
                    i,
                }),
            };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn no_text_is_read_as_two_different_cursors(text in "\\PC{0,40}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    /// What is a cursor, or nearly.
    const NEARLY: &str = "[0-9a-zA-Z-]{0,3}-[0-9+]{0,4}(18446744073709551615)?-[a-zA-Z0-9é]{3,5}(:[^\\p{Cc}]{0,5}(\\.[0-9+]{0,2}(4294967295)?){1,3})?";

    proptest! {
        #[test]
        fn what_is_nearly_a_cursor_is_read_as_it_is_or_not_at_all(one in NEARLY, two in NEARLY) {
            let [read, other] = [&one, &two].map(|text| text.parse::<Cursor>());
            if let Ok(cursor) = &read {
                prop_assert_eq!(cursor.to_string(), one.clone());
                // It is a line of a stream.
                prop_assert!(!one.contains(['\r', '\n', '\0']));
            }
            if one != two && read.is_ok() {
                prop_assert_ne!(read, other);
            }
        }

        #[test]
        fn no_bytes_break_the_reading_of_a_cursor(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn what_is_not_a_cursor_is_refused() {
        for bad in [
            "",
            "a-1",
            "a-1-b",
            "a-01-abcd",
            "a-+1-abcd",
            "-1-abcd",
            "a-1-abcd:",
            "a-1-abcd:x.1",
            "a-1-abcd-e",
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorError), "{bad}");
        }
    }
}
