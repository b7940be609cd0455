//! Attacks on the prompts (`tests/attacks/attacks.yaml`): what people would write into a story to be obeyed by its model.
//!
//! Tests put each into every field and see that it stays inside its fence, whatever a model makes of it.

mod corpus;
mod fields;

pub use corpus::{Attack, corpus};
pub use fields::{Field, MARK, Texts, quiet, turn};
