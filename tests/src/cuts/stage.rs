//! What all parts of a run share.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use story::{Policies, StoryId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cuts::hang::Tides;
use crate::edge::{Issuer, Person};

pub(super) struct Stage {
    pub(super) seed: u64,
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) stories: Vec<Board>,
    /// Cuts that are still to be made.
    cuts: AtomicI64,
    pub(super) tides: Tides,
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
    /// The last event that a reader saw.
    seen: AtomicU64,
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
            seen: AtomicU64::new(0),
        };
        Self {
            seed,
            nodes,
            stories: stories.iter().map(board).collect(),
            cuts: AtomicI64::new(cuts.into()),
            tides: Tides::new(),
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

impl Board {
    /// A reader has all up to here.
    pub(super) fn see(&self, seq: u64) {
        self.seen.fetch_max(seq, Ordering::Relaxed);
    }

    /// The last event that any reader saw.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}
