//! What can go wrong with a call, and which of it is tried again: the one table of it.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a call failed. [`TABLE`] says what each class means and whether it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    Rate,
    Quota,
    FirstToken,
    Stall,
    Truncated,
    Provider,
    Connect,
    Auth,
    Context,
    Request,
    Schema,
    Blocked,
    Budget,
    Internal,
    Deadline,
    Cancelled,
}

/// Whether a failed try is followed by another one. No retry ever passes the total deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same request would fail the same way.
    Never,
    /// Another try, at most [`Settings::max_tries`](crate::Settings::max_tries) of this kind.
    Counted,
    /// As often as the total deadline allows: being told to wait is no failure of the request.
    Free,
    /// As often as [`Deadlines::patience`](crate::Deadlines) allows: a server that restarts is back in seconds, and has
    /// had none of the request.
    Patient,
}

/// One row of [`TABLE`].
#[derive(Debug)]
pub struct Row {
    pub class: Class,
    /// The class in events, metrics and logs: a wire name, never to be changed.
    pub name: &'static str,
    pub retry: Retry,
    /// Whether another model may answer what this one failed at.
    pub elsewhere: bool,
    pub meaning: &'static str,
}

/// Every class, in the order of [`Class`].
#[rustfmt::skip]
pub const TABLE: [Row; 16] = [
    row(Class::Rate,       "rate",      Retry::Free,    true,  "the provider asks to slow down (429)"),
    row(Class::Quota,      "quota",     Retry::Never,   true,  "the account has no credit left (402, insufficient_quota)"),
    row(Class::FirstToken, "ttft",      Retry::Counted, true,  "no token came within the first-token deadline"),
    row(Class::Stall,      "stall",     Retry::Counted, true,  "the tokens stopped coming for longer than the stall deadline"),
    row(Class::Truncated,  "truncated", Retry::Counted, true,  "the connection was closed or cut after the request was sent, before the answer was whole"),
    row(Class::Provider,   "provider",  Retry::Counted, true,  "the provider failed (5xx, 408) or answered something that is no answer"),
    row(Class::Connect,    "connect",   Retry::Patient, true,  "no connection was made: refused, unreachable, an unknown name, TLS, the connect deadline"),
    row(Class::Auth,       "auth",      Retry::Never,   true,  "the key is missing, wrong or not allowed (401, 403)"),
    row(Class::Context,    "context",   Retry::Never,   true,  "the prompt is longer than the model's window"),
    row(Class::Request,    "request",   Retry::Never,   false, "the provider refused the request (other 4xx), or it cannot be sent"),
    row(Class::Schema,     "schema",    Retry::Never,   false, "the answer is not the JSON that was asked for: repair it with another request"),
    row(Class::Blocked,    "blocked",   Retry::Never,   false, "the provider's content filter or the model refused"),
    row(Class::Budget,     "budget",    Retry::Never,   false, "a limit of ours has no room for the call"),
    row(Class::Internal,   "internal",  Retry::Never,   false, "what must be asked before a call could not be: the log says what refused"),
    row(Class::Deadline,   "deadline",  Retry::Never,   false, "the total deadline passed"),
    row(Class::Cancelled,  "cancelled", Retry::Never,   false, "nobody waits for the answer any more; only metrics know this class"),
];

const fn row(
    class: Class,
    name: &'static str,
    retry: Retry,
    elsewhere: bool,
    meaning: &'static str,
) -> Row {
    Row {
        class,
        name,
        retry,
        elsewhere,
        meaning,
    }
}

impl Class {
    pub const fn row(self) -> &'static Row {
        const ROWS: &[Row; 16] = &TABLE;
        &ROWS[self as usize]
    }

    pub const fn as_str(self) -> &'static str {
        self.row().name
    }

    pub const fn retry(self) -> Retry {
        self.row().retry
    }

    /// [`Row::elsewhere`].
    pub const fn elsewhere(self) -> bool {
        self.row().elsewhere
    }
}

/// By its name.
impl Serialize for Class {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let row = TABLE.iter().find(|row| row.name == name);
        let known =
            row.ok_or_else(|| D::Error::custom(format!("no class of errors is called `{name}`")));
        known.map(|row| row.class)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_finds_its_own_row() {
        for row in &TABLE {
            assert_eq!(row.class.row().name, row.name);
        }
    }

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
    }
}
