//! A reader who is cut off again and again, and comes back to whichever node with nothing but the last cursor.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout, timeout_at};

use crate::cuts::hang::Debt;
use crate::cuts::plan;
use crate::cuts::screen::Screen;
use crate::cuts::stage::{Board, Stage};
use crate::edge::{Heard, Line, Sent, Socket, Stream};

/// What is left of the frame that a cut falls into must come within this time.
const TORN: Duration = Duration::from_millis(400);
/// How often a reader is held against the others.
const LOOK: Duration = Duration::from_millis(250);
/// To be let in for what is missing at the end.
const REST: Duration = Duration::from_secs(90);
/// A try to connect, and the pause after one in vain.
const CONNECT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Socket,
    Stream,
}

/// How connections ended.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cuts {
    /// The connection was closed, and its WebSocket or stream not ended.
    pub dropped: u64,
    /// It was reset.
    pub reset: u64,
    /// It was left open, and never read again.
    pub silent: u64,
    /// Of all of these, those in the middle of a frame.
    pub in_frame: u64,
    /// Not by us: a node died.
    pub died: u64,
    /// Not by us: the node said so, by code or words.
    pub sent_away: BTreeMap<String, u64>,
    /// Tries to connect or to join in vain.
    pub refused: u64,
}

impl Cuts {
    /// Those that we made.
    #[must_use]
    pub fn ours(&self) -> u64 {
        self.dropped + self.reset + self.silent
    }
}

pub(super) struct Reader {
    stage: Arc<Stage>,
    number: u64,
    pub(super) story: usize,
    pub(super) transport: Transport,
    token: String,
    random: Xoshiro256PlusPlus,
    pub(super) screen: Screen,
    pub(super) cuts: Cuts,
    /// Returns with a cursor, by what came first.
    pub(super) resumes: BTreeMap<String, u64>,
    /// How long others had what this one had not, at most, while they were connected.
    pub(super) behind: Duration,
    connections: u64,
    /// What came over this connection.
    is_new: bool,
    silent: Option<Line>,
}

enum Connection {
    Socket(Box<Socket>),
    Stream(Box<Stream>),
}

/// Why a connection is over.
enum Over {
    Cut,
    Died,
    SentAway(String),
    /// It gives no more.
    Hung,
    AllSeen,
}

impl Reader {
    pub(super) fn new(stage: Arc<Stage>, number: u32) -> anyhow::Result<Self> {
        let stories = u32::try_from(stage.stories.len())?;
        let transport = if (number / stories + number).is_multiple_of(2) {
            Transport::Socket
        } else {
            Transport::Stream
        };
        Ok(Self {
            story: usize::try_from(number % stories)?,
            token: stage.token(&format!("r{number}"))?,
            random: plan::source(stage.seed, 1_000 + u64::from(number)),
            number: number.into(),
            stage,
            transport,
            screen: Screen::default(),
            cuts: Cuts::default(),
            resumes: BTreeMap::new(),
            behind: Duration::ZERO,
            connections: 0,
            is_new: false,
            silent: None,
        })
    }

    /// Reads until the log's end, which is told last.
    pub(super) async fn read(mut self) -> anyhow::Result<Self> {
        let mut late = None;
        loop {
            if late.is_none() && self.stage.ends.borrow().is_some() {
                late = Some(Instant::now() + REST);
            }
            if late.is_some_and(|late| Instant::now() > late) {
                self.lost();
                return Ok(self);
            }
            let Ok(connection) = self.connect().await else {
                self.cuts.refused += 1;
                sleep(PAUSE.mul_f64(self.random.random_range(0.5..2.0))).await;
                continue;
            };
            match self.stay(connection).await {
                Over::AllSeen => return Ok(self),
                Over::Died => self.cuts.died += 1,
                Over::SentAway(why) => *self.cuts.sent_away.entry(why).or_default() += 1,
                Over::Cut | Over::Hung => {}
            }
            let away = plan::away(&mut self.random);
            sleep(away).await;
        }
    }

    fn lost(&mut self) {
        let (seen, end) = (self.screen.seq, self.end());
        self.screen.complain(format_args!(
            "sees events up to {seen:?} of {end:?}, and no more come"
        ));
    }

    async fn connect(&mut self) -> anyhow::Result<Connection> {
        let node = self.random.random_range(0..self.stage.nodes.len());
        let address = self.stage.nodes[node];
        self.connections += 1;
        self.is_new = self.screen.cursor.is_some();
        let story = self.board().id.as_str();
        let cursor = self.screen.cursor.as_deref();
        let connect = async {
            Ok(match self.transport {
                Transport::Socket => {
                    let mut socket = Socket::open_as(address, &self.token).await?;
                    let mut join = json!({"t": "join", "story": story, "ref": 1});
                    if let Some(cursor) = cursor {
                        join["cursor"] = cursor.into();
                    }
                    socket.say(&join).await?;
                    Connection::Socket(Box::new(socket))
                }
                Transport::Stream => {
                    let stream = Stream::open(address, story, &self.token, cursor).await?;
                    ensure!(stream.head.starts_with("http/1.1 200"), "{}", stream.head);
                    Connection::Stream(Box::new(stream))
                }
            })
        };
        timeout(CONNECT, connect).await?
    }

    async fn stay(&mut self, mut connection: Connection) -> Over {
        let mut cut = Some(Instant::now() + plan::stay(&mut self.random));
        let (mut debt, mut looks) = (Debt::default(), interval(LOOK));
        loop {
            if let Some(end) = self.end() {
                if self.screen.seq >= Some(end) {
                    return Over::AllSeen;
                }
                cut = None;
            }
            tokio::select! {
                next = connection.next() => match next {
                    Ok(frame) => if let Some(over) = self.take(&frame) {
                        return over;
                    },
                    Err(error) => return self.broken(&error),
                },
                () = until(cut) => {
                    cut = None;
                    if self.stage.may_cut() {
                        return self.cut(connection).await;
                    }
                }
                _ = looks.tick() => if self.hangs(&mut debt) {
                    return Over::Hung;
                },
            }
        }
    }

    /// Whether this connection does not give what is there.
    fn hangs(&mut self, debt: &mut Debt) -> bool {
        let has = self.screen.seq.unwrap_or_default();
        let there = self.end().unwrap_or_else(|| self.board().seen());
        let owed = debt.look(has, there, self.stage.tides.there());
        self.behind = self.behind.max(debt.longest);
        if let Some(owed) = owed {
            let late = debt.longest;
            self.screen.complain(format_args!(
                "hangs: is connected, has {has}, and {owed} is there for {late:.1?}"
            ));
        }
        owed.is_some()
    }

    /// A connection ends, but what came of it was whole.
    fn broken(&mut self, error: &anyhow::Error) -> Over {
        if !error.is::<std::io::Error>() {
            self.screen.complain(format_args!("{error:#}"));
        }
        Over::Died
    }

    /// The end of the log, once it is known.
    fn end(&self) -> Option<u64> {
        let ends = self.stage.ends.borrow();
        ends.as_ref().map(|ends| ends[self.story])
    }

    /// Nobody is told of it: a few more bytes come, or none.
    async fn cut(&mut self, mut connection: Connection) -> Over {
        if self.random.random_bool(0.5) {
            connection.allow(self.random.random_range(1..300));
            let late = Instant::now() + TORN;
            while let Ok(Ok(frame)) = timeout_at(late, connection.next()).await {
                // The cut comes first.
                let _over = self.take(&frame);
            }
        }
        self.cuts.in_frame += u64::from(connection.is_in_frame());
        let line = connection.into_line();
        match self.random.random_range(0..3) {
            0 => self.cuts.dropped += 1,
            1 => {
                // The node may have been quicker.
                let _is_over = line.reset();
                self.cuts.reset += 1;
            }
            _ => {
                self.cuts.silent += 1;
                self.silent = Some(line);
            }
        }
        Over::Cut
    }

    fn take(&mut self, frame: &Value) -> Option<Over> {
        match frame["t"].as_str().unwrap_or_default() {
            "welcome" | "ok" => return None,
            "closed" => return Some(Over::SentAway(frame["code"].to_string())),
            "bye" => {
                let reason = frame["reason"].as_str().unwrap_or_default();
                return Some(Over::SentAway(reason.to_owned()));
            }
            "err" => {
                let code = frame["code"].as_str().unwrap_or_default();
                if code != "unavailable" {
                    self.screen.complain(format_args!("is told {frame}"));
                }
                return Some(Over::SentAway(code.to_owned()));
            }
            _ => {}
        }
        if frame["story"] != self.board().id.as_str() {
            self.screen.complain(format_args!("is given {frame}"));
            return None;
        }
        let kind = frame["t"].as_str().unwrap_or_default();
        let is_told = !matches!(kind, "presence" | "typing");
        if is_told && std::mem::take(&mut self.is_new) {
            *self.resumes.entry(kind.to_owned()).or_default() += 1;
        }
        let tides = self.stage.tides.count();
        self.screen.take(frame, self.connections << 32 | tides);
        self.board().see(self.screen.seq.unwrap_or_default());
        self.tell(frame);
        None
    }

    /// The players and the blows go by what readers see.
    fn tell(&self, frame: &Value) {
        if frame["t"] == "delta" {
            self.stage.deltas.send_modify(|deltas| *deltas += 1);
        }
        let event = &frame["event"];
        if !matches!(
            event["type"].as_str(),
            Some("narration" | "dialogue" | "failed" | "verdict")
        ) {
            return;
        }
        self.board().ended.send_if_modified(|ended| {
            let causes = event["cause"].as_array().into_iter().flatten();
            let mut is_new = false;
            for cause in causes.filter_map(Value::as_str) {
                is_new |= ended.insert(cause.to_owned());
            }
            is_new
        });
    }

    fn board(&self) -> &Board {
        &self.stage.stories[self.story]
    }

    /// What it is called in a complaint.
    pub(super) fn name(&self) -> String {
        let story = &self.board().id;
        format!("reader {} of {story} ({:?})", self.number, self.transport)
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Connection {
    /// The next message, as it is on a WebSocket. Cancel-safe.
    async fn next(&mut self) -> anyhow::Result<Value> {
        match self {
            Self::Socket(socket) => match socket.hear().await? {
                Heard::Message(message) => Ok(message),
                Heard::Closed(code, _) => Ok(json!({"t": "closed", "code": code})),
            },
            Self::Stream(stream) => {
                let Sent { event, id, data } = stream
                    .next()
                    .await?
                    .ok_or(ErrorKind::UnexpectedEof)
                    .map_err(Error::from)?;
                let is_same = event == data["t"].as_str().unwrap_or_default()
                    || (event == "error" && data["t"] == "err");
                ensure!(is_same, "the event {event} with {data}");
                if let Some(cursor) = data["cursor"].as_str() {
                    ensure!(id == cursor, "the id {id} with {data}");
                }
                Ok(data)
            }
        }
    }

    fn allow(&mut self, bytes: usize) {
        match self {
            Self::Socket(socket) => socket.allow(bytes),
            Self::Stream(stream) => stream.allow(bytes),
        }
    }

    fn is_in_frame(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.is_in_frame(),
            Self::Stream(stream) => stream.is_in_frame(),
        }
    }

    fn into_line(self) -> Line {
        match self {
            Self::Socket(socket) => socket.into_line(),
            Self::Stream(stream) => stream.into_line(),
        }
    }
}
