//! What can go wrong between the bus and Redis, as a caller would act on it.

use story::StoryId;

use crate::coverage::{DOWN, UNSERVED};
use crate::encryption;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The settings are wrong: nothing will help but changing them.
    #[error("the Redis settings are wrong: {0}")]
    Settings(String),
    /// Redis was not reached, or did not answer in time. The next call reconnects; what was asked may have been done.
    // Not a source, as the next two: the client's error prints what it comes from, and a chain would say it twice.
    #[error("{}", away(.0))]
    Unreachable(redis::RedisError),
    /// It was sent, and no reply came: it may have been done or not, and may be asked for again without harm. Only who must
    /// tell somebody so is given this, with why there is none.
    #[error(transparent)]
    Unheard(Box<Error>),
    /// Redis does not let us in, or forbids a command. While a fleet runs an operator may be changing the password: only
    /// at a start is it final.
    #[error(
        "Redis denies access: check the user and the password in its URL, and the user's ACL rules: {0}"
    )]
    Denied(redis::RedisError),
    /// Redis answered with an error.
    #[error("{}", refusal(.0))]
    Refused(redis::RedisError),
    /// The server is not fit for the fleet; the text says what to do.
    #[error("{0}")]
    Server(String),
    /// An event that only agents make, or that nobody would answer.
    #[error(
        "only what a person does is published: an action with a user as its author, hop 0, no cause, and an audience of at most 256 ids of 64 bytes"
    )]
    NotPublishable,
    #[error("there is no story '{0}': create it first")]
    NoStory(StoryId),
    #[error("there is already a story '{0}': choose another id")]
    StoryExists(StoryId),
    /// Too many events of this story wait for one agent.
    #[error("the story '{0}' has too many unanswered events; try again later")]
    LaneFull(StoryId),
    #[error("the event has {0} bytes; at most {max} are accepted: shorten it", max = story::MAX_EVENT_BYTES)]
    TooLarge(usize),
    /// Something else that a caller gave is larger than is accepted; both are in bytes.
    #[error("{what} has {bytes} bytes; at most {max} are accepted: shorten it")]
    Oversized {
        what: &'static str,
        bytes: usize,
        max: usize,
    },
    /// A log that is put together has events where none can be.
    #[error("{0}")]
    Misplaced(String),
    /// The parked events that a commit consumes are not at the head of their lane.
    #[error("the events to consume are not next in their lane")]
    Moved,
    /// What is stored is not what this version writes.
    #[error("unexpected data in Redis: {0}")]
    Data(String),
}

impl Error {
    /// Sorts an error of the client: worth a reconnect, or an answer of the server.
    pub(crate) fn from_redis(error: redis::RedisError) -> Self {
        if let Some(mend) = misfit(&error) {
            Self::Settings(format!("{mend}: {error}"))
        } else if denied(&error) {
            Self::Denied(error)
        } else if lost(&error) {
            Self::Unreachable(error)
        } else {
            Self::Refused(error)
        }
    }

    /// Whether the same call may do later: Redis is away, or has no memory, no disk or no permission for anybody. What
    /// it says of this call alone (a key of the wrong type, a script that failed) does not pass.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Denied(_) => true,
            Self::Refused(_) => !matches!(self.code(), Some("ERR" | "WRONGTYPE")),
            Self::Unheard(error) => error.is_passing(),
            _ => false,
        }
    }

    /// Whether Redis was not reached, or did not answer in time.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Unheard(error) => error.is_away(),
            _ => false,
        }
    }

    /// Whether what was sent may have been done: what the server itself says it has not.
    pub(crate) fn is_unheard(&self) -> bool {
        matches!(self, Self::Unreachable(error) if error.code().is_none())
    }

    /// Whether it tells of what is stored at one place, whatever is elsewhere.
    #[must_use]
    pub fn is_of_the_data(&self) -> bool {
        match self {
            Self::Data(_) | Self::NoStory(_) => true,
            Self::Refused(_) => !self.is_passing(),
            _ => false,
        }
    }

    pub(crate) fn check_size(what: &'static str, bytes: usize, max: usize) -> Result<(), Self> {
        if bytes > max {
            return Err(Self::Oversized { what, bytes, max });
        }
        Ok(())
    }

    pub(crate) fn data(what: impl Into<String>) -> Self {
        Self::Data(what.into())
    }

    /// The first word of the server's error: `NOGROUP`, `NOSCRIPT` …
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(error) | Self::Denied(error) | Self::Unreachable(error) => error.code(),
            Self::Unheard(error) => error.code(),
            _ => None,
        }
    }

    /// Whether Redis is there and answers, and takes nothing new from anybody: what was asked was not done.
    #[must_use]
    pub fn refuses_writes(&self) -> bool {
        matches!(
            self.code(),
            Some("OOM" | "MISCONF" | "NOREPLICAS" | "READONLY")
        )
    }

    /// Whether the same call ends the same: what it names is not there, or is already, or what it gives is too much or has no
    /// place.
    #[must_use]
    pub fn is_of_the_call(&self) -> bool {
        matches!(
            self,
            Self::NotPublishable
                | Self::NoStory(_)
                | Self::StoryExists(_)
                | Self::TooLarge(_)
                | Self::Oversized { .. }
                | Self::Misplaced(_)
        )
    }

    /// Whether nothing will help but changing the settings, of ours or of the server.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Settings(_) | Self::Server(_) | Self::Denied(_) => true,
            Self::Unheard(error) => error.is_configuration(),
            _ => false,
        }
    }
}

/// Why nothing can be done there now.
fn away(error: &redis::RedisError) -> String {
    match error.code() {
        Some("READONLY") => {
            "this Redis is a replica and takes no writes: give the URL of its master".to_owned()
        }
        Some("MASTERDOWN") => {
            "this Redis is a replica that has lost its master: give the URL of the master"
                .to_owned()
        }
        Some("CLUSTERDOWN") => format!(
            "this Redis Cluster does not serve: a slot has no master; bring one of its nodes back (CLUSTER INFO tells): {error}"
        ),
        Some("LOADING") => "Redis is loading its data: it can be used when that is done".to_owned(),
        _ if error.to_string().contains(DOWN) => format!(
            "this Redis Cluster does not serve: bring a master or a replica of the slots that are missing back (CLUSTER NODES tells), or set cluster-require-full-coverage no, so that the others serve: {error}"
        ),
        _ if error.to_string().contains(UNSERVED) => format!(
            "this Redis Cluster does not serve what is asked for: bring a master or a replica of the slots that are missing back (CLUSTER NODES tells); stories in other slots go on unless cluster-require-full-coverage is yes: {error}"
        ),
        _ => encryption::fault(error).unwrap_or_else(|| {
            format!("Redis is not reachable (is its URL right, with rediss:// for TLS, and is it up?): {error}")
        }),
    }
}

/// What to do about a refusal, where it is known.
fn refusal(error: &redis::RedisError) -> String {
    match error.code() {
        Some("MISCONF") => "Redis cannot write to its disk and refuses every change until it can: free space there, or \
mend its folder; its own log says what failed"
            .to_owned(),
        Some("NOREPLICAS") => "Redis has fewer replicas at hand than its min-replicas-to-write and refuses every change: \
bring them back, or lower that"
            .to_owned(),
        Some("OOM") => "Redis has no memory left and refuses what adds to it: raise its maxmemory".to_owned(),
        // A script's own name and line tell nobody anything.
        Some("WRONGTYPE") => "a key holds a value of another type (WRONGTYPE), which another program put there: `storyfleet doctor` names it, and what to do"
            .to_owned(),
        _ => format!("Redis refused: {error}"),
    }
}

/// The client's words when the URL's database was refused: of the server's it keeps no code. There is no connection then.
const NO_DATABASE: &str = "refused to switch database";

/// What is wrong with the URL, when what answers there is not what it says. The client has no code for most of them.
fn misfit(error: &redis::RedisError) -> Option<&'static str> {
    let text = error.to_string();
    if error.kind() == redis::ErrorKind::InvalidClientConfig {
        Some(
            "the URL does not fit what answers there, for a Redis without sentinels it begins with redis://",
        )
    } else if text.contains(NO_DATABASE) && text.contains(" out of range") {
        Some("the URL ends with a database that this Redis does not have, use /0")
    } else if text.contains("not allowed in cluster mode") {
        Some("this Redis is a cluster, its URL begins with redis+cluster:// and names no database")
    } else if text.contains("cluster support disabled") {
        Some("this Redis is no cluster, its URL begins with redis://")
    } else {
        None
    }
}

fn denied(error: &redis::RedisError) -> bool {
    let denies_database = |text: &str| {
        text.contains("Authentication required") || text.contains("has no permissions")
    };
    error.kind() == redis::ErrorKind::AuthenticationFailed
        || error.detail().is_some_and(denies_database)
        || matches!(
            error.code(),
            Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED")
        )
}

/// The connection is of no more use: dropped, timed out, or it leads to a server that may not write any more.
fn lost(error: &redis::RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || [NO_DATABASE, "max number of clients reached"]
            .iter()
            .any(|words| error.to_string().contains(words))
        || matches!(
            error.code(),
            Some("READONLY" | "MASTERDOWN" | "LOADING" | "CLUSTERDOWN")
        )
        || matches!(
            error.kind(),
            redis::ErrorKind::ClusterConnectionNotFound
                | redis::ErrorKind::MasterNameNotFoundBySentinel
        )
}
