//! Where a reader is in the drafts that run: what joins to what was given of one is given, and what does not is read.

use story::{Decision, Event, EventId, Payload, Position};

use super::{Chunk, Due, Running, Seen, View};

/// How many drafts, and ends of some without their events, are remembered: more than run at once. A draft that is forgotten while it runs
/// is given again as a whole.
const MAX_DRAFTS: usize = 32;

impl View {
    pub(super) fn delta(&mut self, re: &EventId, attempt: u32, chunk: Chunk) {
        let known = self.running.iter().any(|at| at.response == *re);
        if !known && (chunk.i > 0 || self.gave_up(re)) {
            self.due = Due::Drafts;
            return;
        }
        let Some(at) = self.attempt(re, attempt) else {
            return;
        };
        let end = chunk.i + chunk.n;
        if end <= at.i {
            return;
        }
        if chunk.i != at.i {
            self.due = Due::Drafts;
            return;
        }
        at.i = end;
        let Chunk { i, n, text } = chunk;
        let re = re.clone();
        self.ready.push_back(Seen::Delta {
            re,
            attempt,
            i,
            n,
            text,
        });
    }

    /// The place in this attempt of the response, which it makes known and, when it follows another one, gives as a
    /// reset; `None` when the attempt is over.
    pub(super) fn attempt(&mut self, re: &EventId, attempt: u32) -> Option<&mut Position> {
        if self.over(re) {
            return None;
        }
        let index = self.running.iter().position(|at| at.response == *re);
        let known = index.and_then(|index| self.running.remove(index));
        let reset = known.as_ref().is_some_and(|at| at.attempt < attempt);
        if reset {
            let re = re.clone();
            self.ready.push_back(Seen::Reset { re, attempt });
        }
        let over = known.as_ref().is_some_and(|at| at.attempt > attempt);
        let at = known
            .filter(|at| at.attempt >= attempt)
            .unwrap_or(Position {
                response: re.clone(),
                attempt,
                i: 0,
            });
        self.know(at);
        if over { None } else { self.running.back_mut() }
    }

    pub(super) fn draft(&mut self, draft: Running) {
        let Running {
            re,
            attempt,
            chunks,
        } = draft;
        if self.over(&re) {
            return;
        }
        let known = self.running.iter().find(|at| at.response == re);
        if known.is_some_and(|at| at.attempt >= attempt) {
            for chunk in chunks {
                self.delta(&re, attempt, chunk);
            }
            return;
        }
        let mut upto = 0;
        let mut text = String::new();
        for chunk in chunks {
            if chunk.i != upto {
                break;
            }
            upto += chunk.n;
            text.push_str(&chunk.text);
        }
        self.running.retain(|at| at.response != re);
        let response = re.clone();
        self.know(Position {
            response,
            attempt,
            i: upto,
        });
        self.ready.push_back(Seen::Snapshot {
            re,
            attempt,
            upto,
            text,
        });
    }

    /// Those that this event is the end of.
    pub(super) fn end_drafts(&mut self, event: &Event) {
        let is_end = |re: &EventId| *re == event.id || event.gives_up(re);
        self.running.retain(|at| !is_end(&at.response));
        let may_give_up = match event.payload() {
            Payload::Failed(_) | Payload::Retracted(_) => true,
            Payload::Verdict(verdict) => verdict.decision == Decision::Block,
            _ => false,
        };
        if may_give_up {
            if self.failures.len() == MAX_DRAFTS {
                self.failures.pop_front();
            }
            self.failures.push_back(event.clone());
        }
    }

    /// Whether it is not known since an event said that it will not come. It may be late, or be tried again: the drafts
    /// that run tell.
    pub(super) fn gave_up(&self, re: &EventId) -> bool {
        let is_known = self.running.iter().any(|at| at.response == *re);
        !is_known && self.failures.iter().any(|failed| failed.gives_up(re))
    }

    fn know(&mut self, at: Position) {
        if self.running.len() == MAX_DRAFTS {
            self.running.pop_front();
        }
        self.running.push_back(at);
    }

    /// Whether the response itself was given: no more of its draft is of interest.
    fn over(&self, re: &EventId) -> bool {
        self.recent.iter().any(|(_, id)| id == re)
    }
}
