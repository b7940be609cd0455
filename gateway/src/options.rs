//! The options of the gateway, each with its environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use agent::flags::{Logs, Redis, duration, pause};
use agent::spans::{Exporting, Traces};
use clap::{Args, ValueEnum};

use crate::auth::{self, JwksUrl, Origin, Origins};
use crate::session::Rate;
use crate::tls::Tls;
use crate::{Limits, Network, PUBLISHES_AT_ONCE, Settings};

/// How long Redis may be away before the next try: one node has few connections to it.
const RECONNECT: Duration = Duration::from_millis(250);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// Where /livez, /readyz and /metrics are served; nowhere when left out
    #[arg(long, env = "STORYFLEET_INTERNAL_LISTEN", value_name = "ADDRESS")]
    internal_listen: Option<SocketAddr>,
    #[command(flatten)]
    redis: Redis,
    #[command(flatten)]
    tokens: Tokens,
    #[command(flatten)]
    encryption: Encryption,
    #[command(flatten)]
    bounds: Bounds,
    /// Whether people are told who else is in a story, and who types there
    #[arg(
        long,
        env = "STORYFLEET_PRESENCE",
        default_value = "on",
        value_name = "on|off"
    )]
    presence: Switch,
    /// A proxy, or a network of them, whose X-Forwarded-For counts; may be given more than once, or with commas between
    #[arg(
        long = "trusted-proxy",
        env = "STORYFLEET_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = trimmed::<Network>,
        value_name = "ADDRESS[/BITS]"
    )]
    trusted_proxies: Vec<Network>,
    #[command(flatten)]
    logs: Logs,
    #[command(flatten)]
    traces: Traces,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Tokens")]
struct Tokens {
    /// A file of secrets for HS256, one a line; all verify
    // Here and for the key of TLS: what is in the file may be given in the place of its path.
    #[arg(
        long,
        env = "STORYFLEET_JWT_SECRETS",
        hide_env_values = true,
        value_name = "FILE"
    )]
    jwt_secrets: Option<PathBuf>,
    /// A file of public keys (JWKS) for RS256, ES256 and EdDSA
    #[arg(
        long,
        env = "STORYFLEET_JWKS_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    jwks_file: Option<PathBuf>,
    /// The same from a server
    // A key may be in its query.
    #[arg(
        long,
        env = "STORYFLEET_JWKS_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    jwks_url: Option<JwksUrl>,
    /// What tokens must name in aud
    #[arg(long, env = "STORYFLEET_AUDIENCE", default_value = "storyfleet")]
    audience: String,
    /// What tokens must name as iss
    #[arg(long, env = "STORYFLEET_ISSUER", default_value = "storyfleet")]
    issuer: String,
    /// Pages that may connect, as https://app.example, with commas between; the gateway's own may always
    #[arg(
        long = "origin",
        env = "STORYFLEET_ORIGINS",
        value_delimiter = ',',
        value_parser = trimmed::<Origin>,
        value_name = "ORIGIN"
    )]
    origins: Vec<Origin>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
struct Encryption {
    /// A file (PEM) of the gateway's certificate and those that vouch for it; without one readers come in the clear
    #[arg(
        long,
        env = "STORYFLEET_TLS_CERT",
        // The key may be in the same file.
        hide_env_values = true,
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// A file (PEM) of its key
    #[arg(
        long,
        env = "STORYFLEET_TLS_KEY",
        hide_env_values = true,
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// How long browsers that were here come by https only, as 365d, to every port of this host; not told when left out, taken
    /// back with 0s
    #[arg(long, env = "STORYFLEET_HSTS", value_name = "MAX_AGE", requires = "tls_cert", value_parser = max_age)]
    hsts: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct Bounds {
    /// Connections at the same time, each story that is streamed over HTTP/2 counting as one; more wait, more streams are told to come later
    #[arg(long, env = "STORYFLEET_CONNECTIONS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Connections from one address at the same time, each story that is streamed over HTTP/2 counting as one, and behind trusted proxies its
    /// sockets and streams; more are told 429, or closed without a word where TLS is spoken
    #[arg(long, env = "STORYFLEET_PER_ADDRESS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    per_address: u32,
    /// Sockets and streams of one person at the same time
    #[arg(long, env = "STORYFLEET_PER_PERSON", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    per_person: u32,
    /// Stories that are read at the same time, each by as many as may be
    #[arg(long, env = "STORYFLEET_STORIES", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    stories: u32,
    /// Messages that a socket may send in a second
    #[arg(long, env = "STORYFLEET_MESSAGES", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    messages: u32,
    /// Requests, sockets and streams that one person may begin in a second, and twice as many at once
    #[arg(long, env = "STORYFLEET_REQUESTS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,
    /// What one person may write in a minute, over all connections, and a sixth of it at once, 20 at least
    #[arg(long, env = "STORYFLEET_PUBLISHES", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    publishes: u32,
    /// Requests without a good token that one address may make in a minute; more are told to wait
    #[arg(long, env = "STORYFLEET_FAILURES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    failures: u32,
    /// Time between the signs of life of a quiet connection
    #[arg(long, env = "STORYFLEET_PING", default_value = "15s", value_parser = ping)]
    ping: Duration,
    /// How long a write may wait for its client to read; then the connection ends
    #[arg(long, env = "STORYFLEET_STUCK", default_value = "30s", value_parser = stuck)]
    stuck: Duration,
    /// What connections are given to go when the node ends
    #[arg(long, env = "STORYFLEET_DRAIN", default_value = "20s", value_parser = pause)]
    drain: Duration,
}

impl Options {
    /// # Errors
    /// The logs cannot be written as asked for.
    pub fn logs(&self) -> anyhow::Result<Exporting> {
        self.logs.start_traced(&self.traces, "gateway")
    }

    pub(crate) fn internal_listen(&self) -> Option<SocketAddr> {
        self.internal_listen
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
                reconnect: RECONNECT,
                ..self.redis.settings()
            },
            tokens: auth::Settings {
                secrets: jwt_secrets.clone(),
                jwks_file: jwks_file.clone(),
                jwks_url: jwks_url.clone(),
                ..auth::Settings::new(audience, issuer)
            },
            origins: Origins::new(origins.clone())?,
            tls: self.encryption.tls()?,
            hsts: self.encryption.hsts,
            proxies: self.trusted_proxies.clone(),
            limits: Limits {
                connections: usize::try_from(self.bounds.connections)?,
                per_address: self.bounds.per_address,
                per_person: self.bounds.per_person,
                stories: usize::try_from(self.bounds.stories)?,
                rate: Rate::a_second(self.bounds.messages),
                requests: Rate::a_second(self.bounds.requests),
                publishes: Rate {
                    burst: PUBLISHES_AT_ONCE.max(self.bounds.publishes / 6),
                    ..Rate::a_minute(self.bounds.publishes)
                },
                failures: Rate::a_minute(self.bounds.failures),
                ping: self.bounds.ping,
                stuck: self.bounds.stuck,
                drain: self.bounds.drain,
            },
            presence: self.presence == Switch::On,
        })
    }
}

impl Encryption {
    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let files = self.tls_cert.clone().zip(self.tls_key.clone());
        Ok(files.map(|(cert, key)| Tls::load(cert, key)).transpose()?)
    }
}

/// One of a list: there may be spaces around its commas.
fn trimmed<T: FromStr>(text: &str) -> Result<T, T::Err> {
    text.trim().parse()
}

/// Up to ten years.
fn max_age(text: &str) -> Result<Duration, String> {
    let wanted = || "write it like 12h, 30d or 365d".to_owned();
    let span: jiff::Span = text.parse().map_err(|_| wanted())?;
    let age = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
    let age = age.ok().and_then(|age| Duration::try_from(age).ok());
    match age.ok_or_else(wanted)? {
        age if age > 3_650 * DAY => Err("at most 3650d".to_owned()),
        // In whole seconds it would be none, which takes it back.
        age if !age.is_zero() && age.as_secs() == 0 => {
            Err("at least 1s, or 0s to take it back".to_owned())
        }
        age => Ok(age),
    }
}

/// More often than each second it would be most of the traffic.
fn ping(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1))
}

/// A network's own delays are none of a client's.
fn stuck(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(option: &str) -> Result<Settings, String> {
        let line = Line::try_parse_from(["x", option]).map_err(|error| error.to_string())?;
        line.options.settings().map_err(|error| error.to_string())
    }

    #[test]
    fn the_help_does_not_show_what_the_environment_says_of_keys() {
        let line = Line::command();
        for id in [
            "jwks_url",
            "jwks_file",
            "jwt_secrets",
            "tls_cert",
            "tls_key",
        ] {
            let argument = line.get_arguments().find(|one| one.get_id() == id);
            assert!(argument.is_some_and(clap::Arg::is_hide_env_values_set));
        }
    }

    #[test]
    fn what_a_client_does_wrong_over_http2_is_not_logged_unless_it_is_asked_for() {
        let line = Line::command();
        let filter = line
            .get_arguments()
            .find(|one| one.get_id() == "log_filter");
        let default = filter.and_then(|filter| filter.get_default_values().first());
        assert_eq!(
            default.and_then(|one| one.to_str()),
            Some("info,h2=error,redis=error")
        );
    }

    #[test]
    fn the_time_for_which_browsers_come_by_https_only_is_in_days_too() {
        assert_eq!(max_age("365d"), Ok(365 * DAY));
        assert_eq!(max_age("1d 12h"), Ok(DAY * 3 / 2));
        assert_eq!(max_age("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(max_age("0s"), Ok(Duration::ZERO));
        for bad in ["500ms", "", "365", "1y", "-1d", "3651d"] {
            assert!(max_age(bad).is_err(), "{bad}");
        }
        assert!(parsed("--hsts=365d").is_err_and(|told| told.contains("--tls-cert")));
    }

    #[test]
    fn every_limit_has_its_bounds() {
        for (least, under) in [
            ("--ping=1s", "--ping=999ms"),
            ("--stuck=1s", "--stuck=999ms"),
            ("--drain=0s", "--drain=-1ns"),
            ("--connections=1", "--connections=0"),
            ("--per-address=1", "--per-address=0"),
            ("--per-person=1", "--per-person=0"),
            ("--stories=1", "--stories=0"),
            ("--messages=1", "--messages=0"),
            ("--requests=1", "--requests=0"),
            ("--publishes=1", "--publishes=0"),
            ("--failures=1", "--failures=0"),
            ("--trusted-proxy=::1", "--trusted-proxy=proxy"),
            (
                "--trusted-proxy=10.0.0.0/8,8000::/1",
                "--trusted-proxy=10.0.0.0/33",
            ),
            ("--trusted-proxy=0.0.0.0/1", "--trusted-proxy=0.0.0.0/0"),
        ] {
            assert!(parsed(least).is_ok(), "{least}");
            assert!(parsed(under).is_err(), "{under}");
        }
        for (most, over) in [
            ("--ping=24h", "--ping=25h"),
            ("--stuck=24h", "--stuck=25h"),
            ("--drain=24h", "--drain=25h"),
            ("--connections=1000000", "--connections=1000001"),
            ("--per-address=1000000", "--per-address=1000001"),
            ("--per-person=100000", "--per-person=100001"),
            ("--stories=1000000", "--stories=1000001"),
            ("--messages=10000", "--messages=10001"),
            ("--requests=1000000", "--requests=1000001"),
            ("--publishes=10000000", "--publishes=10000001"),
            ("--failures=1000000", "--failures=1000001"),
        ] {
            assert!(parsed(most).is_ok(), "{most}");
            assert!(parsed(over).is_err(), "{over}");
        }
    }
}
