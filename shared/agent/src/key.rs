//! The model's key from a file, at the start and again while a worker runs: turns that begin later have the new one, and a
//! turn keeps to its end the one that it began with.
//!
//! Whoever issues keys must leave the old one good for as long as a call may take, since what has begun still shows it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::worker::Worker;
use crate::{Agent, exit};

/// Between two looks: a change that two of them find counts within 10 s.
const EVERY: Duration = Duration::from_secs(4);

/// The key in `file`, without the line end that editors put there.
pub(crate) fn read(file: &Path) -> anyhow::Result<SecretString> {
    let key = std::fs::read_to_string(file)
        .with_context(|| format!("the key file {} cannot be read", file.display()))?;
    Ok(key.trim_end().into())
}

/// Looks until `end`. A look under way is not waited for then: the disk may hang.
pub(crate) async fn follow<A: Agent>(
    worker: Arc<Worker<A>>,
    file: PathBuf,
    end: CancellationToken,
) {
    let looks = async {
        let (mut last, mut told) = (None, None);
        loop {
            sleep(EVERY).await;
            let path = file.clone();
            let found = spawn_blocking(move || read(&path)).await;
            let found = found.map_err(anyhow::Error::from).flatten();
            let wrong = match found {
                // A file that is being written: once two looks agree it is not.
                Ok(key) if last.as_ref().is_none_or(|last| !is_same(last, &key)) => {
                    last = Some(key);
                    continue;
                }
                Ok(key) => worker.take_key(key, &file).err(),
                Err(error) => Some(error),
            };
            // Only a change is logged.
            let wrong = wrong.map(|error| exit::line(&error));
            if wrong != told {
                let agent = worker.name.as_str();
                match &wrong {
                    Some(error) => {
                        tracing::warn!(
                            agent,
                            error,
                            "the model's key file does not do: the key before stays"
                        );
                    }
                    None => tracing::info!(agent, "the model's key file does again"),
                }
                told = wrong;
            }
        }
    };
    tokio::select! {
        () = looks => {}
        () = end.cancelled() => {}
    }
}

fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

impl<A: Agent> Worker<A> {
    /// Nobody means to go on without a key by emptying its file.
    fn take_key(&self, key: SecretString, file: &Path) -> anyhow::Result<()> {
        let current = self.llm.borrow().clone();
        let is_current =
            current.key().map_or("", ExposeSecret::expose_secret) == key.expose_secret();
        if is_current {
            return Ok(());
        }
        if key.expose_secret().is_empty() {
            return Err(anyhow!("the key file {} is empty", file.display()));
        }
        let client = current.with_key(key);
        let client = client.with_context(|| format!("in the key file {}", file.display()))?;
        self.llm.send_replace(client);
        tracing::info!(
            agent = self.name.as_str(),
            "there is a new key for the model"
        );
        Ok(())
    }
}
