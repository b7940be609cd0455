//! What `top` shows, and writes with `--json`: times in milliseconds unless their names say seconds.

use jiff::Timestamp;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct State {
    pub(crate) time: Timestamp,
    pub(crate) redis: String,
    /// Redis tells nothing: all below is what was seen last.
    pub(crate) away: Option<Away>,
    pub(crate) servers: Vec<Server>,
    pub(crate) agents: Vec<Row>,
    /// Of each agent and shard, where there are several shards.
    pub(crate) shards: Vec<ShardRow>,
    pub(crate) workers: Vec<Worker>,
    /// Absent unless a page of a gateway answers.
    pub(crate) readers: Option<Readers>,
    pub(crate) pages: usize,
    pub(crate) notes: Vec<Note>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Away {
    pub(crate) since: Timestamp,
    pub(crate) seconds: u64,
    /// It answers, and refuses.
    pub(crate) reachable: bool,
    pub(crate) why: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Server {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) address: String,
    pub(crate) software: &'static str,
    pub(crate) version: String,
    pub(crate) role: String,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) commands_per_s: u64,
    pub(crate) clients: u64,
    pub(crate) replicas: u64,
    pub(crate) behind_bytes: Option<u64>,
    pub(crate) master_link: Option<bool>,
    pub(crate) disk_failed: bool,
}

/// One agent, in all shards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) agent: &'static str,
    /// Turns that ended in the last ten seconds; `None` until there were two looks.
    pub(crate) answered_per_s: Option<f64>,
    pub(crate) failed_per_s: Option<f64>,
    /// Of the last minute, from pages of metrics.
    pub(crate) turn_p50_s: Option<f64>,
    pub(crate) turn_p99_s: Option<f64>,
    pub(crate) first_words_p50_s: Option<f64>,
    pub(crate) waiting: u64,
    pub(crate) in_flight: u64,
    pub(crate) parked: u64,
    /// Else there may be more.
    pub(crate) parked_is_all: bool,
    pub(crate) oldest_ms: Option<u64>,
    pub(crate) dead: u64,
    /// Those that were heard of in the last seconds; `None` where nothing is to do and Redis does not tell of idle ones, or
    /// where it has just begun or is back, and none was heard of since.
    pub(crate) workers: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ShardRow {
    pub(crate) agent: &'static str,
    pub(crate) shard: u16,
    pub(crate) waiting: u64,
    pub(crate) in_flight: u64,
    pub(crate) parked: u64,
    pub(crate) parked_is_all: bool,
    pub(crate) oldest_ms: Option<u64>,
    pub(crate) dead: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Worker {
    pub(crate) agent: &'static str,
    pub(crate) worker: String,
    pub(crate) in_flight: u64,
    /// Since it was given anything; Redis before 7.2 does not tell.
    pub(crate) quiet_ms: Option<u64>,
    pub(crate) seen_ms: u64,
    /// `None`: nobody can tell. It is idle or gone, and Redis is older than 7.2, or it is unheard.
    pub(crate) alive: Option<bool>,
    /// Redis has just begun, or is back, and it did not ask since.
    pub(crate) unheard: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Readers {
    pub(crate) gateways: u64,
    pub(crate) websocket: u64,
    pub(crate) sse: u64,
}

/// Something to know, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Note {
    pub(crate) level: Level,
    pub(crate) text: String,
}

/// How much it matters, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Somebody is not answered.
    Bad,
    /// Somebody may not be.
    Warning,
    /// Why it is as it is.
    Info,
}
