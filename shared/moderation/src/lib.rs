//! The rules that texts are judged by, in microseconds and without any I/O: whoever holds a text can ask them.

mod card;
mod rules;

pub use rules::{Finding, judge};
