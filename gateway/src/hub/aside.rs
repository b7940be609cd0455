//! What a reader may miss: who is in a story, and who types there. It has no cursor and waits in no queue: of each kind the
//! latest is kept until the reader can take it, so that it makes nobody slow and no text waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use story::StoryId;
use tokio::time::Instant;

/// People who are named in one message. Few: every connection keeps the room that its largest message took.
const NAMED: usize = 20;
/// Those who type, of whom one reader is still to be told.
const TYPISTS: usize = 16;
/// What is said of somebody who types is true for so long.
const TRUE: Duration = Duration::from_secs(3);

/// One of these messages, encoded once for all readers.
#[derive(Debug)]
pub(crate) struct Notice {
    kind: Kind,
    at: Instant,
    socket: Utf8Bytes,
    stream: OnceLock<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Presence,
    /// Of this person.
    Typing(Arc<str>),
}

#[derive(Serialize)]
#[serde(tag = "t", rename_all = "lowercase")]
enum Frame<'a> {
    Presence {
        story: &'a StoryId,
        people: Vec<Named<'a>>,
        count: u64,
    },
    Typing {
        story: &'a StoryId,
        sub: &'a str,
        name: &'a str,
    },
}

#[derive(Serialize)]
struct Named<'a> {
    sub: &'a str,
    name: &'a str,
}

impl Notice {
    /// Some of these people by name, and how many there are.
    pub(crate) fn presence(story: &StoryId, here: &bus::Here) -> Self {
        let people = here.people.iter().take(NAMED).map(|person| Named {
            sub: &person.sub,
            name: &person.name,
        });
        let (people, count) = (people.collect(), here.count);
        let frame = Frame::Presence {
            story,
            people,
            count,
        };
        Self::new(Kind::Presence, &frame)
    }

    pub(crate) fn typing(story: &StoryId, sub: &str, name: &str) -> Self {
        Self::new(
            Kind::Typing(sub.into()),
            &Frame::Typing { story, sub, name },
        )
    }

    fn new(kind: Kind, frame: &Frame<'_>) -> Self {
        let json = serde_json::to_string(frame);
        let json = json.unwrap_or_else(|error| unreachable!("a notice is always JSON: {error}"));
        Self {
            kind,
            at: Instant::now(),
            socket: json.into(),
            stream: OnceLock::new(),
        }
    }

    /// Whether a reader would see the same.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.socket == other.socket
    }

    /// Whether this person is told: nobody is told of themselves that they type.
    pub(crate) fn is_for(&self, sub: &str) -> bool {
        !matches!(&self.kind, Kind::Typing(typist) if &**typist == sub)
    }

    /// The message of a WebSocket.
    pub(crate) fn socket(&self) -> Utf8Bytes {
        self.socket.clone()
    }

    /// The server-sent event. Without an id, so that the reader's cursor stays.
    pub(crate) fn stream(&self) -> Bytes {
        let kind = match self.kind {
            Kind::Presence => "presence",
            Kind::Typing(_) => "typing",
        };
        let event = || format!("event: {kind}\ndata: {}\n\n", self.socket).into();
        self.stream.get_or_init(event).clone()
    }

    fn is_over(&self) -> bool {
        self.kind != Kind::Presence && self.at.elapsed() > TRUE
    }
}

/// The notices that one reader has not taken, each with the number of its story: of each story one presence, and a few
/// who type.
#[derive(Debug, Default)]
pub(super) struct Aside(VecDeque<(u32, Arc<Notice>)>);

impl Aside {
    pub(super) fn put(&mut self, number: u32, notice: &Arc<Notice>) {
        self.0
            .retain(|(known, old)| *known != number || old.kind != notice.kind);
        let is_typing = |old: &(u32, Arc<Notice>)| old.1.kind != Kind::Presence;
        if notice.kind != Kind::Presence
            && self.0.iter().filter(|old| is_typing(old)).count() == TYPISTS
            && let Some(oldest) = self.0.iter().position(is_typing)
        {
            self.0.remove(oldest);
        }
        self.0.push_back((number, Arc::clone(notice)));
    }

    /// What is given next.
    pub(super) fn take(&mut self) -> Option<(u32, Arc<Notice>)> {
        while let Some((number, notice)) = self.0.pop_front() {
            if !notice.is_over() {
                return Some((number, notice));
            }
        }
        // Most readers have none most of the time.
        self.0 = VecDeque::new();
        None
    }

    /// Whoever left a story is told nothing more of it.
    pub(super) fn forget(&mut self, number: u32) {
        self.0.retain(|(known, _)| *known != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn castle() -> StoryId {
        "castle".parse().unwrap()
    }

    fn presence(count: u64) -> Arc<Notice> {
        let people = (0..count).map(|i| bus::Person {
            sub: format!("p{i:04}"),
            name: "</script>\n\"".to_owned(),
            connections: 1,
        });
        let people = people.collect();
        Arc::new(Notice::presence(&castle(), &bus::Here { people, count }))
    }

    fn typing(sub: &str) -> Arc<Notice> {
        Arc::new(Notice::typing(&castle(), sub, sub))
    }

    #[test]
    fn only_the_latest_of_each_story_is_kept_and_few_who_type() {
        let mut aside = Aside::default();
        for count in 0..1_000 {
            aside.put(7, &presence(count % 10));
            aside.put(8, &presence(count % 10));
            aside.put(7, &typing(&format!("p{count}")));
            aside.put(7, &typing(&format!("p{count}")));
        }
        let kept: Vec<_> = std::iter::from_fn(|| aside.take()).collect();
        assert_eq!(kept.len(), 2 + TYPISTS);
        let last = presence(9);
        let presences = kept.iter().filter(|(_, kept)| kept.says_the_same(&last));
        assert_eq!(
            presences.map(|(number, _)| *number).collect::<Vec<_>>(),
            [7, 8]
        );
        assert!(
            kept.iter()
                .any(|(_, kept)| kept.says_the_same(&typing("p999")))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_typed_long_ago_types_no_more() {
        let mut aside = Aside::default();
        aside.put(0, &typing("mira"));
        aside.put(0, &presence(1));
        tokio::time::advance(TRUE + Duration::from_millis(1)).await;
        let (_, next) = aside.take().unwrap();
        assert!(next.says_the_same(&presence(1)));
        assert!(aside.take().is_none());
        aside.put(0, &presence(1));
        aside.forget(0);
        assert!(aside.take().is_none());
    }

    #[test]
    fn a_message_names_so_many_and_counts_all_and_is_one_line() {
        let notice = presence(101);
        let json: serde_json::Value = serde_json::from_str(&notice.socket()).unwrap();
        assert_eq!(json["people"].as_array().map(Vec::len), Some(NAMED));
        assert_eq!(
            (&json["t"], &json["count"]),
            (&"presence".into(), &101.into())
        );
        let event = String::from_utf8(notice.stream().to_vec()).unwrap();
        assert!(event.starts_with("event: presence\ndata: {"), "{event}");
        assert!(
            event.ends_with("}\n\n") && event.lines().count() == 3,
            "{event}"
        );
        assert!(!typing("mira").is_for("mira") && typing("mira").is_for("oto"));
        assert!(notice.is_for("p0000"));
    }
}
