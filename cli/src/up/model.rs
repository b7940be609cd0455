//! The model: somebody's server, or the mock in this process, spoken to over HTTP all the same.

use std::net::Ipv4Addr;

use anyhow::Context;
use mock_llm::Options;
use mock_llm::scenario::Rate;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::UpArgs;

/// How fast the mock writes: a good model's pace, so that the text is seen to grow.
const FIRST_TOKEN: &str = "150ms";
const BETWEEN_TOKENS: &str = "15ms";

#[derive(Debug)]
pub(super) struct Model {
    base_url: String,
    /// Ends the mock; `None`: the model is somebody's.
    mock: Option<CancellationToken>,
}

impl Model {
    pub(super) async fn start(args: &UpArgs, tasks: &TaskTracker) -> anyhow::Result<Self> {
        if args.llm != "mock" {
            let base_url = args.llm.clone();
            return Ok(Self {
                base_url,
                mock: None,
            });
        }
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
            base_url,
            mock: Some(stop),
        })
    }

    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(super) fn is_remote(&self) -> bool {
        self.mock.is_none()
    }

    pub(super) fn stop(&self) {
        if let Some(stop) = &self.mock {
            stop.cancel();
        }
    }
}

fn options(fault_rate: Rate) -> anyhow::Result<Options> {
    let mut options = Options::default();
    options.latency.first_token = FIRST_TOKEN.parse()?;
    options.latency.between_tokens = BETWEEN_TOKENS.parse()?;
    options.scenario.chaos.rate = fault_rate;
    Ok(options)
}
