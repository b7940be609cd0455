//! The moderator process.
fn main() {}
