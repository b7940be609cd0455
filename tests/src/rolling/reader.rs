//! A reader on SSE who goes from a node of one build to a node of the other and back, each time with nothing but the last
//! cursor.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use story::StoryId;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cuts::screen::Screen;
use crate::edge::Stream;
use crate::wait::DEADLINE;

/// A reader leaves after so many frames.
const STAY: u64 = 60;

/// What a reader has at the end.
pub(super) struct Sight {
    pub(super) story: StoryId,
    pub(super) screen: Screen,
    /// How often one came with a cursor of the other build's node.
    pub(super) returns: u64,
}

/// Reads until it has the last event of its story, which `ends` tells when there will be no more.
pub(super) async fn read(
    nodes: [SocketAddr; 2],
    token: String,
    story: StoryId,
    mut ends: watch::Receiver<Option<u64>>,
) -> anyhow::Result<Sight> {
    let mut sight = Sight {
        story,
        screen: Screen::default(),
        returns: 0,
    };
    for stay in 0_u64.. {
        let node = nodes[usize::from(!stay.is_multiple_of(2))];
        let cursor = sight.screen.cursor.clone();
        sight.returns += u64::from(cursor.is_some());
        let stream = Stream::open(node, sight.story.as_str(), &token, cursor.as_deref()).await?;
        ensure!(stream.head.starts_with("http/1.1 200"), "{}", stream.head);
        if sight.stay(stream, stay, &mut ends).await? {
            break;
        }
    }
    Ok(sight)
}

impl Sight {
    /// Until it is time to go; whether all has been seen.
    async fn stay(
        &mut self,
        mut stream: Stream,
        stay: u64,
        ends: &mut watch::Receiver<Option<u64>>,
    ) -> anyhow::Result<bool> {
        let mut frames = 0;
        loop {
            let end = *ends.borrow_and_update();
            if end.is_some_and(|end| self.screen.seq.unwrap_or_default() >= end) {
                return Ok(true);
            }
            // A stay that ends in a draft: the next node has the rest of it.
            if end.is_none() && frames >= STAY {
                return Ok(false);
            }
            let sent = tokio::select! {
                sent = timeout(DEADLINE, stream.next()) => sent,
                changed = ends.changed() => {
                    changed?;
                    continue;
                }
            };
            let seq = self.screen.seq;
            let sent = sent.with_context(|| format!("{} is at {seq:?} of {end:?}", self.story))?;
            let sent = sent?.context("a node ended a stream by itself")?;
            self.screen.take(&sent.data, stay);
            frames += 1;
        }
    }
}
