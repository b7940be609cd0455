//! Reads the files of TLS for whoever connects, all of them by one reading: a file may hang, on a mount that is gone, and each try
//! to connect would leave a thread behind that hangs too. One that hangs may do so for ever, though its file is back: then there is
//! a second, and no third.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use redis::{RedisResult, TlsCertificates};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::{Encryption, encryption};

type Reading = Shared<BoxFuture<'static, RedisResult<TlsCertificates>>>;

/// How long a reading is waited for before there is another.
const PATIENCE: Duration = Duration::from_secs(10);
/// Readings at once.
const MOST: usize = 2;

/// The files of one way to Redis, whichever connection asks.
pub(crate) struct Files {
    encryption: Encryption,
    readings: Mutex<Readings>,
}

/// Those under way.
#[derive(Default)]
struct Readings {
    /// The last that was begun, by its number, and when; none when it is over, since whoever comes later reads anew.
    last: Option<(u64, Instant, Reading)>,
    /// How many were begun.
    begun: u64,
    alive: usize,
}

/// One of them, as long as its thread has it.
struct Alive {
    files: Arc<Files>,
    number: u64,
}

impl Files {
    pub(crate) fn new(encryption: Encryption) -> Arc<Self> {
        Arc::new(Self {
            encryption,
            readings: Mutex::default(),
        })
    }

    /// What is in them. May hang; whoever does not wait any more leaves the reading to the next.
    pub(crate) async fn read(self: &Arc<Self>) -> RedisResult<TlsCertificates> {
        let reading = self.reading();
        reading.await
    }

    fn reading(self: &Arc<Self>) -> Reading {
        let mut readings = self.readings();
        if let Some((_, since, reading)) = &readings.last
            && (since.elapsed() < PATIENCE || readings.alive >= MOST)
        {
            return reading.clone();
        }
        readings.begun += 1;
        readings.alive += 1;
        let number = readings.begun;
        let reading = Arc::clone(self).begin(number);
        readings.last = Some((number, Instant::now(), reading.clone()));
        reading
    }

    fn begin(self: Arc<Self>, number: u64) -> Reading {
        let read = spawn_blocking(move || {
            // It is kept before it can be over: whoever begins it holds the lock.
            let alive = Alive {
                files: self,
                number,
            };
            alive.files.encryption.read().map_err(encryption::unusable)
        });
        let read = async move { read.await.map_err(io::Error::other)? };
        read.boxed().shared()
    }

    fn readings(&self) -> MutexGuard<'_, Readings> {
        // Nothing panics while it is held.
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let mut readings = self.files.readings();
        readings.alive -= 1;
        readings.last.take_if(|(number, ..)| *number == self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::path::Path;
    use std::process::Command;

    use tokio::time::timeout;

    use super::*;

    fn pipe(path: &Path) {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_followed_by_one_other_and_both_leave_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        pipe(&ca);
        let files = Files::new(Encryption {
            ca: Some(ca.clone()),
            ..Encryption::default()
        });
        let alive = |files: &Files| {
            let readings = files.readings();
            (readings.begun, readings.alive)
        };
        for wanted in [1, 1, 2, 2, 2] {
            assert!(files.read().now_or_never().is_none(), "it does not hang");
            assert_eq!(alive(&files), (wanted, wanted.try_into().unwrap()));
            tokio::time::advance(PATIENCE / 2).await;
        }
        tokio::time::resume();
        // Who opens it for writing and writes nothing ends each that has opened it by then, and waits for none.
        let is_over = async {
            while alive(&files).1 > 0 {
                drop(OpenOptions::new().read(true).write(true).open(&ca).unwrap());
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, is_over).await.unwrap();
        assert!(files.readings().last.is_none());
    }
}
