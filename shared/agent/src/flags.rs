//! The flags that every long-running program of the fleet has: where Redis is, how logs are written, and how durations are.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{ArgMatches, Args, Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use story::OutputPolicy;

use crate::spans::{Exporting, Traces};
use crate::telemetry;

/// Of every duration: far more than anybody means, and far less than a clock can count.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A name that shows: an empty one is a variable that was not set.
///
/// # Errors
/// In words.
pub fn word(text: &str) -> Result<String, String> {
    if text.contains(story::shows) {
        Ok(text.to_owned())
    } else {
        Err("there is nothing in it: give the name, or leave the option out".to_owned())
    }
}

/// Where Redis is and how keys are laid out there.
#[derive(Debug, Args)]
#[command(next_help_heading = "Redis")]
pub struct Redis {
    /// redis://, rediss://, redis+sentinel://host:port,…/name or redis+cluster://host:port,…
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379",
        value_name = "URL"
    )]
    redis: String,
    /// The first part of every key
    #[arg(long, env = "STORYFLEET_PREFIX", default_value = "sf")]
    prefix: String,
    /// How many hash tags stories are spread over; fixed for the life of an installation
    #[arg(long, env = "STORYFLEET_SHARDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    shards: u16,
    /// How many replicas must have what is published and committed before it is said to be done, 1 s at most: a failover then
    /// loses nothing that was said to be on so many
    #[arg(
        long,
        env = "STORYFLEET_WAIT_REPLICAS",
        value_name = "N",
        default_value = "0",
        value_parser = clap::value_parser!(u32).range(..=16)
    )]
    wait_replicas: u32,
    #[command(flatten)]
    tls: RedisTls,
}

/// Whom is trusted to be Redis, and who we are to it.
#[derive(Debug, Clone, Args)]
pub struct RedisTls {
    /// A file (PEM) of the authorities that vouch for Redis's certificate (rediss://), in the place of those that this
    /// machine trusts
    // Global in commands of commands; and what is in a file of a key may be given in the place of any path.
    #[arg(
        long,
        global = true,
        env = "STORYFLEET_REDIS_CA",
        hide_env_values = true,
        value_name = "FILE"
    )]
    redis_ca: Option<PathBuf>,
    /// A file (PEM) of our certificate and those that vouch for it, for a Redis that asks who we are
    #[arg(
        long,
        global = true,
        env = "STORYFLEET_REDIS_CERT",
        hide_env_values = true,
        value_name = "FILE",
        requires = "redis_key"
    )]
    redis_cert: Option<PathBuf>,
    /// A file (PEM) of its key. The three are read anew for each connection
    #[arg(
        long,
        global = true,
        env = "STORYFLEET_REDIS_KEY",
        hide_env_values = true,
        value_name = "FILE",
        requires = "redis_cert"
    )]
    redis_key: Option<PathBuf>,
}

// Who judges beside the rules. All agents are told: what the endpoint must see first, none of them shows before. Not a doc
// comment: clap would take it for what a command is about.
#[derive(Debug, Clone, Copy, Args, Serialize, Deserialize)]
// Among an agent's own options it is not a group of its own.
#[group(skip)]
pub struct SecondTier {
    /// Who looks again after the moderator's rules; the same in the whole fleet. Where the endpoint does, or this is not
    /// said, nothing of an answer is shown before its verdict in stories of the output policy hold
    #[arg(long, env = "STORYFLEET_TIER2", value_enum, default_value_t = Tier::Off)]
    pub tier2: Tier,
}

/// The second tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nobody: the rules decide
    Off,
    /// The provider's moderation endpoint looks at every text
    Endpoint,
    /// The model looks at what the rules flag
    Llm,
}

/// The logs on stderr.
#[derive(Debug, Args)]
pub struct Logs {
    /// The form of the logs on stderr
    #[arg(long, env = "STORYFLEET_LOG", default_value = "pretty")]
    log: telemetry::Format,
    /// What is logged, as in RUST_LOG
    #[arg(
        long,
        env = "RUST_LOG",
        // What a client does wrong over HTTP/2 is h2's to warn of, as often as the client likes; a node of a cluster that is
        // away is redis's, ten times a second.
        default_value = "info,h2=error,redis=error",
        value_name = "DIRECTIVES"
    )]
    log_filter: String,
}

/// The command line and the environment of this process. A variable that is empty, as `${X:-}` of a compose file leaves it,
/// is not given.
///
/// # Errors
/// Those of clap.
pub fn parse<P: Parser>() -> Result<P, clap::Error> {
    parse_seen().map(|(parsed, _)| parsed)
}

/// The same, with where each value comes from.
///
/// # Errors
/// Those of clap.
pub fn parse_seen<P: Parser>() -> Result<(P, ArgMatches), clap::Error> {
    let mut command = without_empty(P::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    match P::from_arg_matches(&matches) {
        Ok(parsed) => Ok((parsed, matches)),
        Err(error) => Err(error.format(&mut command)),
    }
}

/// A command that takes nothing from variables that are empty.
#[must_use]
pub fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|argument| match argument.get_env().is_some_and(is_empty) {
        true => argument.env(Resettable::Reset),
        false => argument,
    });
    command.mut_subcommands(without_empty)
}

impl Redis {
    #[must_use]
    pub fn settings(&self) -> bus::Settings {
        bus::Settings {
            prefix: self.prefix.clone(),
            shards: self.shards,
            wait_replicas: self.wait_replicas,
            encryption: self.tls.encryption(),
            ..bus::Settings::new(&self.redis)
        }
    }
}

impl RedisTls {
    #[must_use]
    pub fn encryption(&self) -> bus::Encryption {
        bus::Encryption {
            ca: self.redis_ca.clone(),
            own: self.redis_cert.clone().zip(self.redis_key.clone()),
        }
    }

    /// Leaves away the options that are not to be kept, which go by the names of their fields.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        let options = [
            ("redis_ca", &mut self.redis_ca),
            ("redis_cert", &mut self.redis_cert),
            ("redis_key", &mut self.redis_key),
        ];
        for (name, file) in options {
            file.take_if(|_| !is_kept(name));
        }
    }

    #[must_use]
    pub fn is_given(&self) -> bool {
        self.encryption() != bus::Encryption::default()
    }
}

impl SecondTier {
    /// A command that has the option, its own or this one.
    #[must_use]
    pub(crate) fn of_all(command: clap::Command) -> clap::Command {
        let is_it = |argument: &clap::Arg| argument.get_id() == "tier2";
        let is_known = command.get_arguments().any(is_it);
        match is_known {
            true => command,
            false => Self::augment_args(command),
        }
    }
}

impl Tier {
    /// Whether nothing of an answer may be shown before its verdict. Where the rules let a window pass, the model would
    /// not be asked; the endpoint would. Who was told nothing cannot know.
    #[must_use]
    pub(crate) fn must_see_first(tier: Option<Self>, output: OutputPolicy) -> bool {
        matches!(tier, None | Some(Self::Endpoint)) && output == OutputPolicy::Hold
    }
}

impl Logs {
    /// # Errors
    /// When the filter cannot be read or logging runs already.
    pub fn start(&self) -> anyhow::Result<()> {
        telemetry::start(self.log, &self.log_filter)
    }

    /// Starts them, and sends the spans of the program `name` where `traces` says.
    ///
    /// # Errors
    /// Those, or when traces cannot be sent there.
    pub fn start_traced(&self, traces: &Traces, name: &'static str) -> anyhow::Result<Exporting> {
        telemetry::start_traced((self.log, &self.log_filter), traces, name)
    }
}

/// What may be left out.
///
/// # Errors
/// Those of [`duration`].
pub fn pause(text: &str) -> Result<Duration, String> {
    duration(text, Duration::ZERO)
}

/// `10s`, `500ms`, `1m 30s`, at least `least` and at most a day.
///
/// # Errors
/// Words for who wrote it.
pub fn duration(text: &str, least: Duration) -> Result<Duration, String> {
    let wanted = "write it like 500ms, 10s or 1m";
    let span: jiff::SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    let duration = Duration::try_from(span).map_err(|_| wanted.to_owned())?;
    if duration < least {
        Err(format!("at least {least:?}"))
    } else if duration > LONGEST {
        Err("at most 1 day".to_owned())
    } else {
        Ok(duration)
    }
}
