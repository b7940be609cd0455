//! What the user of the connection may do. Redis denies a command only when it is reached, in the middle of a script too,
//! and what the script did before then stands: an event would be logged and in no lane, or answered and answered again.
//! So whoever runs scripts asks first.

use crate::admission::{ADMIT, SETTLE};
use crate::breaker::BREAKER;
use crate::dead::REDRIVE;
use crate::draft::{DRAFT, PAID, RESET};
use crate::lanes::{READMIT, REPAIR};
use crate::presence::{HERE, WHO};
use crate::reply::read;
use crate::retention::TRIM;
use crate::revocations::REVOKE;
use crate::script::{
    BURY, COMMIT, JANITOR, PUBLISH, QUEUE, RECLAIM, RELEASE, RENEW, STORY, Script,
};
use crate::stage::ADOPT;
use crate::{Bus, Error, ServerReport};

static RIGHTS: Script = Script::new(include_str!("../scripts/rights.lua"));

/// Who runs scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Publishes what people do.
    Producer,
    /// Answers it.
    Worker,
    /// Keeps its calls to models within limits.
    Caller,
    /// Serves readers and publishes what they do, makes and changes stories, says who is there and what is revoked.
    Gateway,
    /// Makes and changes stories.
    Author,
    /// Sends again what failed, repairs, and removes what is old.
    Operator,
}

impl Role {
    /// Those of its scripts, without those whose failure a script bears, and those that it sends itself. `waits` for
    /// replicas.
    fn commands(self, waits: bool) -> Vec<String> {
        let scripts: &[&Script] = match self {
            Self::Author => &[&STORY],
            Self::Caller => &[&ADMIT, &SETTLE],
            Self::Gateway => &[&PUBLISH, &STORY, &REVOKE, &HERE, &WHO],
            Self::Operator => &[&REDRIVE, &REPAIR, &READMIT, &TRIM, &ADOPT],
            Self::Producer => &[&PUBLISH],
            Self::Worker => &[
                &BREAKER, &COMMIT, &BURY, &RENEW, &RELEASE, &RECLAIM, &JANITOR, &DRAFT, &RESET,
                &QUEUE, &PAID,
            ],
        };
        let mut commands: Vec<_> = scripts.iter().flat_map(|each| each.commands()).collect();
        let more: &[&str] = match self {
            Self::Worker => &[
                "HGETALL",
                "HSETNX",
                "INFO",
                "PEXPIRE",
                "SPUBLISH",
                "XGROUP|CREATE",
                "XGROUP|DELCONSUMER",
                "XINFO|CONSUMERS",
                "XLEN",
                "XREADGROUP",
                "XREVRANGE",
                "XTRIM",
            ],
            Self::Gateway => &[
                "GETDEL",
                "HGETALL",
                "HSCAN",
                "LRANGE",
                "SET",
                "SPUBLISH",
                "SSUBSCRIBE",
                "SUNSUBSCRIBE",
                "XRANGE",
            ],
            Self::Operator => &["XADD", "XRANGE", "ZADD"],
            Self::Producer | Self::Author | Self::Caller => &[],
        };
        commands.extend(more.iter().copied().map(str::to_owned));
        if waits {
            commands.extend(["SET", "WAIT"].map(str::to_owned));
        }
        commands.sort_unstable();
        commands.dedup();
        commands
    }
}

impl Bus {
    /// Whether the server is fit for the fleet, and its user for the role.
    ///
    /// # Errors
    /// As of [`Bus::check_server`] and [`Bus::check_rights`]. Where the user is denied what the server is asked with, all that
    /// it is denied is named.
    pub async fn check(&self, role: Role) -> Result<ServerReport, Error> {
        // First: a server that is too old cannot say what is denied.
        let report = match self.check_server().await {
            Err(denied @ Error::Denied(_)) => return Err(self.all_denied(denied, role).await),
            checked => checked?,
        };
        self.check_rights(role).await?;
        Ok(report)
    }

    /// In the place of one denial all of them, where the user may ask for them: who is not let in may not.
    pub async fn all_denied(&self, denied: Error, role: Role) -> Error {
        match self.check_rights(role).await {
            Err(named @ Error::Server(_)) => named,
            _ => denied,
        }
    }

    /// Whether the user may run every command of the role's scripts.
    ///
    /// # Errors
    /// [`Error::Server`] names those that are denied; or Redis was not reached.
    pub async fn check_rights(&self, role: Role) -> Result<(), Error> {
        let mut denied: Vec<String> = Vec::new();
        // One that nobody serves would not answer, and has the same users as the others.
        self.coverage.look().await;
        for shard in self.coverage.shards().await {
            let mut call = RIGHTS.call();
            call.key(self.keys.probe(shard));
            for command in role.commands(self.settings.wait_replicas > 0) {
                call.arg(command);
            }
            denied.extend(read::<Vec<String>>(
                call.run_until_answered(&self.link).await?,
            )?);
        }
        if denied.is_empty() {
            return Ok(());
        }
        denied.sort_unstable();
        denied.dedup();
        Err(Error::Server(format!(
            "Redis denies this user {} on keys and channels like {}, which the fleet needs: allow it in the user's ACL rules",
            denied.join(", "),
            self.keys.probe(0)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What the client says beside, of whatever form Redis is.
    const CLIENT: [&str; 10] = [
        "ASKING",
        "CLUSTER|INFO",
        "CLUSTER|NODES",
        "CLUSTER|SLOTS",
        "HELLO",
        "PING",
        "READONLY",
        // Of who Sentinel says is the master.
        "ROLE",
        "SELECT",
        "WAIT",
    ];
    /// To look at all there is and to listen, to copy stories, to be the first on an empty Redis, and to take tokens back.
    const OPERATOR: [&str; 24] = [
        "CONFIG|GET",
        "EXEC",
        "HEXISTS",
        "HMGET",
        "HSCAN",
        "HSETNX",
        "INFO",
        "MULTI",
        // A runbook asks for it.
        "SLOWLOG|GET",
        "SMEMBERS",
        "SPUBLISH",
        "SSUBSCRIBE",
        "SUNSUBSCRIBE",
        "TYPE",
        "XGROUP|CREATE",
        "XINFO|CONSUMERS",
        "XINFO|GROUPS",
        "XINFO|STREAM",
        "XPENDING",
        "XREVRANGE",
        "ZMSCORE",
        "ZRANGE",
        "ZRANGEBYSCORE",
        "ZREM",
    ];
    /// Scripts run in.
    const SCRIPTS: [&str; 2] = ["EVAL", "EVALSHA"];

    /// The commands of a user of deploy/redis/users.acl, with which of several in one.
    fn allowed(user: &str) -> BTreeSet<String> {
        let rules = include_str!("../../../deploy/redis/users.acl");
        let start = format!("user {user} on ");
        let line = rules.lines().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("{start}"));
        let (_, commands) = line.split_once(" -@all ").expect("no command by default");
        let name = |word: &str| {
            let name = word.strip_prefix('+').unwrap_or_else(|| panic!("{word}"));
            name.to_uppercase()
        };
        commands.split(' ').map(name).collect()
    }

    fn needed(roles: &[Role], more: &[&str]) -> BTreeSet<String> {
        let scripts = roles.iter().flat_map(|role| role.commands(false));
        let more = CLIENT.iter().chain(&SCRIPTS).chain(more);
        scripts.chain(more.copied().map(str::to_owned)).collect()
    }

    #[test]
    fn each_user_of_the_acl_file_may_what_its_role_needs_and_no_more() {
        for (user, roles, more) in [
            (
                "agent",
                &[Role::Worker, Role::Caller][..],
                &["HSETNX", "INFO", "PTTL", "SPUBLISH", "TYPE"][..],
            ),
            ("gateway", &[Role::Gateway], &["HSETNX", "INFO", "TYPE"]),
            ("producer", &[Role::Producer], &["SPUBLISH"]),
            (
                "operator",
                &[Role::Operator, Role::Author, Role::Producer],
                &OPERATOR,
            ),
        ] {
            let (allowed, needed) = (allowed(user), needed(roles, more));
            let missing: Vec<_> = needed.difference(&allowed).collect();
            let idle: Vec<_> = allowed.difference(&needed).collect();
            assert!(
                missing.is_empty() && idle.is_empty(),
                "{user}: missing {missing:?}, idle {idle:?}"
            );
        }
    }
}
