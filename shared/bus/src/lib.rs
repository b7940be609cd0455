//! The only crate that knows Redis. An event's way: `publish` puts it into the log and admits it to the lane of its
//! agent; a `Reader` hands it to one worker; `commit` applies everything the worker made of it, or nothing.
//!
//! The protocol is in `scripts/*.lua`: each script's head says what it takes, gives and keeps true. This crate decides
//! nothing about stories (`story` does) and calls no model (`llm` does).

mod admission;
mod audit;
mod bare;
mod batch;
mod breaker;
mod channel;
mod clock;
mod cluster;
mod connect;
mod consumers;
mod context;
mod coverage;
mod cut;
mod dead;
mod digest;
mod doctor;
mod draft;
mod encryption;
mod error;
mod feeds;
mod fields;
mod files;
mod fleet;
mod keys;
mod lane;
mod lanes;
mod lease;
mod letters;
mod link;
mod live;
mod log;
mod mistyped;
mod nodes;
mod presence;
mod queue;
mod reader;
mod recordings;
mod replicas;
mod reply;
mod retention;
mod retract;
mod revocations;
mod rights;
mod room;
mod script;
mod sent;
mod server;
mod settings;
mod stage;
mod stories;
mod subscriber;
mod tickets;
mod view;
mod watch;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use connect::Topology;
use coverage::Coverage;
use keys::Keys;
use link::Link;
use replicas::Replicas;

pub use admission::{Admitted, Ask, Budget, Limits, Unit, Used};
pub use audit::{Audit, Unreadable};
pub use bare::{Bare, Progress, Tail};
pub use breaker::{Fared, Health, Open, State, Wanted};
pub use context::Fetched;
pub use coverage::Unserved;
pub use cut::{Cut, Hole};
pub use dead::DeadLetter;
pub use doctor::Finding;
pub use draft::{Draft, DraftChunk, Drafted};
pub use encryption::Encryption;
pub use error::Error;
pub use feeds::Feeds;
pub use fleet::{Backlog, Fleet, Parked, ServerLoad, Worker};
pub use lane::{Burial, Commit, Committed, Emit, Published};
pub use lease::{Lost, Unrenewed, by_shard, grace};
pub use link::backoff;
pub use log::MAX_PLACE;
pub use presence::{Here, MAX_PEOPLE_LISTED, Person};
pub use queue::Queue;
pub use reader::Reader;
pub use recordings::{Keep, Kept, Recording};
pub use replicas::Replicated;
pub use retention::Retention;
pub use revocations::{MAX_ID_BYTES, Revocation, Revocations, Revoked};
pub use rights::Role;
pub use room::{Hint, MAX_HINT_BYTES, Room};
pub use server::{Identity, ServerReport};
pub use settings::Settings;
pub use stage::Stage;
pub use stories::{MAX_STORY_BYTES, MAX_TITLE_BYTES, Made, NewStory, Story, StoryPatch};
pub use view::Seen;
pub use watch::Watch;
pub use work::{Delivery, LeaseId, Malformed, Work};

/// The way to Redis. Cheap to clone; all clones share their connections, each of which is opened when it is
/// first used: one for leases, one for metrics, one for the rest, one more where replicas are waited for, and one more to a cluster.
#[derive(Clone)]
pub struct Bus {
    settings: Settings,
    topology: Topology,
    keys: Keys,
    link: Link,
    /// For what must not be lost once it is said to be done. The same where no replicas are waited for.
    writing: Link,
    /// For leases alone: what is slow elsewhere must not let them run out.
    renewing: Link,
    /// For metrics alone: a connection that lost a master is held up by each question for it, and no turn is to wait for that.
    counting: Link,
    /// What is asked in many shards is asked in those that are served.
    coverage: Coverage,
    /// Writes that are not known to be on as many replicas as asked for.
    unreplicated: Arc<AtomicU64>,
}

impl Bus {
    /// Reads the files of TLS, if there are any, and asks nobody: the first call connects, and later ones reconnect by
    /// themselves.
    ///
    /// # Errors
    /// [`Error::Settings`] when the URL, a file, the prefix or the number of shards cannot be used.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let topology = Topology::new(&settings.url, &settings.encryption)?;
        let keys = Keys::new(&settings.prefix, settings.shards)?;
        let link = || Link::new(topology.clone(), &settings, settings.timeout);
        let (link, renewing) = (link(), link());
        let unreplicated = Arc::new(AtomicU64::new(0));
        let writing = match settings.wait_replicas {
            0 => link.clone(),
            wanted => {
                let waits = (wanted, settings.timeout / 4);
                let is_cluster = topology.is_cluster();
                let replicas = Replicas::new(waits, is_cluster, Arc::clone(&unreplicated));
                link.replicating(replicas)
            }
        };
        let counting = link.apart(settings.timeout);
        let coverage = match topology.is_cluster() {
            true => Coverage::of_cluster(keys.clone(), &link, settings.timeout),
            false => Coverage::whole(keys.clone()),
        };
        Ok(Self {
            settings,
            topology,
            coverage,
            keys,
            link,
            writing,
            renewing,
            counting,
            unreplicated,
        })
    }

    /// How many writes were done that are not known to be on as many replicas as were waited for.
    #[must_use]
    pub fn unreplicated(&self) -> u64 {
        self.unreplicated.load(Ordering::Relaxed)
    }

    /// What of a cluster was out of reach when it was last looked at: whoever gets no answer looks, and [`Bus::look_for_slots`].
    #[must_use]
    pub fn unserved(&self) -> Option<Unserved> {
        self.coverage.unserved()
    }

    /// Whether nobody served the shard of a cluster when it was last looked at, while others were served.
    #[must_use]
    pub fn leaves_out(&self, shard: u16) -> bool {
        self.coverage.leaves_out(shard)
    }

    /// Looks who serves what of a cluster, for [`Bus::unserved`].
    pub async fn look_for_slots(&self) {
        self.coverage.look().await;
    }

    /// Where it is to be found; may have a password in it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.settings.url
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bus").field(&self.settings).finish()
    }
}
