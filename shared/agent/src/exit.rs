//! How a program of the fleet ends that cannot go on: as any does, and with Redis's own refusals sorted.

use std::process::ExitCode;

use anyhow::anyhow;

pub use exit::{CONFIGURATION, configuration, is_configuration, line, note, one_line, tell, usage};

/// Tells the error, and gives 2 when the same again ends the same: only another configuration helps, of ours or of Redis, or
/// other arguments. Else 1.
#[must_use]
pub fn failed(error: anyhow::Error) -> ExitCode {
    exit::failed(&sorted(error))
}

/// The error, marked when the same again ends the same.
pub(crate) fn sorted(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<bus::Error>() {
        Some(bus::Error::NoStory(id)) => configuration(anyhow!(
            "there is no story '{id}': `storyfleet story list` names those there are, `storyfleet story create {id}` makes it"
        )),
        Some(redis) if redis.is_configuration() || redis.is_of_the_call() => configuration(error),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_the_same_again_is_told_from_what_may_pass() {
        let denied = anyhow!(bus::Error::Settings("no URL".into())).context("x");
        let large = bus::Error::TooLarge(70_000);
        let none = bus::Error::NoStory("castle".parse().unwrap());
        let full = bus::Error::LaneFull("castle".parse().unwrap());
        for (error, configuration) in [
            (denied, true),
            (large.into(), true),
            (none.into(), true),
            (full.into(), false),
        ] {
            assert_eq!(exit::is_configuration(&sorted(error)), configuration);
        }
    }
}
