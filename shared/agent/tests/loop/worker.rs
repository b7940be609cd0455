//! A worker of the tests: its start, what it has begun, what its pages say, and its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::{Metrics, Settings, Setup, Shutdown};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::actor::{Act, Actor, Mark};
use crate::stage::{PATIENCE, SLOTS, Stage, exchange, free_port};

pub(crate) struct Worker {
    port: u16,
    metrics: Metrics,
    shutdown: Shutdown,
    seen: watch::Receiver<Vec<(String, Mark)>>,
    told: watch::Sender<bool>,
    running: JoinSet<anyhow::Result<()>>,
}

impl Stage {
    pub(crate) fn worker(
        &self,
        lease: Duration,
        merges: usize,
        act: impl Fn(&str) -> Act + Send + Sync + 'static,
    ) -> Worker {
        self.worker_over(&self.url(), lease, merges, act)
    }

    /// A worker that reaches Redis at `url`.
    pub(crate) fn worker_over(
        &self,
        url: &str,
        lease: Duration,
        merges: usize,
        act: impl Fn(&str) -> Act + Send + Sync + 'static,
    ) -> Worker {
        Worker::start(settings(url, lease), nobody(), merges, act)
    }

    /// A worker that waits for a replica, with one slot and time for its turn when it ends. It shares its numbers.
    pub(crate) fn worker_with_replicas(
        &self,
        metrics: &Metrics,
        act: impl Fn(&str) -> Act + Send + Sync + 'static,
    ) -> Worker {
        let mut settings = settings(&self.url(), super::LEASE);
        settings.metrics = metrics.clone();
        settings.concurrency = 1;
        settings.drain = PATIENCE;
        settings.bus.wait_replicas = 1;
        Worker::start(settings, nobody(), 0, act)
    }

    /// A worker with the prompts of a folder, and two events more in a beat.
    pub(crate) fn worker_with(
        &self,
        folder: &Path,
        act: impl Fn(&str) -> Act + Send + Sync + 'static,
    ) -> Worker {
        let setup = Setup {
            prompts: Some(folder.to_owned()),
            ..nobody()
        };
        Worker::start(settings(&self.url(), super::LEASE), setup, 2, act)
    }

    /// A moderator.
    pub(crate) fn moderator(&self, act: impl Fn(&str) -> Act + Send + Sync + 'static) -> Worker {
        let settings = settings(&self.url(), super::LEASE);
        Worker::start_as(story::Agent::Moderator, settings, nobody(), (0, act))
    }
}

fn settings(url: &str, lease: Duration) -> Settings {
    Settings {
        concurrency: SLOTS,
        lease,
        drain: Duration::from_millis(200),
        listen: Some(([127, 0, 0, 1], free_port()).into()),
        ..Settings::new(bus::Settings::new(url))
    }
}

/// The actor asks no model.
fn nobody() -> Setup {
    Setup {
        llm: llm::Client::new(llm::Settings::new("http://127.0.0.1:1/v1")).unwrap(),
        model: "nobody".to_owned(),
        prompts: None,
        key_file: None,
        models: agent::Models::default(),
    }
}

impl Worker {
    fn start(
        settings: Settings,
        setup: Setup,
        merges: usize,
        act: impl Fn(&str) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(super::stage::NARRATOR, settings, setup, (merges, act))
    }

    fn start_as(
        agent: story::Agent,
        settings: Settings,
        setup: Setup,
        (merges, act): (usize, impl Fn(&str) -> Act + Send + Sync + 'static),
    ) -> Self {
        let (marks, seen) = watch::channel(Vec::new());
        let (told, tell) = watch::channel(false);
        let actor = Actor {
            agent,
            merges,
            act: Box::new(act),
            marks: Arc::new(marks),
            tell,
        };
        let port = settings.listen.map_or(0, |listen| listen.port());
        let metrics = settings.metrics.clone();
        let shutdown = Shutdown::default();
        let mut running = JoinSet::new();
        running.spawn(agent::run(actor, setup, settings, shutdown.clone()));
        Self {
            port,
            metrics,
            shutdown,
            seen,
            told,
            running,
        }
    }

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

    /// They outlive it.
    pub(crate) fn metrics(&self) -> Metrics {
        self.metrics.clone()
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
    pub(crate) fn drain(&self) {
        self.shutdown.drain.cancel();
    }

    /// The same, until it has ended.
    pub(crate) async fn end(mut self) {
        self.drain();
        let ended = timeout(PATIENCE, self.running.join_next()).await;
        ended
            .expect("the worker ends")
            .expect("one task")
            .unwrap()
            .unwrap();
    }
}
