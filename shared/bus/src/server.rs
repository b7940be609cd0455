//! Whether the server is fit for the fleet. What would lose or misplace events is an error; what may is a warning.

use std::collections::HashMap;

use futures::future::{select_ok, try_join_all};

use crate::reply::read;
use crate::script::Script;
use crate::{Bus, Error};

/// Does nothing. Since its first line does not say that it only reads, Redis refuses it wherever it would refuse a write.
static NOTHING: Script = Script::new("#!lua\nreturn 1");

/// By a key: a cluster asks a bare INFO of every node, and one that is gone would be no answer.
static INFO: Script = Script::new("return redis.call('INFO', 'everything')");

/// The oldest Redis that has all that the scripts use (sharded channels). No Valkey is older.
const OLDEST: (u32, u32) = (7, 0);

/// What [`Bus::check_server`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// `Redis 7.0.15`, `Valkey 8.0.1`.
    pub software: String,
    /// What Redis does when its memory is full.
    pub eviction: String,
    /// Each says what may happen and what to do.
    pub warnings: Vec<String>,
}

/// Which server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub pid: u32,
    /// Where it keeps its data.
    pub folder: String,
}

impl Bus {
    /// Which server answers.
    ///
    /// # Errors
    /// When it does not, or does not tell.
    pub async fn identity(&self) -> Result<Identity, Error> {
        let info = self.info().await?.swap_remove(0);
        let pid = info
            .get("process_id")
            .and_then(|pid| pid.trim().parse().ok());
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("dir");
        let folder: Vec<String> = read(self.link.query(&get).await?)?;
        match (pid, folder.into_iter().nth(1)) {
            (Some(pid), Some(folder)) => Ok(Identity { pid, folder }),
            _ => Err(Error::data("the server does not tell which it is")),
        }
    }

    /// Checks the version, the eviction policy, persistence and the number of shards. The first check of an
    /// installation records its number of shards.
    ///
    /// # Errors
    /// [`Error::Server`] says what to change; or Redis was not reached.
    pub async fn check_server(&self) -> Result<ServerReport, Error> {
        let report = self.server().await?;
        self.check_shards().await?;
        if !keeps_all(&report.eviction) {
            return Err(Error::Server(format!(
                "Redis may evict events (maxmemory-policy is {}): set maxmemory-policy noeviction, or run `storyfleet doctor --fix`",
                report.eviction
            )));
        }
        // Written once only: a full Redis refuses even a write that would change nothing.
        if self.shards().await?.is_none() {
            let mut set = redis::cmd("HSETNX");
            set.arg(self.keys.meta())
                .arg("shards")
                .arg(self.settings.shards);
            self.link.query(&set).await?;
            self.check_shards().await?;
        }
        Ok(report)
    }

    /// Checks the version and tells what else there is to tell of the server. Writes nothing.
    ///
    /// # Errors
    /// As there.
    pub async fn server(&self) -> Result<ServerReport, Error> {
        let nodes = self.info().await?;
        let field = |name: &str| nodes[0].get(name).map_or("", String::as_str);
        let (name, version) = software(field);
        let software = format!("{name} {version}");
        if is_too_old(version) {
            return Err(Error::Server(format!(
                "{software} is too old: use Redis 7.0 or Valkey 7.2 or later"
            )));
        }
        let mut warnings = Vec::new();
        if field("aof_enabled") == "0" {
            warnings.push(
                "Redis keeps no append-only file: a restart loses events; set appendonly yes"
                    .into(),
            );
        }
        let wanted = self.settings.wait_replicas;
        if let Some(have) = fewest_replicas(&nodes).filter(|have| *have < wanted) {
            warnings.push(format!(
                "Redis has {have} replicas, and {wanted} are waited for (--wait-replicas): what is written is done, and a failover may undo it; bring replicas back"
            ));
        }
        warnings.extend(self.clock().await?);
        Ok(ServerReport {
            software,
            eviction: field("maxmemory_policy").to_owned(),
            warnings,
        })
    }

    /// What each server with a shard tells of itself; of one at least.
    async fn info(&self) -> Result<Vec<HashMap<String, String>>, Error> {
        let texts: Vec<String> = match self.topology.is_cluster() {
            true => {
                self.coverage.look().await;
                let shards = self.coverage.shard_of_each_master().await.into_iter();
                try_join_all(shards.map(|shard| self.info_of(shard))).await?
            }
            false => {
                let mut info = redis::cmd("INFO");
                vec![read(self.link.query(info.arg("everything")).await?)?]
            }
        };
        if texts.is_empty() {
            return Err(Error::data("no node tells of itself"));
        }
        let fields = |text: &String| {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            lines
                .map(|(name, value)| (name.into(), value.into()))
                .collect()
        };
        Ok(texts.iter().map(fields).collect())
    }

    async fn info_of(&self, shard: u16) -> Result<String, Error> {
        let mut call = INFO.call();
        call.key(self.keys.probe(shard));
        read(call.run_alone(&self.link).await?)
    }

    /// Whether Redis answers; of a cluster, any of the masters that have a shard.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it does not within the timeout.
    pub async fn ping(&self) -> Result<(), Error> {
        if !self.topology.is_cluster() {
            return self.link.query(&redis::cmd("PING")).await.map(|_| ());
        }
        let shards = self.coverage.shard_of_each_master().await.into_iter();
        let asked = shards.map(|shard| {
            Box::pin(async move {
                let mut call = NOTHING.call();
                call.key(self.keys.probe(shard));
                match call.run_alone(&self.link).await {
                    Err(error) if !error.refuses_writes() => Err(error),
                    _ => Ok(()),
                }
            })
        });
        select_ok(asked).await.map(|_| ())
    }

    /// Why Redis refuses every write that adds something, if it does: its memory or its disk is full, it has too few replicas, or it is one. Writes
    /// nothing. Of several shards the first one's is told.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn write_refusal(&self) -> Result<Option<Error>, Error> {
        let shards = self.coverage.shards().await.into_iter();
        let shards = shards.map(|shard| self.write_refusal_of(shard));
        Ok(try_join_all(shards).await?.into_iter().flatten().next())
    }

    pub(crate) async fn write_refusal_of(&self, shard: u16) -> Result<Option<Error>, Error> {
        let mut call = NOTHING.call();
        call.key(self.keys.probe(shard));
        match call.run_alone(&self.link).await {
            Ok(_) => Ok(None),
            Err(error) if error.refuses_writes() => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// Whether our number of shards is the recorded one, if there is one: with another, every key would be elsewhere.
    ///
    /// # Errors
    /// [`Error::Server`] says what to change; or Redis was not reached.
    pub async fn check_shards(&self) -> Result<(), Error> {
        let ours = self.settings.shards;
        match self.shards().await? {
            Some(theirs) if theirs != ours => Err(Error::Server(format!(
                "the number of shards here is {theirs}, not {ours}: start with --shards {theirs} (STORYFLEET_SHARDS), or use another --prefix"
            ))),
            _ => Ok(()),
        }
    }

    /// The recorded number of shards.
    async fn shards(&self) -> Result<Option<u16>, Error> {
        let mut get = redis::cmd("HGET");
        get.arg(self.keys.meta()).arg("shards");
        let meta = vec![(self.keys.meta(), "hash")];
        read(self.naming(self.link.query(&get).await, meta).await?)
    }
}

/// What the fields of INFO call it, and its version. A Valkey has its own beside that of the Redis that programs may take
/// it for.
pub(crate) fn software<'a>(field: impl Fn(&str) -> &'a str) -> (&'static str, &'a str) {
    match field("valkey_version").trim() {
        "" => ("Redis", field("redis_version").trim()),
        version => ("Valkey", version),
    }
}

/// Of the masters; a managed Redis may not tell.
fn fewest_replicas(nodes: &[HashMap<String, String>]) -> Option<u32> {
    let told = |node: &HashMap<String, String>| node.get("connected_slaves")?.trim().parse().ok();
    let is_master =
        |node: &&HashMap<String, String>| node.get("role").is_some_and(|r| r.trim() == "master");
    nodes.iter().filter(is_master).filter_map(told).min()
}

/// Whether that `maxmemory-policy` never drops a key. A managed Redis may not tell: "".
pub(crate) fn keeps_all(policy: &str) -> bool {
    matches!(policy, "" | "noeviction")
}

fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valkey_is_not_taken_for_the_redis_that_it_stands_in_for() {
        let valkey = |field: &str| match field {
            "redis_version" => "7.2.4",
            "valkey_version" => "8.0.1",
            _ => "",
        };
        assert_eq!(software(valkey), ("Valkey", "8.0.1"));
        let redis = |field: &str| {
            if field == "redis_version" {
                "7.0.15"
            } else {
                ""
            }
        };
        assert_eq!(software(redis), ("Redis", "7.0.15"));
    }

    #[test]
    fn a_server_without_sharded_channels_is_too_old() {
        for old in ["6.2.14", "6.9", "5", "", "unknown"] {
            assert!(is_too_old(old), "{old}");
        }
        for good in ["7.0.0", "7.0", "7.2.4", "8.0.1", "10.0.0"] {
            assert!(!is_too_old(good), "{good}");
        }
    }
}
