//! Drafts: the text of a response while it is generated. Fenced like a commit, so that only who will commit a response
//! is read meanwhile; and a courtesy: readers have the whole text with the event, whatever happens to its draft.

use std::time::Duration;

use redis::Value;
use serde_json::json;
use story::{Agent, EventId, Seq, StoryId};

use crate::lease::millis;
use crate::reply::{next, read, verdict};
use crate::script::{Call, Script};
use crate::view::{Chunk, Drafts, Running};
use crate::{Bus, Error, LeaseId};

pub(crate) static DRAFT: Script = Script::new(include_str!("../scripts/draft.lua"));
pub(crate) static PAID: Script = Script::new(include_str!("../scripts/paid.lua"));
pub(crate) static RESET: Script = Script::new(include_str!("../scripts/reset.lua"));

/// How long a draft's text outlives its last chunk.
const LIFE: Duration = Duration::from_secs(3_600);

/// A response that is being generated, and the lease under which it is.
#[derive(Debug, Clone)]
pub struct Draft {
    pub story: StoryId,
    pub agent: Agent,
    pub consumer: String,
    pub lease: LeaseId,
    /// The id that the response's event will have.
    pub re: EventId,
    /// As [`crate::Commit::answers`].
    pub answers: Option<Seq>,
}

/// The chunks `i … i+n-1` of one attempt. Each has a larger number than those before.
#[derive(Debug, Clone)]
pub struct DraftChunk<'a> {
    pub draft: &'a Draft,
    pub attempt: u32,
    pub i: u32,
    pub n: u32,
    pub text: &'a str,
}

/// Whether the chunk counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drafted {
    Ok,
    /// The lease is lost or a later attempt has begun: this worker should stop generating.
    Stale,
}

impl Bus {
    /// Shows a chunk to readers. May be repeated.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn draft(&self, chunk: &DraftChunk<'_>) -> Result<Drafted, Error> {
        let DraftChunk {
            draft,
            attempt,
            i,
            n,
            text,
        } = *chunk;
        let message = json!({
            "t": "delta", "story": draft.story, "re": draft.re,
            "attempt": attempt, "i": i, "n": n, "text": text,
        });
        let mut call = self.drafting(&DRAFT, draft);
        call.number(attempt).number(i).number(n).arg(text);
        call.arg(message.to_string()).number(millis(LIFE));
        call.number(place(draft.answers));
        let (word, _) = verdict(call.run_until_answered(&self.link).await?)?;
        match word.as_str() {
            "OK" => Ok(Drafted::Ok),
            "STALE" => Ok(Drafted::Stale),
            _ => Err(Error::data(format!("draft.lua replied {word}"))),
        }
    }

    /// Begins a new attempt at a response; gives its number, `None` when the lease is lost.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn reset_draft(&self, draft: &Draft) -> Result<Option<u32>, Error> {
        // The script knows the attempt: it is written last.
        let opening = json!({"t": "reset", "story": draft.story, "re": draft.re}).to_string();
        let opening = format!("{},\"attempt\":", opening.trim_end_matches('}'));
        let mut call = self.drafting(&RESET, draft);
        call.arg(opening).number(place(draft.answers));
        let (word, rest) = verdict(call.run_until_answered(&self.link).await?)?;
        match word.as_str() {
            "OK" => next(&mut rest.into_iter()).map(Some),
            "STALE" => Ok(None),
            _ => Err(Error::data(format!("reset.lua replied {word}"))),
        }
    }

    /// Keeps an answer that was paid for until the turn ends, with how the turn was begun: [`crate::Fetched::paid`].
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn keep_paid(
        &self,
        draft: &Draft,
        begun: &[u8],
        answer: &[u8],
    ) -> Result<Drafted, Error> {
        let mut call = PAID.call();
        call.key(self.keys.work(draft.agent, draft.lease.shard))
            .key(self.keys.paid(&draft.story, &draft.re));
        call.arg(draft.lease.entry.as_str())
            .arg(draft.consumer.as_str())
            .arg(begun)
            .arg(answer)
            .number(millis(LIFE));
        let (word, _) = verdict(call.run_alone(&self.link).await?)?;
        match word.as_str() {
            "OK" => Ok(Drafted::Ok),
            "STALE" => Ok(Drafted::Stale),
            _ => Err(Error::data(format!("paid.lua replied {word}"))),
        }
    }

    /// The drafts that run in a story, and the log's end when they did.
    pub(crate) async fn running(&self, story: &StoryId) -> Result<Drafts, Error> {
        let mut pipe = redis::pipe();
        pipe.cmd("HGETALL").arg(self.keys.drafts(story));
        // After the drafts: whatever ended before them is in the log up to here.
        pipe.cmd("HGET").arg(self.keys.ctx(story)).arg("seq");
        let mut replies = self.link.pipe(&pipe).await?.into_iter();
        let fields: Vec<(String, String)> = next(&mut replies)?;
        let end = Seq(next::<Option<u64>>(&mut replies)?.unwrap_or(0));
        let named: Vec<(EventId, u32)> = fields.iter().filter_map(named).collect();
        if named.is_empty() {
            let running = Vec::new();
            return Ok(Drafts { end, running });
        }
        let mut pipe = redis::pipe();
        for (re, attempt) in &named {
            let list = self.keys.draft(story, re, *attempt);
            pipe.cmd("LRANGE").arg(list).arg(0).arg(-1);
        }
        let lists = self.link.pipe(&pipe).await?;
        let running = named.into_iter().zip(lists).map(|((re, attempt), list)| {
            let chunks = chunks(list)?;
            Ok(Running {
                re,
                attempt,
                chunks,
            })
        });
        let running = running.collect::<Result<_, Error>>()?;
        Ok(Drafts { end, running })
    }

    fn drafting(&self, script: &'static Script, draft: &Draft) -> Call {
        let keys = &self.keys;
        let mut call = script.call();
        call.key(keys.work(draft.agent, draft.lease.shard))
            .key(keys.drafts(&draft.story))
            .key(keys.draft_base(&draft.story, &draft.re))
            .key(keys.live(&draft.story))
            .key(keys.gone(&draft.story));
        call.arg(draft.lease.entry.as_str())
            .arg(draft.consumer.as_str())
            .arg(draft.agent.as_str())
            .arg(draft.re.as_str());
        call
    }
}

/// As scripts are told it.
pub(crate) fn place(answers: Option<Seq>) -> u64 {
    answers.map_or(0, |seq| seq.0)
}

/// `<agent>` → `<response id>:<attempt>`; the other fields count attempts.
fn named((field, value): &(String, String)) -> Option<(EventId, u32)> {
    field.parse::<Agent>().ok()?;
    let (re, attempt) = value.rsplit_once(':')?;
    Some((re.parse().ok()?, attempt.parse().ok()?))
}

fn chunks(list: Value) -> Result<Vec<Chunk>, Error> {
    let elements: Vec<String> = read(list)?;
    let chunk = |element: &String| {
        let mut parts = element.splitn(3, ' ');
        let i: u32 = parts.next()?.parse().ok()?;
        let n: u32 = parts.next()?.parse().ok()?;
        i.checked_add(n)?;
        let text = parts.next()?.to_owned();
        Some(Chunk { i, n, text })
    };
    let chunks = elements.iter().map(chunk).collect::<Option<_>>();
    chunks.ok_or_else(|| Error::data("a draft's chunk is not '<i> <n> <text>'"))
}
