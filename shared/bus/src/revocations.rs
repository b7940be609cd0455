//! Tokens that count no more, for all nodes: a set in Redis, and a channel on which each addition is told at once. The
//! channel alone would lose what is said while a node is away, so a listener reads the set whenever it may have missed
//! something.

use std::collections::{HashMap, VecDeque};

use futures::future::BoxFuture;

use crate::channel::{Channel, Heard};
use crate::feeds::Feeds;
use crate::replicas::Replicated;
use crate::reply::{Fields, read};
use crate::script::Script;
use crate::{Bus, Error};

pub(crate) static REVOKE: Script = Script::new(include_str!("../scripts/revoke.lua"));

/// What the id of a token or of a user may have, in bytes.
pub const MAX_ID_BYTES: usize = 256;
/// Two numbers and a name.
const MAX_MESSAGE_BYTES: usize = MAX_ID_BYTES + 64;
/// The largest number that Lua keeps exactly.
const LAST_SECOND: u64 = 1 << 53;
/// Revocations in one read.
const PAGE: u64 = 500;
/// Revocations that are over and are removed with one that is new.
const REMOVED_AT_ONCE: u64 = 100;

/// Which tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// The one with this `jti`.
    Token(String),
    /// All of this `sub`.
    User(String),
}

/// These tokens count no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub what: Revoked,
    /// Only those that were issued up to then, in unix seconds.
    pub at: u64,
    /// All of them have expired by then, in unix seconds. It is forgotten a while later.
    pub until: u64,
}

/// Hears of every revocation, those from before it began too.
pub struct Revocations {
    channel: Channel,
    /// What was begun; it outlives a dropped `next`.
    reading: Option<BoxFuture<'static, Result<Vec<Revocation>, Error>>>,
    /// What the set had and what was told since: `at` and `until`.
    known: HashMap<Revoked, (u64, u64)>,
    due: VecDeque<Revocation>,
    /// Nothing was missed since the set was read.
    is_whole: bool,
    /// That it has caught up was told, and the set was not read since.
    was_caught_up: bool,
    /// Reads that failed since one did not.
    failures: u32,
}

impl Bus {
    /// Tokens that were issued up to `at` count no more; all of them have expired by `until` (both unix seconds). Every
    /// listener hears of it at once. Where the same is revoked already, the later `at` and the later `until` count. May be
    /// repeated. Removes some of those that are over.
    ///
    /// # Errors
    /// [`Error::Oversized`] when the id has more than 256 bytes; or Redis was not reached or refuses.
    pub async fn revoke(&self, what: &Revoked, at: u64, until: u64) -> Result<Revocation, Error> {
        let (revocation, _) = self.revoke_replicated(what, at, until).await?;
        Ok(revocation)
    }

    /// The same; tells also whether replicas have it.
    ///
    /// # Errors
    /// Those of [`Bus::revoke`].
    pub async fn revoke_replicated(
        &self,
        what: &Revoked,
        at: u64,
        until: u64,
    ) -> Result<(Revocation, Replicated), Error> {
        Error::check_size("the id of what is revoked", what.id().len(), MAX_ID_BYTES)?;
        let mut call = REVOKE.call();
        call.keys([
            self.keys.revoked(),
            self.keys.revoked_until(),
            self.keys.revocations(),
        ]);
        call.arg(what.name())
            .number(at.min(LAST_SECOND))
            .number(until.min(LAST_SECOND))
            .number(REMOVED_AT_ONCE);
        let (reply, replicated) = call.run_until_replicated(&self.writing).await?;
        let (at, until) = read(reply)?;
        let what = what.clone();
        Ok((Revocation { what, at, until }, replicated))
    }

    /// All that is revoked, in no order. Some may be over: their tokens are, too.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, Error> {
        // By pages: what is there from the first to the last of them is in one, perhaps in two.
        let (mut cursor, mut all) = ("0".to_owned(), HashMap::new());
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(self.keys.revoked()).arg(&cursor);
            scan.arg("COUNT").arg(PAGE);
            let (next, page): (String, Fields) = read(self.link.query(&scan).await?)?;
            for (name, times) in page {
                match stored(&name, &times) {
                    Some(Revocation { what, at, until }) => drop(all.insert(what, (at, until))),
                    None => tracing::warn!("a stored revocation cannot be read"),
                }
            }
            if next == "0" {
                let all = all.into_iter();
                let all = all.map(|(what, (at, until))| Revocation { what, at, until });
                return Ok(all.collect());
            }
            cursor = next;
        }
    }
}

impl Feeds {
    /// Listens for revocations, over the connection that these subscriptions share. One listener at a time.
    #[must_use]
    pub fn revocations(&self) -> Revocations {
        let name = self.bus.keys.revocations();
        Revocations {
            channel: Channel::new(self.clone(), name, MAX_MESSAGE_BYTES),
            reading: None,
            known: HashMap::new(),
            due: VecDeque::new(),
            is_whole: false,
            was_caught_up: false,
            failures: 0,
        }
    }
}

impl Revocations {
    /// The next revocation: at first all that there are, then each new one, and one that was extended again. Waits for
    /// it, through restarts of Redis too. Never misses one that Redis keeps: after a loss, and whenever the channel is
    /// quiet for 5 s, it reads them all again and gives those that it did not give before. Cancel-safe.
    ///
    /// # Errors
    /// When Redis refuses. The next call tries again, and without a pause.
    pub async fn next(&mut self) -> Result<Revocation, Error> {
        loop {
            if let Some(revocation) = self.next_or_caught_up().await? {
                return Ok(revocation);
            }
        }
    }

    /// As [`Revocations::next`]; `None` each time that it read the whole set and [has caught
    /// up](Revocations::is_caught_up) anew.
    ///
    /// # Errors
    /// Those of [`Revocations::next`].
    pub async fn next_or_caught_up(&mut self) -> Result<Option<Revocation>, Error> {
        loop {
            if let Some(revocation) = self.due.pop_front() {
                return Ok(Some(revocation));
            }
            let is_read = self.reading.is_none() && self.is_caught_up();
            if is_read && !std::mem::replace(&mut self.was_caught_up, true) {
                return Ok(None);
            }
            if let Some(reading) = &mut self.reading {
                let read = reading.await;
                self.reading = None;
                self.take(read)?;
                continue;
            }
            match self.channel.next().await? {
                Heard::Message(message) => match message_of(&message) {
                    Some(revocation) => self.learn(revocation),
                    None => {
                        tracing::warn!("a message of a revocation cannot be read");
                        self.read();
                    }
                },
                Heard::Quiet => self.read(),
                Heard::Began | Heard::Lost => {
                    self.is_whole = false;
                    self.read();
                }
            }
        }
    }

    /// Whether all that there was at the last whole read was given, and nothing can have been missed since.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.is_whole && self.due.is_empty() && !self.is_lost()
    }

    /// Whether Redis is out of sight: what is revoked elsewhere is not heard of until it is back.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.failures > 0 || self.channel.is_lost()
    }

    fn read(&mut self) {
        let bus = self.channel.feeds().bus.clone();
        self.was_caught_up = false;
        self.reading = Some(Box::pin(async move { bus.revocations().await }));
    }

    fn take(&mut self, read: Result<Vec<Revocation>, Error>) -> Result<(), Error> {
        match read {
            Ok(all) => {
                let mut known = std::mem::take(&mut self.known);
                for revocation in all {
                    let times = known.remove(&revocation.what).unwrap_or_default();
                    self.known.insert(revocation.what.clone(), times);
                    self.learn(revocation);
                }
                (self.is_whole, self.failures) = (true, 0);
                return Ok(());
            }
            Err(Error::Unreachable(error)) => {
                if !self.is_lost() {
                    tracing::warn!(%error, "cannot read what is revoked");
                }
            }
            Err(error) => {
                self.failed();
                return Err(error);
            }
        }
        self.failed();
        Ok(())
    }

    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.read();
    }

    /// Neither time ever gets smaller, as in the set: a replica that took over may have an older one than was told, and what
    /// was told before the set was read is in it.
    fn learn(&mut self, Revocation { what, at, until }: Revocation) {
        let known = self.known.entry(what.clone()).or_default();
        let later = (known.0.max(at), known.1.max(until));
        if std::mem::replace(known, later) != later {
            let (at, until) = later;
            self.due.push_back(Revocation { what, at, until });
        }
    }
}

impl Revoked {
    fn id(&self) -> &str {
        match self {
            Self::Token(id) | Self::User(id) => id,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Token(jti) => format!("jti:{jti}"),
            Self::User(sub) => format!("sub:{sub}"),
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        match name.split_once(':')? {
            ("jti", jti) => Some(Self::Token(jti.to_owned())),
            ("sub", sub) => Some(Self::User(sub.to_owned())),
            _ => None,
        }
    }
}

fn stored(name: &[u8], times: &[u8]) -> Option<Revocation> {
    let what = Revoked::of_name(str::from_utf8(name).ok()?)?;
    let (at, until) = str::from_utf8(times).ok()?.split_once(' ')?;
    let (at, until) = (at.parse().ok()?, until.parse().ok()?);
    Some(Revocation { what, at, until })
}

/// `<at> <until> <name>`; a name may have spaces.
fn message_of(message: &[u8]) -> Option<Revocation> {
    let mut spaces = message
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b' ');
    let (end, _) = spaces.nth(1)?;
    stored(&message[end + 1..], &message[..end])
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocations")
            .field("known", &self.known.len())
            .field("is_caught_up", &self.is_caught_up())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_meant(at: u64, until: u64, id in ".{0,40}", is_user: bool) {
            let what = if is_user { Revoked::User(id) } else { Revoked::Token(id) };
            let message = format!("{at} {until} {}", what.name());
            prop_assert_eq!(message_of(message.as_bytes()), Some(Revocation { what, at, until }));
        }

        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>) {
            let _ = message_of(&bytes);
        }
    }

    #[test]
    fn what_is_no_revocation_is_none() {
        for bad in [
            "",
            "1 2",
            "1 2 ",
            "1 2 x:y",
            "1 b sub:y",
            "-1 2 sub:y",
            "1  2 sub:y",
        ] {
            assert_eq!(message_of(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
