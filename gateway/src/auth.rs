//! Who somebody is, and what they may do in which story.
