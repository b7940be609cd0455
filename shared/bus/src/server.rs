//! Whether the server is fit for the fleet. What would lose or misplace events is an error; what may is a warning.

use std::collections::HashMap;

use redis::Value;

use crate::reply::read;
use crate::{Bus, Error};

/// The oldest Redis that has all that the scripts use (sharded channels). Valkey calls itself Redis 7.2.
const OLDEST: (u32, u32) = (7, 0);

/// What [`Bus::check_server`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    pub version: String,
    /// Each says what may happen and what to do.
    pub warnings: Vec<String>,
}

impl Bus {
    /// Checks the version, the eviction policy, persistence and the number of shards. The first check of an
    /// installation records its number of shards.
    ///
    /// # Errors
    /// [`Error::Server`] says what to change; or Redis was not reached.
    pub async fn check_server(&self) -> Result<ServerReport, Error> {
        let info = self.info().await?;
        let field = |name: &str| info.get(name).map_or("", String::as_str);
        let version = field("redis_version").to_owned();
        if number(&version) < OLDEST {
            return Err(Error::Server(format!(
                "Redis {version} is too old: use Redis 7.0 or Valkey 7.2 or later"
            )));
        }
        let policy = field("maxmemory_policy");
        if !matches!(policy, "" | "noeviction") {
            return Err(Error::Server(format!(
                "Redis may evict events (maxmemory-policy is {policy}): set maxmemory-policy noeviction"
            )));
        }
        self.check_shards().await?;
        let mut warnings = Vec::new();
        if field("aof_enabled") == "0" {
            warnings.push(
                "Redis keeps no append-only file: a restart loses events; set appendonly yes"
                    .into(),
            );
        }
        Ok(ServerReport { version, warnings })
    }

    async fn info(&self) -> Result<HashMap<String, String>, Error> {
        let reply = self
            .link
            .query(redis::cmd("INFO").arg("everything"))
            .await?;
        // A cluster gives one text for each node; they are of one kind.
        let text = match reply {
            Value::Map(nodes) => nodes
                .into_iter()
                .next()
                .map_or(Ok(String::new()), |(_, text)| read(text))?,
            text => read(text)?,
        };
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Ok(lines
            .map(|(name, value)| (name.into(), value.into()))
            .collect())
    }

    async fn check_shards(&self) -> Result<(), Error> {
        let ours = self.settings.shards;
        let mut set = redis::cmd("HSETNX");
        set.arg(self.keys.meta()).arg("shards").arg(ours);
        self.link.query(&set).await?;
        let mut get = redis::cmd("HGET");
        get.arg(self.keys.meta()).arg("shards");
        let theirs: u16 = read(self.link.query(&get).await?)?;
        if theirs == ours {
            return Ok(());
        }
        Err(Error::Server(format!(
            "this installation has {theirs} shards, not {ours}: start with {theirs}, or use another prefix"
        )))
    }
}

/// Major and minor.
fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
