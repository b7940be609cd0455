//! The client of a cluster: how long it waits for its nodes, and how soon it asks again.

use std::time::Duration;

use redis::cluster::ClusterClientBuilder;
use redis::{ConnectionInfo, ProtocolVersion};

use crate::lease::millis;

/// The least time until it asks again, and half of the most. By itself the client waits for 1.3 s at least: whoever asked just
/// before a replica took over, while its slots were served by nobody, would ask once more and have no time left to follow it.
const AGAIN: Duration = Duration::from_millis(100);

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
