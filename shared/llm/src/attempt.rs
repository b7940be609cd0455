//! One try of a streamed call: frames in, text out, and the judgement of how it ended.

use std::time::Duration;

use async_openai::error::OpenAIError;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::{Instant, timeout_at};

use crate::lenient::Name;
use crate::limits::Limit;
use crate::service::Ending;
use crate::wire::{Frame, Reason};
use crate::{Class, Error, Finish, Usage, refusal};

/// How long to wait for usage and `[DONE]` once the finish reason is here: the answer is whole already.
const LINGER: Duration = Duration::from_secs(1);

/// What async-openai makes of an answer's body.
pub(crate) type Frames = BoxStream<'static, Result<Frame, OpenAIError>>;

pub(crate) struct Attempt {
    frames: Frames,
    ending: Ending,
    rules: Rules,
    /// Until when the next progress must come.
    limit: Limit,
    first: Option<Instant>,
    finish: Option<Finish>,
    pub(crate) usage: Usage,
    model: Option<Name>,
}

/// What a try is judged by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) stall: Duration,
    pub(crate) deadline: Instant,
    pub(crate) accept_done: bool,
}

/// What is known of a whole answer besides its text.
pub(crate) struct Outcome {
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    pub(crate) model: Option<Name>,
    pub(crate) first: Option<Instant>,
}

/// One step of a try.
pub(crate) enum Step {
    Text(String),
    Ended(Outcome),
}

impl Attempt {
    /// `limit` is the one of the first token.
    pub(crate) fn new(frames: Frames, ending: Ending, limit: Limit, rules: Rules) -> Self {
        Self {
            frames,
            ending,
            rules,
            limit,
            first: None,
            finish: None,
            usage: Usage::default(),
            model: None,
        }
    }

    /// The next text, or the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Step, Error> {
        loop {
            let next = match timeout_at(self.limit.at, self.frames.next()).await {
                Ok(Some(Ok(frame))) => frame
                    .checked()
                    .map_err(|error| Some(refusal::of_frame(&error))),
                // A body that ends within a character is a text error first.
                Ok(Some(Err(error @ OpenAIError::StreamError(_)))) => {
                    Err(Some(self.ending.take().unwrap_or_else(|| error.into())))
                }
                Ok(Some(Err(error))) => Err(Some(error.into())),
                Ok(None) => Err(self.ending.take()),
                Err(_) => Err(Some(self.limit.passed())),
            };
            match next {
                Ok(frame) => {
                    if let Some(text) = self.read(frame)? {
                        return Ok(Step::Text(text));
                    }
                }
                Err(failure) => return self.over(failure),
            }
        }
    }

    fn read(&mut self, frame: Frame) -> Result<Option<String>, Error> {
        if let Some(usage) = frame.usage {
            self.usage = usage.into();
        }
        self.model = frame.model.or(self.model.take());
        let Some(choice) = frame.choices.0 else {
            return Ok(None);
        };
        let delta = choice.delta.unwrap_or_default();
        if delta.refuses() {
            return Err(Error::new(Class::Blocked, "the model refused to answer"));
        }
        let reasons = delta.reasons();
        let text = delta.content.filter(|text| !text.is_empty());
        if text.is_some() || reasons {
            self.first.get_or_insert_with(Instant::now);
            self.wait_for(self.rules.stall);
        }
        match choice.finish_reason {
            Some(Reason::Filtered) => {
                return Err(Error::new(
                    Class::Blocked,
                    "the provider's content filter stopped the answer",
                ));
            }
            Some(Reason::Done(finish)) => {
                self.finish = Some(finish);
                self.wait_for(LINGER);
            }
            None => {}
        }
        Ok(text)
    }

    /// Whether something of the answer came: text, or reasoning that leads to it.
    pub(crate) fn has_begun(&self) -> bool {
        self.first.is_some()
    }

    fn wait_for(&mut self, wait: Duration) {
        self.limit = Limit::new(wait, Class::Stall, self.rules.deadline);
    }

    /// The frames are over: by `[DONE]` when nothing failed. After a finish reason the answer is whole,
    /// however its stream ends.
    fn over(&mut self, failure: Option<Error>) -> Result<Step, Error> {
        let finish = match (self.finish, failure) {
            (Some(finish), _) => finish,
            (None, Some(failure)) => return Err(failure),
            (None, None) if self.rules.accept_done && self.first.is_some() => Finish::Other,
            (None, None) if self.rules.accept_done => {
                return Err(Error::new(Class::Truncated, "the answer is empty"));
            }
            (None, None) => {
                return Err(Error::new(
                    Class::Truncated,
                    "the answer ended with [DONE] and without a finish reason (--llm-accept-done takes that for whole)",
                ));
            }
        };
        Ok(Step::Ended(Outcome {
            finish,
            usage: self.usage,
            model: self.model.take(),
            first: self.first,
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, stream};
    use tokio::time::sleep;

    use super::*;

    /// Frames at their times, then `[DONE]`, or silence for ever.
    fn attempt(frames: Vec<(u64, &'static str)>, silent: bool) -> Attempt {
        let rules = Rules {
            stall: Duration::from_secs(5),
            deadline: Instant::now() + Duration::from_secs(60),
            accept_done: false,
        };
        let spoken = stream::iter(frames).then(async |(wait, json)| {
            sleep(Duration::from_secs(wait)).await;
            Ok(serde_json::from_str(json).unwrap())
        });
        let frames: Frames = if silent {
            spoken.chain(stream::pending()).boxed()
        } else {
            spoken.boxed()
        };
        let limit = Limit::new(Duration::from_secs(10), Class::FirstToken, rules.deadline);
        Attempt::new(frames, Ending::default(), limit, rules)
    }

    /// The text, and how it ended.
    async fn run(mut attempt: Attempt) -> (String, Result<Outcome, Class>) {
        let mut text = String::new();
        loop {
            match attempt.next().await {
                Ok(Step::Text(more)) => text.push_str(&more),
                Ok(Step::Ended(outcome)) => return (text, Ok(outcome)),
                Err(error) => return (text, Err(error.class)),
            }
        }
    }

    const HI: &str = r#"{"choices":[{"delta":{"content":"hi"}}]}"#;
    const THINK: &str = r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#;
    const EMPTY: &str = r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#;
    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    const BUSY: &str = r#"{"error":{"message":"busy","code":503}}"#;

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_late_first_token_and_then_a_stall() {
        let started = Instant::now();
        let (_, ended) = run(attempt(vec![(2, EMPTY)], true)).await;
        assert_eq!(ended.err(), Some(Class::FirstToken));
        assert_eq!(started.elapsed().as_secs(), 10);

        let started = Instant::now();
        let (text, ended) = run(attempt(vec![(9, HI), (4, HI)], true)).await;
        assert_eq!((text.as_str(), ended.err()), ("hihi", Some(Class::Stall)));
        assert_eq!(started.elapsed().as_secs(), 18);
    }

    #[tokio::test(start_paused = true)]
    async fn reasoning_is_progress_but_no_text() {
        let (text, ended) = run(attempt(
            vec![(9, THINK), (4, THINK), (4, HI), (0, STOP)],
            false,
        ))
        .await;
        assert_eq!(
            (text.as_str(), ended.ok().unwrap().finish),
            ("hi", Finish::Stop)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_never_end_meet_the_deadline() {
        let (_, ended) = run(attempt(vec![(4, HI); 30], true)).await;
        assert_eq!(ended.err(), Some(Class::Deadline));
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_finish_reason_nothing_spoils_the_answer() {
        for (rest, silent) in [(vec![], true), (vec![(0, BUSY)], false), (vec![], false)] {
            let frames = [vec![(0, HI), (0, STOP)], rest].concat();
            let started = Instant::now();
            let (_, ended) = run(attempt(frames, silent)).await;
            assert_eq!(ended.ok().unwrap().finish, Finish::Stop);
            assert!(started.elapsed() <= LINGER + Duration::from_millis(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn done_without_a_reason_ends_an_answer_where_accepted_but_not_nothing() {
        for (frame, accept_done, ends) in [
            (HI, false, Err(Class::Truncated)),
            (HI, true, Ok(Finish::Other)),
            (EMPTY, true, Err(Class::Truncated)),
        ] {
            let mut attempt = attempt(vec![(0, frame)], false);
            attempt.rules.accept_done = accept_done;
            let ended = run(attempt).await.1.map(|outcome| outcome.finish);
            assert_eq!(ended, ends);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_or_a_refusal_blocks() {
        for last in [
            r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#,
            r#"{"choices":[{"delta":{"refusal":"I"}}]}"#,
        ] {
            assert_eq!(
                run(attempt(vec![(0, HI), (0, last)], false)).await.1.err(),
                Some(Class::Blocked)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_wait_loses_nothing() {
        let mut attempt = attempt(vec![(3, HI), (0, STOP)], false);
        assert!(attempt.next().now_or_never().is_none());
        assert_eq!(run(attempt).await.0, "hi");
    }
}
