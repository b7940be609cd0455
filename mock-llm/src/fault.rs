//! Every way the mock can fail, by name: the one table of it. What each does on the wire is in
//! `refusal`, `playback`, `unary` and `answer`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A fault with its amount: `stall`, `stall(12)`, `rate_limit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Fault {
    pub(crate) kind: Kind,
    /// In the unit of the fault's row; 0 for a fault without one.
    pub(crate) amount: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no fault is called `{0}`: `mock-llm faults` lists them")]
    Unknown(String),
    #[error("`{0}` takes no amount")]
    NoAmount(String),
    #[error("`{0}`: the amount is a whole number of {1}")]
    Amount(String, Unit),
}

/// What a fault's amount counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Tokens,
    Seconds,
    Milliseconds,
}

/// One row of [`TABLE`].
#[derive(Debug)]
pub struct Row {
    pub(crate) kind: Kind,
    pub name: &'static str,
    /// The amount when none is given, and its unit.
    pub amount: Option<(u32, Unit)>,
    /// Whether the same request may succeed when it is tried again.
    pub transient: bool,
    pub meaning: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    NoHeaders,
    NoFirstToken,
    Stall,
    Eof,
    NoFinishReason,
    Cut,
    CutUtf8,
    BadSse,
    BadUtf8,
    ErrorFrame,
    BrokenJson,
    UnknownFinishReason,
    SlowDrip,
    NoUsage,
    ContentFilter,
    EmptyAnswer,
    HtmlAnswer,
    RateLimit,
    RateLimitDate,
    RateLimitMs,
    RateLimitBare,
    RateLimitText,
    RateLimitIntegerCode,
    RateLimitFlat,
    Error500,
    Error502,
    Error503,
    Error529,
    Unauthorized,
    ContextLengthExceeded,
    InsufficientQuota,
    SpeaksForPlayer,
    BreaksCharacter,
    ObeysInjection,
    BadTrailer,
    NoTrailer,
    Repeats,
}

const TOKENS: Option<(u32, Unit)> = Some((5, Unit::Tokens));
const SECOND: Option<(u32, Unit)> = Some((1, Unit::Seconds));
const MILLIS: Option<(u32, Unit)> = Some((50, Unit::Milliseconds));

/// Every fault, in the order of their kinds.
#[rustfmt::skip]
pub const TABLE: [Row; 37] = [
    row(Kind::NoHeaders,             "no_headers",              None,   true,  "nothing is ever answered, not even headers"),
    row(Kind::NoFirstToken,          "no_first_token",          None,   true,  "headers come, a body never does"),
    row(Kind::Stall,                 "stall",                   TOKENS, true,  "after n tokens nothing more comes, and the connection stays open"),
    row(Kind::Eof,                   "eof",                     TOKENS, true,  "after n tokens the body ends cleanly: no finish_reason, no [DONE]"),
    row(Kind::NoFinishReason,        "no_finish_reason",        TOKENS, true,  "after n tokens comes [DONE], as if the answer were whole: no finish_reason"),
    row(Kind::Cut,                   "cut",                     TOKENS, true,  "after n tokens the connection is reset"),
    row(Kind::CutUtf8,               "cut_utf8",                TOKENS, true,  "after n tokens the connection is reset inside a character of several bytes"),
    row(Kind::BadSse,                "bad_sse",                 TOKENS, true,  "after n tokens comes a line that is no SSE field, then the rest"),
    row(Kind::BadUtf8,               "bad_utf8",                TOKENS, true,  "after n tokens comes a frame that is not UTF-8, then the rest"),
    row(Kind::ErrorFrame,            "error_frame",             TOKENS, true,  "after n tokens comes {\"error\":…} in band, and the end"),
    row(Kind::BrokenJson,            "broken_json",             TOKENS, true,  "after n tokens comes a frame of broken JSON, then the rest"),
    row(Kind::UnknownFinishReason,   "unknown_finish_reason",   None,   true,  "the answer is whole, its finish_reason is `exhausted`"),
    row(Kind::SlowDrip,              "slow_drip",               MILLIS, true,  "the body comes 64 bytes at a time, every n milliseconds"),
    row(Kind::NoUsage,               "no_usage",                None,   true,  "the answer is whole, usage is missing though asked for"),
    row(Kind::ContentFilter,         "content_filter",          TOKENS, false, "after n tokens the answer finishes as content_filter"),
    row(Kind::EmptyAnswer,           "empty_answer",            None,   true,  "the answer is empty and finishes as stop"),
    row(Kind::HtmlAnswer,            "html_answer",             None,   true,  "200 with a page of HTML"),
    row(Kind::RateLimit,             "rate_limit",              SECOND, true,  "429, Retry-After: n seconds"),
    row(Kind::RateLimitDate,         "rate_limit_date",         SECOND, true,  "429, Retry-After: an HTTP date n seconds ahead"),
    row(Kind::RateLimitMs,           "rate_limit_ms",           MILLIS, true,  "429, retry-after-ms: n"),
    row(Kind::RateLimitBare,         "rate_limit_bare",         None,   true,  "429 without a word on when to come back"),
    row(Kind::RateLimitText,         "rate_limit_text",         None,   true,  "429 with a body of plain text"),
    row(Kind::RateLimitIntegerCode,  "rate_limit_integer_code", None,   true,  "429 whose error.code is the number 429"),
    row(Kind::RateLimitFlat,         "rate_limit_flat",         None,   true,  "429 whose body is the error itself, without an envelope"),
    row(Kind::Error500,              "error_500",               None,   true,  "500, server_error"),
    row(Kind::Error502,              "error_502",               None,   true,  "502 with a proxy's page of HTML"),
    row(Kind::Error503,              "error_503",               None,   true,  "503, the engine is overloaded"),
    row(Kind::Error529,              "error_529",               None,   true,  "529, overloaded_error"),
    row(Kind::Unauthorized,          "unauthorized",            None,   false, "401, invalid_api_key"),
    row(Kind::ContextLengthExceeded, "context_length_exceeded", None,   false, "400, the prompt is longer than the window"),
    row(Kind::InsufficientQuota,     "insufficient_quota",      None,   false, "429, insufficient_quota: no credit left"),
    row(Kind::SpeaksForPlayer,       "speaks_for_player",       None,   false, "the answer decides what the player says and does"),
    row(Kind::BreaksCharacter,       "breaks_character",        None,   false, "the answer says that it is a language model"),
    row(Kind::ObeysInjection,        "obeys_injection",         None,   false, "the answer gives away its instructions; the moderator allows anything"),
    row(Kind::BadTrailer,            "bad_trailer",             None,   false, "the JSON after the prose's @@@, or the JSON that was asked for, is broken"),
    row(Kind::NoTrailer,             "no_trailer",              None,   false, "the prose ends without its @@@ and JSON"),
    row(Kind::Repeats,               "repeats",                 None,   false, "one sentence over and over"),
];

const fn row(
    kind: Kind,
    name: &'static str,
    amount: Option<(u32, Unit)>,
    transient: bool,
    meaning: &'static str,
) -> Row {
    Row {
        kind,
        name,
        amount,
        transient,
        meaning,
    }
}

impl Row {
    /// The fault with its usual amount.
    pub const fn fault(&self) -> Fault {
        let amount = match self.amount {
            Some((amount, _)) => amount,
            None => 0,
        };
        Fault {
            kind: self.kind,
            amount,
        }
    }
}

impl Fault {
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The faults after which a retry may succeed: what chaos picks from when it is told nothing else.
    pub fn transient() -> Vec<Self> {
        let rows = TABLE.iter().filter(|row| row.transient);
        rows.map(Row::fault).collect()
    }

    /// Whether it strikes after some tokens.
    pub(crate) fn is_midway(self) -> bool {
        matches!(self.row().amount, Some((_, Unit::Tokens)))
    }

    /// The pause between two pieces of a body.
    pub(crate) fn drip(self) -> Option<Duration> {
        let pause = Duration::from_millis(self.amount.into());
        (self.kind == Kind::SlowDrip).then_some(pause)
    }

    fn row(self) -> &'static Row {
        const ROWS: &[Row; 37] = &TABLE;
        &ROWS[self.kind as usize]
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let call = text.strip_suffix(')').and_then(|open| open.split_once('('));
        let (name, amount) = match call {
            Some((name, amount)) => (name, Some(amount)),
            None => (text, None),
        };
        let row = TABLE.iter().find(|row| row.name == name);
        let row = row.ok_or_else(|| Error::Unknown(name.to_owned()))?;
        match (amount, row.amount) {
            (None, _) => Ok(row.fault()),
            (Some(_), None) => Err(Error::NoAmount(name.to_owned())),
            (Some(amount), Some((_, unit))) => match amount.trim().parse() {
                Ok(amount) => Ok(Self {
                    amount,
                    ..row.fault()
                }),
                Err(_) => Err(Error::Amount(text.to_owned(), unit)),
            },
        }
    }
}

impl TryFrom<String> for Fault {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "tokens",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_finds_its_own_row_and_reads_back() {
        for row in &TABLE {
            assert_eq!(row.fault().name(), row.name);
            assert_eq!(row.name.parse(), Ok(row.fault()));
        }
    }

    #[test]
    fn an_amount_is_read_and_checked() {
        let stall: Fault = " stall(12)".parse().unwrap();
        assert_eq!((stall.kind, stall.amount), (Kind::Stall, 12));
        let told = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        let unknown = "no fault is called `stal`: `mock-llm faults` lists them";
        assert_eq!(told("stal"), unknown);
        assert_eq!(told("no_usage(3)"), "`no_usage` takes no amount");
        let amount = "`cut(x)`: the amount is a whole number of tokens";
        assert_eq!(told("cut(x)"), amount);
    }
}
