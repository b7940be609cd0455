//! The client of a cluster: how long it waits for its nodes, how soon it asks again, and what a node tells of them all.

use std::time::Duration;

use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{ConnectionInfo, ProtocolVersion, from_redis_value};

use crate::lease::millis;

/// The least time until it asks again, and half of the most. By itself the client waits for 1.3 s at least: whoever asked just
/// before a replica took over, while its slots were served by nobody, would ask once more and have no time left to follow it.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a node may take to tell of its cluster: it is asked after something else took too long.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// One that asks again until `response` is over.
pub(crate) fn client(
    nodes: &[ConnectionInfo],
    (connect, response): (Duration, Duration),
    protocol: ProtocolVersion,
) -> ClusterClientBuilder {
    let again = millis(AGAIN);
    let times = millis(response).div_ceil(again);
    ClusterClientBuilder::new(nodes.to_vec())
        // A node that hangs is met twice before there is a connection, as one of the URL's and as one that the cluster names, and
        // whenever that is asked again: the others are to be reached all the same.
        .connection_timeout(connect / 3)
        .response_timeout(response)
        .min_retry_wait(again)
        .retry_wait_formula(2 * again, 1)
        .retries(u32::try_from(times).unwrap_or(u32::MAX))
        .use_protocol(protocol)
}

/// What a node, whichever it is, tells of its cluster: CLUSTER `what`.
pub(crate) async fn ask_any(wire: &mut ClusterConnection, what: &str) -> Option<String> {
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg(what);
    let anybody = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
    let told = wire.route_command(cmd, anybody).await;
    from_redis_value(told.ok()?).ok()
}

/// A line of CLUSTER NODES: id, address, flags, master, ping, pong, epoch, link, then slots.
pub(crate) struct Node<'a> {
    /// `ip:port@bus-port`, and perhaps `,host`.
    pub address: &'a str,
    flags: &'a str,
    /// A number, or two with `-` between; those on their way to another node are in brackets, and among the others too.
    pub slots: Vec<&'a str>,
}

impl Node<'_> {
    pub(crate) fn is(&self, flag: &str) -> bool {
        self.flags.split(',').any(|has| has == flag)
    }
}

/// All that CLUSTER NODES names.
pub(crate) fn nodes(told: &str) -> impl Iterator<Item = Node<'_>> {
    told.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some(Node {
            address: words.next()?,
            flags: words.next()?,
            slots: words.skip(5).collect(),
        })
    })
}
