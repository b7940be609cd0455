//! Reaches Redis: where it is, and how a connection to it is opened. [`crate::link`] keeps one.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use redis::aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisError, RedisResult, TlsCertificates, TlsMode, Value,
};

use crate::files::Files;
use crate::{Encryption, Error, cluster, coverage, encryption};

/// What a Redis URL begins with.
const SCHEMES: &str = "it starts with redis://, rediss://, redis+sentinel:// or redis+cluster://, as redis://127.0.0.1:6379 does";

/// Commands to a cluster that are under way at once, of those that are asked together. With a hundred under way the client's look
/// for who serves what, where a master is away, now and then comes to no end before the time for all of them is over.
const TOGETHER: usize = 16;

/// Which servers to talk to, and how.
#[derive(Clone)]
pub(crate) struct Topology {
    servers: Servers,
    /// Of TLS; `None` = in the clear.
    files: Option<Arc<Files>>,
}

#[derive(Clone)]
enum Servers {
    Standalone(ConnectionInfo),
    Sentinel {
        nodes: Vec<ConnectionInfo>,
        name: String,
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
    /// Reads the files of TLS: what is wrong with them at the start is a matter of settings.
    pub(crate) fn new(url: &str, encryption: &Encryption) -> Result<Self, Error> {
        let servers = Servers::parse(url)?;
        if url.starts_with("rediss") {
            let unusable = |error| Error::Settings(encryption::words(&error));
            encryption.read().map_err(unusable)?;
        } else if !encryption.is_default() {
            return Err(wrong(
                "certificates are for TLS, and then it starts with rediss:// in the place of redis://",
            ));
        }
        let is_secure = url.starts_with("rediss");
        Ok(Self {
            servers,
            files: is_secure.then(|| Files::new(encryption.clone())),
        })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    /// Opens a connection that waits at most `response` for each answer.
    pub(crate) async fn open(&self, connect: Duration, response: Duration) -> RedisResult<Wire> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(response));
        let nobody = None::<fn(redis::PushInfo) -> Result<(), ()>>;
        let connected = self.connect(config, nobody, (connect, response)).await;
        connected.map_err(|error| self.explained(error))
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
        let connected = self
            .connect(config, Some(sender), (connect, response))
            .await;
        connected.map_err(|error| self.explained(error))
    }

    async fn connect(
        &self,
        config: AsyncConnectionConfig,
        push: Option<impl AsyncPushSender>,
        (connect, response): (Duration, Duration),
    ) -> RedisResult<Wire> {
        let protocol = if push.is_some() {
            ProtocolVersion::RESP3
        } else {
            ProtocolVersion::RESP2
        };
        let certificates = self.certificates().await?;
        match &self.servers {
            Servers::Standalone(info) => {
                let redis = info.redis_settings().clone().set_protocol(protocol);
                let info = info.clone().set_redis_settings(redis);
                let client = match certificates {
                    Some(certificates) => redis::Client::build_with_tls(info, certificates)?,
                    None => redis::Client::open(info)?,
                };
                let wire = client.get_multiplexed_async_connection_with_config(&config);
                self.greeted(wire.await?).await.map(Wire::Single)
            }
            Servers::Sentinel { nodes, name } => {
                let mut client = sentinel(nodes, name, certificates, protocol)?;
                let wire = client.get_async_connection_with_config(&config);
                self.greeted(wire.await?).await.map(Wire::Single)
            }
            Servers::Cluster(nodes) => {
                let mut builder = cluster::client(nodes, (connect, response), protocol);
                if let Some(push) = push {
                    builder = builder.push_sender(push);
                }
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                Ok(Wire::Cluster(
                    builder.build()?.get_async_connection().await?,
                ))
            }
        }
    }

    /// In TLS 1.3 we have a connection before the server has seen who we are. If that does not do, we hear of it by asking
    /// something, and anybody may say HELLO.
    async fn greeted(&self, mut wire: MultiplexedConnection) -> RedisResult<MultiplexedConnection> {
        if self.files.is_some() {
            let _about_itself: Value = redis::cmd("HELLO").query_async(&mut wire).await?;
        }
        Ok(wire)
    }

    /// Why there is no connection, where the client's words for it leave out that it was to be one of TLS.
    fn explained(&self, error: RedisError) -> RedisError {
        if self.files.is_none() {
            error
        } else if error.is_timeout() {
            self.silence()
        } else {
            encryption::cut(error)
        }
    }

    /// Why there is no connection when nobody answered in time.
    pub(crate) fn silence(&self) -> RedisError {
        let kind = io::ErrorKind::TimedOut;
        let error = match &self.files {
            // It waits for the end of a first line.
            Some(_) => io::Error::new(kind, "timed out, as it does where Redis speaks no TLS"),
            None => kind.into(),
        };
        error.into()
    }

    async fn certificates(&self) -> RedisResult<Option<TlsCertificates>> {
        match &self.files {
            // It may hang: the wait for a connection ends all the same.
            Some(files) => files.read().await.map(Some),
            None => Ok(None),
        }
    }
}

impl Servers {
    fn parse(url: &str) -> Result<Self, Error> {
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
            "cluster" if path.is_empty() => nodes().map(Self::Cluster),
            "cluster" => Err(wrong(
                "what is behind its hosts says nothing: a cluster has one database, without a number",
            )),
            "sentinel" if path.is_empty() => {
                Err(wrong("for sentinels it ends with /<name of the master>"))
            }
            "sentinel" => Ok(Self::Sentinel {
                nodes: nodes()?,
                name: path.to_owned(),
            }),
            _ => Err(wrong(SCHEMES)),
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
    if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(wrong(
            "it asks for TLS with whoever answers (#insecure): leave that away, and say who vouches for Redis (--redis-ca)",
        ));
    }
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
    certificates: Option<TlsCertificates>,
    protocol: ProtocolVersion,
) -> RedisResult<redis::sentinel::SentinelClient> {
    let addresses: Vec<ConnectionAddr> = nodes.iter().map(|node| node.addr().clone()).collect();
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?
        .set_client_to_redis_protocol(protocol);
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
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
            Self::Cluster(wire) => {
                let reply = cmd.query_async(wire).await;
                told(wire, reply).await
            }
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
            Self::Cluster(wire) => {
                let replies = wire.req_packed_commands(pipe, 0, count).await;
                told(wire, replies).await
            }
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
                let mut replies = Vec::with_capacity(commands.len());
                for some in commands.chunks(TOGETHER) {
                    let asked = some.iter().map(|cmd| {
                        let mut wire = wire.clone();
                        async move { cmd.query_async(&mut wire).await }
                    });
                    replies.extend(told(wire, try_join_all(asked).await).await?);
                }
                Ok(replies)
            }
        }
    }
}

/// What came of it, with what the client of a cluster leaves out.
async fn told<T>(wire: &ClusterConnection, reply: RedisResult<T>) -> RedisResult<T> {
    match reply {
        Err(error) => Err(coverage::explained(wire.clone(), error).await),
        reply => reply,
    }
}
