//! How each server is, by its own word, and which nodes of a cluster say nothing.

use std::collections::BTreeSet;

use redis::Value;
use tokio::time::timeout;

use crate::cluster::{PATIENCE, ask_any, nodes};
use crate::fleet::{ServerLoad, server};
use crate::reply::read;
use crate::{Bus, Error};

impl Bus {
    /// Those that tell, in the order of their addresses, and the addresses of those of a cluster that do not. None where the
    /// user may not ask.
    pub(crate) async fn servers(&self) -> Result<(Vec<ServerLoad>, Vec<String>), Error> {
        let mut cmd = redis::cmd("INFO");
        for section in [
            "server",
            "clients",
            "memory",
            "stats",
            "replication",
            "persistence",
        ] {
            cmd.arg(section);
        }
        let told = match self.link.query(&cmd).await {
            // A node that did not answer is not asked over the connection that is opened then: it has those that do.
            Err(error) if error.is_away() && self.topology.is_cluster() => {
                self.link.query(&cmd).await
            }
            told => told,
        };
        match told {
            Err(Error::Denied(error)) if error.code() == Some("NOPERM") => Ok(Default::default()),
            // What the others say is not had without it. Those that are known to have failed are named all the same.
            Err(error) if error.is_away() && self.topology.is_cluster() => {
                Ok((Vec::new(), self.silent(&[]).await))
            }
            Err(error) => Err(error),
            Ok(Value::Map(nodes)) => {
                let nodes = nodes
                    .into_iter()
                    .map(|(address, text)| Ok(server(read(address)?, &read::<String>(text)?)));
                let mut nodes = nodes.collect::<Result<Vec<_>, Error>>()?;
                nodes.sort_by(|a, b| a.address.cmp(&b.address));
                let silent = self.silent(&nodes).await;
                Ok((nodes, silent))
            }
            Ok(text) => Ok((
                vec![server(String::new(), &read::<String>(text)?)],
                Vec::new(),
            )),
        }
    }

    /// The nodes that others name and that are not among these; where these are none, those that the others know to be away.
    async fn silent(&self, nodes: &[ServerLoad]) -> Vec<String> {
        let named = async { ask_any(&mut self.link.cluster().await?.1, "NODES").await };
        // Whoever does not tell names nobody.
        let named = timeout(PATIENCE, named).await.ok().flatten();
        let tells = nodes.iter().map(|node| node.address.as_str()).collect();
        named.map_or_else(Vec::new, |named| not_among(&tells, &named))
    }
}

/// Those of CLUSTER NODES.
fn not_among(tells: &BTreeSet<&str>, named: &str) -> Vec<String> {
    let silent = nodes(named).filter_map(|node| {
        let (address, more) = node.address.split_once('@')?;
        let (_, port) = address.rsplit_once(':')?;
        let host = more.split(',').nth(1).unwrap_or_default();
        let has_failed = node.is("fail") || node.is("fail?");
        // One alone does not know its own address.
        let is_left_out = node.is("noaddr") || node.is("handshake") || node.is("myself");
        let is_it = !is_left_out && (!tells.is_empty() || has_failed);
        let host = format!("{host}:{port}");
        let tells = tells.contains(address) || tells.contains(host.as_str());
        (is_it && !tells).then(|| address.to_owned())
    });
    let mut silent: Vec<String> = silent.collect();
    silent.sort_unstable();
    silent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_and_does_not_tell_is_silent() {
        let named = "\
a :1@2 myself,master - 0 1 1 connected 0-5460
b 127.0.0.1:3@4,host,shard-id=x master,fail - 0 1 2 disconnected 5461-10922
c 127.0.0.1:5@6,redis-c master - 0 1 3 connected 10923-16383
d 127.0.0.1:7@8 slave b 0 1 2 connected
e :0@0 master,noaddr - 0 1 2 disconnected
";
        let tells = BTreeSet::from(["redis-c:5", "127.0.0.1:7"]);
        assert_eq!(not_among(&tells, named), ["127.0.0.1:3"]);
        assert_eq!(not_among(&BTreeSet::new(), named), ["127.0.0.1:3"]);
    }
}
