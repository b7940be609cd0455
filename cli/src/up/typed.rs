//! How this program is started again, as it can be typed: it may be in no folder of PATH, and its data not in the usual one.

use std::env;
use std::ffi::OsStr;
use std::path::Path;

use crate::output::one_line;
use crate::target::DATA;

pub(super) fn program(data: &Path) -> String {
    let called = env::args_os().next();
    written(called.as_deref().unwrap_or("storyfleet".as_ref()), data)
}

fn written(called: &OsStr, data: &Path) -> String {
    let called = quoted(called);
    if data == Path::new(DATA) {
        called
    } else {
        format!("{called} --data {}", quoted(data.as_os_str()))
    }
}

/// As a shell takes it for one word.
fn quoted(word: &OsStr) -> String {
    let word = one_line(&word.to_string_lossy());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        for (called, data, shown) in [
            ("storyfleet", DATA, "storyfleet"),
            (
                "target/release/storyfleet",
                DATA,
                "target/release/storyfleet",
            ),
            (
                "./storyfleet",
                "/tmp/Mira's own",
                r"./storyfleet --data '/tmp/Mira'\''s own'",
            ),
        ] {
            assert_eq!(written(called.as_ref(), data.as_ref()), shown);
        }
    }
}
