//! Reaches Redis: where it is, and a link that rebuilds its connection by itself.
//!
//! Every wait has an end. The client's own default timeout of 500 ms would cut blocking reads, and no timeout at all
//! would hang on a wedged server that still answers TCP; so each link states its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use redis::aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisError, RedisResult, TlsMode, Value,
};

use crate::Error;

/// The longest wait between two attempts to connect.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Where Redis is and how keys are laid out there. `Debug` hides the password.
#[derive(Clone)]
pub struct Settings {
    /// `redis://`, `rediss://` (TLS), `redis+sentinel://host:port,host:port/name`, `redis+cluster://host:port,…`; the
    /// latter two also as `rediss+…`. Credentials of an ACL user: `user:password@` before the hosts.
    pub url: String,
    /// The first part of every key, so that environments can share a server.
    pub prefix: String,
    /// How many hash tags stories are spread over. Fixed for the life of an installation.
    pub shards: u16,
    /// How long to wait for a connection, and for an answer.
    pub timeout: Duration,
}

impl Settings {
    /// The defaults for a server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "sf".into(),
            shards: 1,
            timeout: Duration::from_secs(2),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://…@{hosts}"),
            _ => self.url.clone(),
        };
        f.debug_struct("Settings")
            .field("url", &url)
            .field("prefix", &self.prefix)
            .field("shards", &self.shards)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Which servers to talk to.
#[derive(Clone)]
pub(crate) enum Topology {
    Standalone(ConnectionInfo),
    Sentinel {
        nodes: Vec<ConnectionInfo>,
        name: String,
        tls: bool,
    },
    Cluster(Vec<ConnectionInfo>),
}

/// One connection in whichever form the topology has.
#[derive(Clone)]
pub(crate) enum Wire {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Topology {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Settings(format!("REDIS URL: {what}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            wrong("it starts with redis://, rediss://, redis+sentinel:// or redis+cluster://")
        })?;
        let (secure, kind) = match scheme.split_once('+') {
            Some((secure, kind)) => (secure, kind),
            None => (scheme, ""),
        };
        if !matches!(secure, "redis" | "rediss") {
            return Err(wrong(
                "its scheme is none of redis://, rediss://, redis+sentinel:// and redis+cluster://",
            ));
        }
        let (user, hosts) = match rest.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), rest),
        };
        let (hosts, path) = hosts.split_once('/').unwrap_or((hosts, ""));
        let nodes = || {
            hosts
                .split(',')
                .map(|host| format!("{secure}://{user}{host}").into_connection_info())
                .collect::<RedisResult<Vec<_>>>()
                .map_err(|e| wrong(&e.to_string()))
        };
        match kind {
            "" => url
                .into_connection_info()
                .map(Self::Standalone)
                .map_err(|e| wrong(&e.to_string())),
            "cluster" => Ok(Self::Cluster(nodes()?)),
            "sentinel" if path.is_empty() => {
                Err(wrong("a sentinel URL ends with /<name of the master>"))
            }
            "sentinel" => Ok(Self::Sentinel {
                nodes: nodes()?,
                name: path.to_owned(),
                tls: secure == "rediss",
            }),
            _ => Err(wrong(
                "its scheme is none of redis://, rediss://, redis+sentinel:// and redis+cluster://",
            )),
        }
    }

    /// Opens a connection that waits at most `response` for each answer.
    pub(crate) async fn open(&self, connect: Duration, response: Duration) -> RedisResult<Wire> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(response));
        self.connect(
            config,
            None::<fn(redis::PushInfo) -> Result<(), ()>>,
            response,
        )
        .await
    }

    /// Opens a connection (RESP3) on which the messages of its subscriptions go to `sender`.
    pub(crate) async fn open_pushing(
        &self,
        connect: Duration,
        response: Duration,
        sender: impl AsyncPushSender + Clone,
    ) -> RedisResult<Wire> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(response))
            .set_push_sender(sender.clone());
        self.connect(config, Some(sender), response).await
    }

    async fn connect(
        &self,
        config: AsyncConnectionConfig,
        push: Option<impl AsyncPushSender>,
        response: Duration,
    ) -> RedisResult<Wire> {
        let protocol = if push.is_some() {
            ProtocolVersion::RESP3
        } else {
            ProtocolVersion::RESP2
        };
        match self {
            Self::Standalone(info) => {
                let redis = info.redis_settings().clone().set_protocol(protocol);
                let client = redis::Client::open(info.clone().set_redis_settings(redis))?;
                let wire = client.get_multiplexed_async_connection_with_config(&config);
                Ok(Wire::Single(wire.await?))
            }
            Self::Sentinel { nodes, name, tls } => {
                let mut client = sentinel(nodes, name, *tls, protocol)?;
                let wire = client.get_async_connection_with_config(&config);
                Ok(Wire::Single(wire.await?))
            }
            Self::Cluster(nodes) => {
                let mut builder = ClusterClientBuilder::new(nodes.clone())
                    .response_timeout(response)
                    .use_protocol(protocol);
                if let Some(push) = push {
                    builder = builder.push_sender(push);
                }
                Ok(Wire::Cluster(
                    builder.build()?.get_async_connection().await?,
                ))
            }
        }
    }
}

/// A client that asks the sentinels for the master. The URL's credentials are for both.
fn sentinel(
    nodes: &[ConnectionInfo],
    name: &str,
    tls: bool,
    protocol: ProtocolVersion,
) -> RedisResult<redis::sentinel::SentinelClient> {
    let addresses: Vec<ConnectionAddr> = nodes.iter().map(|node| node.addr().clone()).collect();
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?
        .set_client_to_redis_protocol(protocol);
    if tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    let settings = nodes.first().map(ConnectionInfo::redis_settings);
    if let Some(user) = settings.and_then(|s| s.username()) {
        builder = builder
            .set_client_to_redis_username(user)
            .set_client_to_sentinel_username(user);
    }
    if let Some(password) = settings.and_then(|s| s.password()) {
        builder = builder
            .set_client_to_redis_password(password)
            .set_client_to_sentinel_password(password);
    }
    builder.build()
}

impl Wire {
    pub(crate) async fn query(&mut self, cmd: &redis::Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(wire) => cmd.query_async(wire).await,
            Self::Cluster(wire) => cmd.query_async(wire).await,
        }
    }

    /// Subscribes to a sharded channel; only on a connection of [`Topology::open_pushing`].
    pub(crate) async fn ssubscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            // The client has this method for clusters only; the confirmation is the one reply to the command.
            Self::Single(wire) => {
                let mut cmd = redis::cmd("SSUBSCRIBE");
                cmd.arg(channel).exec_async(wire).await
            }
            Self::Cluster(wire) => wire.ssubscribe(channel).await,
        }
    }

    async fn pipe(&mut self, pipe: &redis::Pipeline) -> RedisResult<Vec<Value>> {
        let count = pipe.len();
        let replies = match self {
            Self::Single(wire) => wire.req_packed_commands(pipe, 0, count).await?,
            Self::Cluster(wire) => wire.req_packed_commands(pipe, 0, count).await?,
        };
        replies.into_iter().map(Value::extract_error).collect()
    }
}

type Connecting = Shared<BoxFuture<'static, RedisResult<Wire>>>;

/// A connection shared by everyone who holds a clone. Who uses it tells people that Redis is away: a program has several
/// links, and they would all say the same. It connects when first used; after a drop or a timeout the next
/// call connects anew, and all calls of that moment wait for the one attempt.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shape>);

struct Shape {
    topology: Topology,
    connect: Duration,
    response: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wire: Option<Connecting>,
    /// Counts the connections, so that a late error of an old one does not close its successor.
    generation: u64,
    /// Connections lost since one was good.
    failures: u32,
}

impl Link {
    pub(crate) fn new(topology: Topology, connect: Duration, response: Duration) -> Self {
        Self(Arc::new(Shape {
            topology,
            connect,
            response,
            state: Mutex::default(),
        }))
    }

    pub(crate) async fn query(&self, cmd: &redis::Cmd) -> Result<Value, Error> {
        let (generation, connecting) = self.wire();
        let reply = match connecting.await {
            Ok(mut wire) => wire.query(cmd).await,
            Err(error) => Err(error),
        };
        self.judged(generation, reply)
    }

    /// One round trip for many commands; one reply for each.
    pub(crate) async fn pipe(&self, pipe: &redis::Pipeline) -> Result<Vec<Value>, Error> {
        let (generation, connecting) = self.wire();
        let reply = match connecting.await {
            Ok(mut wire) => wire.pipe(pipe).await,
            Err(error) => Err(error),
        };
        self.judged(generation, reply)
    }

    fn wire(&self) -> (u64, Connecting) {
        let mut state = self.state();
        let failures = state.failures;
        let wire = state
            .wire
            .get_or_insert_with(|| connecting(Arc::clone(&self.0), backoff(failures)))
            .clone();
        (state.generation, wire)
    }

    fn judged<T>(&self, generation: u64, reply: RedisResult<T>) -> Result<T, Error> {
        let reply = reply.map_err(Error::from_redis);
        let mut state = self.state();
        if state.generation != generation {
            return reply;
        }
        if let Err(Error::Unreachable(error)) = &reply {
            if state.failures == 0 {
                tracing::debug!(%error, "lost the connection to Redis");
            }
            state.wire = None;
            state.generation += 1;
            state.failures = state.failures.saturating_add(1);
        } else if state.failures > 0 {
            tracing::debug!(attempts = state.failures, "reached Redis again");
            state.failures = 0;
        }
        reply
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connecting(shape: Arc<Shape>, delay: Duration) -> Connecting {
    async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // The client bounds each of its steps; this bounds them all.
        let wire = shape.topology.open(shape.connect, shape.response);
        tokio::time::timeout(shape.connect, wire)
            .await
            .unwrap_or_else(|_| {
                Err(RedisError::from(std::io::Error::from(
                    std::io::ErrorKind::TimedOut,
                )))
            })
    }
    .boxed()
    .shared()
}

/// None at first, then 50 ms doubled with each failure, and between half and all of that, so that a fleet that lost its
/// server does not return as one.
pub(crate) fn backoff(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let full = Duration::from_millis(50)
        .saturating_mul(1 << (failures - 1).min(10))
        .min(MAX_BACKOFF);
    full.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topology_has_its_url() {
        for url in ["redis://h:1/2", "rediss://user:word@h", "redis://h"] {
            assert!(
                matches!(Topology::parse(url), Ok(Topology::Standalone(_))),
                "{url}"
            );
        }
        let Ok(Topology::Cluster(nodes)) = Topology::parse("redis+cluster://u:p@h:1,h2:2") else {
            panic!("not a cluster");
        };
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[1].redis_settings().username(), Some("u"));
        let Ok(Topology::Sentinel { nodes, name, tls }) =
            Topology::parse("rediss+sentinel://h:1,h2:2/main")
        else {
            panic!("not sentinels");
        };
        assert_eq!((nodes.len(), name.as_str(), tls), (2, "main", true));
    }

    #[test]
    fn a_bad_url_is_refused_with_a_reason() {
        for bad in [
            "",
            "localhost:6379",
            "http://h",
            "redis+sentinel://h:1",
            "redis+x://h",
            "redis://",
        ] {
            assert!(
                matches!(Topology::parse(bad), Err(Error::Settings(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn no_password_is_shown() {
        let shown = format!("{:?}", Settings::new("redis://user:se@cret@host:1/0"));
        assert!(
            shown.contains("host:1/0") && !shown.contains("cret") && !shown.contains("user"),
            "{shown}"
        );
    }

    #[test]
    fn the_wait_between_attempts_grows_to_its_bound() {
        assert_eq!(backoff(0), Duration::ZERO);
        for failures in 1..40 {
            let wait = backoff(failures);
            assert!(wait >= Duration::from_millis(25) && wait <= MAX_BACKOFF);
        }
        assert!(backoff(u32::MAX) >= MAX_BACKOFF / 2);
    }
}
