//! Keeps one room: says in Redis who of it is at this node, hears who is at others, and tells its readers. However many
//! come and go, that is one write and one message a second. Where Redis is away what readers know is old, and no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::{Error, Here, Hint, backoff};
use tokio::time::{Instant, sleep_until, timeout};

use crate::hub::aside::Notice;
use crate::hub::pace::{PACE, Pace};
use crate::hub::room::{Room, Rooms, Typist};

/// How long Redis counts this node's people in after it last heard of them.
const LIVES: Duration = Duration::from_secs(30);
/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(5);
/// What a farewell to Redis may take when the node ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// People who are remembered to have typed a moment ago.
const TYPISTS: usize = 256;

pub(super) struct Host {
    rooms: Arc<Rooms>,
    room: Arc<Room>,
    hints: bus::Room,
    /// Saying who is here.
    write: Pace,
    /// Asking who is here, and telling it.
    read: Pace,
    /// When it is said again, so that it goes on to count.
    again: Instant,
    /// When the room is listened to again after Redis refused.
    deaf: Option<Instant>,
    /// Until when nobody is told that they type, since that was just done.
    quiet: HashMap<String, Instant>,
    failures: u32,
    /// It was said that people are here, perhaps.
    is_listed: bool,
}

impl Host {
    pub(super) fn new(rooms: Arc<Rooms>, room: Arc<Room>) -> Self {
        Self {
            hints: rooms.feeds.room(&room.story),
            rooms,
            room,
            write: Pace::wanted(),
            read: Pace::default(),
            again: Instant::now() + LIVES,
            deaf: None,
            quiet: HashMap::new(),
            failures: 0,
            is_listed: false,
        }
    }

    /// Until nobody is in it.
    pub(super) async fn run(mut self) {
        let end = self.rooms.end.clone();
        while let Some(true) = end.run_until_cancelled(self.step()).await {}
        if self.is_listed {
            // If it does not get through, it is over by itself.
            let left = self.rooms.bus.leave(&self.room.story, &self.rooms.node);
            let _is_late = timeout(FAREWELL, left).await;
        }
    }

    /// Whether it goes on.
    async fn step(&mut self) -> bool {
        // What is to be written, perhaps again after a failure, has a time of its own.
        let writes = self.write.due().unwrap_or(self.again);
        let dues = [self.read.due(), self.deaf];
        let wake = dues.into_iter().flatten().fold(writes, Instant::min);
        tokio::select! {
            () = self.room.changed.notified() => self.look().await,
            hint = self.hints.next(), if self.deaf.is_none() => self.hear(hint),
            () = sleep_until(wake) => {
                self.deaf = self.deaf.filter(|deaf| *deaf > Instant::now());
                if self.again <= Instant::now() {
                    self.write.want();
                }
                if self.write.take() && !self.write().await {
                    return false;
                }
                if self.read.take() {
                    self.read().await;
                }
            }
        }
        true
    }

    async fn look(&mut self) {
        if self.room.is_new() {
            self.write.want();
        }
        for typist in self.room.typing() {
            let json = serde_json::to_vec(&typist)
                .unwrap_or_else(|error| unreachable!("a person is always JSON: {error}"));
            let told = self.rooms.bus.hint(&self.room.story, &json).await;
            if self.has_failed(told).is_none() {
                return;
            }
        }
    }

    fn hear(&mut self, hint: Result<Hint, Error>) {
        match hint {
            Ok(Hint::People) => self.read.want(),
            Ok(Hint::Json(json)) => {
                if let Some(Typist { sub, name }) = typist(&json)
                    && self.is_news(&sub)
                {
                    let notice = Notice::typing(&self.room.story, &sub, &name);
                    self.room.tell(notice);
                }
            }
            refused => {
                self.deaf = Some(Instant::now() + LONGEST);
                self.has_failed(refused);
            }
        }
    }

    /// Whoever says it again and again is passed on once a moment.
    fn is_news(&mut self, sub: &str) -> bool {
        let now = Instant::now();
        self.quiet.retain(|_, until| *until > now);
        if self.quiet.contains_key(sub) || self.quiet.len() == TYPISTS {
            return false;
        }
        self.quiet.insert(sub.to_owned(), now + PACE);
        true
    }

    /// Says who is here; whether anybody is.
    async fn write(&mut self) -> bool {
        let people = self.room.people();
        if people.is_empty() && !self.is_listed {
            return !self.rooms.let_go(&self.room);
        }
        self.is_listed = true;
        self.again = Instant::now() + LIVES.mul_f64(rand::random_range(0.3..0.4));
        let (story, node) = (&self.room.story, &self.rooms.node);
        let said = self.rooms.bus.be_here(story, node, &people, LIVES).await;
        self.rooms.metrics.presence("write");
        match self.has_failed(said) {
            Some(_) => self.is_listed = !people.is_empty(),
            // What is not said is over by itself.
            None if people.is_empty() => self.is_listed = false,
            None => self.write.again(backoff(self.failures, LONGEST)),
        }
        !(people.is_empty() && self.rooms.let_go(&self.room))
    }

    async fn read(&mut self) {
        let here = self.rooms.bus.who_is_here(&self.room.story).await;
        self.rooms.metrics.presence("read");
        match self.has_failed(here) {
            Some(here) => {
                if self.is_listed && !self.is_in(&here) {
                    self.write.want();
                }
                let notice = Notice::presence(&self.room.story, &here);
                if self.room.tell_people(notice) {
                    self.rooms.metrics.presence("told");
                }
            }
            None => self.read.again(backoff(self.failures, LONGEST)),
        }
    }

    /// Redis may have lost all: then nobody of this node is in it.
    fn is_in(&self, here: &Here) -> bool {
        let known = |sub: Arc<str>| here.people.iter().any(|one| *one.sub == *sub);
        self.room.first().is_none_or(known)
    }

    /// Nothing where it has. Of all rooms of the node together it is logged once.
    fn has_failed<T>(&mut self, reply: Result<T, Error>) -> Option<T> {
        match reply {
            Ok(reply) => {
                self.failures = 0;
                if self.rooms.is_lost.swap(false, Ordering::Relaxed) {
                    tracing::info!("who is in a story is known again");
                }
                Some(reply)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if !self.rooms.is_lost.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "who is in a story is not known");
                }
                None
            }
        }
    }
}

/// What a node said of one of its people: no token has a longer id or name.
fn typist(json: &[u8]) -> Option<Typist> {
    let typist: Typist = serde_json::from_slice(json).ok()?;
    let is_id = (1..=story::MAX_USER_BYTES).contains(&typist.sub.len());
    let is_name = (1..=story::MAX_NAME).contains(&typist.name.chars().count());
    (is_id && is_name).then_some(typist)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_that_no_node_would_give_is_none() {
        let good = typist(br#"{"sub":"mira","name":"Mira","later":1}"#);
        assert_eq!(good.map(|typist| typist.name), Some("Mira".to_owned()));
        let long = format!(r#"{{"sub":"{}","name":"Mira"}}"#, "x".repeat(65));
        let wide = format!(r#"{{"sub":"mira","name":"{}"}}"#, "é".repeat(65));
        for bad in [
            "",
            "here",
            "7",
            "{}",
            r#"{"sub":"mira"}"#,
            r#"{"sub":"","name":"Mira"}"#,
            r#"{"sub":"mira","name":""}"#,
            r#"{"sub":7,"name":"Mira"}"#,
            &long,
            &wide,
        ] {
            assert_eq!(typist(bad.as_bytes()), None, "{bad}");
        }
    }
}
