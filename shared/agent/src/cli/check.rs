//! `check`: is everything there that a worker needs?

use std::process::ExitCode;

use bus::Bus;
use clap::Args;
use serde::Serialize;

use super::options::{Options, Setup};
use crate::exit;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    says: String,
    /// Only another configuration helps.
    #[serde(skip)]
    configuration: bool,
}

/// `built` is the agent's own start: options, key and prompts.
pub(super) async fn run<O: Args>(options: &Options<O>, built: anyhow::Result<Setup>) -> Report {
    let redis = redis(options).await;
    let (built, model) = match built {
        Ok(setup) => (Ok("usable".to_owned()), model(&setup).await),
        Err(error) => (
            Err(exit::configuration(error)),
            Err(anyhow::anyhow!("not asked: the configuration is wrong")),
        ),
    };
    let checks = [("configuration", built), ("redis", redis), ("model", model)];
    let checks = checks.into_iter().map(|(name, result)| {
        let result = result.map_err(exit::sorted);
        Check {
            name,
            ok: result.is_ok(),
            configuration: result.as_ref().is_err_and(exit::is_configuration),
            says: result.unwrap_or_else(|error| exit::line(&error)),
        }
    });
    Report {
        checks: checks.collect(),
    }
}

async fn redis<O: Args>(options: &Options<O>) -> anyhow::Result<String> {
    let report = Bus::new(options.bus())?.check_server().await?;
    let version = format!("version {}", report.version);
    Ok(std::iter::once(version)
        .chain(report.warnings)
        .collect::<Vec<_>>()
        .join("; "))
}

async fn model(setup: &Setup) -> anyhow::Result<String> {
    let model = &setup.model;
    match setup.llm.models().await {
        Ok(models) if models.contains(model) => Ok(format!("{model} is offered")),
        Ok(models) => Ok(format!(
            "reached; {model} is not among the {} models listed",
            models.len()
        )),
        // Some servers have no list of models: that one answered is enough.
        Err(error) if error.status == Some(404) => Ok("reached; it lists no models".to_owned()),
        Err(error) => Err(error.into()),
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
            let mark = if check.ok { "ok  " } else { "FAIL" };
            format!("{mark} {}: {}", check.name, check.says)
        };
        Ok(self.checks.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}
