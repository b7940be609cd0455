//! What all parts of a run share.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use story::{Policies, StoryId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::edge::{Issuer, Person};

pub(super) struct Stage {
    pub(super) seed: u64,
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) stories: Vec<Board>,
    /// Cuts that are still to be made.
    cuts: AtomicI64,
    /// How often Redis came or went.
    pub(super) tides: AtomicU64,
    /// Deltas that readers were given.
    pub(super) deltas: watch::Sender<u64>,
    /// Nobody does anything new any more.
    pub(super) calm: CancellationToken,
    /// The ends of the logs, once they are known.
    pub(super) ends: watch::Sender<Option<Vec<u64>>>,
    issuer: Issuer,
}

/// A story.
pub(super) struct Board {
    pub(super) id: StoryId,
    /// The actions whose end a reader saw.
    pub(super) ended: watch::Sender<HashSet<String>>,
}

impl Stage {
    pub(super) fn new(
        seed: u64,
        cuts: u32,
        nodes: Vec<SocketAddr>,
        (stories, issuer): (&[(StoryId, Policies)], Issuer),
    ) -> Self {
        let board = |(id, _): &(StoryId, Policies)| Board {
            id: id.clone(),
            ended: watch::Sender::default(),
        };
        Self {
            seed,
            nodes,
            stories: stories.iter().map(board).collect(),
            cuts: AtomicI64::new(cuts.into()),
            tides: AtomicU64::new(0),
            deltas: watch::Sender::new(0),
            calm: CancellationToken::new(),
            ends: watch::Sender::new(None),
            issuer,
        }
    }

    /// Somebody who may write everywhere.
    pub(super) fn token(&self, sub: &str) -> anyhow::Result<String> {
        let person = Person::new(sub, &[("*", gateway::auth::Role::Author)]);
        self.issuer.token(&person)
    }

    /// Whether one more cut is to be made.
    pub(super) fn may_cut(&self) -> bool {
        self.cuts.fetch_sub(1, Ordering::Relaxed) > 0
    }

    pub(super) fn cuts_left(&self) -> u64 {
        let left = self.cuts.load(Ordering::Relaxed);
        u64::try_from(left).unwrap_or(0)
    }
}
