//! A worker of the tests: what it has begun, what its pages say, and its end.

use std::time::Duration;

use agent::{Metrics, Shutdown};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::actor::Mark;
use crate::stage::{PATIENCE, exchange};

pub(crate) struct Worker {
    pub(super) port: u16,
    pub(super) metrics: Metrics,
    pub(super) shutdown: Shutdown,
    pub(super) seen: watch::Receiver<Vec<(String, Mark)>>,
    pub(super) told: watch::Sender<bool>,
    pub(super) running: JoinSet<anyhow::Result<()>>,
}

impl Worker {
    pub(crate) async fn begun(&mut self, id: &str) {
        self.mark(id, Mark::Begun).await;
    }

    pub(crate) async fn dropped(&mut self, id: &str) {
        self.mark(id, Mark::Dropped).await;
    }

    async fn mark(&mut self, id: &str, mark: Mark) {
        let wanted = (id.to_owned(), mark);
        let seen = self.seen.wait_for(|marks| marks.contains(&wanted));
        timeout(PATIENCE, seen)
            .await
            .expect("the turn is marked")
            .unwrap();
    }

    pub(crate) fn times_begun(&self, id: &str) -> usize {
        let marks = self.seen.borrow();
        marks
            .iter()
            .filter(|(each, mark)| each == id && *mark == Mark::Begun)
            .count()
    }

    /// Lets [`Act::AnswerWhenTold`] answer.
    pub(crate) fn tell(&self) {
        self.told.send_replace(true);
    }

    /// Whether `line` is among the metrics.
    pub(crate) fn counts(&self, line: &str) -> bool {
        self.metrics.encode().unwrap().contains(line)
    }

    pub(crate) async fn ready(&self) {
        self.page_says("200").await;
    }

    pub(crate) async fn not_ready(&self) {
        self.page_says("503").await;
    }

    pub(crate) async fn lives(&self) -> bool {
        self.page("livez").await.starts_with("HTTP/1.1 200")
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.page("readyz").await.starts_with("HTTP/1.1 200")
    }

    /// Empty before the worker listens.
    async fn page(&self, name: &str) -> String {
        let ask = format!("GET /{name} HTTP/1.1\r\nhost: a\r\n\r\n");
        exchange(self.port, &ask).await.unwrap_or_default()
    }

    async fn page_says(&self, status: &str) {
        let asking = async {
            loop {
                let page = self.page("readyz").await;
                if page.starts_with(&format!("HTTP/1.1 {status}")) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, asking)
            .await
            .unwrap_or_else(|_| panic!("/readyz never said {status}"));
    }

    /// As SIGTERM does.
    pub(crate) async fn end(mut self) {
        self.shutdown.drain.cancel();
        let ended = timeout(PATIENCE, self.running.join_next()).await;
        ended
            .expect("the worker ends")
            .expect("one task")
            .unwrap()
            .unwrap();
    }
}
