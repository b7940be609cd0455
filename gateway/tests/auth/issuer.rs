//! A server of keys that does what it is told, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use futures::{StreamExt, stream};
use gateway::auth::{JwksUrl, Settings};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::settings;

/// What it answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Text(String),
    Status(StatusCode),
    /// That many redirects here, then this.
    Redirected(usize, String),
    /// To the same place by an address that is not this machine's own.
    Elsewhere(String),
    /// A beginning, and never the rest.
    Stalled,
    /// Nothing, until it is told something else.
    Held,
}

pub(crate) struct Issuer {
    answer: watch::Sender<Answer>,
    served: Arc<Served>,
    tasks: TaskTracker,
}

struct Served {
    answer: watch::Receiver<Answer>,
    port: u16,
    asked: AtomicUsize,
}

impl Issuer {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let (answer, told) = watch::channel(answer);
        let served = Arc::new(Served {
            answer: told,
            port: listener.local_addr().unwrap().port(),
            asked: AtomicUsize::new(0),
        });
        let app = Router::new()
            .route("/jwks/{redirects}", axum::routing::get(serve))
            .with_state(Arc::clone(&served));
        let tasks = TaskTracker::new();
        tasks.spawn(async move { axum::serve(listener, app).await });
        Self {
            answer,
            served,
            tasks,
        }
    }

    pub(crate) fn answers(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// How often keys were asked for, redirects not counted.
    pub(crate) fn asked(&self) -> usize {
        self.served.asked.load(Ordering::SeqCst)
    }

    pub(crate) async fn wait_until_asked(&self, times: usize) {
        let asked = async {
            while self.asked() < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), asked)
            .await
            .unwrap();
    }

    pub(crate) fn url(&self) -> JwksUrl {
        let url = format!("http://127.0.0.1:{}/jwks/0?key=s3cr3t", self.served.port);
        url.parse().unwrap()
    }

    /// Settings that take its keys alone, and run their fetches beside it.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = settings();
        settings.jwks_url = Some(self.url());
        settings.tasks = self.tasks.clone();
        settings
    }
}

async fn serve(State(served): State<Arc<Served>>, Path(came): Path<usize>) -> Response {
    if came == 0 {
        served.asked.fetch_add(1, Ordering::SeqCst);
    }
    let mut told = served.answer.clone();
    let answer = told
        .wait_for(|answer| !matches!(answer, Answer::Held))
        .await;
    let answer = answer.unwrap().clone();
    match answer {
        Answer::Text(text) => text.into_response(),
        Answer::Status(status) => status.into_response(),
        Answer::Redirected(times, _) if came < times => {
            Redirect::temporary(&format!("/jwks/{}", came + 1)).into_response()
        }
        Answer::Elsewhere(_) if came == 0 => {
            Redirect::temporary(&format!("http://0.0.0.0:{}/jwks/1", served.port)).into_response()
        }
        Answer::Redirected(_, text) | Answer::Elsewhere(text) => text.into_response(),
        Answer::Stalled => {
            let beginning = stream::iter([Ok::<_, std::convert::Infallible>("{\"keys\":")]);
            Body::from_stream(beginning.chain(stream::pending())).into_response()
        }
        Answer::Held => unreachable!("it was waited for another"),
    }
}
