//! Whatever a client says, in whatever order what it asks for comes about: no panic, one answer to each message, and a
//! session that is in the stories it says it is in.

use std::collections::{HashMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::app::Unauthorized;
use crate::auth::{Grants, Pattern};

const UNIX: u64 = 1_700_000_000;
/// The first `ref`: beyond what chance writes into a message.
const FIRST: u64 = 1 << 62;
const STORIES: [&str; 3] = ["castle", "moor", "tower"];

/// A message without its `ref`, or what is none.
#[derive(Debug, Clone)]
enum Line {
    /// An object: gets a `ref` of its own.
    Message(Value),
    /// Any other text of one line.
    Text(String),
}

/// What becomes of what the session asks for, in turn.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Good,
    Bad,
    /// A token of somebody else; for the rest it is bad.
    Other,
    /// A token that lets its person read the first story alone; for the rest it is good.
    Less,
}

#[derive(Debug, Clone)]
enum Step {
    Frame(Vec<Line>),
    /// Works off what waits, up to so many things.
    Work(usize),
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,70}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-z]{0,5}", inner), 0..4).prop_map(|pairs| pairs.into_iter().collect()),
        ]
    })
}

/// A value of a field as it should be, mostly.
fn field(good: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![8 => good.prop_map(Some), 1 => any_json().prop_map(Some), 1 => Just(None)]
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(words).prop_map(Value::from)
}

fn event() -> impl Strategy<Value = Value> {
    type Fields = (Option<Value>, Value, Option<Value>, Option<(String, Value)>);
    let action = |(id, mode, text, more): Fields| {
        let mut event = json!({"mode": mode});
        let fields = [("id".to_owned(), id), ("text".to_owned(), text)];
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in fields.chain(more) {
            event[name] = value;
        }
        event
    };
    let modes = word(&["do", "say", "story", "choose", "regenerate", "undo", "fly"]);
    let more = prop::option::weighted(
        0.3,
        ("(to|choice|target|audience|author|[a-z]{1,4})", any_json()),
    );
    let id = prop::option::weighted(0.5, word(&["a", "b", ""]));
    (id, modes, field(word(&["I wait", "", "\u{202e}"])), more).prop_map(action)
}

fn message() -> impl Strategy<Value = Value> {
    let kinds = word(&[
        "auth", "join", "join", "leave", "publish", "typing", "ping", "dance",
    ]);
    let cursors = word(&["e-0-0000", "e-1-abcd:r.1.2", "e-01-abcd", ""]);
    let fields = (
        field(kinds),
        field(word(&STORIES)),
        prop::option::weighted(0.3, field(cursors).prop_map(Option::unwrap_or_default)),
        field(event()),
        field(Just(json!("a token"))),
    );
    fields.prop_map(|(t, story, cursor, event, token)| {
        let fields = [
            ("t", t),
            ("story", story),
            ("cursor", cursor),
            ("event", event),
            ("token", token),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(fields.collect())
    })
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        24 => message().prop_map(Line::Message),
        2 => any_json().prop_map(|value| Line::Text(value.to_string())),
        1 => "\\PC{0,40}".prop_map(Line::Text),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(line(), 0..6).prop_map(Step::Frame),
        1 => vec(line(), 30..36).prop_map(Step::Frame),
        6 => (1_usize..4).prop_map(Step::Work),
    ]
}

fn luck() -> impl Strategy<Value = Vec<Luck>> {
    let all = [Luck::Good, Luck::Good, Luck::Bad, Luck::Other, Luck::Less];
    vec(prop::sample::select(all.to_vec()), 1..12)
}

fn identity(sub: &str, stories: &[&str]) -> Identity {
    let grants = stories.iter().map(|story| {
        let pattern: Pattern = story.parse().unwrap();
        (pattern, Role::Author)
    });
    Identity {
        sub: sub.to_owned(),
        name: sub.to_owned(),
        jti: None,
        issued_at: None,
        expires_at: UNIX + 60,
        stories: grants.collect::<Grants>(),
    }
}

/// A session and what does its work, as a socket has them.
struct Stage {
    session: Session,
    waits: VecDeque<Act>,
    luck: Vec<Luck>,
    worked: usize,
    /// What the client waits for: its number, and how often it was answered.
    asked: HashMap<u64, u32>,
    /// The stories that are read for it.
    members: HashMap<u32, StoryId>,
    closed: bool,
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix: UNIX,
    }
}

impl Stage {
    fn new(known: bool, burst: u32, luck: Vec<Luck>) -> Self {
        let rate = Rate {
            burst,
            every: Duration::from_secs(60),
        };
        let mut session = Session::new(now(), rate, Duration::from_secs(15));
        if known {
            session.welcome(identity("mira", &STORIES[..2]), now());
        }
        Self {
            session,
            waits: VecDeque::new(),
            luck,
            worked: 0,
            asked: HashMap::new(),
            members: HashMap::new(),
            closed: false,
        }
    }

    fn frame(&mut self, lines: Vec<Line>) -> Result<(), TestCaseError> {
        let (mut text, mut asked) = (Vec::new(), Vec::new());
        for line in lines {
            text.push(match line {
                Line::Text(text) => text,
                Line::Message(mut message) => {
                    let number = FIRST + (self.asked.len() + asked.len()) as u64;
                    asked.push(number);
                    message["ref"] = number.into();
                    message.to_string()
                }
            });
        }
        let (lines, text) = (text.len(), text.join("\n"));
        let acts = self.session.frame(&text, now());
        prop_assert!(acts.len() <= lines.min(MAX_MESSAGES) + 2);
        let closes = acts
            .iter()
            .filter(|act| matches!(act, Act::Close(_)))
            .count();
        let is_last = matches!(acts.last(), Some(Act::Close(_)));
        prop_assert_eq!(closes, usize::from(is_last));
        for act in &acts {
            self.may(act)?;
        }
        self.asked
            .extend(asked.into_iter().map(|number| (number, 0)));
        self.waits.extend(acts);
        Ok(())
    }

    /// Nobody does anything before it is known who they are, and nothing as somebody else.
    fn may(&self, act: &Act) -> Result<(), TestCaseError> {
        let identity = self.session.identity();
        match act {
            Act::Join { story, .. } => {
                prop_assert!(identity.is_some_and(|one| one.role(story).is_some()));
            }
            Act::Publish { event, .. } => {
                let may = identity.is_some_and(|one| one.role(&event.story) >= Some(Role::Author));
                prop_assert!(may && Some(&event.author.id) == identity.map(|one| &one.sub));
            }
            Act::Type { story, typist, .. } => {
                let may = identity.is_some_and(|one| one.role(story) >= Some(Role::Author));
                prop_assert!(may && Some(&typist.sub) == identity.map(|one| &one.sub));
            }
            Act::Leave { .. } => prop_assert!(identity.is_some()),
            Act::Send(_) | Act::Verify { .. } | Act::Close(_) => {}
        }
        Ok(())
    }

    fn work(&mut self, most: usize) -> Result<(), TestCaseError> {
        for _ in 0..most {
            let Some(act) = self.waits.pop_front().filter(|_| !self.closed) else {
                break;
            };
            self.act(act)?;
        }
        Ok(())
    }

    fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        if let Some(answer) = self.session.refuses(&act) {
            // A hint is answered only where that is asked for, and here it always is.
            return self.answer(&answer);
        }
        self.may(&act)?;
        let luck = self.luck[self.worked % self.luck.len()];
        match act {
            Act::Send(answer) => self.answer(&answer)?,
            Act::Type { reference, .. } => self.answer(&Answer::ok(reference))?,
            Act::Leave { number, reference } => {
                self.members.remove(&number);
                if let Some(reference) = reference {
                    self.answer(&Answer::ok(reference))?;
                }
            }
            Act::Join {
                number,
                story,
                reference,
                ..
            } => {
                self.worked += 1;
                let outcome = match luck {
                    Luck::Good | Luck::Less => {
                        self.members.insert(number, story.clone());
                        Ok(Answer::ok(reference))
                    }
                    Luck::Bad | Luck::Other => Err(Answer::err(
                        reference,
                        Code::NoStory,
                        "there is no such story",
                    )),
                };
                let answer = self.session.joined(number, &story, outcome);
                self.answer(&answer)?;
            }
            Act::Verify { reference, .. } => {
                self.worked += 1;
                let outcome = match luck {
                    Luck::Good => Ok(identity("mira", &STORIES)),
                    Luck::Less => Ok(identity("mira", &STORIES[..1])),
                    Luck::Other => Ok(identity("oto", &["*"])),
                    Luck::Bad => Err(Unauthorized::Ticket),
                };
                let acts = self.session.verified(outcome, reference, now());
                acts.into_iter()
                    .rev()
                    .for_each(|act| self.waits.push_front(act));
            }
            Act::Publish { reference, .. } => self.answer(&Answer::ok(reference))?,
            Act::Close(_) => self.closed = true,
        }
        Ok(())
    }

    fn answer(&mut self, answer: &Answer) -> Result<(), TestCaseError> {
        let json: Value = serde_json::from_str(&answer.json()).unwrap();
        if json["t"] == "err" {
            prop_assert!(
                json["message"]
                    .as_str()
                    .is_some_and(|words| words.len() > 10),
                "{}",
                json
            );
        }
        if let Some(mark) = json.get("ref") {
            let count = mark.as_u64().and_then(|number| self.asked.get_mut(&number));
            let count =
                count.ok_or_else(|| TestCaseError::fail(format!("nobody asked: {json}")))?;
            *count += 1;
        }
        Ok(())
    }

    /// All is worked off.
    fn is_sound(&self) -> Result<(), TestCaseError> {
        for (number, count) in &self.asked {
            prop_assert!(
                *count == 1 || (self.closed && *count == 0),
                "{} has {} answers",
                number,
                count
            );
        }
        if self.closed {
            return Ok(());
        }
        let believed: HashMap<u32, StoryId> = self
            .session
            .stories
            .iter()
            .map(|(story, number)| (*number, story.clone()))
            .collect();
        prop_assert_eq!(&believed, &self.members);
        for (number, story) in &self.members {
            prop_assert!(self.session.is_in(*number));
            let identity = self.session.identity();
            prop_assert!(identity.is_some_and(|one| one.role(story).is_some()));
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_text_breaks_a_session(text in "(\\PC{0,80}|[\\{\\}\\[\\]\":,\\\\ \r\n\tetrfnu0-9]{0,80}){0,4}", known: bool) {
        let mut stage = Stage::new(known, 1_000, vec![Luck::Good]);
        let acts = stage.session.frame(&text, now());
        prop_assert!(acts.len() <= MAX_MESSAGES + 2);
        let quiet = acts.iter().all(|act| matches!(act, Act::Send(Answer::Err { .. }) | Act::Close(Close::BadMessage)));
        prop_assert!(quiet, "{:?}", acts);
    }

    #[test]
    fn each_message_has_one_answer_and_a_session_knows_where_it_is(
        steps in vec(step(), 1..12),
        luck in luck(),
        known in prop::bool::weighted(0.8),
        burst in prop_oneof![4 => Just(1_000_u32), 1 => 1..20_u32],
    ) {
        let mut stage = Stage::new(known, burst, luck);
        for step in steps {
            match step {
                // Of a client whose socket is about to be closed no more is read than this.
                Step::Frame(lines) if !stage.closed => stage.frame(lines)?,
                Step::Frame(_) => {}
                Step::Work(most) => stage.work(most)?,
            }
        }
        stage.work(usize::MAX)?;
        stage.is_sound()?;
    }
}
