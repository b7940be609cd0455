//! Reaches Redis: where it is, and how a connection to it is opened. [`crate::link`] keeps one.

use std::time::Duration;

use futures::future::try_join_all;
use redis::aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisResult, TlsMode, Value,
};

use crate::Error;

/// What a Redis URL begins with.
const SCHEMES: &str = "it starts with redis://, rediss://, redis+sentinel:// or redis+cluster://, as redis://127.0.0.1:6379 does";

/// Where Redis is, how keys are laid out there, and what is waited for. `Debug` hides the password.
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
    /// The longest wait between two tries to connect.
    pub reconnect: Duration,
    /// How many replicas must have what is published and committed before it is said to be; 0 = none. What they have when
    /// a quarter of the timeout is over counts: it is done all the same, and [`crate::Replicated`] tells.
    pub wait_replicas: u32,
}

impl Settings {
    /// The defaults for a server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "sf".into(),
            shards: 1,
            timeout: Duration::from_secs(2),
            reconnect: Duration::from_secs(2),
            wait_replicas: 0,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://…@{hosts}"),
            (None, Some((_, hosts))) => format!("…@{hosts}"),
            _ => self.url.clone(),
        };
        f.debug_struct("Settings")
            .field("url", &url)
            .field("prefix", &self.prefix)
            .field("shards", &self.shards)
            .field("timeout", &self.timeout)
            .field("reconnect", &self.reconnect)
            .field("wait_replicas", &self.wait_replicas)
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
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(SCHEMES))?;
        let (secure, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(secure, "redis" | "rediss") {
            return Err(wrong(SCHEMES));
        }
        let (user, hosts) = match rest.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), rest),
        };
        let (hosts, path) = hosts.split_once('/').unwrap_or((hosts, ""));
        let nodes = || {
            hosts
                .split(',')
                .map(|host| node(format!("{secure}://{user}{host}")))
                .collect::<Result<Vec<_>, _>>()
        };
        match kind {
            "" => node(url).map(Self::Standalone),
            "cluster" => nodes().map(Self::Cluster),
            "sentinel" if path.is_empty() => {
                Err(wrong("for sentinels it ends with /<name of the master>"))
            }
            "sentinel" => Ok(Self::Sentinel {
                nodes: nodes()?,
                name: path.to_owned(),
                tls: secure == "rediss",
            }),
            _ => Err(wrong(SCHEMES)),
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

/// Where one server is. The client's reasons never quote the URL.
fn node(url: impl IntoConnectionInfo) -> Result<ConnectionInfo, Error> {
    let info = url.into_connection_info().map_err(|error| {
        let reason = error.to_string();
        let (reason, _kind) = reason.split_once(" - ").unwrap_or((&reason, ""));
        wrong(&format!(
            "{reason}: write it like redis://user:password@127.0.0.1:6379"
        ))
    })?;
    // What a user of few rights may not say, and Redis writes into its log each time.
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    Ok(info.set_redis_settings(settings))
}

fn wrong(what: &str) -> Error {
    Error::Settings(format!("the URL cannot be used: {what}"))
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
            // The client has these methods for clusters only; the confirmation is the one reply to the command.
            Self::Single(wire) => {
                let mut cmd = redis::cmd("SSUBSCRIBE");
                cmd.arg(channel).exec_async(wire).await
            }
            Self::Cluster(wire) => wire.ssubscribe(channel).await,
        }
    }

    pub(crate) async fn sunsubscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Single(wire) => {
                let mut cmd = redis::cmd("SUNSUBSCRIBE");
                cmd.arg(channel).exec_async(wire).await
            }
            Self::Cluster(wire) => wire.sunsubscribe(channel).await,
        }
    }

    pub(crate) async fn pipe(&mut self, pipe: &redis::Pipeline) -> RedisResult<Vec<Value>> {
        let replies = self.replies(pipe).await?;
        replies.into_iter().map(Value::extract_error).collect()
    }

    /// The same, where one that is refused says nothing of the others.
    pub(crate) async fn replies(&mut self, pipe: &redis::Pipeline) -> RedisResult<Vec<Value>> {
        let count = pipe.len();
        match self {
            Self::Single(wire) => wire.req_packed_commands(pipe, 0, count).await,
            Self::Cluster(wire) => wire.req_packed_commands(pipe, 0, count).await,
        }
    }

    /// The same of keys that may be on many nodes, which one pipeline cannot be.
    pub(crate) async fn each(&mut self, commands: &[redis::Cmd]) -> RedisResult<Vec<Value>> {
        match self {
            Self::Single(_) => {
                let mut pipe = redis::pipe();
                commands
                    .iter()
                    .for_each(|cmd| _ = pipe.add_command(cmd.clone()));
                self.pipe(&pipe).await
            }
            Self::Cluster(wire) => {
                let asked = commands.iter().map(|cmd| {
                    let mut wire = wire.clone();
                    async move { cmd.query_async(&mut wire).await }
                });
                try_join_all(asked).await
            }
        }
    }
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
        for url in ["redis://user:se@cret@host:1/0", "user:se@cret@host:1/0"] {
            let shown = format!("{:?}", Settings::new(url));
            assert!(
                shown.contains("host:1/0") && !shown.contains("cret") && !shown.contains("user"),
                "{shown}"
            );
        }
    }
}
