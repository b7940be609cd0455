//! The storyfleet command.
fn main() {}
