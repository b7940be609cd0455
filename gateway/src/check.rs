//! `gateway check`: is everything there that a node needs? Nothing is listened at, and nothing is written.

use std::process::ExitCode;

use agent::exit;
use anyhow::Context as _;
use bus::{Bus, Role};
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::app::now;
use crate::auth::{LATE, Looked};
use crate::{Options, Settings, Tls};

/// What was looked at.
#[derive(Debug, Serialize)]
pub struct Report {
    ok: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    /// A node starts like this, and somebody should do something all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    warning: bool,
    says: String,
    /// Only another configuration helps.
    #[serde(skip)]
    configuration: bool,
}

/// Looks at the configuration, at each place of keys, and at Redis.
pub async fn check(options: Options) -> Report {
    let mut checks = Vec::new();
    match settings(options).await.map_err(exit::configuration) {
        Ok(settings) => {
            checks.push(Check::new("configuration", Ok("usable".to_owned())));
            let concern = settings.limits.concern();
            checks.extend(concern.map(|concern| Check::warning("open files", concern)));
            checks.extend(settings.tls.as_ref().map(certificate));
            checks.extend(keys(&settings).await);
            checks.push(Check::new("redis", redis(&settings).await));
        }
        Err(error) => checks.push(Check::new("configuration", Err(error))),
    }
    let ok = checks.iter().all(|check| check.ok);
    Report { ok, checks }
}

/// What a gateway that runs with these options on this machine says of itself.
///
/// # Errors
/// When it is not ready, or cannot be asked.
pub async fn health(options: &Options) -> anyhow::Result<String> {
    let listen = options.internal_listen().context(
        "there is no page to ask: --internal-listen (STORYFLEET_INTERNAL_LISTEN) is to be the gateway's own",
    );
    probe::ask(&[listen.map_err(exit::configuration)?], "/readyz").await
}

/// The files of TLS are read for it, and may hang, on a mount that is gone.
async fn settings(options: Options) -> anyhow::Result<Settings> {
    let read = timeout(LATE, spawn_blocking(move || options.settings()));
    let words = "the files of --tls-cert and --tls-key are not read in time: see that their disk or mount answers";
    read.await.context(words)??
}

fn certificate(tls: &Tls) -> Check {
    let name = format!("certificate in {}", tls.certificate().display());
    let validity = tls.validity();
    match validity.concern(now().unix) {
        Some(concern) => Check::warning(name, concern),
        None => Check::new(name, Ok(validity.to_string())),
    }
}

async fn keys(settings: &Settings) -> Vec<Check> {
    let looked = match settings.tokens.look().await {
        Ok(looked) => looked,
        Err(error) => return vec![Check::new("keys", Err(exit::configuration(error)))],
    };
    let check = |looked: Looked| {
        let Looked {
            place,
            is_file,
            keys,
        } = looked;
        let says = match keys {
            Ok(1) => Ok("1 key".to_owned()),
            Ok(count) => Ok(format!("{count} keys")),
            Err(error) if is_file => Err(exit::configuration(error)),
            Err(error) => Err(error.context(
                "no keys come from there, so that its tokens are not taken: see that the URL is right and its server is up",
            )),
        };
        Check::new(format!("keys of {place}"), says)
    };
    looked.into_iter().map(check).collect()
}

async fn redis(settings: &Settings) -> anyhow::Result<String> {
    let asked = async {
        let bus = Bus::new(settings.bus.clone())?;
        bus.ping().await?;
        bus.check_shards().await?;
        bus.check_rights(Role::Gateway).await?;
        bus.write_refusal().await
    };
    match asked.await {
        Ok(Some(refusal)) => Err(refusal).context("people could only read"),
        Ok(None) => {
            let shards = settings.bus.shards;
            Ok(format!("answers, with every right, and shards: {shards}"))
        }
        Err(error) if error.is_configuration() => Err(exit::configuration(error)),
        Err(error) => {
            let words = "see that --redis is its address and that it runs";
            Err(error).context(words)
        }
    }
}

impl Check {
    fn new(name: impl Into<String>, says: anyhow::Result<String>) -> Self {
        Self {
            name: name.into(),
            ok: says.is_ok(),
            warning: false,
            configuration: says.as_ref().is_err_and(exit::is_configuration),
            says: says.unwrap_or_else(|error| exit::line(&error)),
        }
    }

    fn warning(name: impl Into<String>, says: String) -> Self {
        Self {
            warning: true,
            ..Self::new(name, Ok(says))
        }
    }
}

impl Report {
    /// As any program's: 2 when it could never start like this.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        if self.checks.iter().any(|check| check.configuration) {
            ExitCode::from(exit::CONFIGURATION)
        } else if self.ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// A line a check, or JSON.
    ///
    /// # Errors
    /// Never for JSON of this shape.
    pub fn text(&self, json: bool) -> serde_json::Result<String> {
        if json {
            return serde_json::to_string(self);
        }
        let line = |check: &Check| {
            let mark = match (check.ok, check.warning) {
                (true, false) => "ok  ",
                (true, true) => "WARN",
                (false, _) => "FAIL",
            };
            format!("{mark} {}: {}", check.name, check.says)
        };
        Ok(self.checks.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}
