//! The options of the gateway, each with its environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent::telemetry;
use clap::Args;

use crate::auth::{self, JwksUrl, Origin, Origins};
use crate::session::Rate;
use crate::{Limits, Settings};

/// How long Redis may be away before the next try: one node has few connections to it.
const RECONNECT: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub struct Options {
    /// Where readers connect
    #[arg(
        long,
        env = "STORYFLEET_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Where /livez and /readyz are served; nowhere when left out
    #[arg(long, env = "STORYFLEET_INTERNAL_LISTEN", value_name = "ADDRESS")]
    internal_listen: Option<SocketAddr>,
    #[command(flatten)]
    redis: Redis,
    #[command(flatten)]
    tokens: Tokens,
    #[command(flatten)]
    bounds: Bounds,
    /// The form of the logs on stderr
    #[arg(long, env = "STORYFLEET_LOG", default_value = "pretty")]
    log: telemetry::Format,
    /// What is logged, as in RUST_LOG
    #[arg(
        long,
        env = "RUST_LOG",
        default_value = "info",
        value_name = "DIRECTIVES"
    )]
    log_filter: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Redis")]
struct Redis {
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
    #[arg(long, env = "STORYFLEET_SHARDS", default_value_t = 1)]
    shards: u16,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Tokens")]
struct Tokens {
    /// A file of secrets for HS256, one a line; all verify
    #[arg(long, env = "STORYFLEET_JWT_SECRETS", value_name = "FILE")]
    jwt_secrets: Option<PathBuf>,
    /// A file of public keys (JWKS) for RS256, ES256 and EdDSA
    #[arg(long, env = "STORYFLEET_JWKS_FILE", value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// The same from a server
    #[arg(long, env = "STORYFLEET_JWKS_URL", value_name = "URL")]
    jwks_url: Option<JwksUrl>,
    /// What tokens must name in aud
    #[arg(long, env = "STORYFLEET_AUDIENCE", default_value = "storyfleet")]
    audience: String,
    /// What tokens must name as iss
    #[arg(long, env = "STORYFLEET_ISSUER", default_value = "storyfleet")]
    issuer: String,
    /// Pages that may connect, as https://app.example; the gateway's own may always
    #[arg(
        long = "origin",
        env = "STORYFLEET_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    origins: Vec<Origin>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct Bounds {
    /// Connections at the same time; more wait
    #[arg(long, env = "STORYFLEET_CONNECTIONS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Sockets and streams of one person at the same time
    #[arg(long, env = "STORYFLEET_PER_PERSON", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    per_person: u32,
    /// Messages that a socket may send in a second
    #[arg(long, env = "STORYFLEET_MESSAGES", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    messages: u32,
    /// Seconds between the signs of life of a quiet connection
    #[arg(long, env = "STORYFLEET_PING", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    ping: u64,
    /// Seconds that connections are given to go when the node ends
    #[arg(long, env = "STORYFLEET_DRAIN", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    drain: u64,
}

impl Options {
    /// # Errors
    /// The logs cannot be written as asked for.
    pub fn logs(&self) -> anyhow::Result<()> {
        telemetry::start(self.log, &self.log_filter)
    }

    /// # Errors
    /// What is given cannot be meant.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let Tokens {
            jwt_secrets,
            jwks_file,
            jwks_url,
            audience,
            issuer,
            origins,
        } = &self.tokens;
        Ok(Settings {
            listen: self.listen,
            internal: self.internal_listen,
            bus: bus::Settings {
                prefix: self.redis.prefix.clone(),
                shards: self.redis.shards,
                reconnect: RECONNECT,
                ..bus::Settings::new(self.redis.redis.clone())
            },
            tokens: auth::Settings {
                secrets: jwt_secrets.clone(),
                jwks_file: jwks_file.clone(),
                jwks_url: jwks_url.clone(),
                ..auth::Settings::new(audience, issuer)
            },
            origins: Origins::new(origins.clone())?,
            limits: Limits {
                connections: usize::try_from(self.bounds.connections)?,
                per_person: self.bounds.per_person,
                rate: Rate {
                    burst: 2 * self.bounds.messages,
                    every: Duration::from_secs(1) / self.bounds.messages,
                },
                ping: Duration::from_secs(self.bounds.ping),
                drain: Duration::from_secs(self.bounds.drain),
            },
        })
    }
}
