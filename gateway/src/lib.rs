//! The platform's edge: stories over WebSocket, SSE and HTTP, for whoever has a token. A reader's way: [`auth`] says who
//! they are and what they may do, the hub gives them each character of a story once, a session speaks with them.

mod address;
mod api;
mod app;
pub mod auth;
mod check;
mod descriptors;
mod entrance;
mod hub;
mod internal;
mod link;
mod metrics;
mod options;
mod outcome;
mod page;
mod problem;
mod pulse;
mod quota;
mod rates;
mod revoked;
mod said;
mod seldom;
mod server;
mod session;
mod socket;
mod stream;
mod ticket;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use agent::Shutdown;
use anyhow::Context as _;
use axum::middleware::map_response;
use bus::{Bus, Role};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use address::Proxies;
use api::Signer;
use app::{App, Parts};
use auth::{Origins, Verifier};
use entrance::Entrance;
use hub::Hub;
use metrics::Metrics;
use quota::Quota;
use rates::{Allowed, Rates};
use revoked::Revoked;
use server::{Bounds, Drain};

pub use address::{Network, NetworkError};
pub use check::{Report, check, health};
pub use options::Options;
pub use session::Rate;
pub use tls::Tls;

/// Actions of one person.
const PUBLISHES_AT_ONCE: u32 = 20;

/// Connections to the internal port.
const INTERNAL: usize = 64;

/// One node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where readers connect.
    pub listen: SocketAddr,
    /// Where operators look.
    pub internal: Option<SocketAddr>,
    pub bus: bus::Settings,
    pub tokens: auth::Settings,
    /// Pages that may connect.
    pub origins: Origins,
    /// Without it readers come in the clear.
    pub tls: Option<Tls>,
    /// For how long browsers are told to come under it only, to any port of this host; `None`: they are not told.
    pub hsts: Option<Duration>,
    /// What connects from there is of whomever it says that it is of (`X-Forwarded-For`).
    pub proxies: Vec<Network>,
    pub limits: Limits,
    /// Whether people are told who else is in a story, and who types there.
    pub presence: bool,
}

/// What a node bears.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At the same time, each story that is streamed over HTTP/2 counting as one; more wait.
    pub connections: usize,
    /// From one address, likewise; of whom a trusted proxy names, sockets and streams.
    pub per_address: u32,
    /// Sockets and streams of one person.
    pub per_person: u32,
    /// That are watched at the same time, since somebody reads them or did a moment ago.
    pub stories: usize,
    /// Messages of one socket.
    pub rate: Rate,
    /// Requests, sockets and streams that one person begins.
    pub requests: Rate,
    /// What one person writes, over whatever.
    pub publishes: Rate,
    /// Requests from one address that have no good token; more are told to wait.
    pub failures: Rate,
    /// How often a quiet connection is written to.
    pub ping: Duration,
    /// How long a write may wait for its client to read.
    pub stuck: Duration,
    /// What connections are given to go when the node ends.
    pub drain: Duration,
}

impl Default for Limits {
    /// 20,000 connections, 1,000 of one address and 50 of one person, 10,000 stories, 20 messages a second of each, 50 requests a second and 120
    /// actions a minute of one person, 60 failures a minute of an address, a sign of life each 15 s, 30 s to read what was
    /// written, 20 s to go.
    fn default() -> Self {
        Self {
            connections: 20_000,
            per_address: 1_000,
            per_person: 50,
            stories: 10_000,
            rate: Rate::a_second(20),
            requests: Rate::a_second(50),
            publishes: Rate {
                burst: PUBLISHES_AT_ONCE,
                ..Rate::a_minute(120)
            },
            failures: Rate::a_minute(60),
            ping: Duration::from_secs(15),
            stuck: Duration::from_secs(30),
            drain: Duration::from_secs(20),
        }
    }
}

impl From<Limits> for Allowed {
    fn from(limits: Limits) -> Self {
        Self {
            requests: limits.requests,
            publishes: limits.publishes,
            failures: limits.failures,
        }
    }
}

/// A node that listens.
pub struct Gateway {
    listener: TcpListener,
    internal: Option<TcpListener>,
    app: App,
    tls: Option<Tls>,
    hsts: Option<Duration>,
    tasks: TaskTracker,
    end: CancellationToken,
    limits: Limits,
}

impl Gateway {
    /// Listens; nobody is served yet.
    ///
    /// # Errors
    /// When the settings cannot be used, Redis is reached and is not fit, or an address cannot be listened at.
    pub async fn bind(settings: Settings, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let tokens = auth::Settings {
            tasks: tasks.clone(),
            stop: end.clone(),
            ..settings.tokens
        };
        let verifier = Verifier::new(tokens.clone()).map_err(agent::exit::configuration)?;
        let bus = Bus::new(settings.bus)?;
        fit(&bus).await?;
        let signer = tokens.secrets.map(|secrets| Signer {
            secrets,
            audience: tokens.audience.clone(),
            issuer: tokens.issuer.clone(),
        });
        let (limits, metrics) = (settings.limits, Metrics::new());
        let app = App::new(Parts {
            hub: Hub::new(
                bus.clone(),
                metrics.clone(),
                (tasks.clone(), end.clone()),
                settings.presence,
                limits.stories,
            ),
            bus,
            revoked: Revoked::new(),
            places: Quota::new(limits.per_person),
            rates: Rates::new(Allowed::from(limits), metrics.refused.clone()),
            entrance: Entrance::new(
                limits.per_address,
                Proxies::new(settings.proxies),
                metrics.refused.clone(),
            ),
            metrics,
            verifier,
            signer,
            origins: settings.origins,
            rate: limits.rate,
            ping: limits.ping,
            drain: shutdown.drain.clone(),
            drain_limit: limits.drain,
            clock: watch::Sender::default(),
            refusal: watch::Sender::default(),
        });
        let internal = match settings.internal {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        Ok(Self {
            listener: listen(settings.listen).await?,
            internal,
            app,
            tls: settings.tls,
            hsts: settings.hsts,
            tasks,
            end,
            limits,
        })
    }

    /// Where readers connect.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Whether readers come under TLS.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Where operators look, if anywhere.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn internal_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.internal
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()
    }

    /// Serves until it is asked to end.
    pub async fn run(self, shutdown: &Shutdown) {
        let Self {
            app,
            tls,
            hsts,
            tasks,
            end,
            limits,
            ..
        } = self;
        if let Some(internal) = self.internal {
            let served = server::serve(
                internal,
                None,
                internal::router(app.clone()),
                inside(&app, limits),
                Drain {
                    begun: end.clone(),
                    limit: Duration::ZERO,
                },
            );
            tasks.spawn(served);
        }
        let _begun = app.verifier.is_ready();
        let (hears, until) = (app.clone(), end.clone());
        tasks.spawn(async move { hears.revoked.follow(hears.hub.feeds(), until).await });
        let (looks, until) = (app.clone(), end.clone());
        tasks.spawn(async move { until.run_until_cancelled(pulse::follow(looks)).await });
        let (forgets, until) = (app.clone(), end.clone());
        tasks.spawn(async move { until.run_until_cancelled(forgets.rates.forget()).await });
        let drain = Drain {
            begun: shutdown.drain.clone(),
            limit: limits.drain,
        };
        let bounds = Bounds {
            connections: limits.connections,
            entrance: app.entrance.clone(),
            metrics: app.metrics.clone(),
            stuck: limits.stuck,
            beat: limits.ping,
        };
        if let Some(tls) = tls.clone() {
            let (metrics, until) = (app.metrics.clone(), end.clone());
            tasks.spawn(async move { until.run_until_cancelled(tls.follow(&metrics)).await });
        }
        let router = match hsts {
            Some(age) => api::router(app).layer(map_response(tls::strict(age))),
            None => api::router(app),
        };
        let served = server::serve(self.listener, tls, router, bounds, drain);
        let _at_once = shutdown.now.run_until_cancelled(served).await;
        end.cancel();
        tasks.close();
        tasks.wait().await;
    }
}

/// The OpenAPI document of the HTTP API, as `/openapi.json` has it.
#[must_use]
pub fn openapi() -> &'static str {
    api::openapi()
}

/// Whether Redis is what a node needs.
async fn fit(bus: &Bus) -> anyhow::Result<()> {
    let checks = async {
        bus.check_shards().await?;
        bus.check_rights(Role::Gateway).await
    };
    match checks.await {
        // It may come.
        Err(error @ bus::Error::Unreachable(_)) => {
            tracing::warn!(%error, "Redis is away: trying until it is there");
            Ok(())
        }
        Err(denied @ bus::Error::Denied(_)) => {
            Err(bus.all_denied(denied, Role::Gateway).await.into())
        }
        checked => Ok(checked?),
    }
}

/// What connections of operators may take.
fn inside(app: &App, limits: Limits) -> Bounds {
    let refused = app.metrics.refused.clone();
    Bounds {
        connections: INTERNAL,
        entrance: Entrance::new(u32::MAX, Proxies::default(), refused),
        metrics: app.metrics.clone(),
        stuck: limits.stuck,
        beat: limits.ping,
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| {
        format!("cannot listen at {address}: give another --listen, or end what listens there")
    })
}
