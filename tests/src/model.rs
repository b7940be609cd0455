//! The mock model over real HTTP, in this process.

use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub struct Model {
    url: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Model {
    /// # Errors
    /// When no port is free.
    pub async fn start(options: mock_llm::Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(mock_llm::serve(listener, options, stop.clone()));
        Ok(Self { url, stop, tasks })
    }

    /// Its address, as workers are told it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
