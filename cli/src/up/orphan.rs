//! The Redis that an `up` left behind which was killed: ended in order before another one works on its data.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bus::{Bus, Error};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use super::redis::lock;
use crate::output::note;
use crate::target::State;

/// How long it may take to answer, and to end: it may have much to read, or to write.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// Gives the lock that the server held.
pub(super) async fn end(folder: &Path, held: &Path) -> anyhow::Result<File> {
    let pid = its_pid(folder).await.with_context(|| {
        format!(
            "a Redis that a killed `storyfleet up` left behind still writes in {}, and is not ended since it is not certain \
which it is: end the process that holds {}, or give another --data DIR",
            folder.display(),
            held.display()
        )
    })?;
    note("ending the Redis that a killed `storyfleet up` left behind");
    kill_process(pid, Signal::TERM).context("cannot end it")?;
    let free = async {
        loop {
            match lock(held)? {
                Some(lock) => return anyhow::Ok(lock),
                None => sleep(LOOK).await,
            }
        }
    };
    match timeout(PATIENCE, free).await {
        Ok(lock) => lock,
        Err(_) => bail!("it does not end: kill {}", pid.as_raw_nonzero()),
    }
}

/// The process that the folder's state names, when the server at the state's address says that it is that process and
/// that this is its folder: a number alone may be anybody's by now.
async fn its_pid(folder: &Path) -> anyhow::Result<Pid> {
    let state = State::read(folder)?.context("there is no state.json")?;
    let pid = state.redis_pid.context("state.json names no process")?;
    let bus = Bus::new(bus::Settings::new(&state.redis))?;
    let answer = async {
        loop {
            match bus.identity().await {
                // It may still be reading its data.
                Err(Error::Unreachable(_)) => sleep(LOOK).await,
                answer => return answer,
            }
        }
    };
    let answer = timeout(PATIENCE, answer).await;
    let identity = answer.map_err(|_| anyhow!("it does not answer at {}", state.redis))??;
    let its_folder = PathBuf::from(&identity.folder).canonicalize()?;
    ensure!(
        identity.pid == pid && its_folder == folder,
        "at {} is another server",
        state.redis
    );
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.context("state.json names no process")
}
