//! Attacks on the prompts (`tests/attacks/attacks.yaml`): what people would write into a story to be obeyed by its model.
//!
//! Tests put each into every field and see that it stays inside its fence, whatever a model makes of it. How often a model
//! obeys is measured and no test: `make attacks`.

mod corpus;
mod fields;
mod measure;
mod report;

pub use corpus::{Attack, corpus};
pub use fields::{Field, MARK, Texts, quiet, turn};
pub use measure::{Plan, run};
pub use report::Report;
