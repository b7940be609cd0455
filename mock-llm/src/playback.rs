//! A streamed answer on its way: frames at their pace, and the faults that break it midway.
//! Frames that are due at the same time leave in one chunk.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::time::Instant;

use crate::calls::Call;
use crate::dice::Dice;
use crate::ending::{Abort, Cut, Ending};
use crate::fault::{Fault, Kind};
use crate::frames::Frames;
use crate::latency::Delay;
use crate::refusal;
use crate::token;
use crate::wire::Usage;

/// The pace of one answer.
#[derive(Debug)]
pub(crate) struct Pace {
    pub(crate) first_token: Delay,
    pub(crate) between_tokens: Delay,
    pub(crate) chunk_tokens: u32,
    pub(crate) dice: Dice,
}

/// What is to be told, how, and to whom.
#[derive(Debug)]
pub(crate) struct Playback {
    pub(crate) frames: Frames,
    pub(crate) text: String,
    pub(crate) finish: &'static str,
    pub(crate) usage: Option<Usage>,
    pub(crate) pace: Pace,
    pub(crate) fault: Option<Fault>,
    pub(crate) call: Call,
    pub(crate) abort: Abort,
}

impl Playback {
    pub(crate) fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(Progress::of(self), Progress::chunk))
    }

    /// All frames at once, whatever their pace: for a fault that has a pace of its own.
    pub(crate) fn into_bytes(self) -> (Bytes, Call, Abort) {
        let (mut out, mut progress) = (Vec::new(), Progress::of(self));
        while !matches!(progress.advance(&mut out), Next::End(_)) {}
        (out.into(), progress.playback.call, progress.playback.abort)
    }
}

impl Pace {
    /// How long an answer of this many tokens takes when it comes as a whole.
    pub(crate) fn whole(&mut self, tokens: u32) -> Duration {
        let first = self.first_token.draw(&mut self.dice);
        let rest = (1..tokens).map(|_| self.between_tokens.draw(&mut self.dice));
        first + rest.sum::<Duration>()
    }

    fn is_instant(&self) -> bool {
        self.first_token == Delay::ZERO && self.between_tokens == Delay::ZERO
    }
}

/// A playback and how far it is.
struct Progress {
    playback: Playback,
    stage: Stage,
    /// Bytes and tokens of the text already told.
    at: usize,
    tokens: u32,
    /// The fault that strikes after some tokens, until it has struck.
    ahead: Option<Fault>,
    /// When the last frame was due. Delays add up from here: a late timer does not slow the rest.
    due: Option<Instant>,
    /// Known already, to be done when what was written has left.
    next: Option<Next>,
}

enum Stage {
    Silence,
    Role,
    Text,
    Finish,
    Told,
}

#[derive(Clone, Copy)]
enum Next {
    Now,
    After(Duration),
    End(Ending),
}

impl Progress {
    fn of(playback: Playback) -> Self {
        Self {
            stage: Stage::Silence,
            at: 0,
            tokens: 0,
            ahead: playback.fault.filter(|fault| fault.is_midway()),
            due: None,
            next: None,
            playback,
        }
    }

    /// All that is due now, as soon as something is.
    async fn chunk(mut self) -> Option<(Result<Bytes, Cut>, Self)> {
        let mut out = Vec::new();
        loop {
            let next = match self.next.take() {
                Some(next) => next,
                None => self.advance(&mut out),
            };
            match next {
                Next::Now => {}
                next if !out.is_empty() => {
                    self.next = Some(next);
                    return Some((Ok(out.into()), self));
                }
                Next::After(delay) => self.wait(delay).await,
                Next::End(ending) => {
                    let cut = ending.reach(&self.playback.abort).await;
                    if self.playback.fault.is_none() {
                        self.playback.call.outcome = "ok";
                    }
                    return cut.map(|cut| (Err(cut), self));
                }
            }
        }
    }

    async fn wait(&mut self, delay: Duration) {
        let due = self.due.unwrap_or_else(Instant::now) + delay;
        self.due = Some(due);
        tokio::time::sleep_until(due).await;
    }

    /// Writes what comes next and says what then.
    fn advance(&mut self, out: &mut Vec<u8>) -> Next {
        let playback = &mut self.playback;
        match self.stage {
            Stage::Silence => {
                if playback
                    .fault
                    .is_some_and(|fault| fault.kind == Kind::NoFirstToken)
                {
                    return Next::End(Ending::Hang);
                }
                self.stage = Stage::Role;
                after(playback.pace.first_token.draw(&mut playback.pace.dice))
            }
            Stage::Role => {
                self.stage = Stage::Text;
                out.reserve(playback.room());
                playback.frames.role(out);
                Next::Now
            }
            Stage::Text => self.tell(out),
            Stage::Finish => {
                self.stage = Stage::Told;
                playback.frames.finish(out, playback.finish);
                if let Some(usage) = playback.usage {
                    playback.frames.usage(out, usage);
                }
                playback.frames.done(out);
                Next::Now
            }
            Stage::Told => Next::End(Ending::Complete),
        }
    }

    /// The next frame of text, or the fault that comes in its place.
    fn tell(&mut self, out: &mut Vec<u8>) -> Next {
        let playback = &mut self.playback;
        let rest = &playback.text[self.at..];
        let mut most = playback.pace.chunk_tokens;
        if let Some(fault) = self.ahead {
            most = most.min(fault.amount - self.tokens);
            if most == 0 || rest.is_empty() {
                return self.strike(out, fault.kind);
            }
        }
        if rest.is_empty() {
            self.stage = Stage::Finish;
            return Next::Now;
        }
        let piece = token::head(rest, most);
        playback.frames.text(out, piece);
        self.at += piece.len();
        self.tokens += most;
        if self.at == playback.text.len() {
            return Next::Now;
        }
        after(playback.pace.between_tokens.draw(&mut playback.pace.dice))
    }

    fn strike(&mut self, out: &mut Vec<u8>, kind: Kind) -> Next {
        self.ahead = None;
        let frames = &self.playback.frames;
        match kind {
            Kind::Stall => return Next::End(Ending::Hang),
            Kind::Eof => return Next::End(Ending::Complete),
            Kind::NoFinishReason => {
                frames.done(out);
                return Next::End(Ending::Complete);
            }
            Kind::Cut => return Next::End(Ending::Cut),
            Kind::CutUtf8 => {
                frames.split_character(out);
                return Next::End(Ending::Cut);
            }
            Kind::ErrorFrame => {
                frames.error(out, &refusal::in_band());
                return Next::End(Ending::Complete);
            }
            Kind::ContentFilter => {
                self.playback.finish = "content_filter";
                self.stage = Stage::Finish;
            }
            Kind::BadSse => frames.garbage(out),
            Kind::BadUtf8 => frames.not_utf8(out),
            Kind::BrokenJson => frames.broken(out),
            _ => {}
        }
        Next::Now
    }
}

impl Playback {
    /// The bytes of all frames, nearly, when they leave together; else of one.
    fn room(&self) -> usize {
        let frames = match self.pace.is_instant() {
            true => token::count(&self.text) / self.pace.chunk_tokens + 4,
            false => 2,
        };
        frames as usize * (self.frames.overhead() + 8)
    }
}

fn after(delay: Duration) -> Next {
    if delay.is_zero() {
        Next::Now
    } else {
        Next::After(delay)
    }
}
