//! Tells answers as a worker does: under the lease of an action, chunk by chunk into the draft, then the commit.

use std::collections::HashMap;

use anyhow::{Context, bail, ensure};
use bus::{Bus, Commit, Committed, Delivery, Draft, DraftChunk, Drafted, Emit};
use futures::future::try_join_all;
use story::{
    Action, Agent, Author, AuthorKind, Event, EventId, Mode, Narration, Payload, Route, Status,
    StoryId,
};

const AGENT: Agent = Agent::Narrator;

/// The one worker of the bench's stories.
pub(super) struct Teller {
    bus: Bus,
    reader: bus::Reader,
    /// What a consumer is called, which is never used again.
    consumer: String,
}

/// An answer that is being told.
#[derive(Debug)]
pub(super) struct Telling {
    bus: Bus,
    delivery: Delivery,
    draft: Draft,
    attempt: u32,
    /// Tokens so far.
    sent: u32,
}

impl Teller {
    pub(super) fn new(bus: &Bus) -> Self {
        let consumer = format!("bench-{:08x}", rand::random::<u32>());
        Self {
            reader: bus.reader(AGENT, &consumer),
            bus: bus.clone(),
            consumer,
        }
    }

    /// Somebody does something in each of the stories, and an answer to it begins. They come in the stories' order.
    pub(super) async fn begin(&mut self, stories: &[StoryId]) -> anyhow::Result<Vec<Telling>> {
        try_join_all(stories.iter().map(async |story| {
            let event = action(story)?;
            anyhow::Ok(self.bus.publish(&event).await?)
        }))
        .await?;
        let mut taken = HashMap::new();
        while taken.len() < stories.len() {
            for delivery in self.reader.next(stories.len() - taken.len()).await? {
                let work = delivery.work.as_ref();
                let story = work.map_err(|error| anyhow::anyhow!("{error}"))?;
                taken.insert(story.story.clone(), delivery);
            }
        }
        let begun = stories.iter().map(|story| {
            let delivery = taken.remove(story);
            let delivery = delivery.context("the action of another story was taken");
            async { self.telling(delivery?).await }
        });
        try_join_all(begun.collect::<Vec<_>>()).await
    }

    async fn telling(&self, delivery: Delivery) -> anyhow::Result<Telling> {
        let Ok(work) = &delivery.work else {
            bail!("an action cannot be read");
        };
        let draft = Draft {
            story: work.story.clone(),
            agent: AGENT,
            consumer: self.consumer.clone(),
            lease: delivery.lease.clone(),
            re: work.response(AGENT),
            answers: None,
        };
        let attempt = self.bus.reset_draft(&draft).await?;
        Ok(Telling {
            attempt: attempt.context("a lease was lost")?,
            bus: self.bus.clone(),
            delivery,
            draft,
            sent: 0,
        })
    }
}

impl Telling {
    /// Shows the next `tokens` of the answer.
    pub(super) async fn tell(&mut self, text: &str, tokens: u32) -> anyhow::Result<()> {
        let chunk = DraftChunk {
            draft: &self.draft,
            attempt: self.attempt,
            i: self.sent,
            n: tokens,
            text,
        };
        let drafted = self.bus.draft(&chunk).await?;
        ensure!(
            drafted == Drafted::Ok,
            "a draft was given to another worker"
        );
        self.sent += tokens;
        Ok(())
    }

    /// Puts the whole answer into the log.
    pub(super) async fn commit(self, text: String) -> anyhow::Result<()> {
        let Ok(work) = &self.delivery.work else {
            bail!("an action cannot be read");
        };
        let told = Payload::Narration(Narration {
            text,
            choices: Vec::new(),
            speak: Vec::new(),
            status: Status::Complete,
            llm: None,
        });
        let author = Author {
            kind: AuthorKind::Agent,
            id: AGENT.as_str().to_owned(),
            name: String::new(),
        };
        let re = self.draft.re;
        let now = jiff::Timestamp::now();
        let mut event = Event::new(re.clone(), work.story.clone(), author, told, now);
        event.cause = vec![work.id.clone()];
        let commit = Commit {
            emit: vec![Emit {
                event,
                route: Route::Logged(Vec::new()),
            }],
            responses: vec![re],
            ..Commit::default()
        };
        match self.bus.commit(&self.delivery, &commit).await? {
            Committed::Done(_) | Committed::Already => Ok(()),
            other => bail!("an answer was not committed: {other:?}"),
        }
    }
}

fn action(story: &StoryId) -> anyhow::Result<Event> {
    let author = Author {
        kind: AuthorKind::User,
        id: "mira".to_owned(),
        name: "Mira".to_owned(),
    };
    let done = Payload::Action(Action {
        mode: Mode::Do,
        text: "I light the lamp".to_owned(),
        to: None,
        choice: None,
        target: None,
    });
    let now = jiff::Timestamp::now();
    let millis = u64::try_from(now.as_millisecond())?;
    let id = EventId::new(millis, rand::random());
    Ok(Event::new(id, story.clone(), author, done, now))
}
