//! `storyfleet token …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gateway::auth::{Pattern, Role};

/// The longest life of a token: what lives longer is no token for development.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Whose token it is: their id, 1 to 64 bytes
    #[arg(long, value_name = "ID")]
    pub(crate) sub: String,
    /// What others read [default: the id]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// What they may do in a story: reader, author or owner; `team-*=ROLE` is for all ids that begin so, `*=ROLE` for all.
    /// The most specific one counts. May be given again
    #[arg(long = "story", value_name = "STORY=ROLE", value_parser = grant)]
    pub(crate) stories: Vec<(Pattern, Role)>,
    /// How long it is good: 1s to 8760h
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = life)]
    pub(crate) ttl: Duration,
    /// The gateway's secrets: one a line, at least 32 bytes each; the first signs
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: PathBuf,
    /// The audience that the gateway asks for
    #[arg(long, default_value = "storyfleet", value_name = "AUDIENCE")]
    pub(crate) aud: String,
    /// The issuer that the gateway asks for
    #[arg(long, default_value = "storyfleet", value_name = "ISSUER")]
    pub(crate) iss: String,
}

fn grant(text: &str) -> Result<(Pattern, Role), String> {
    let (story, role) = text.split_once('=').ok_or("write it as STORY=ROLE")?;
    let story = story.parse().map_err(|error| format!("{error}"))?;
    let role = role.parse().map_err(|error| format!("{error}"))?;
    Ok((story, role))
}

/// `90s`, `1h`, `1h 30m`.
pub(super) fn life(text: &str) -> Result<Duration, String> {
    let wanted = "write it like 90s, 15m or 1h: at least 1s, at most 8760h";
    let span: jiff::SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    let life = Duration::try_from(span).map_err(|_| wanted.to_owned())?;
    if (Duration::from_secs(1)..=LONGEST).contains(&life) {
        Ok(life)
    } else {
        Err(wanted.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_one_second_to_one_year() {
        assert_eq!(life("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(life("1s").is_ok() && life("8760h").is_ok());
        for text in ["", "60", "0s", "999ms", "-1h", "8760h 1s", "soon"] {
            assert!(life(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_grant_names_a_story_or_a_beginning_and_a_role() {
        assert_eq!(
            grant("team-*=owner"),
            Ok(("team-*".parse().unwrap(), Role::Owner))
        );
        for (text, says) in [
            ("castle", "STORY=ROLE"),
            ("castle=king", "reader, author or owner"),
            ("Castle=owner", "names no stories"),
            ("=owner", "names no stories"),
        ] {
            let error = grant(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
