//! How a program of the fleet ends that cannot go on: as any does, and with Redis's own refusals sorted.

use std::process::ExitCode;

pub use exit::{CONFIGURATION, configuration, is_configuration, line, note, one_line, tell, usage};

/// Tells the error, and gives 2 when only another configuration helps against it, of ours or of Redis, else 1.
#[must_use]
pub fn failed(error: anyhow::Error) -> ExitCode {
    exit::failed(&sorted(error))
}

/// The error, marked when only another configuration helps against it.
pub(crate) fn sorted(error: anyhow::Error) -> anyhow::Error {
    let redis = error.downcast_ref::<bus::Error>();
    if redis.is_some_and(bus::Error::is_configuration) {
        configuration(error)
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_redis_will_always_refuse_is_a_matter_of_configuration() {
        let denied = anyhow!(bus::Error::Settings("no URL".into())).context("x");
        let large = bus::Error::TooLarge(70_000);
        for (error, configuration) in [(denied, true), (large.into(), false)] {
            assert_eq!(exit::is_configuration(&sorted(error)), configuration);
        }
    }
}
