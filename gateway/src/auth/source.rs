//! Keys from one place, kept and read again: when they are old, and when a token names a key that is not among them.
//!
//! Whoever needs newer keys joins the one reading that runs, or begins it, unless the last one began too short a while ago.
//! The reading is a task of its own, so that a client who hangs up ends nobody's. While a place cannot be read its last
//! keys stay good, and whoever's key is among them waits for nothing, or half a second for a server that hangs.

use std::fmt;
use std::io;
use std::mem;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use certificates::shown;
use reqwest::Client;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::fetch::{self, FetchError, JwksUrl};
use super::keys::{Algorithm, KeySet, KeysError};
use super::secret::{self, Secrets};

/// A file is read again after this time: a change shows soon, and a read costs little.
const FILE_AGE: Duration = Duration::from_secs(1);

/// The least time between two reads of a file.
const FILE_PAUSE: Duration = Duration::from_millis(100);

/// The least time between two requests to a server: tokens that name unknown keys must not become a load on it.
pub(crate) const URL_PAUSE: Duration = Duration::from_secs(10);

/// After this time a file that is not read counts as one that cannot be: it is on a mount that is gone, say.
pub(crate) const LATE: Duration = Duration::from_secs(10);

/// How long whoever's key is known waits for newer ones, among which it may be no more.
const KNOWN: Duration = Duration::from_millis(500);

/// Where keys come from.
#[derive(Debug)]
pub(super) enum Place {
    Secrets(PathBuf),
    JwksFile(PathBuf),
    JwksUrl {
        url: JwksUrl,
        client: Client,
        /// How old its keys may be.
        max_age: Duration,
    },
}

/// The keys of one place.
#[derive(Debug)]
pub(super) struct Source {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What a place has, as far as is known.
#[derive(Debug, Clone)]
pub(super) struct Current {
    pub(super) keys: Arc<KeySet>,
    /// Whether the last reading failed: there may be newer ones.
    pub(super) is_failing: bool,
}

#[derive(Debug)]
struct Shared {
    place: Place,
    state: watch::Sender<State>,
}

#[derive(Debug)]
struct State {
    current: Current,
    read_at: Option<Instant>,
    begun_at: Option<Instant>,
    is_reading: bool,
    /// Whoever needs what it gives waits for it no longer.
    is_late: bool,
    /// Readings that have ended.
    rounds: u64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the file cannot be read")]
    File(#[from] io::Error),
    #[error("the file is not read within {} s: see that its disk or mount answers", LATE.as_secs())]
    Late,
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("the gateway is stopping")]
    Stopping,
}

impl Source {
    /// With `keys` for a start, if they were read already.
    pub(super) fn new(
        place: Place,
        keys: Option<KeySet>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let state = State {
            read_at: keys.is_some().then(Instant::now),
            current: Current {
                keys: Arc::new(keys.unwrap_or_default()),
                is_failing: false,
            },
            begun_at: None,
            is_reading: false,
            is_late: false,
            rounds: 0,
        };
        Self {
            shared: Arc::new(Shared {
                place,
                state: watch::Sender::new(state),
            }),
            tasks,
            stop,
        }
    }

    /// Whether a key of this place can be for that algorithm.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        let signs_with_secrets = matches!(self.shared.place, Place::Secrets(_));
        signs_with_secrets == (algorithm == Algorithm::Hs256)
    }

    /// The keys, read anew first where they are too old or `knows` finds none among them.
    pub(super) async fn keys(&self, knows: impl Fn(&KeySet) -> bool) -> Current {
        let now = Instant::now();
        let (is_known, is_fresh, current) = {
            let state = self.shared.state.borrow();
            let age = state.read_at.map(|at| now.duration_since(at));
            let is_fresh = age.is_some_and(|age| age < self.shared.place.max_age());
            (knows(&state.current.keys), is_fresh, state.current.clone())
        };
        if is_known && is_fresh {
            return current;
        }
        let mut state = self.shared.state.subscribe();
        let round = self.begin(now);
        let Some(round) = round.filter(|_| !(is_known && current.is_failing)) else {
            return current;
        };
        let read = state.wait_for(|state| state.rounds >= round || state.is_late);
        let read = match is_known {
            true => timeout(KNOWN, read).await.ok(),
            false => Some(read.await),
        };
        // It cannot be closed: the sender is ours.
        match read {
            Some(Ok(state)) => state.current.clone(),
            Some(Err(_)) | None => current,
        }
    }

    /// Whether they were ever read; begins that, if it is not too soon to try again.
    pub(super) fn is_read(&self) -> bool {
        let is_read = self.shared.state.borrow().read_at.is_some();
        if !is_read {
            self.begin(Instant::now());
        }
        is_read
    }

    /// Begins a reading unless one runs or the last one is too recent. Gives the number of the one that runs.
    fn begin(&self, now: Instant) -> Option<u64> {
        let pause = self.shared.place.pause();
        let (mut begins, mut round) = (false, None);
        self.shared.state.send_if_modified(|state| {
            let is_too_soon = state
                .begun_at
                .is_some_and(|at| now.duration_since(at) < pause);
            begins = !state.is_reading && !is_too_soon;
            if begins {
                state.is_reading = true;
                state.begun_at = Some(now);
            }
            round = state.is_reading.then_some(state.rounds + 1);
            false
        });
        if begins {
            let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
            self.tasks.spawn(async move {
                let read = stop.run_until_cancelled(shared.read()).await;
                shared.finish(read.unwrap_or(Err(ReadError::Stopping)));
            });
        }
        round
    }
}

impl Shared {
    /// A read that is late is still waited for: another would hang beside it.
    async fn read(&self) -> Result<KeySet, ReadError> {
        let mut read = pin!(self.place.read());
        if self.place.is_file() {
            match timeout(LATE, &mut read).await {
                Ok(read) => return read,
                Err(_) => self.state.send_modify(|state| {
                    state.is_late = true;
                    self.fail(state, ReadError::Late);
                }),
            }
        }
        read.await
    }

    fn finish(&self, read: Result<KeySet, ReadError>) {
        let place = &self.place;
        self.state.send_modify(|state| {
            (state.is_reading, state.is_late) = (false, false);
            state.rounds += 1;
            match read {
                Ok(keys) => {
                    if mem::take(&mut state.current.is_failing) {
                        info!(%place, "keys are read again");
                    }
                    // An empty set is taken at its word: that is how an issuer withdraws its keys.
                    if keys.is_empty() && !(state.current.keys.is_empty() && state.rounds > 1) {
                        warn!(%place, "no key there can be used: {}", KeysError::NoneUsable);
                    }
                    state.read_at = Some(Instant::now());
                    state.current.keys = Arc::new(keys);
                }
                Err(error) => self.fail(state, error),
            }
        });
    }

    fn fail(&self, state: &mut State, error: ReadError) {
        let was_failing = mem::replace(&mut state.current.is_failing, true);
        // Else it was said when it began.
        if !was_failing && !matches!(error, ReadError::Stopping) {
            let error = exit::line(&error.into());
            let words = match state.read_at {
                Some(_) => "the last ones stay in use",
                None => "no token that needs them is good until they can be",
            };
            warn!(place = %self.place, %error, "keys cannot be read: {words}");
        }
    }
}

impl Place {
    pub(super) fn is_file(&self) -> bool {
        !matches!(self, Self::JwksUrl { .. })
    }

    fn max_age(&self) -> Duration {
        match self {
            Self::Secrets(_) | Self::JwksFile(_) => FILE_AGE,
            Self::JwksUrl { max_age, .. } => *max_age,
        }
    }

    fn pause(&self) -> Duration {
        match self {
            Self::Secrets(_) | Self::JwksFile(_) => FILE_PAUSE,
            Self::JwksUrl { .. } => URL_PAUSE,
        }
    }

    /// As it is shown before anything was read there.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Secrets(path) | Self::JwksFile(path) => shown(path),
            Self::JwksUrl { .. } => self.to_string(),
        }
    }

    async fn read(&self) -> Result<KeySet, ReadError> {
        let bytes = match self {
            Self::Secrets(path) | Self::JwksFile(path) => {
                let path = path.clone();
                // No task that the node's end waits for: a file may hang, on a mount that is gone.
                let read = spawn_blocking(move || secret::read(&path, fetch::MAX_BYTES as u64));
                read.await.map_err(io::Error::other)??
            }
            Self::JwksUrl { url, client, .. } => fetch::fetch(client, url).await?,
        };
        Ok(self.keys(&bytes)?)
    }

    /// The same, and no longer than a file may take.
    pub(super) async fn look(&self) -> Result<KeySet, ReadError> {
        match self.is_file() {
            true => timeout(LATE, self.read())
                .await
                .unwrap_or(Err(ReadError::Late)),
            false => self.read().await,
        }
    }

    /// The keys in what was read there.
    pub(super) fn keys(&self, bytes: &[u8]) -> Result<KeySet, KeysError> {
        match self {
            Self::Secrets(_) => Ok(KeySet::from_secrets(&Secrets::parse(bytes)?)),
            Self::JwksFile(_) if bytes.len() > fetch::MAX_BYTES => Err(KeysError::Large),
            Self::JwksFile(_) | Self::JwksUrl { .. } => KeySet::from_jwks(bytes),
        }
    }
}

/// For logs.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secrets(path) | Self::JwksFile(path) => path.display().fmt(f),
            Self::JwksUrl { url, .. } => url.fmt(f),
        }
    }
}
