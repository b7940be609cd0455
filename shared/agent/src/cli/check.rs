//! `check`: is everything there that a worker needs?

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use bus::Bus;
use clap::Args;
use serde::Serialize;
use tokio::time::timeout;

use super::options::{Options, Setup};
use crate::exit;

/// How long a part may take: what is well answers at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long it is told what is waited for.
const QUIET: Duration = Duration::from_secs(2);

/// Of a server that has no list of models.
pub const NO_LIST: &str =
    "it lists no models: see that --llm ends as the server's API does, mostly in /v1";

#[derive(Debug, Serialize)]
pub(super) struct Report {
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    says: String,
    /// What may be wrong although everything answers.
    warnings: Vec<String>,
    /// Only another configuration helps.
    #[serde(skip)]
    configuration: bool,
}

/// What a part says of itself when it is usable, and what may be wrong although it answers.
struct Usable {
    says: String,
    warnings: Vec<String>,
}

/// `built` is the agent's own start: options, key and prompts.
pub(super) async fn run<O: Args>(options: &Options<O>, built: anyhow::Result<Setup>) -> Report {
    let asked = async {
        match built {
            Ok(setup) => (
                Ok(Usable {
                    warnings: setup.models.doubt(&setup.model).into_iter().collect(),
                    ..Usable::new("usable")
                }),
                in_time("the model", model(&setup)).await,
            ),
            Err(error) => (
                Err(exit::configuration(error)),
                Err(anyhow!("not asked: the configuration is wrong")),
            ),
        }
    };
    let (redis, (built, model)) = tokio::join!(in_time("Redis", redis(options)), asked);
    let checks = [("configuration", built), ("redis", redis), ("model", model)];
    let checks = checks.into_iter().map(|(name, result)| {
        let result = result.map_err(exit::sorted);
        let (ok, configuration) = (
            result.is_ok(),
            result.as_ref().is_err_and(exit::is_configuration),
        );
        let Usable { says, warnings } =
            result.unwrap_or_else(|error| Usable::new(exit::line(&error)));
        Check {
            name,
            ok,
            says,
            warnings,
            configuration,
        }
    });
    Report {
        checks: checks.collect(),
    }
}

/// What somebody waits for at a terminal.
async fn in_time(
    part: &str,
    asked: impl Future<Output = anyhow::Result<Usable>>,
) -> anyhow::Result<Usable> {
    let mut asked = pin!(asked);
    if let Ok(answer) = timeout(QUIET, &mut asked).await {
        return answer;
    }
    let seconds = PATIENCE.as_secs();
    exit::note(&format!("{part} does not answer yet: it has {seconds} s"));
    let answer = timeout(PATIENCE - QUIET, asked).await;
    answer.unwrap_or_else(|_| {
        Err(anyhow!(
            "no answer within {seconds} s: see that the URL is right and that it is well"
        ))
    })
}

async fn redis<O: Args>(options: &Options<O>) -> anyhow::Result<Usable> {
    let bus = Bus::new(options.bus())?;
    let report = bus.check(bus::Role::Worker).await?;
    if options.limits() {
        bus.check_rights(bus::Role::Caller).await?;
    }
    if let Some(refusal) = bus.write_refusal().await? {
        return Err(refusal.into());
    }
    Ok(Usable {
        says: report.software,
        warnings: report.warnings,
    })
}

async fn model(setup: &Setup) -> anyhow::Result<Usable> {
    let model = &setup.model;
    match setup.llm.models().await {
        Ok(models) if models.contains(model) => Ok(Usable::new(format!("{model} is offered"))),
        Ok(models) => Ok(Usable::doubtful(format!(
            "{model} is not among the {} models listed: see that --model is written as the server does",
            models.len()
        ))),
        // Some servers have no list of models: that one answered is enough.
        Err(error) if error.status == Some(404) => Ok(Usable::doubtful(NO_LIST)),
        Err(error) => Err(error.into()),
    }
}

impl Usable {
    fn new(says: impl Into<String>) -> Self {
        Self {
            says: says.into(),
            warnings: Vec::new(),
        }
    }

    fn doubtful(warning: impl Into<String>) -> Self {
        Self {
            says: "reached".to_owned(),
            warnings: vec![warning.into()],
        }
    }
}

impl Report {
    pub(super) fn good(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// As any program's: 2 when it could never start like this.
    pub(super) fn code(&self) -> ExitCode {
        if self.checks.iter().any(|check| check.configuration) {
            ExitCode::from(exit::CONFIGURATION)
        } else if self.good() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    pub(super) fn text(&self, json: bool) -> serde_json::Result<String> {
        if json {
            return serde_json::to_string(
                &serde_json::json!({"ok": self.good(), "checks": self.checks}),
            );
        }
        let line = |check: &Check| {
            let mark = match check {
                Check { ok: false, .. } => "FAIL",
                Check { warnings, .. } if !warnings.is_empty() => "warn",
                _ => "ok  ",
            };
            let says = [std::slice::from_ref(&check.says), &check.warnings].concat();
            format!("{mark} {}: {}", check.name, says.join("; "))
        };
        Ok(self.checks.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_a_part_that_never_answers() {
        let began = Instant::now();
        let answer = in_time("the model", pending()).await;
        assert!(answer.is_err());
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
