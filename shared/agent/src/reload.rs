//! The prompts of `--prompts` in a running worker: looked at again and again, and taken as one once they are new and
//! good. What cannot be used changes nothing.
//!
//! Each look loads them all, so that whatever is behind a name counts: a link that was swapped, a file whose time did not
//! change. What two looks in a row find is there. What only one does may be a change half done: a file that is being
//! written, files of two sets while the link to them is swapped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::worker::Worker;
use crate::{Agent, Prompts, exit};

/// Between two looks: a change counts within 5 s.
const EVERY: Duration = Duration::from_secs(2);
/// A look that takes longer found nothing.
const SLOW: Duration = Duration::from_secs(5);

/// The prompts, or what is wrong with them.
type Found = Result<Prompts, String>;

/// Looks until `end`. A look under way is not waited for then: the disk may hang.
pub(crate) async fn follow<A: Agent>(
    worker: Arc<Worker<A>>,
    folder: PathBuf,
    end: CancellationToken,
) {
    let looks = async {
        let (mut looking, mut seen) = (None, Seen::default());
        loop {
            sleep(EVERY).await;
            // One that hangs goes on: others would hang beside it.
            let look = looking.get_or_insert_with(|| {
                let (worker, folder) = (Arc::clone(&worker), folder.clone());
                spawn_blocking(move || {
                    let prompts = worker.agent.prompts(Some(&folder));
                    prompts.map_err(|error| exit::line(&error.into()))
                })
            });
            let found = match timeout(SLOW, look).await {
                Ok(found) => {
                    looking = None;
                    found.unwrap_or_else(|died| Err(died.to_string()))
                }
                Err(_) => Err(format!(
                    "the prompts in {} are not read within 5 s",
                    folder.display()
                )),
            };
            if let Some(change) = seen.note(found, &worker.prompts) {
                worker.tell(&change);
            }
        }
    };
    tokio::select! {
        () = looks => {}
        () = end.cancelled() => {}
    }
}

/// What looks found.
#[derive(Debug, Default)]
struct Seen {
    /// The last one: the references, or what is wrong.
    last: Option<Result<Vec<String>, String>>,
    /// What is wrong, once that was told.
    wrong: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Taken,
    /// For this reason; or for another one than before.
    Failed(String),
    /// Those in use are there again.
    Mended,
}

impl Seen {
    /// Takes what is new into `current`. `None`: all is as it was, or this look is the first that finds it otherwise.
    fn note(&mut self, found: Found, current: &watch::Sender<Prompts>) -> Option<Change> {
        let now = found.as_ref().map(Prompts::references);
        let now = Some(now.map_err(Clone::clone));
        if self.last != now {
            self.last = now;
            return None;
        }
        match found {
            Ok(prompts) if prompts.references() != current.borrow().references() => {
                self.wrong = None;
                current.send_replace(prompts);
                Some(Change::Taken)
            }
            Ok(_) => self.wrong.take().map(|_| Change::Mended),
            Err(error) if self.wrong.as_ref() == Some(&error) => None,
            Err(error) => {
                self.wrong = Some(error.clone());
                Some(Change::Failed(error))
            }
        }
    }
}

impl<A: Agent> Worker<A> {
    fn tell(&self, change: &Change) {
        let (agent, meters) = (self.name.as_str(), &self.meters);
        let stale = matches!(change, Change::Failed(_));
        meters.prompts_stale.set(stale.into());
        match change {
            Change::Taken => {
                meters.prompts_loaded.inc();
                let prompts = self.prompts.borrow().references().join(" ");
                tracing::info!(agent, prompts, "there are new prompts");
            }
            Change::Failed(error) => {
                meters.prompts_failed.inc();
                tracing::warn!(agent, error, "the new prompts do not do: those before stay");
            }
            Change::Mended => tracing::info!(agent, "the prompts in use are there again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(texts: [&str; 2]) -> Prompts {
        let [a, b] = texts.map(|text| format!("---\nname: {{}}\nversion: 1\n---\n{text}\n"));
        let files = [("a", &*a.replace("{}", "a")), ("b", &*b.replace("{}", "b"))];
        Prompts::load(story::Agent::Narrator, &files, None, ()).unwrap()
    }

    fn in_use(current: &watch::Sender<Prompts>) -> [String; 2] {
        let prompts = current.borrow();
        ["a", "b"].map(|name| prompts.get(name).unwrap().render(()).unwrap())
    }

    #[test]
    fn what_only_one_look_finds_changes_nothing() {
        let current = watch::Sender::new(prompts(["old", "old"]));
        let mut seen = Seen::default();
        // Read while the link to them was swapped; while a file was written; while it was away.
        for half in [
            Ok(prompts(["old", "new"])),
            Ok(prompts(["new", ""])),
            Err("gone".to_owned()),
        ] {
            assert_eq!(seen.note(half, &current), None);
            assert_eq!(seen.note(Ok(prompts(["new", "new"])), &current), None);
            assert_eq!(in_use(&current), ["old", "old"]);
        }
        let taken = seen.note(Ok(prompts(["new", "new"])), &current);
        assert_eq!(
            (taken, in_use(&current)),
            (Some(Change::Taken), ["new"; 2].map(str::to_owned))
        );
        assert_eq!(seen.note(Ok(prompts(["new", "new"])), &current), None);
    }

    #[test]
    fn what_is_wrong_is_told_once_for_each_reason_and_so_is_that_it_is_over() {
        let current = watch::Sender::new(prompts(["old", "old"]));
        let mut seen = Seen::default();
        let mut told = |found: &dyn Fn() -> Found| {
            let changes = (0..4).filter_map(|_| seen.note(found(), &current));
            changes.collect::<Vec<_>>()
        };
        let old = || Ok(prompts(["old", "old"]));
        let broken = |why: &str| Err(why.to_owned());
        assert_eq!(told(&old), []);
        for why in ["line 3", "line 4"] {
            assert_eq!(told(&|| broken(why)), [Change::Failed(why.to_owned())]);
        }
        assert_eq!(told(&old), [Change::Mended]);
        assert_eq!(
            told(&|| broken("line 4")),
            [Change::Failed("line 4".to_owned())]
        );
        assert_eq!(told(&|| Ok(prompts(["new", "old"]))), [Change::Taken]);
        assert_eq!(told(&old), [Change::Taken]);
    }
}
