//! A model's key from a file, at the start and again while a worker runs: turns that begin later have the new one, and a
//! turn keeps to its end the one that it began with.
//!
//! Whoever issues keys must leave the old one good for as long as a call may take, since what has begun still shows it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::file::text;
use crate::worker::Worker;
use crate::{Agent, exit};

/// Between two looks: a change that two of them find counts within 10 s.
const EVERY: Duration = Duration::from_secs(4);

/// A look that takes longer found nothing.
const SLOW: Duration = Duration::from_secs(5);
/// No key has more bytes.
const LONGEST: u64 = 16 * 1_024;

/// The key in `file`, without the line end that editors put there.
pub(crate) fn read(file: &Path) -> anyhow::Result<SecretString> {
    let name = file.display();
    let key = match text(file, LONGEST) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            bail!("the key file {name} has more than {LONGEST} bytes, and no key has")
        }
        key => key.with_context(|| format!("the key file {name} cannot be read"))?,
    };
    let key = SecretString::from(key);
    let key: SecretString = key.expose_secret().trim_end().into();
    if key.expose_secret().is_empty() {
        bail!("the key file {name} is empty: write the key into it, or do without it");
    }
    Ok(key)
}

/// Looks until `end`. A look under way is not waited for then: the disk may hang.
pub(crate) async fn follow<A: Agent>(
    worker: Arc<Worker<A>>,
    (place, file): (usize, PathBuf),
    end: CancellationToken,
) {
    let looks = async {
        let (mut looking, mut last, mut told) = (None, None, None);
        loop {
            sleep(EVERY).await;
            // One that hangs goes on: others would hang beside it.
            let look = looking.get_or_insert_with(|| {
                let file = file.clone();
                spawn_blocking(move || read(&file))
            });
            let found = match timeout(SLOW, look).await {
                Ok(found) => {
                    looking = None;
                    found.map_err(anyhow::Error::from).flatten()
                }
                Err(_) => Err(anyhow!(
                    "the key file {} is not read within 5 s",
                    file.display()
                )),
            };
            let wrong = match found {
                // A file that is being written: once two looks agree it is not.
                Ok(key) if last.as_ref().is_none_or(|last| !is_same(last, &key)) => {
                    last = Some(key);
                    continue;
                }
                Ok(key) => worker.take_key(key, (place, &file)).err(),
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
    fn take_key(&self, key: SecretString, (place, file): (usize, &Path)) -> anyhow::Result<()> {
        let taken = take(&self.llm, key, place);
        let is_new = taken.with_context(|| format!("in the key file {}", file.display()))?;
        if is_new {
            self.desk.keyed(&self.llm.borrow(), place);
            tracing::info!(
                agent = self.name.as_str(),
                "there is a new key for the model"
            );
        }
        Ok(())
    }
}

/// Gives whether the key is another one. The files of other models are followed beside this one: what is read, changed and
/// put back in two steps would lose a key that one of them brings meanwhile.
fn take(
    clients: &watch::Sender<llm::Client>,
    key: SecretString,
    place: usize,
) -> Result<bool, llm::Error> {
    let mut wrong = None;
    let is_new = clients.send_if_modified(|client| {
        if client.key(place).map_or("", ExposeSecret::expose_secret) == key.expose_secret() {
            return false;
        }
        match client.with_key(place, key) {
            Ok(keyed) => *client = keyed,
            Err(error) => wrong = Some(error),
        }
        wrong.is_none()
    });
    wrong.map_or(Ok(is_new), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_key_is_read_without_its_line_end_and_what_is_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "secret\n").unwrap();
        assert_eq!(read(&file).unwrap().expose_secret(), "secret");
        for empty in ["", "\n", " \r\n"] {
            std::fs::write(&file, empty).unwrap();
            let told = read(&file).unwrap_err().to_string();
            assert!(told.contains("key is empty"), "{told}");
        }
        let endless = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(endless.contains("has more than 16384 bytes"), "{endless}");
        let none = read(&folder.path().join("none")).unwrap_err().to_string();
        assert!(none.contains("cannot be read"), "{none}");
    }

    #[test]
    fn keys_that_are_new_at_the_same_time_are_all_taken() {
        const MODELS: usize = 4;
        let model = || llm::Model::new(llm::Settings::new("http://a/v1"));
        let client = llm::Client::chain(model(), vec![model(); MODELS - 1]).unwrap();
        let clients = watch::Sender::new(client);
        for round in 0..200 {
            let key = |place| format!("{round} {place}");
            let start = Barrier::new(MODELS);
            std::thread::scope(|threads| {
                for place in 0..MODELS {
                    let (clients, start) = (&clients, &start);
                    threads.spawn(move || {
                        start.wait();
                        assert!(take(clients, key(place).into(), place).unwrap());
                    });
                }
            });
            let client = clients.borrow();
            let keys = (0..MODELS).map(|place| client.key(place).unwrap().expose_secret());
            assert!(keys.eq((0..MODELS).map(key)), "round {round}");
        }
    }

    #[test]
    fn a_key_that_http_forbids_changes_nothing() {
        let clients = watch::Sender::new(llm::Client::new(llm::Settings::new("http://a")).unwrap());
        assert!(take(&clients, "sk-one".into(), 0).unwrap());
        assert!(!take(&clients, "sk-one".into(), 0).unwrap());
        take(&clients, "sk\ntwo".into(), 0).unwrap_err();
        let client = clients.borrow();
        assert_eq!(client.key(0).unwrap().expose_secret(), "sk-one");
    }
}
