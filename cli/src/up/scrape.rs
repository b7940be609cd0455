//! What a Prometheus needs to watch `up`: the numbers of its agents on a port, and a file that names all ports (`file_sd`).

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use agent::{Metrics, Shutdown};
use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use crate::target::{not_writable, write_public};

/// As in the `Content-Type` of every program's /metrics.
const TEXT: &str = "text/plain; version=0.0.4";

pub(super) struct Scrape {
    listener: TcpListener,
    metrics: Metrics,
    pub(super) url: String,
    file: PathBuf,
}

impl Scrape {
    /// Listens on any free port of this machine, and tells it in the data folder with that of the gateway.
    pub(super) async fn open(data: &Path, metrics: Metrics, gateway: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("there is no free port for the agents' metrics")?;
        let address = listener.local_addr()?;
        let file = data.join("prometheus.json");
        let targets = serde_json::to_vec(&targets(address, gateway))?;
        // A Prometheus runs as a user of its own, and there is nothing in it but addresses.
        write_public(&file, &targets).with_context(|| not_writable(&file))?;
        Ok(Self {
            listener,
            metrics,
            url: format!("http://{address}"),
            file,
        })
    }

    pub(super) async fn run(self, shutdown: &Shutdown) {
        let metrics = self.metrics;
        let pages = Router::new().route("/metrics", get(async move || page(&metrics)));
        tokio::select! {
            served = axum::serve(self.listener, pages).into_future() => if let Err(error) = served {
                tracing::error!(%error, "the agents' metrics server died");
            },
            () = shutdown.drain.cancelled() => {}
        }
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, file = %self.file.display(), "cannot remove it");
            }
            _ => {}
        }
    }
}

fn targets(agents: SocketAddr, gateway: &str) -> serde_json::Value {
    let gateway = gateway.trim_start_matches("http://");
    json!([
        {"targets": [agents.to_string()], "labels": {"job": "storyfleet-agents"}},
        {"targets": [gateway], "labels": {"job": "storyfleet-gateway"}},
    ])
}

fn page(metrics: &Metrics) -> impl IntoResponse + use<> {
    match metrics.encode() {
        Ok(text) => Ok(([("content-type", TEXT)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
