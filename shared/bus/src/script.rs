//! Runs the embedded Lua scripts: by hash, and by text where the server does not know the hash yet.

use std::sync::OnceLock;

use redis::Value;

use crate::keys::probe_beside;
use crate::replicas::Replicated;
use crate::{Error, link::Link};

/// How often an idempotent script is run when its reply is lost.
const TRIES: u32 = 4;

/// A script that works on lanes: the shared text in front of its own.
macro_rules! lane_script {
    ($name:literal) => {
        concat!(
            include_str!("../scripts/lane.lua"),
            include_str!(concat!("../scripts/", $name, ".lua"))
        )
    };
}
pub(crate) use lane_script;

/// One that ends a turn.
macro_rules! ending_script {
    ($name:literal) => {
        concat!(
            include_str!("../scripts/lane.lua"),
            include_str!("../scripts/recording.lua"),
            include_str!(concat!("../scripts/", $name, ".lua"))
        )
    };
}

/// One of admission.
macro_rules! admission_script {
    ($name:literal) => {
        concat!(
            include_str!("../scripts/holds.lua"),
            include_str!(concat!("../scripts/", $name, ".lua"))
        )
    };
}
pub(crate) use admission_script;

pub(crate) static PUBLISH: Script = Script::new(lane_script!("publish"));
pub(crate) static COMMIT: Script = Script::new(ending_script!("commit"));
pub(crate) static BURY: Script = Script::new(ending_script!("bury"));
pub(crate) static RENEW: Script = Script::new(include_str!("../scripts/renew.lua"));
pub(crate) static RELEASE: Script = Script::new(include_str!("../scripts/release.lua"));
pub(crate) static RECLAIM: Script = Script::new(include_str!("../scripts/reclaim.lua"));
pub(crate) static JANITOR: Script = Script::new(include_str!("../scripts/janitor.lua"));
pub(crate) static QUEUE: Script = Script::new(include_str!("../scripts/queue.lua"));
pub(crate) static LOOK: Script = Script::new(include_str!("../scripts/look.lua"));
pub(crate) static STORY: Script = Script::new(include_str!("../scripts/story.lua"));

/// A script in the tree; its head says what it takes, gives and keeps true.
pub(crate) struct Script {
    code: &'static str,
    sha: OnceLock<String>,
}

/// One run of a script: its keys and arguments, ready to be sent again.
pub(crate) struct Call {
    script: &'static Script,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Script {
    pub(crate) const fn new(code: &'static str) -> Self {
        let sha = OnceLock::new();
        Self { code, sha }
    }

    pub(crate) fn call(&'static self) -> Call {
        Call {
            script: self,
            keys: Vec::new(),
            args: Vec::new(),
        }
    }

    /// The commands that it runs, as often as it does, except those whose failure it bears (`pcall`). One of several in
    /// one is named as the ACL does: `XINFO|GROUPS`.
    pub(crate) fn commands(&self) -> impl Iterator<Item = String> {
        let calls = self.code.split("redis.call('").skip(1);
        calls.filter_map(|rest| {
            let mut quoted = rest.split('\'');
            let name = quoted.next()?;
            Some(match name {
                "XGROUP" | "XINFO" => format!("{name}|{}", quoted.nth(1)?),
                _ => name.to_owned(),
            })
        })
    }

    fn sha(&self) -> &str {
        self.sha
            .get_or_init(|| redis::Script::new(self.code).get_hash().to_owned())
    }
}

impl Call {
    pub(crate) fn key(&mut self, key: impl Into<String>) -> &mut Self {
        self.keys.push(key.into());
        self
    }

    pub(crate) fn keys(&mut self, keys: impl IntoIterator<Item = String>) -> &mut Self {
        self.keys.extend(keys);
        self
    }

    pub(crate) fn arg(&mut self, arg: impl Into<Vec<u8>>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn number(&mut self, arg: impl Into<u64>) -> &mut Self {
        self.arg(arg.into().to_string())
    }

    /// The number of items, for a list that follows.
    pub(crate) fn count<T>(&mut self, items: &[T]) -> &mut Self {
        self.arg(items.len().to_string())
    }

    /// Runs it once. After [`Error::Unreachable`] it may have been done or not.
    pub(crate) async fn run(&self, link: &Link) -> Result<Value, Error> {
        let (reply, _) = self.ask(link).await.map_err(|(error, _)| error)?;
        Ok(reply)
    }

    /// Runs an idempotent script until a reply comes, and tells whether replicas have what it wrote.
    pub(crate) async fn run_until_replicated(
        &self,
        link: &Link,
    ) -> Result<(Value, Replicated), Error> {
        match self.run_until_known(link).await {
            // It may be asked for again, so that nobody need know whether it was done.
            Err(Error::Unheard(error)) => Err(*error),
            done => done,
        }
    }

    /// The same, and whether replicas have it; with an error whether it may have been done.
    async fn ask(&self, link: &Link) -> Result<(Value, Replicated), (Error, bool)> {
        let probe = probe_beside(self.keys.first().map_or("", String::as_str));
        let by_hash = self.command("EVALSHA", self.script.sha());
        link.run((by_hash, self.script.code), probe).await
    }

    /// Runs one that leaves nothing that replicas should have, once and by itself.
    pub(crate) async fn run_alone(&self, link: &Link) -> Result<Value, Error> {
        match link
            .query(&self.command("EVALSHA", self.script.sha()))
            .await
        {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                link.query(&self.command("EVAL", self.script.code)).await
            }
            reply => reply,
        }
    }

    /// Runs an idempotent script until a reply comes; the link paces the tries.
    pub(crate) async fn run_until_answered(&self, link: &Link) -> Result<Value, Error> {
        self.run_until_heard(link).await.map(|(reply, _)| reply)
    }

    /// The same; tells also whether an earlier try may have done it, and its reply was lost.
    pub(crate) async fn run_until_heard(&self, link: &Link) -> Result<(Value, bool), Error> {
        let (reply, _, unheard) = self.run_until_heard_replicated(link).await?;
        Ok((reply, unheard))
    }

    /// The same; tells also whether replicas have what it wrote.
    pub(crate) async fn run_until_heard_replicated(
        &self,
        link: &Link,
    ) -> Result<(Value, Replicated, bool), Error> {
        self.try_often(link).await.map_err(|(error, _)| error)
    }

    /// The same as [`Call::run_until_heard`].
    ///
    /// # Errors
    /// [`Error::Unheard`] where one of the tries may have been done.
    pub(crate) async fn run_until_ended(&self, link: &Link) -> Result<(Value, bool), Error> {
        match self.try_often(link).await {
            Ok((reply, _, unheard)) => Ok((reply, unheard)),
            Err((error, true)) => Err(Error::Unheard(Box::new(error))),
            Err((error, false)) => Err(error),
        }
    }

    /// Runs an idempotent script until a reply comes.
    ///
    /// # Errors
    /// [`Error::Unheard`] where one of the tries may have been done.
    pub(crate) async fn run_until_known(&self, link: &Link) -> Result<(Value, Replicated), Error> {
        match self.try_often(link).await {
            Ok((reply, replicated, _)) => Ok((reply, replicated)),
            Err((error, true)) => Err(Error::Unheard(Box::new(error))),
            Err((error, false)) => Err(error),
        }
    }

    /// The reply, whether replicas have what was done, and whether an earlier try may have done it; with an error whether
    /// one of them may have.
    async fn try_often(&self, link: &Link) -> Result<(Value, Replicated, bool), (Error, bool)> {
        let mut may_be_done = false;
        for tries in 1.. {
            let (error, is_unheard) = match self.ask(link).await {
                Ok((reply, replicated)) => {
                    // By a try of which nobody heard: one of ours, or of the client's own. What is done now its batch counts.
                    if did(&reply) == Did::Before && (may_be_done || link.sends_again()) {
                        link.count(replicated);
                    }
                    return Ok((reply, replicated, may_be_done));
                }
                Err(failed) => failed,
            };
            may_be_done |= is_unheard;
            if !matches!(error, Error::Unreachable(_)) || tries == TRIES {
                return Err((error, may_be_done));
            }
        }
        unreachable!("the tries are counted")
    }

    fn command(&self, name: &str, script: &str) -> redis::Cmd {
        let mut cmd = redis::cmd(name);
        cmd.arg(script).arg(self.keys.len());
        cmd.arg(&self.keys).arg(&self.args);
        cmd
    }
}

/// The same run of a script by its text, for a server that does not know its hash yet.
pub(crate) fn by_text(by_hash: &redis::Cmd, code: &str) -> redis::Cmd {
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(code);
    for arg in by_hash.args_iter().skip(2) {
        if let redis::Arg::Simple(arg) = arg {
            cmd.arg(arg);
        }
    }
    cmd
}

/// What a script did, by the word that its reply begins with, or by how many it removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    Now,
    /// It found it done.
    Before,
    Nothing,
}

const BEFORE: [&str; 3] = ["AGAIN", "DUP", "GONE"];
/// Why nothing was done.
const NOTHING: [&str; 10] = [
    "EXISTS", "FENCED", "FULL", "LARGE", "LOST", "MOVED", "NOSTORY", "OVER", "STALE", "WAIT",
];

pub(crate) fn did(reply: &Value) -> Did {
    if matches!(reply, Value::ServerError(_) | Value::Int(0)) {
        return Did::Nothing;
    }
    let Value::Array(parts) = reply else {
        return Did::Now;
    };
    let Some(Value::BulkString(word)) = parts.first() else {
        return Did::Now;
    };
    let is_it = |of: &&str| of.as_bytes() == word;
    if BEFORE.iter().any(is_it) {
        Did::Before
    } else if NOTHING.iter().any(is_it) {
        Did::Nothing
    } else {
        Did::Now
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A script that is to say something new says here, too, whether it did anything.
    #[test]
    fn of_each_word_of_the_scripts_it_is_known_what_was_done() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");
        let mut words = BTreeSet::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let code = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let replies = code.split("return {").skip(1);
            let quoted = replies.filter_map(|reply| reply.trim_start().strip_prefix('\''));
            words.extend(quoted.filter_map(|reply| Some(reply.split_once('\'')?.0.to_owned())));
        }
        let known = BEFORE.into_iter().chain(NOTHING).chain(["OK"]);
        let known: BTreeSet<String> = known.map(str::to_owned).collect();
        assert_eq!(words, known);
        for (word, did_so) in [
            ("OK", Did::Now),
            ("DUP", Did::Before),
            ("FULL", Did::Nothing),
        ] {
            let reply = Value::Array(vec![Value::BulkString(word.into())]);
            assert_eq!(did(&reply), did_so);
        }
        assert_eq!(did(&Value::Int(0)), Did::Nothing);
        assert_eq!(did(&Value::Int(7)), Did::Now);
    }
}
