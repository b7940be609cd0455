//! The bare loop: what a worker would be without leases, lanes, drafts, retries and atomic commits. It reads with the
//! worker's reader and calls with the worker's model client, so that both make the same requests.

use std::collections::HashMap;
use std::process::ExitCode;

use bus::{Bare, Bus, Delivery};
use llm::{Client, Labels, Message, Request};
use story::{Agent, Author, AuthorKind, Dialogue, Event, LlmReport, Payload, Status};
use tokio::task::JoinSet;

use super::load::CHARACTER;
use crate::args::BareArgs;

pub(super) const AGENT: Agent = Agent::Dialogue;

struct Loop {
    bare: Bare,
    client: Client,
    padding: String,
}

/// Until it is killed. Any error ends it: there is nothing that would try again.
pub(crate) async fn run(args: &BareArgs, bus: &Bus) -> anyhow::Result<ExitCode> {
    let looping: &'static Loop = Box::leak(Box::new(Loop {
        bare: bus.bare(AGENT),
        client: Client::new(llm::Settings::new(&args.llm))?,
        padding: " rule".repeat(args.padding),
    }));
    let mut reader = bus.reader(AGENT, "bare");
    let mut answers = JoinSet::new();
    loop {
        while let Some(ended) = answers.try_join_next() {
            ended??;
        }
        match args.concurrency.get() - answers.len() {
            0 => {
                if let Some(ended) = answers.join_next().await {
                    ended??;
                }
            }
            free => {
                for delivery in reader.next(free).await? {
                    answers.spawn(looping.answer(delivery));
                }
            }
        }
    }
}

impl Loop {
    async fn answer(&self, delivery: Delivery) -> anyhow::Result<()> {
        let event = match &delivery.work {
            Ok(work) => &work.event,
            Err(malformed) => anyhow::bail!("{malformed}"),
        };
        let context = self.bare.context(&event.story).await?;
        let request = self.request(&context, event);
        let (text, completion) = self.client.answer(&request).await?;
        let llm = LlmReport {
            model: completion.model,
            tokens_in: completion.usage.prompt.into(),
            tokens_out: completion.usage.completion.into(),
            ..LlmReport::default()
        };
        let said = Payload::Dialogue(Dialogue {
            character: CHARACTER.to_owned(),
            text,
            status: Status::Complete,
            llm: Some(llm),
        });
        let author = Author {
            kind: AuthorKind::Agent,
            id: AGENT.as_str().to_owned(),
            name: String::new(),
        };
        let id = event.response(AGENT, 0);
        let now = jiff::Timestamp::now();
        let mut answer = Event::new(id, event.story.clone(), author, said, now);
        answer.cause = vec![event.id.clone()];
        Ok(self.bare.answer(&delivery, &answer).await?)
    }

    fn request(&self, context: &HashMap<String, String>, event: &Event) -> Request {
        let told = ["title", "style", "premise"].map(|field| context.get(field));
        let told: String = told.into_iter().flatten().map(String::as_str).collect();
        let said = match event.payload() {
            Payload::Action(action) => action.text.as_str(),
            _ => "",
        };
        Request {
            model: "mock".to_owned(),
            messages: vec![
                Message::system(format!("You speak as {CHARACTER}.{}{told}", self.padding)),
                Message::user(said),
            ],
            max_tokens: Some(120),
            labels: Labels {
                agent: AGENT.as_str().to_owned(),
                event: event.id.as_str().to_owned(),
                traceparent: None,
            },
            ..Request::default()
        }
    }
}
