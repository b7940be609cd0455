//! The mock LLM process.
fn main() {}
