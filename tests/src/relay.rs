//! A network before Redis that loses what Redis replies to chosen commands (they are done, and nobody hears of it), that does
//! not deliver chosen ones, or that delivers everything late.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::wait::DEADLINE;

/// Longer than any word.
const PIECE: usize = 64;

/// Carries nothing any more once it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    word: Word,
    barred: Word,
    bars: watch::Sender<usize>,
    held: watch::Sender<bool>,
    _end: DropGuard,
}

/// What a command has in it whose reply is lost.
#[derive(Debug, Clone, Default)]
struct Word(Arc<Mutex<Option<String>>>);

impl Relay {
    /// `redis` is its URL.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn before(redis: &str) -> anyhow::Result<Self> {
        let redis = redis.strip_prefix("redis://").context("a plain URL")?;
        let (redis, end) = (redis.to_owned(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (word, barred, bars) = (Word::default(), Word::default(), watch::Sender::new(0));
        let (held, holds) = watch::channel(false);
        let way = Way {
            loses: word.clone(),
            bars: barred.clone(),
            barred: bars.clone(),
            holds,
        };
        let (tasks, until) = (TaskTracker::new(), end.clone());
        let carries = async move {
            while let Ok((near, _)) = listener.accept().await {
                let (redis, way, until) = (redis.clone(), way.clone(), until.clone());
                tasks.spawn(async move {
                    let carried = carry(near, &redis, way);
                    // Either side may hang up at any time.
                    let _ended = until.run_until_cancelled(carried).await;
                });
            }
        };
        let until = end.clone();
        TaskTracker::new().spawn(async move { until.run_until_cancelled(carries).await });
        Ok(Self {
            address,
            word,
            barred,
            bars,
            held,
            _end: end.drop_guard(),
        })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on the reply to each command with this in it is lost, and its connection with it.
    pub fn lose(&self, word: &str) {
        *self.word.get() = Some(word.to_owned());
    }

    /// From now on no command with this in it is delivered, nor anything of its connection that comes after it.
    pub fn bar(&self, word: &str) {
        *self.barred.get() = Some(word.to_owned());
    }

    /// Waits until `times` connections were barred.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn barred(&self, times: usize) -> anyhow::Result<()> {
        let mut bars = self.bars.subscribe();
        let barred = timeout(DEADLINE, bars.wait_for(|bars| *bars >= times));
        barred.await.context("nothing is barred in time")??;
        Ok(())
    }

    /// From now on everything is delivered and heard.
    pub fn mend(&self) {
        *self.word.get() = None;
        *self.barred.get() = None;
    }

    /// From now on nothing comes through, either way.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// What was held comes through, in its order, even of those who hung up since; and so does all that follows.
    pub fn release(&self) {
        self.held.send_replace(false);
    }
}

impl Word {
    fn get(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let word = self.get();
        word.as_ref().is_some_and(|word| {
            let mut parts = bytes.windows(word.len());
            parts.any(|part| part == word.as_bytes())
        })
    }
}

/// What befalls what is carried.
#[derive(Debug, Clone)]
struct Way {
    loses: Word,
    bars: Word,
    /// How many connections were.
    barred: watch::Sender<usize>,
    holds: watch::Receiver<bool>,
}

async fn carry(mut near: TcpStream, redis: &str, way: Way) -> std::io::Result<()> {
    let Way {
        loses: word,
        bars,
        barred,
        mut holds,
    } = way;
    released(&mut holds).await;
    let mut far = TcpStream::connect(redis).await?;
    let (mut asked, mut replied) = (vec![0; 16 * 1_024], vec![0; 16 * 1_024]);
    let (mut loses, mut latest) = (false, Vec::new());
    loop {
        tokio::select! {
            read = near.read(&mut asked) => {
                let bytes = &asked[..read?];
                released(&mut holds).await;
                if bytes.is_empty() {
                    return Ok(());
                }
                // The word may come in two pieces.
                latest.extend_from_slice(bytes);
                loses |= word.is_in(&latest);
                if bars.is_in(&latest) {
                    barred.send_modify(|bars| *bars += 1);
                    // Until the other side hangs up.
                    while near.read(&mut asked).await? > 0 {}
                    return Ok(());
                }
                latest.drain(..latest.len().saturating_sub(PIECE));
                far.write_all(bytes).await?;
            }
            read = far.read(&mut replied) => {
                let bytes = &replied[..read?];
                released(&mut holds).await;
                // A script that Redis does not know yet is sent again whole: that reply is the one to lose. Others may come
                // with the reply that another script is not known.
                let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                let is_lost = loses && !lines.all(|line| line.starts_with(b"-NOSCRIPT"));
                if bytes.is_empty() {
                    return Ok(());
                }
                if is_lost {
                    // It may be another's: Redis does all that it was told, and then hangs up.
                    far.shutdown().await?;
                    while far.read(&mut replied).await? > 0 {}
                    return Ok(());
                }
                near.write_all(bytes).await?;
            }
        }
    }
}

async fn released(holds: &mut watch::Receiver<bool>) {
    // A relay that is gone ends all that it carries.
    let _gone = holds.wait_for(|held| !held).await;
}
