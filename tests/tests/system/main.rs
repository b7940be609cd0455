//! What the fleet promises, as sentences, shown with real processes.

mod answers;
mod command;
mod deaths;
mod faults;
mod moderation;
