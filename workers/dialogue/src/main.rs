//! The dialogue process.
fn main() {}
