//! What a story is made of, as the tests make it.

use story::{Action, Author, AuthorKind, Mode};

use super::*;

pub(super) fn id(text: &str) -> EventId {
    text.parse().unwrap()
}

pub(super) fn castle() -> Arc<StoryId> {
    Arc::new("castle".parse().unwrap())
}

pub(super) fn start() -> Cursor {
    Cursor {
        epoch: "e".to_owned(),
        seq: Seq(0),
        tag: Tag::START,
        draft: None,
    }
}

pub(super) fn event(id: EventId, kind: AuthorKind, payload: Payload) -> Event {
    let author = Author {
        kind,
        id: "u1".to_owned(),
        name: String::new(),
    };
    let at = jiff::Timestamp::UNIX_EPOCH;
    Event::new(id, StoryId::clone(&castle()), author, payload, at)
}

pub(super) fn action(text: &str) -> Payload {
    Payload::Action(Action {
        mode: Mode::Do,
        text: text.to_owned(),
        to: None,
        choice: None,
        target: None,
    })
}

pub(super) fn failed(agent: Agent) -> Payload {
    Payload::Failed(story::Failed {
        agent: agent.to_string(),
        class: "crash".to_owned(),
        tries: 3,
        notice: String::new(),
    })
}

pub(super) fn blocked(target: EventId) -> Payload {
    Payload::Verdict(story::Verdict {
        target,
        stage: story::Stage::Output,
        decision: story::Decision::Block,
        categories: Vec::new(),
        tier: "rules".to_owned(),
        reason: String::new(),
    })
}
