//! `check`: is everything there that a worker needs?

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use bus::Bus;
use clap::Args;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use super::options::{Options, Setup};
use crate::{Member, Prompts, exit};

/// How long a part may take: what is well answers at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long it is told what is waited for.
const QUIET: Duration = Duration::from_secs(2);

/// Of a server that has no list of models. `placed_by`: what says where it is.
#[must_use]
pub fn no_list(placed_by: &str) -> String {
    format!("it lists no models: see that {placed_by} ends as the server's API does, mostly in /v1")
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
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
pub(super) async fn run<O: Args>(
    options: &Options<O>,
    built: anyhow::Result<(Setup, Prompts)>,
) -> Report {
    let asked = async {
        match built {
            Ok((setup, prompts)) => {
                let usable = Usable {
                    warnings: setup.doubts(&prompts),
                    ..Usable::new("usable")
                };
                (Ok(usable), models(&setup).await)
            }
            Err(error) => {
                let unasked = anyhow!("not asked: the configuration is wrong");
                let models = vec![("model".to_owned(), Err(unasked))];
                (Err(exit::configuration(error)), models)
            }
        }
    };
    let (redis, (built, models)) = tokio::join!(in_time("Redis", redis(options)), asked);
    let checks = [("configuration", built), ("redis", redis)];
    let checks = checks.map(|(name, result)| (name.to_owned(), result));
    let checks = checks.into_iter().chain(models).map(|(name, result)| {
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

/// All that are asked, at the same time: each with its name in the report.
async fn models(setup: &Setup) -> Vec<(String, anyhow::Result<Usable>)> {
    let members = setup.models.members(&setup.model).into_iter().enumerate();
    let asked = members.map(async |(place, member)| {
        let name = match place {
            0 => "model".to_owned(),
            _ => format!("model {}", member.name),
        };
        let usable = in_time(&format!("the {name}"), model(&setup.llm, place, &member)).await;
        (name, usable)
    });
    join_all(asked).await
}

async fn model(llm: &llm::Client, place: usize, member: &Member) -> anyhow::Result<Usable> {
    let Member {
        served_as,
        named_by,
        placed_by,
        ..
    } = member;
    match llm.models(place).await {
        Ok(models) if models.contains(served_as) => {
            Ok(Usable::new(format!("{served_as} is offered")))
        }
        Ok(models) => Ok(Usable::doubtful(format!(
            "{served_as} is not among the {} models listed: see that {named_by} is written as the server does",
            models.len()
        ))),
        // Some servers have no list of models: that one answered is enough.
        Err(error) if error.status == Some(404) => Ok(Usable::doubtful(no_list(placed_by))),
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

    use clap::Parser;
    use tokio::net::TcpListener;
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::NoOptions;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options<NoOptions>,
    }

    /// A mock that takes this key, and its address.
    async fn mock(end: &CancellationToken, key: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let mut options = mock_llm::Options {
            api_key: Some(key.into()),
            ..mock_llm::Options::default()
        };
        options.scenario.models = vec!["mock".to_owned()];
        TaskTracker::new().spawn(mock_llm::serve(listener, options, end.clone()));
        url
    }

    #[tokio::test]
    async fn each_model_is_asked_at_its_own_place_with_its_own_key_and_told_by_its_name() {
        let end = CancellationToken::new();
        let [first, other] = [mock(&end, "sk-first").await, mock(&end, "sk-other").await];
        let folder = tempfile::tempdir().unwrap();
        let [file, key] = ["models.yaml", "key"].map(|name| folder.path().join(name));
        std::fs::write(&key, "sk-other").unwrap();
        let yaml = format!(
            "models:
  mock: {{then: [well, shut, unknown, gone]}}
  well: {{at: '{other}', key_file: {}, name: mock}}
  shut: {{at: '{other}'}}
  unknown: {{}}
  gone: {{at: 'http://127.0.0.1:1/v1'}}",
            key.display()
        );
        std::fs::write(&file, yaml).unwrap();
        let line = format!(
            "x --redis redis://127.0.0.1:1 --llm {first} --model mock --llm-api-key sk-first --models {}",
            file.display()
        );
        let options = Line::parse_from(line.split(' ')).options.without_patience();
        let built = options.setup(llm::Observer::default());
        let built = built.map(|setup| (setup, Prompts::default()));
        let report = run(&options, built).await;
        let text = report.text(false).unwrap();
        for line in [
            "ok   model: mock is offered",
            "ok   model well: mock is offered",
            "FAIL model shut: auth",
            "warn model unknown: reached; unknown is not among the 1 models listed: see that models.unknown.name",
            "FAIL model gone: connect",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        end.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_a_part_that_never_answers() {
        let began = Instant::now();
        let answer = in_time("the model", pending()).await;
        assert!(answer.is_err());
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
