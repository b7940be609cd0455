//! Has the model tell a part of the story: the request, the stream into the draft, and what it cost.

use std::time::Duration;

use agent::spans::Chat;
use agent::{DraftSender, HandleError, Prompt, Turn};
use llm::{Class, Completion, Error, Finish, Labels, Message, Piece, Request};
use story::{LlmReport, Status};
use tracing::warn;

use crate::trailer::Splitter;
use crate::unfenced::Unfenced;
use crate::{Fence, sentences};

/// What the model told.
#[derive(Debug)]
pub struct Told {
    /// Ends with a whole sentence when the answer was cut. May be empty.
    pub text: String,
    /// What followed a line that begins with `@@@`.
    pub trailer: Option<String>,
    pub end: End,
    pub report: LlmReport,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Whole,
    /// At the limit of tokens.
    Length,
    /// The provider hung up, in every try.
    Broken,
}

/// A request of `messages` with the parameters of `prompt`, in the name of the turn that it is made for.
pub(crate) fn unchecked(turn: &Turn, prompt: &Prompt, messages: Vec<Message>) -> Request {
    let params = prompt.params();
    Request {
        model: turn.model.clone(),
        messages,
        temperature: params.temperature,
        max_tokens: params.max_tokens.or_else(|| kept_free(turn)),
        stop: params.stop.clone(),
        labels: Labels {
            agent: turn.agent.as_str().to_owned(),
            event: turn.event.id.as_str().to_owned(),
            traceparent: traceparent(turn),
        },
        ..Request::default()
    }
}

/// That of this turn where its spans are exported, or else that of the event.
fn traceparent(turn: &Turn) -> Option<String> {
    let trace = agent::spans::current().or_else(|| turn.event.trace.clone());
    trace.map(String::from)
}

/// What is kept of the window for an answer is all that it may have.
fn kept_free(turn: &Turn) -> Option<u32> {
    let window = turn.window.as_ref()?;
    u32::try_from(window.answer).ok()
}

/// Streams the answer into the turn's draft, without its trailer. `prompts` are those that made the request.
///
/// # Errors
/// Those of the call. A stream that breaks off for good after some text is none: its whole sentences are told.
pub async fn tell(
    turn: &Turn,
    request: &Request,
    prompts: &[&Prompt],
) -> Result<Told, HandleError> {
    let (draft, fence) = (&turn.draft, Fence::of(&turn.context));
    let chat = Chat::begin(request);
    let mut call = turn.llm.stream(request);
    let (mut prose, off) = (Prose::new(draft, fence), DraftSender::off());
    // Of the try before, which readers were told to forget: it is told where the next one is not made, or says nothing.
    let mut earlier = Prose::new(&off, fence);
    let ended = loop {
        match call.next().await {
            Ok(Some(Piece::Text(piece))) => prose.push(&piece).await,
            Ok(Some(Piece::Restart { .. })) => {
                draft.restart().await;
                earlier = std::mem::replace(&mut prose, Prose::new(draft, fence));
                earlier.draft = &off;
            }
            Ok(Some(Piece::End(completion))) => {
                learn(turn, request, &completion);
                break Ok(completion);
            }
            Ok(None) => unreachable!("a call ends with its end or an error"),
            Err(error) if error.class == Class::Truncated && !prose.or(&mut earlier).is_empty() => {
                warn!(event = request.labels.event, %error, "what there is of the answer is told");
                break Err(error);
            }
            Err(error) => {
                chat.failed(&error);
                return Err(error.into());
            }
        }
    };
    let (text, trailer) = prose.end().await;
    let (end, report) = match ended {
        Ok(completion) => {
            let answer = [&text, trailer.as_deref().unwrap_or_default()];
            chat.answered(request, &answer, &completion);
            (ending(&completion), report(prompts, &completion))
        }
        Err(error) => {
            chat.failed(&error);
            (End::Broken, broken(turn, prompts, (request, &error)))
        }
    };
    Ok(Told::new(text, trailer, end, report))
}

/// How another model counts says nothing of this one's window.
pub(crate) fn learn(turn: &Turn, request: &Request, completion: &Completion) {
    if let (Some(window), 0) = (&turn.window, completion.place) {
        window.learn(request, &completion.usage);
    }
}

/// What a whole answer to `prompts` cost.
#[must_use]
pub(crate) fn report(prompts: &[&Prompt], completion: &Completion) -> LlmReport {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let finish = match completion.finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Other => "other",
    };
    LlmReport {
        model: completion.model.clone(),
        prompt: references(prompts),
        tokens_in: completion.usage.prompt.into(),
        tokens_cached: completion.usage.cached.into(),
        tokens_out: completion.usage.completion.into(),
        cost: completion.cost.map(llm::Price::in_units),
        ttft_ms: millis(completion.first_token),
        ms: millis(completion.elapsed),
        tries: completion.tries,
        finish: finish.to_owned(),
    }
}

/// The answer as it comes: its prose goes into the draft.
struct Prose<'a> {
    draft: &'a DraftSender,
    unfenced: Unfenced,
    splitter: Splitter,
    text: String,
}

impl<'a> Prose<'a> {
    fn new(draft: &'a DraftSender, fence: Fence<'_>) -> Self {
        Self {
            draft,
            unfenced: Unfenced::new(fence),
            splitter: Splitter::default(),
            text: String::new(),
        }
    }

    /// The text, or that of `earlier` in its place where there is none.
    fn or(&mut self, earlier: &mut Self) -> &str {
        if self.text.is_empty() {
            std::mem::swap(self, earlier);
        }
        &self.text
    }

    async fn push(&mut self, piece: &str) {
        let piece = self.unfenced.push(piece);
        self.split(&piece).await;
    }

    async fn split(&mut self, piece: &str) {
        let more = self.splitter.push(piece);
        if !more.is_empty() {
            self.draft.send(&more).await;
            self.text.push_str(&more);
        }
    }

    /// The prose and the trailer.
    async fn end(mut self) -> (String, Option<String>) {
        let rest = self.unfenced.rest();
        self.split(&rest).await;
        (self.text, self.splitter.trailer())
    }
}

impl Told {
    fn new(mut text: String, trailer: Option<String>, end: End, report: LlmReport) -> Self {
        // An answer that was cut inside the trailer has a whole text.
        let end = if trailer.is_some() { End::Whole } else { end };
        if end != End::Whole {
            text.truncate(sentences(&text).len());
        }
        Self {
            text,
            trailer,
            end,
            report,
        }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        match self.end {
            End::Whole => Status::Complete,
            End::Length | End::Broken => Status::Truncated,
        }
    }
}

fn ending(completion: &Completion) -> End {
    match completion.finish {
        Finish::Length => End::Length,
        Finish::Stop | Finish::Other => End::Whole,
    }
}

/// The provider said nothing of what a broken answer cost, nor who gave it.
fn broken(turn: &Turn, prompts: &[&Prompt], (request, error): (&Request, &Error)) -> LlmReport {
    let manner = turn.llm.manners().nth(error.place);
    let name = manner.and_then(|(manner, _)| manner.name.as_ref());
    LlmReport {
        model: name.unwrap_or(&request.model).clone(),
        prompt: references(prompts),
        tries: error.tries,
        finish: Class::Truncated.as_str().to_owned(),
        ..LlmReport::default()
    }
}

fn references(prompts: &[&Prompt]) -> String {
    let references: Vec<&str> = prompts.iter().map(|prompt| prompt.reference()).collect();
    references.join("+")
}
