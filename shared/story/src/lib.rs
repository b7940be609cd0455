//! Events, ids, context, cursors, routing, names and sentences: the pure types and rules of a story. No I/O, no clock, no randomness.

mod content;
mod context;
mod cursor;
mod event;
mod id;
mod name;
mod payload;
mod route;
mod sentence;
mod terminal;
mod trace;

pub use content::{ContentChange, ContentPolicy, MAX_PHRASES, PhraseError, Phrases, Rating};
pub use context::{
    Character, Context, InputPolicy, LogEntry, OutputPolicy, Policies, PoliciesChange,
    RecordingPolicy, UnknownPolicy,
};
pub use cursor::{Cursor, CursorError, Position, Tag};
pub use event::{
    Author, AuthorKind, DecodeError, Event, MAX_AUDIENCE, MAX_EVENT_BYTES, MAX_USER_BYTES, VERSION,
};
pub use id::{EventId, IdError, Seq, StoryId, responses};
pub use name::{MAX_NAME, hides, is_format, is_mark, is_name, shows, steers, unseen};
pub use payload::{
    Action, Choice, Decision, Dialogue, Failed, LlmReport, Mode, Narration, Payload, Retracted,
    Speak, Stage, Status, Unknown, Verdict,
};
pub use route::{Agent, MAX_HOPS, Route, Step, UnknownAgent, may_publish, passed, route};
pub use sentence::ends_sentence;
pub use terminal::{Outcome, ended_with, outcome};
pub use trace::{Traceparent, TraceparentError};
