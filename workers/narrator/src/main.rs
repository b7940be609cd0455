//! The narrator process.
fn main() {}
