//! The W3C traceparent that an event carries from its publisher through every agent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `00-<32 hex>-<16 hex>-<2 hex>`: which trace an event belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Traceparent(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")]
pub struct TraceparentError;

impl Traceparent {
    /// A sampled trace from random bits that the caller drew.
    #[must_use]
    pub fn new(trace: u128, span: u64) -> Self {
        Self(format!("00-{trace:032x}-{span:016x}-01"))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 digits that all spans of the trace share.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }
}

impl FromStr for Traceparent {
    type Err = TraceparentError;

    fn from_str(text: &str) -> Result<Self, TraceparentError> {
        let hex = |part: &str, len: usize| {
            part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let parts: Vec<&str> = text.split('-').collect();
        match parts[..] {
            ["00", trace, span, flags] if hex(trace, 32) && hex(span, 16) && hex(flags, 2) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(TraceparentError),
        }
    }
}

impl TryFrom<String> for Traceparent {
    type Error = TraceparentError;

    fn try_from(text: String) -> Result<Self, TraceparentError> {
        text.parse()
    }
}

impl From<Traceparent> for String {
    fn from(trace: Traceparent) -> String {
        trace.0
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_w3c_form_is_a_traceparent() {
        let made = Traceparent::new(0x4bf9, 7);
        assert_eq!(made.as_str().parse(), Ok(made.clone()));
        assert_eq!(made.trace_id(), "00000000000000000000000000004bf9");
        for bad in ["", "00-1-2-3", "zz", &made.as_str().replace("4bf9", "4BF9")] {
            assert_eq!(bad.parse::<Traceparent>(), Err(TraceparentError), "{bad}");
        }
    }
}
