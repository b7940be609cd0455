//! The rules that texts are judged by, in microseconds and without any I/O: whoever holds a text can ask them, and whoever
//! shows one while it is written.

mod card;
mod form;
mod letter;
mod phrases;
mod rules;
mod watch;

pub use rules::{Finding, Rules};
pub use watch::Watch;
