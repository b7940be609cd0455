//! The bytes of a body as they are written down: a streamed answer says nearly the same in each of its blocks.

use std::cell::Cell;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What ends a block.
const END: &str = "\n\n";
/// Fewer blocks are not worth it.
const WORTH_IT: usize = 3;
/// The most bytes that are unfolded: a few written ones could be of any number.
const MAX_BYTES: usize = 16 << 20;

thread_local! {
    /// What all folded texts of the reading under way may still have. No argument: between the reading and its texts are only
    /// derived impls.
    static ROOM: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The bytes of a body. Written as one of
/// - `{"body": "…"}`: as they are
/// - `{"folded": [[0, 0, "…"], [138, 71, "…"], …]}`: each block as how many bytes of the one before it begins with, how
///   many of them it ends with, and what is between them
/// - `{"base64": "…"}`: no UTF-8
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// Reads something in which all folded texts together have at most so many bytes.
    pub fn within<T>(most: usize, read: impl FnOnce() -> T) -> T {
        struct Before(Option<usize>);
        impl Drop for Before {
            fn drop(&mut self) {
                ROOM.set(self.0);
            }
        }
        let _before = Before(ROOM.replace(Some(most)));
        read()
    }
}

/// A text, written block by block.
struct Folded<'a>(&'a str);

/// What a folded text is put together in.
struct Unfolded(String);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match std::str::from_utf8(&self.0) {
            Ok(text) if blocks(text).nth(WORTH_IT - 1).is_some() => {
                map.serialize_entry("folded", &Folded(text))?;
            }
            Ok(text) => map.serialize_entry("body", text)?,
            Err(_) => map.serialize_entry("base64", &STANDARD.encode(&self.0))?,
        }
        map.end()
    }
}

impl Serialize for Folded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        let mut before = "";
        for block in blocks(self.0) {
            let (first, last) = shared(before, block);
            let middle = &block[first..block.len() - last];
            seq.serialize_element(&(first, last, middle))?;
            before = block;
        }
        seq.end()
    }
}

/// Each with its end; the last one may have none.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(END)
}

/// How many bytes two texts have in common at their beginnings, and of the rest at their ends; whole characters.
fn shared(one: &str, other: &str) -> (usize, usize) {
    let mut first = prefix(one.as_bytes(), other.as_bytes());
    while !other.is_char_boundary(first) {
        first -= 1;
    }
    let mut last = suffix(&one.as_bytes()[first..], &other.as_bytes()[first..]);
    while !other.is_char_boundary(other.len() - last) {
        last -= 1;
    }
    (first, last)
}

/// Bytes compared at once: one by one they would be a tenth of what a recording costs.
const WORD: usize = 16;

fn prefix(one: &[u8], other: &[u8]) -> usize {
    let words = WORD * common(one.chunks_exact(WORD).zip(other.chunks_exact(WORD)));
    words + common(one[words..].iter().zip(&other[words..]))
}

fn suffix(one: &[u8], other: &[u8]) -> usize {
    let words = WORD * common(one.rchunks_exact(WORD).zip(other.rchunks_exact(WORD)));
    let (one, other) = (&one[..one.len() - words], &other[..other.len() - words]);
    words + common(one.iter().rev().zip(other.iter().rev()))
}

fn common<T: PartialEq>(pairs: impl Iterator<Item = (T, T)>) -> usize {
    pairs.take_while(|(one, other)| one == other).count()
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a body, folded or not, or base64")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                #[derive(Deserialize)]
                #[serde(rename_all = "snake_case")]
                enum Form {
                    Body,
                    Folded,
                    Base64,
                    #[serde(other)]
                    Another,
                }
                let mut found = None;
                while let Some(form) = map.next_key()? {
                    found = Some(match form {
                        Form::Body => map.next_value::<String>()?.into_bytes(),
                        Form::Folded => map.next_value::<Unfolded>()?.0.into_bytes(),
                        Form::Base64 => {
                            let text: String = map.next_value()?;
                            STANDARD.decode(text).map_err(de::Error::custom)?
                        }
                        Form::Another => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    });
                }
                found
                    .map(Text)
                    .ok_or_else(|| de::Error::missing_field("body"))
            }
        }

        deserializer.deserialize_map(Map)
    }
}

impl<'de> Deserialize<'de> for Unfolded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Blocks;

        impl<'de> Visitor<'de> for Blocks {
            type Value = Unfolded;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("blocks, each as [bytes of the one before, bytes of its end, a text]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unfolded, A::Error> {
                let (mut text, mut before) = (String::new(), 0);
                while let Some((first, last, middle)) =
                    seq.next_element::<(usize, usize, String)>()?
                {
                    let begin = text.len();
                    unfold(&mut text, before, (first, last, &middle)).map_err(de::Error::custom)?;
                    before = begin;
                }
                Ok(Unfolded(text))
            }
        }

        deserializer.deserialize_seq(Blocks)
    }
}

/// Adds a block to a text in which the one before it begins at `before`.
fn unfold(
    text: &mut String,
    before: usize,
    (first, last, middle): (usize, usize, &str),
) -> Result<(), &'static str> {
    const FOREIGN: &str = "a folded block has more of the one before than there is";
    let length = text.len() - before;
    let rest = length.checked_sub(first).ok_or(FOREIGN)?;
    let end = text.len() - rest.checked_sub(last).map(|_| last).ok_or(FOREIGN)?;
    let more = first + middle.len() + last;
    let left = match ROOM.get() {
        Some(room) => room.checked_sub(more).map(Some),
        None => (text.len() + more <= MAX_BYTES).then_some(None),
    };
    ROOM.set(left.ok_or("what is folded is too large")?);
    if !text.is_char_boundary(before + first) || !text.is_char_boundary(end) {
        return Err("a folded block begins or ends in a character");
    }
    let whole = text.len();
    text.extend_from_within(before..before + first);
    text.push_str(middle);
    text.extend_from_within(end..whole);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(bytes: &[u8]) -> String {
        serde_json::to_string(&Text(bytes.to_vec())).unwrap()
    }

    fn read(json: &str) -> Result<Vec<u8>, String> {
        let text: Result<Text, _> = serde_json::from_str(json);
        text.map(|text| text.0).map_err(|error| error.to_string())
    }

    #[test]
    fn a_stream_is_written_by_what_is_new_in_each_block() {
        let stream = "data: {\"a\":\"It\"}\n\ndata: {\"a\":\" rains\"}\n\ndata: [DONE]\n\n";
        let json =
            r#"{"folded":[[0,0,"data: {\"a\":\"It\"}\n\n"],[12,4," rains"],[6,2,"[DONE]"]]}"#;
        assert_eq!(written(stream.as_bytes()), json);
        assert_eq!(read(json).unwrap(), stream.as_bytes());
    }

    #[test]
    fn what_is_no_stream_is_written_as_it_is() {
        for (bytes, json) in [
            (&b"{}"[..], r#"{"body":"{}"}"#),
            (b"a\n\nb", r#"{"body":"a\n\nb"}"#),
            (b"", r#"{"body":""}"#),
            (b"\xff", r#"{"base64":"/w=="}"#),
        ] {
            assert_eq!(written(bytes), json);
            assert_eq!(read(json).unwrap(), bytes);
        }
    }

    #[test]
    fn what_cannot_be_unfolded_says_so() {
        let bomb = "x".repeat(MAX_BYTES / 4);
        for (json, says) in [
            (
                r#"{"folded":[[0,0,"ab"],[1,2,""]]}"#,
                "more of the one before",
            ),
            (r#"{"folded":[[1,0,"ab"]]}"#, "more of the one before"),
            (r#"{"folded":[[0,0,"ü"],[1,0,""]]}"#, "in a character"),
            (r#"{"folded":[[0,0,"ü"],[0,1,""]]}"#, "in a character"),
            (r#"{"base64":"!"}"#, "Invalid"),
            (r#"{}"#, "missing field"),
            (r#"{"more":1}"#, "missing field"),
            (
                &format!(
                    r#"{{"folded":[[0,0,"{bomb}"],[{0},0,""],[{0},0,""],[{0},0,"y"]]}}"#,
                    bomb.len()
                ),
                "too large",
            ),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn all_texts_of_one_reading_share_its_bound() {
        let one = r#"{"folded":[[0,0,"abcd"],[2,2,""],[0,0,"x"]]}"#;
        let two = format!("[{one},{one}]");
        for (most, is_read) in [(18, true), (17, false)] {
            let read = || serde_json::from_str::<Vec<Text>>(&two);
            assert_eq!(Text::within(most, read).is_ok(), is_read, "{most}");
        }
        // Each by itself.
        assert!(serde_json::from_str::<Vec<Text>>(&two).is_ok());
    }

    proptest! {
        #[test]
        fn every_body_comes_back(parts in prop::collection::vec("(data: |\\{\"a\":\"|ü|é|\u{20ac}|x|x{17}|\n|\n\n){0,6}", 0..12), bytes: Option<u8>) {
            let mut body = parts.concat().into_bytes();
            body.extend(bytes);
            prop_assert_eq!(read(&written(&body)).unwrap(), body);
        }
    }
}
