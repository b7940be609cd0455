//! A session over WebSocket. Reading goes on while a write waits; what the client asks for is done one after the other, so
//! that its answers come in the order of its messages.

pub(crate) mod guest;
mod outbox;
mod waits;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bus::{Error, Published, Replicated};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::SplitStream;
use story::{EventId, StoryId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::app::{App, Unauthorized, joins_again_after, now};
use crate::auth::Identity;
use crate::entrance::{Farewell, Visitor};
use crate::hub::{Delivery, End, Feed, Membership, Reader, Unwatched, Why, reader};
use crate::metrics::Connected;
use crate::outcome::{TOO_OFTEN, answer, answer_to_join, broken, refused, too_often};
use crate::quota::{AFTER, OF_PERSON, Place};
use crate::session::{Act, Session};
use crate::wire::{Answer, Close, Code, Reference};
use outbox::Outbox;
use waits::{done, ended, next};

/// Items that wait to be written.
const QUEUE: usize = 64;
/// Items that are written together.
const TOGETHER: usize = 32;
/// The same in bytes, about: whoever takes so much in time is not slow.
const TOGETHER_BYTES: usize = 64 * 1_024;
/// Requests that are being worked on; more are not read.
const REQUESTS: usize = 32;
/// What a close frame is given to get out.
const FAREWELL: Duration = Duration::from_secs(1);
/// What comes of an [`Act`] that waits.
enum Outcome {
    Verified(Result<Identity, Unauthorized>, Reference),
    Joined(u32, StoryId, Reference, Result<Membership, Unwatched>),
    /// Under its id, and what the client may call it.
    Published(
        Reference,
        (EventId, EventId),
        Result<(Published, Replicated), Error>,
    ),
}

struct Socket {
    app: App,
    outbox: Outbox,
    stream: SplitStream<WebSocket>,
    session: Session,
    reader: Option<Reader>,
    feed: Option<Feed>,
    /// Of the feed, while it has not come.
    end: Option<End>,
    memberships: Vec<(u32, Membership)>,
    acts: VecDeque<Act>,
    working: Option<BoxFuture<'static, Outcome>>,
    ping: Instant,
    heard: Instant,
    revocations: watch::Receiver<u64>,
    _connected: Connected,
    /// Of whoever it is.
    place: Option<Place<Arc<str>>>,
    visitor: Visitor,
    /// The place of one that is open only to be told that its address has too many.
    farewell: Option<Farewell>,
}

/// The socket is closed.
struct Closed;

impl Socket {
    fn new(app: App, visitor: Visitor, socket: WebSocket) -> Self {
        let (sink, stream) = socket.split();
        let now = now();
        Self {
            session: Session::new(now, app.rate, app.ping),
            ping: now.instant + app.ping,
            heard: now.instant,
            revocations: app.revoked.changes(),
            _connected: app.metrics.connected("websocket"),
            place: None,
            visitor,
            farewell: None,
            app,
            outbox: Outbox::new(sink),
            stream,
            reader: None,
            feed: None,
            end: None,
            memberships: Vec::new(),
            acts: VecDeque::new(),
            working: None,
        }
    }

    async fn run(&mut self) {
        while let Ok(()) = self.step().await {}
        // A close of the client is answered below, if it gets out.
        let _is_gone = timeout(FAREWELL, self.outbox.flush()).await;
    }

    /// Whether this person may have one more connection; else it ends.
    fn takes_place(&mut self, identity: &Identity) -> bool {
        if self.place.is_none() {
            self.place = self.app.place(&identity.sub);
        }
        if self.place.is_none() {
            self.crowd(OF_PERSON);
        }
        self.place.is_some()
    }

    fn crowd(&mut self, words: &str) {
        let answer = Answer::err(Reference::default(), Code::TooMany, words).later(AFTER);
        self.acts
            .extend([Act::Send(answer), Act::Close(Close::Rate)]);
    }

    fn refuse(&mut self, refusal: Unauthorized) {
        let (answer, close) = refused(Reference::default(), refusal);
        self.acts.extend([Act::Send(answer), Act::Close(close)]);
    }

    async fn step(&mut self) -> Result<(), Closed> {
        self.act().await?;
        let wake = self.outbox.wake(self.session.until().min(self.ping));
        // Nothing counts after what closes it, and a broken stream would end before it is told why.
        let closes = self.acts.iter().any(|act| matches!(act, Act::Close(_)));
        let reads = self.acts.len() < REQUESTS && self.outbox.waiting() < QUEUE && !closes;
        if !reads {
            // Whoever is not listened to is not silent.
            self.heard = Instant::now();
        }
        tokio::select! {
            message = self.stream.next(), if reads => self.read(message)?,
            written = self.outbox.write(), if !self.outbox.is_out() => written.map_err(|_| Closed)?,
            () = ended(self.end.as_ref()) => return self.close(Close::Slow).await,
            delivery = next(self.feed.as_ref()), if self.outbox.is_out() => match delivery {
                Ok(delivery) => self.write(delivery),
                Err(Why::Slow) => return self.close(Close::Slow).await,
                Err(Why::Story(number)) => self.acts.extend(self.session.out(number, joins_again_after())),
            },
            outcome = done(&mut self.working) => {
                self.working = None;
                self.take(outcome);
            }
            () = sleep_until(wake) => self.tick().await?,
            Ok(()) = self.revocations.changed() => {
                let identity = self.session.identity();
                if identity.is_some_and(|identity| self.app.revoked.has(identity)) {
                    self.over(Session::revoked());
                }
            }
            () = self.app.drain.cancelled() => return self.leave().await,
        }
        Ok(())
    }

    fn read(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), Closed> {
        self.heard = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => self.acts.extend(self.session.frame(&text, now())),
            Some(Ok(Message::Binary(_))) => self.acts.push_back(Act::Close(Close::BadMessage)),
            // Pings are answered below.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                self.acts.extend(self.session.control(now()));
            }
            Some(Ok(Message::Close(_))) | None => return Err(Closed),
            Some(Err(error)) => self
                .acts
                .push_back(Act::Close(broken(error).ok_or(Closed)?)),
        }
        Ok(())
    }

    /// Does what is to be done, up to what must be waited for.
    async fn act(&mut self) -> Result<(), Closed> {
        while self.working.is_none()
            && let Some(act) = self.acts.pop_front()
        {
            let refusal = self.session.refuses(&act);
            match act {
                Act::Send(answer) => self.say(&answer),
                Act::Leave { number, reference } => {
                    self.memberships.retain(|(known, _)| *known != number);
                    if let Some(reference) = reference {
                        self.say(&Answer::ok(reference));
                    }
                }
                Act::Close(close) => return self.close(close).await,
                Act::Type {
                    story,
                    typist,
                    reference,
                } => {
                    if refusal.is_none() {
                        // Who types is in the story, so that its room is here.
                        let _told = self.app.hub.types(&story, typist);
                    }
                    if !reference.is_none() {
                        self.say(&refusal.unwrap_or_else(|| Answer::ok(reference)));
                    }
                }
                act => match refusal {
                    Some(refusal) => self.say(&refusal),
                    None => self.working = self.begin(act),
                },
            }
        }
        if self.acts.is_empty() {
            // Most sockets are quiet most of the time.
            self.acts = VecDeque::new();
        }
        Ok(())
    }

    fn begin(&mut self, act: Act) -> Option<BoxFuture<'static, Outcome>> {
        let app = self.app.clone();
        Some(match act {
            Act::Verify { token, reference } => {
                let client = self.visitor.client;
                Box::pin(async move {
                    let verified = app.tried(client, app.verify(&token.0)).await;
                    Outcome::Verified(verified, reference)
                })
            }
            Act::Join {
                number,
                story,
                cursor,
                reference,
            } => {
                let reader = self.reader()?;
                // Over HTTP each stream is a request.
                if let Err(after) = app.rates.request(&self.session.identity()?.sub) {
                    let refusal =
                        too_often(reference, "you join too often: try again later", after);
                    let answer = self.session.joined(number, &story, Err(refusal));
                    self.say(&answer);
                    return None;
                }
                Box::pin(async move {
                    let joined = app.hub.join(&story, cursor, (&reader, number)).await;
                    Outcome::Joined(number, story, reference, joined)
                })
            }
            Act::Publish {
                mut event,
                name,
                reference,
            } => {
                if let Err(after) = app.rates.publish(&event.author.id) {
                    self.say(&too_often(reference, TOO_OFTEN, after));
                    return None;
                }
                Box::pin(async move {
                    let published = app.publish(&mut event).await;
                    Outcome::Published(reference, (event.id, name), published)
                })
            }
            Act::Send(_) | Act::Leave { .. } | Act::Type { .. } | Act::Close(_) => return None,
        })
    }

    /// Made with the first story: most of what a quiet socket takes is this.
    fn reader(&mut self) -> Option<Reader> {
        let person = Arc::clone(self.session.identity()?);
        let reader = self.reader.get_or_insert_with(|| {
            let (reader, feed) = reader(&person, QUEUE);
            self.end = Some(feed.end());
            self.feed = Some(feed);
            reader
        });
        Some(reader.clone())
    }

    fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Verified(verified, reference) => {
                if let Ok(identity) = &verified
                    && !self.takes_place(identity)
                {
                    return;
                }
                let acts = self.session.verified(verified, reference, now());
                for act in acts.into_iter().rev() {
                    self.acts.push_front(act);
                }
            }
            Outcome::Joined(number, story, reference, joined) => {
                let outcome = joined.map(|membership| {
                    self.memberships.push((number, membership));
                });
                let outcome = answer_to_join(reference, outcome);
                let answer = self.session.joined(number, &story, outcome);
                self.acts.push_front(Act::Send(answer));
            }
            Outcome::Published(reference, ids, published) => {
                self.acts
                    .push_front(Act::Send(answer(reference, ids, published)));
            }
        }
    }

    fn write(&mut self, delivery: Delivery) {
        let (mut next, mut bytes) = (Some(delivery), 0);
        for count in 1.. {
            let Some(delivery) = next else { break };
            if self.session.is_in(delivery.number()) {
                delivery.written(&self.app.metrics);
                let text = delivery.socket();
                bytes += text.len();
                self.outbox.push(Message::Text(text));
            }
            if count == TOGETHER || bytes >= TOGETHER_BYTES {
                break;
            }
            next = self.feed.as_ref().and_then(Feed::try_next);
        }
    }

    fn say(&mut self, answer: &Answer) {
        self.outbox.push(Message::Text(answer.json().into()));
    }

    /// The token counts no more: what was asked for and is not begun is not done, and what waits is not told.
    fn over(&mut self, acts: [Act; 2]) {
        (self.working, self.acts) = (None, acts.into());
        self.outbox.clear();
    }

    async fn tick(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        if now >= self.session.until() {
            self.over(self.session.expired());
            return Ok(());
        }
        if self.outbox.is_stuck() {
            return self.close(Close::Slow).await;
        }
        if now.duration_since(self.heard) > 2 * self.app.ping {
            return Err(Closed);
        }
        if now >= self.ping {
            self.ping = now + self.app.ping;
            self.outbox.push(Message::Ping(Vec::new().into()));
        }
        Ok(())
    }

    /// The node goes: its sockets come back somewhere, and not all at once. What is under way is answered first: who hears
    /// nothing of what they wrote writes it again.
    async fn leave(&mut self) -> Result<(), Closed> {
        if let Some(working) = self.working.take()
            && let Ok(outcome) = timeout(FAREWELL, working).await
        {
            self.take(outcome);
            while let Some(Act::Send(answer)) = self.acts.pop_front() {
                self.say(&answer);
            }
        }
        let after_ms = self.app.comes_back_after();
        let reason = "the server restarts: come back";
        self.say(&Answer::Bye { after_ms, reason });
        self.close(Close::Restart).await
    }

    async fn close(&mut self, close: Close) -> Result<(), Closed> {
        self.app.metrics.closed(close);
        let frame = CloseFrame {
            code: close.code(),
            reason: close.reason().into(),
        };
        self.outbox.push(Message::Close(Some(frame)));
        let farewell = async {
            // Whether it got out only the client knows.
            let _sent = self.outbox.write().await;
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        let _is_late = timeout(FAREWELL, farewell).await;
        Err(Closed)
    }
}
