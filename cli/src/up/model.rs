//! The model: somebody's server, or the mock in this process, spoken to over HTTP all the same.

use std::net::Ipv4Addr;
use std::time::Duration;

use agent::exit;
use anyhow::{Context, anyhow};
use mock_llm::Options;
use mock_llm::scenario::Rate;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::UpArgs;
use crate::output::one_line;

/// How fast the mock writes: a good model's pace, so that the text is seen to grow.
const FIRST_TOKEN: &str = "150ms";
const BETWEEN_TOKENS: &str = "15ms";

/// How long a server is asked for its models: nobody waits for that.
const ASK: Duration = Duration::from_secs(3);
/// How many models are named in one line.
const NAMED: usize = 20;

#[derive(Debug)]
pub(super) struct Model {
    settings: llm::Settings,
    pub(super) name: String,
    /// Ends the mock; `None`: the model is somebody's.
    mock: Option<CancellationToken>,
}

impl Model {
    pub(super) async fn start(args: &UpArgs, tasks: &TaskTracker) -> anyhow::Result<Self> {
        if args.llm == "mock" {
            Self::mock(args, tasks).await
        } else {
            let model = Self::remote(args).await;
            model.map_err(exit::configuration)
        }
    }

    async fn remote(args: &UpArgs) -> anyhow::Result<Self> {
        let settings = llm::Settings {
            api_key: args.llm_key.clone(),
            accept_done: args.llm_accept_done,
            ..llm::Settings::new(&args.llm)
        };
        let mut model = Self {
            settings,
            name: String::new(),
            mock: None,
        };
        model.name = match &args.model {
            Some(name) => name.clone(),
            None => return Err(model.unnamed().await?),
        };
        Ok(model)
    }

    async fn mock(args: &UpArgs, tasks: &TaskTracker) -> anyhow::Result<Self> {
        let options = options(args.fault_rate)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("the mock model finds no free port")?;
        let base_url = format!("http://{}/v1", listener.local_addr()?);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = mock_llm::serve(listener, options, stopped).await {
                tracing::error!(%error, "the mock model ended");
            }
        });
        Ok(Self {
            settings: llm::Settings::new(base_url),
            name: args.model.clone().unwrap_or_else(|| "mock".to_owned()),
            mock: Some(stop),
        })
    }

    pub(super) fn settings(&self, observer: llm::Observer) -> llm::Settings {
        llm::Settings {
            observer,
            ..self.settings.clone()
        }
    }

    pub(super) fn base_url(&self) -> &str {
        &self.settings.base_url
    }

    pub(super) fn stop(&self) {
        if let Some(stop) = &self.mock {
            stop.cancel();
        }
    }

    /// Why the first answers may fail, if that is to be expected.
    pub(super) async fn doubt(&self) -> Option<String> {
        if self.mock.is_some() {
            return None;
        }
        let (url, name) = (self.base_url(), &self.name);
        match self.offered().await {
            Ok(None) => Some(format!("warning: the model at {url}: {}", agent::NO_LIST)),
            Ok(Some(models)) if models.is_empty() || models.contains(name) => None,
            Ok(Some(models)) => Some(format!(
                "warning: {url} does not offer the model {name}: it offers {}",
                listed(&models)
            )),
            Err(error) => Some(format!(
                "warning: the model at {url} is not usable: {}: actions fail until it is",
                exit::line(&error)
            )),
        }
    }

    /// What to say to whoever names a server and no model.
    async fn unnamed(&self) -> anyhow::Result<anyhow::Error> {
        // A wrong URL is told first.
        llm::Client::new(self.settings.clone())?;
        let url = self.base_url();
        let offers = match self.offered().await {
            Ok(None) => format!("{url}: {}", agent::NO_LIST),
            Ok(Some(models)) if models.is_empty() => format!("{url} offers none"),
            Ok(Some(models)) => format!("{url} offers {}", listed(&models)),
            Err(error) => format!("{url} does not list its models: {}", exit::line(&error)),
        };
        Ok(anyhow!("--model M is needed with --llm URL: {offers}"))
    }

    /// The models that the server lists; `None`: it has no list.
    async fn offered(&self) -> anyhow::Result<Option<Vec<String>>> {
        let mut settings = self.settings.clone();
        settings.deadlines.first_token = ASK;
        settings.deadlines.total = ASK;
        settings.max_tries = 1;
        match llm::Client::new(settings)?.models().await {
            Err(error) if error.status == Some(404) => Ok(None),
            models => Ok(Some(models?)),
        }
    }
}

fn listed(models: &[String]) -> String {
    let named: Vec<_> = models
        .iter()
        .take(NAMED)
        .map(|name| one_line(name))
        .collect();
    let more = models.len().saturating_sub(NAMED);
    let and = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    named.join(", ") + &and
}

fn options(fault_rate: Rate) -> anyhow::Result<Options> {
    let mut options = Options::default();
    options.latency.first_token = FIRST_TOKEN.parse()?;
    options.latency.between_tokens = BETWEEN_TOKENS.parse()?;
    options.scenario.chaos.rate = fault_rate;
    Ok(options)
}
