//! The model: somebody's server, or the mock in this process, spoken to over HTTP all the same.

use std::net::Ipv4Addr;
use std::time::Duration;

use agent::{Member, Models, exit};
use anyhow::{Context, anyhow};
use futures::future::join_all;
use llm::Client;
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

    /// Why answers may fail at first, if that is to be expected: of each model that is asked.
    pub(super) async fn doubts(&self, models: &Models) -> anyhow::Result<Vec<String>> {
        let client = models.client(&self.name, &quick(&self.settings))?;
        let members = models.members(&self.name).into_iter().enumerate();
        let doubts = members.map(async |(place, member)| {
            let url = client.addresses().nth(place)?;
            match self.mock.is_some() && url == self.base_url() {
                true => None,
                false => doubt(&client, place, (url, &member)).await,
            }
        });
        Ok(join_all(doubts).await.into_iter().flatten().collect())
    }

    /// What to say to whoever names a server and no model.
    async fn unnamed(&self) -> anyhow::Result<anyhow::Error> {
        // A wrong URL is told first.
        let client = Client::new(quick(&self.settings))?;
        let url = self.base_url();
        let offers = match offered(&client, 0).await {
            Ok(None) => format!("{url}: {}", agent::no_list("--llm")),
            Ok(Some(models)) if models.is_empty() => format!("{url} offers none"),
            Ok(Some(models)) => format!("{url} offers {}", listed(&models)),
            Err(error) => format!("{url} does not list its models: {}", exit::line(&error)),
        };
        Ok(anyhow!("--model M is needed with --llm URL: {offers}"))
    }
}

async fn doubt(client: &Client, place: usize, (url, member): (&str, &Member)) -> Option<String> {
    let (name, first) = (&member.served_as, place == 0);
    match offered(client, place).await {
        Ok(None) => Some(format!(
            "warning: the model at {url}: {}",
            agent::no_list(&member.placed_by)
        )),
        Ok(Some(models)) if models.is_empty() || models.contains(name) => None,
        Ok(Some(models)) => Some(format!(
            "warning: {url} does not offer the model {name}: it offers {}",
            listed(&models)
        )),
        Err(error) if first => Some(format!(
            "warning: the model at {url} is not usable: {}: actions fail until it is",
            exit::line(&error)
        )),
        Err(error) => Some(format!(
            "warning: the model {} at {url} is not usable: {}: nothing is answered by it until it is",
            member.name,
            exit::line(&error)
        )),
    }
}

/// The models that the server of the model at this place lists; `None`: it has no list.
async fn offered(client: &Client, place: usize) -> anyhow::Result<Option<Vec<String>>> {
    match client.models(place).await {
        Err(error) if error.status == Some(404) => Ok(None),
        models => Ok(Some(models?)),
    }
}

/// The same, for who only asks whether it is there.
fn quick(settings: &llm::Settings) -> llm::Settings {
    let mut settings = settings.clone();
    settings.deadlines.first_token = ASK;
    settings.deadlines.total = ASK;
    settings.max_tries = 1;
    settings
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_model_that_is_not_there_is_told_by_its_name_and_not_the_mock() {
        let tasks = TaskTracker::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut options = Options {
            api_key: Some("sk-right".into()),
            ..Options::default()
        };
        options.scenario.models = vec!["tiny".to_owned()];
        tasks.spawn(mock_llm::serve(listener, options, stop.clone()));
        let folder = tempfile::tempdir().unwrap();
        let [file, key] = ["models.yaml", "key"].map(|name| folder.path().join(name));
        std::fs::write(&key, "sk-right").unwrap();
        let key = key.display();
        let yaml = format!(
            "models:
  first: {{then: [second, well, shut, other]}}
  second: {{}}
  well: {{at: '{url}', key_file: {key}, name: tiny}}
  shut: {{at: '{url}'}}
  other: {{at: '{url}', key_file: {key}}}"
        );
        std::fs::write(&file, yaml).unwrap();
        let model = Model {
            settings: llm::Settings::new("http://127.0.0.1:1/v1"),
            name: "first".to_owned(),
            mock: Some(CancellationToken::new()),
        };
        let models = Models::read(&file).unwrap();
        let doubts = model.doubts(&models).await.unwrap();
        let [shut, other] = &doubts[..] else {
            panic!("{doubts:?}")
        };
        let says = format!("warning: the model shut at {url} is not usable: auth");
        assert!(shut.starts_with(&says), "{shut}");
        let says = format!("warning: {url} does not offer the model other: it offers tiny");
        assert_eq!(*other, says);
        stop.cancel();
    }
}
