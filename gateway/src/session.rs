//! A client's session on a socket, without the socket: takes what the client says and what comes of it, and tells what is
//! to be done. Everything that waits (tokens, Redis) is somebody else's: its outcome comes back as a call.

mod limit;
#[cfg(test)]
mod property;
pub(crate) mod secret;
mod stories;
#[cfg(test)]
mod tests;
mod token;
mod typing;

use std::sync::Arc;

use story::{Cursor, Event, EventId, StoryId};
use tokio::time::{Duration, Instant};

use crate::auth::{Identity, Role};
use crate::hub::Typist;
use crate::problem::brief;
use crate::said::Said;
use crate::wire::{Answer, Close, Code, MAX_FRAME_BYTES, MAX_MESSAGES, Reference, Request};

pub(crate) use limit::Limit;
pub use limit::Rate;
use stories::Stories;

/// The stories that a socket may be in.
pub(crate) const MAX_STORIES: usize = 64;
/// How long a socket without a token may be open.
pub(crate) const AUTH: Duration = Duration::from_secs(5);
/// Pings and frames with nothing in them: so many times the messages.
const FRAMES: u32 = 4;

/// What is to be done, in this order.
#[derive(Debug, PartialEq)]
pub(crate) enum Act {
    Send(Answer),
    /// Then: [`Session::verified`].
    Verify {
        token: secret::Token,
        reference: Reference,
    },
    /// Then: [`Session::joined`].
    Join {
        number: u32,
        story: StoryId,
        cursor: Option<Cursor>,
        reference: Reference,
    },
    /// Answered when the client asked for it.
    Leave {
        number: u32,
        reference: Option<Reference>,
    },
    /// Then: [`Answer`]s of its own.
    Publish {
        event: Box<Event>,
        /// Under which the client may send it again.
        name: EventId,
        reference: Reference,
    },
    /// Others are told, if possible; answered when the client asked for it.
    Type {
        story: StoryId,
        typist: Typist,
        reference: Reference,
    },
    Close(Close),
}

/// The two clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Seconds.
    pub(crate) unix: u64,
}

#[derive(Debug)]
pub(crate) struct Session {
    identity: Option<Arc<Identity>>,
    /// When the token is over, or must have come.
    until: Instant,
    /// What is on its way to be looked at.
    verifying: Option<Reference>,
    /// What was said while the first one was, and how much that is.
    early: Vec<Request>,
    early_bytes: usize,
    stories: Stories,
    /// The next story's; none is used twice.
    number: u32,
    limit: Limit,
    typed: typing::Typed,
    /// Of frames, whatever is in them.
    frames: Limit,
    ping: Duration,
}

impl Session {
    pub(crate) fn new(now: Now, rate: Rate, ping: Duration) -> Self {
        Self {
            identity: None,
            until: now.instant + AUTH,
            verifying: None,
            early: Vec::new(),
            early_bytes: 0,
            stories: Stories::default(),
            number: 0,
            limit: Limit::new(rate, now.instant),
            typed: typing::Typed::default(),
            frames: Limit::new(rate.times(FRAMES), now.instant),
            ping,
        }
    }

    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// When [`Session::expired`] is to be called, if nobody comes before.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Whether what a story gives under this number is still to be sent.
    pub(crate) fn is_in(&self, number: u32) -> bool {
        self.stories.has(number)
    }

    /// Takes a frame that is no message: it costs little, and not nothing.
    pub(crate) fn control(&mut self, now: Now) -> Vec<Act> {
        let taken = self.frames.take(now.instant);
        taken.map_or_else(|after| flood(after).into(), |()| Vec::new())
    }

    /// Takes a text frame: a message a line.
    pub(crate) fn frame(&mut self, text: &str, now: Now) -> Vec<Act> {
        let mut acts = self.control(now);
        if !acts.is_empty() {
            return acts;
        }
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        for (count, line) in lines.enumerate() {
            if count == MAX_MESSAGES {
                acts.push(Act::Close(Close::BadMessage));
                break;
            }
            if let Err(after) = self.limit.take(now.instant) {
                acts.extend(flood(after));
                break;
            }
            match serde_json::from_str::<serde_json::Value>(line) {
                Ok(message) => acts.extend(self.message(message, line.len(), now)),
                Err(_) => {
                    acts.push(Act::Close(Close::BadMessage));
                    break;
                }
            }
        }
        acts
    }

    fn message(&mut self, message: serde_json::Value, bytes: usize, now: Now) -> Vec<Act> {
        let reference = message.get("ref").cloned();
        let reference = reference.and_then(|value| serde_json::from_value(value).ok());
        let request = match message.is_object() {
            true => serde_json::from_value(message),
            // Its fields in their order would do for serde.
            false => Err(serde::de::Error::custom("it is no object")),
        };
        match request {
            Ok(request) => self.request(request, bytes, now),
            Err(error) => vec![Act::Send(Answer::err(
                reference.unwrap_or_default(),
                Code::BadMessage,
                format!("not a message of this protocol: {}", brief(&error)),
            ))],
        }
    }

    fn request(&mut self, request: Request, bytes: usize, now: Now) -> Vec<Act> {
        vec![match (request, self.identity.clone()) {
            (Request::Auth { token, reference }, _) => self.auth(token, reference),
            (Request::Ping { reference }, _) => Act::Send(Answer::ok(reference)),
            // Clients need not wait for their welcome.
            (request, None) if self.verifying.is_some() => {
                // After what is refused nothing is kept: what follows may need it.
                self.early_bytes = self.early_bytes.saturating_add(bytes);
                if self.early_bytes > MAX_FRAME_BYTES {
                    let words = "that is much to say before you are known: wait for your welcome";
                    let answer = Answer::err(reference(request), Code::TooMany, words);
                    return vec![Act::Send(answer)];
                }
                self.early.push(request);
                return Vec::new();
            }
            (Request::Typing { story, reference }, _) => {
                return self.types(story, reference, now).into_iter().collect();
            }
            (request, None) => Act::Send(unknown(reference(request))),
            (
                Request::Join {
                    story,
                    cursor,
                    reference,
                },
                Some(identity),
            ) => self.join((story, cursor), reference, &identity),
            (Request::Leave { story, reference }, Some(_)) => self.leave(&story, reference),
            (
                Request::Publish {
                    story,
                    event,
                    reference,
                },
                Some(identity),
            ) => self.publish((story, event), reference, &identity),
        }]
    }

    fn leave(&mut self, story: &StoryId, reference: Reference) -> Act {
        match self.stories.remove(story) {
            Some(number) => Act::Leave {
                number,
                reference: Some(reference),
            },
            None => Act::Send(not_joined(reference, story)),
        }
    }

    fn publish(
        &self,
        (story, mut said): (StoryId, Box<Said>),
        reference: Reference,
        identity: &Identity,
    ) -> Act {
        if !self.stories.contains_key(&story) {
            return Act::Send(not_joined(reference, &story));
        }
        if identity.role(&story) < Some(Role::Author) {
            let words = format!("your token does not let you write in {story}");
            return Act::Send(Answer::err(reference, Code::Forbidden, words));
        }
        let name = said.name();
        match said.event(story, identity) {
            Ok(event) => Act::Publish {
                event: Box::new(event),
                name,
                reference,
            },
            Err(fault) => Act::Send(Answer::err(reference, Code::BadMessage, fault.to_string())),
        }
    }

    fn join(
        &mut self,
        (story, cursor): (StoryId, Option<String>),
        reference: Reference,
        identity: &Identity,
    ) -> Act {
        let err = |code, words: String| Act::Send(Answer::err(reference.clone(), code, words));
        if identity.role(&story).is_none() {
            let words = format!("your token does not let you read {story}");
            return err(Code::Forbidden, words);
        }
        if self.stories.contains_key(&story) {
            let words = format!("you are in {story} already: leave it first");
            return err(Code::BadMessage, words);
        }
        if self.stories.len() == MAX_STORIES {
            let words = format!("a socket may be in {MAX_STORIES} stories: leave one first");
            return err(Code::TooMany, words);
        }
        let cursor = match cursor.map(|text| text.parse()).transpose() {
            Ok(cursor) => cursor,
            Err(error) => {
                let words = format!("{error}: without one you begin with the last events");
                return err(Code::BadCursor, words);
            }
        };
        let number = self.number;
        self.number += 1;
        self.stories.insert(story.clone(), number);
        Act::Join {
            number,
            story,
            cursor,
            reference,
        }
    }

    /// Nothing more comes of the story with this number: whoever is in it is told to come back after that time, and stays in
    /// the others.
    pub(crate) fn out(&mut self, number: u32, after_ms: u64) -> Vec<Act> {
        let Some(story) = self.stories.remove_number(number) else {
            return Vec::new();
        };
        let answer = Answer::Err {
            reference: Reference::default(),
            code: Code::Unavailable,
            message: format!("{story} cannot be read now: join it again"),
            after_ms: Some(after_ms),
            id: None,
            story: Some(story),
        };
        let reference = None;
        vec![Act::Leave { number, reference }, Act::Send(answer)]
    }

    /// What came of [`Act::Join`], as it is answered.
    pub(crate) fn joined(
        &mut self,
        number: u32,
        story: &StoryId,
        outcome: Result<Answer, Answer>,
    ) -> Answer {
        outcome.unwrap_or_else(|refusal| {
            // It may have been left and joined anew since.
            if self.stories.get(story) == Some(&number) {
                self.stories.remove(story);
            }
            refusal
        })
    }
}

fn unknown(reference: Reference) -> Answer {
    let words = "say who you are first: {\"t\":\"auth\",\"token\":…}";
    Answer::err(reference, Code::Auth, words)
}

fn flood(after: Duration) -> [Act; 2] {
    let answer = Answer::err(Reference::default(), Code::Rate, "too many messages");
    [Act::Send(answer.later(after)), Act::Close(Close::Rate)]
}

fn not_joined(reference: Reference, story: &StoryId) -> Answer {
    let words = format!("you are not in {story}: join it first");
    Answer::err(reference, Code::NotJoined, words)
}

fn reference(request: Request) -> Reference {
    match request {
        Request::Auth { reference, .. }
        | Request::Join { reference, .. }
        | Request::Leave { reference, .. }
        | Request::Publish { reference, .. }
        | Request::Typing { reference, .. }
        | Request::Ping { reference } => reference,
    }
}
