//! Scripts that gather while others are under way, then go to their master together, with one `WAIT` for all of them.
//!
//! A `WAIT` stops its connection for the way to the replicas and back: one for each script would allow no more of them in a
//! second than such ways. Whoever has a script in a batch drives it: who goes away takes only themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use redis::{Cmd, Value};

use crate::Error;
use crate::link::Link;
use crate::replicas::{Replicas, Replicated, Turn};
use crate::script::{Did, by_text, did};

/// How many scripts go together. More would have the first wait long for the last.
const MOST: usize = 32;

/// What comes of a script or of a batch; with an error whether Redis may have done it all the same.
type Outcome<T> = Result<T, (Error, bool)>;
type Going = BoxFuture<'static, Outcome<Arc<Done>>>;

/// The batches of one link.
pub(crate) struct Batches {
    pub(crate) replicas: Replicas,
    /// The batch that a script joins, by its shard's key in a cluster.
    gathering: Mutex<HashMap<String, Gathering>>,
}

struct Gathering {
    batch: WeakShared<Going>,
    scripts: Scripts,
}

/// A script by its hash, with its text.
type Run = (Cmd, &'static str);

/// Those of one batch. It takes them when it begins; then nobody can join.
#[derive(Clone)]
struct Scripts(Arc<Mutex<Option<Vec<Run>>>>);

/// What came of a batch.
struct Done {
    /// Of its connection.
    generation: u64,
    /// One for each script, refused or not.
    replies: Vec<Value>,
    /// Those of which nothing is known: Redis may have done them.
    unheard: Option<(Vec<usize>, Error)>,
    replicated: Replicated,
}

impl Batches {
    pub(crate) fn new(replicas: Replicas) -> Self {
        Self {
            replicas,
            gathering: Mutex::default(),
        }
    }

    /// Runs a script with those of its shard that go now, and tells whether replicas have what it did. `probe` is the
    /// key of its shard that is nothing but written.
    pub(crate) async fn run(
        self: &Arc<Self>,
        link: &Link,
        script: Run,
        probe: String,
    ) -> Outcome<(Value, Replicated)> {
        let (batch, at) = self.join(link, script, probe);
        let done = batch.await?;
        if let Some((unheard, error)) = &done.unheard
            && unheard.contains(&at)
        {
            return Err((error.clone(), true));
        }
        let reply = done.replies.get(at).cloned().unwrap_or(Value::Nil);
        let reply = link.heard(done.generation, reply.extract_error())?;
        Ok((reply, done.replicated))
    }

    /// The batch that gathers, and the script's place in it.
    fn join(
        self: &Arc<Self>,
        link: &Link,
        mut script: Run,
        probe: String,
    ) -> (Shared<Going>, usize) {
        // A pipeline to a cluster is of one shard; else all are on one server.
        let together = match link.is_cluster() {
            true => probe.clone(),
            false => String::new(),
        };
        let mut gathering = self.gathering();
        if let Some(open) = gathering.get(&together)
            // Everyone who had a script in it may have gone away.
            && let Some(batch) = open.batch.upgrade()
        {
            match open.scripts.add(script) {
                Ok(at) => return (batch, at),
                Err(back) => script = back,
            }
        }
        let scripts = Scripts(Arc::new(Mutex::new(Some(vec![script]))));
        let going = go(Arc::clone(self), link.clone(), scripts.clone(), probe);
        let batch = going.boxed().shared();
        if let Some(batch) = batch.downgrade() {
            gathering.insert(together, Gathering { batch, scripts });
        }
        (batch, 0)
    }

    fn gathering(&self) -> MutexGuard<'_, HashMap<String, Gathering>> {
        // Nothing panics while it is held.
        self.gathering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn go(
    batches: Arc<Batches>,
    link: Link,
    scripts: Scripts,
    probe: String,
) -> Outcome<Arc<Done>> {
    let turn = batches.replicas.turn(&probe).await;
    let scripts = scripts.take();
    let by_hash = scripts.iter().map(|(by_hash, _)| by_hash.clone());
    let (mut generation, mut replies, mut told) = send(&link, by_hash, turn.as_ref()).await?;
    let mut unheard = None;
    // Those that the server does not know yet go again by their text in the same turn: the wait behind them was for nothing
    // of theirs, and one in vain would keep them from the next.
    let unknown: Vec<usize> = (0..scripts.len().min(replies.len()))
        .filter(|at| is_unknown(&replies[*at]))
        .collect();
    if !unknown.is_empty() {
        let by_text = unknown.iter().map(|at| {
            let (by_hash, code) = &scripts[*at];
            by_text(by_hash, code)
        });
        // The others are done, whatever comes of these.
        match send(&link, by_text, turn.as_ref()).await {
            Ok((then, again, told_again)) => {
                (generation, told) = (then, told_again);
                for (at, reply) in unknown.into_iter().zip(again) {
                    replies[at] = reply;
                }
            }
            Err((error, _)) => unheard = Some((unknown, error)),
        }
    }
    let replicated = turn.map_or(Replicated::Unknown, |turn| turn.told(told));
    // Here, where all of it is known: whoever asked for one of them may have gone away.
    for _ in replies.iter().filter(|reply| did(reply) == Did::Now) {
        batches.replicas.count(replicated);
    }
    Ok(Arc::new(Done {
        generation,
        replies,
        unheard,
        replicated,
    }))
}

/// The connection, a reply to each script, and those to what asks for replicas.
async fn send(
    link: &Link,
    scripts: impl Iterator<Item = Cmd>,
    turn: Option<&Turn<'_>>,
) -> Outcome<(u64, Vec<Value>, Vec<Value>)> {
    let mut pipe = redis::pipe();
    for script in scripts {
        pipe.add_command(script);
    }
    let count = pipe.len();
    if let Some(turn) = turn {
        turn.ask(&mut pipe);
    }
    let (generation, mut replies) = link.replies(&pipe).await?;
    let told = replies.split_off(count.min(replies.len()));
    Ok((generation, replies, told))
}

fn is_unknown(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

impl Scripts {
    /// Its place, or the script again where there is none any more.
    fn add(&self, script: Run) -> Result<usize, Run> {
        let mut scripts = self.lock();
        match scripts.as_mut().filter(|scripts| scripts.len() < MOST) {
            Some(scripts) => {
                scripts.push(script);
                Ok(scripts.len() - 1)
            }
            None => Err(script),
        }
    }

    fn take(&self) -> Vec<Run> {
        self.lock().take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Run>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
