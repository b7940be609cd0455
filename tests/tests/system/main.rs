//! What the fleet promises, as sentences, shown with real processes.
#![allow(
    clippy::print_stdout,
    reason = "tests show their figures to whoever runs them with --nocapture"
)]

mod acl;
mod answers;
mod attacks;
mod backup;
mod bad_input;
mod bench;
mod clusters;
mod command;
mod content;
mod costs;
mod deaths;
mod drain;
mod encryption;
mod fallback;
mod faults;
mod files;
mod gateway;
mod golden;
mod hanging;
mod health;
mod keys;
mod limits;
mod moderation;
mod operator;
mod outage;
mod page;
mod paid;
mod poison;
mod prompts;
mod replay;
mod replicated;
mod restart;
mod rolling;
mod sample;
mod scale;
mod signals;
mod starting;
mod terminal;
mod token;
mod top;
mod unserved;
mod waiting;
mod window;
