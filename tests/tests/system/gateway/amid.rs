//! What happens in a story while an answer is being written, for those who come and go meanwhile.

use anyhow::{Context, ensure};
use bus::{Burial, Commit, Delivery, Draft, DraftChunk, Drafted, Emit};
use serde_json::Value;
use story::{Agent, Author, AuthorKind, Event, Failed, Narration, Payload, Route, Status};
use system_tests::edge::Stream;

use super::Edge;

/// More than a reader's queue takes at once.
const MEANWHILE: usize = 80;

/// A narrator that writes when it is told to.
struct Hand {
    delivery: Delivery,
    cause: Event,
    draft: Draft,
    next: u32,
    text: String,
}

impl Hand {
    /// Has the next action.
    async fn take(edge: &Edge) -> anyhow::Result<Self> {
        let mut reader = edge.stack.bus.reader(Agent::Narrator, "hand");
        let delivery = reader.next(1).await?.pop().context("an action")?;
        let work = delivery.work.as_ref().ok().context("a readable entry")?;
        let cause = work.event.clone();
        let draft = Draft {
            story: cause.story.clone(),
            agent: Agent::Narrator,
            consumer: delivery.consumer.clone(),
            lease: delivery.lease.clone(),
            re: cause.response(Agent::Narrator, 0),
            answers: None,
        };
        Ok(Self {
            delivery,
            cause,
            draft,
            next: 0,
            text: String::new(),
        })
    }

    async fn write(&mut self, edge: &Edge) -> anyhow::Result<()> {
        let text = format!("[{}é]", self.next);
        let chunk = DraftChunk {
            draft: &self.draft,
            attempt: 1,
            i: self.next,
            n: 1,
            text: &text,
        };
        ensure!(edge.stack.bus.draft(&chunk).await? == Drafted::Ok, "stale");
        self.next += 1;
        self.text += &text;
        Ok(())
    }

    fn event(&self, id: story::EventId, payload: Payload) -> Event {
        let author = Author {
            kind: AuthorKind::Agent,
            id: "narrator".to_owned(),
            name: String::new(),
        };
        let story = self.cause.story.clone();
        let mut event = Event::new(id, story, author, payload, self.cause.at);
        event.cause = vec![self.cause.id.clone()];
        event.hop = self.cause.hop + 1;
        event
    }

    async fn commit(self, edge: &Edge) -> anyhow::Result<()> {
        let narration = Narration {
            text: self.text.clone(),
            choices: Vec::new(),
            speak: Vec::new(),
            status: Status::Complete,
            llm: None,
        };
        let event = self.event(self.draft.re.clone(), Payload::Narration(narration));
        let effects = Commit {
            responses: vec![self.draft.re],
            emit: vec![Emit {
                event,
                route: Route::Logged(Vec::new()),
            }],
            ..Commit::default()
        };
        edge.stack.bus.commit(&self.delivery, &effects).await?;
        Ok(())
    }

    async fn give_up(self, edge: &Edge) -> anyhow::Result<()> {
        let class = "crash".to_owned();
        let failed = Payload::Failed(Failed {
            agent: "narrator".to_owned(),
            class: class.clone(),
            tries: 3,
            notice: "The storyteller fell silent.".to_owned(),
        });
        let burial = Burial {
            reason: "by hand".to_owned(),
            class,
            tries: 3,
            failed: Some(self.event("failed-1".parse()?, failed)),
            answers: None,
            recording: None,
        };
        edge.stack.bus.bury(&self.delivery, &burial).await?;
        Ok(())
    }
}

/// One who shows a draft as far as they were told of it, and bears no hole.
#[derive(Default)]
struct Screen {
    cursor: Option<String>,
    seq: u64,
    draft: Option<(String, u64, String)>,
    committed: Option<String>,
}

impl Screen {
    fn take(&mut self, frame: &Value) -> anyhow::Result<()> {
        let word = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
        let text = word("text");
        match frame["t"].as_str().context("t")? {
            "delta" => {
                let new = || (word("re"), 0, String::new());
                let draft = self.draft.get_or_insert_with(new);
                assert_eq!(
                    (&draft.0, Some(draft.1)),
                    (&word("re"), frame["i"].as_u64())
                );
                draft.1 += frame["n"].as_u64().context("n")?;
                draft.2 += &text;
            }
            "snapshot" => {
                self.draft = Some((word("re"), frame["upto"].as_u64().context("upto")?, text));
            }
            "live" => {
                self.draft = self.draft.take().filter(|draft| {
                    let drafts = frame["drafts"].as_array();
                    drafts.is_some_and(|ids| ids.iter().any(|id| id == draft.0.as_str()))
                });
            }
            "event" => {
                assert_eq!(frame["seq"].as_u64(), Some(self.seq + 1));
                self.seq += 1;
                if frame["event"]["type"] == "narration" {
                    self.committed = frame["event"]["text"].as_str().map(str::to_owned);
                    self.draft = None;
                }
            }
            "presence" => {}
            other => anyhow::bail!("a {other}"),
        }
        if let Some(cursor) = frame["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
        }
        Ok(())
    }

    /// Reads until it is so.
    async fn until(
        &mut self,
        stream: &mut Stream,
        mut is_so: impl FnMut(&Self, &Value) -> bool,
    ) -> anyhow::Result<()> {
        loop {
            let sent = stream.until("more", |_| true).await?;
            self.take(&sent.data)?;
            if is_so(self, &sent.data) {
                return Ok(());
            }
        }
    }
}

#[tokio::test]
async fn whoever_comes_while_much_happens_amid_an_answer_has_all_of_it() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    edge.act("mira", "I wait").await?;
    let mut hand = Hand::take(&edge).await?;
    // One who is there from the beginning is what makes the node remember where it is.
    let mut first = (edge.stream("ana", None).await?, Screen::default());
    for _ in 0..5 {
        hand.write(&edge).await?;
    }
    first
        .1
        .until(&mut first.0, |screen, _| {
            screen.draft.as_ref().is_some_and(|draft| draft.1 == 5)
        })
        .await?;
    for count in 0..MEANWHILE {
        edge.act("mira", &format!("I wait for {count}")).await?;
        hand.write(&edge).await?;
    }
    let written = u64::from(hand.next);
    let has_all = move |screen: &Screen| {
        screen
            .draft
            .as_ref()
            .is_some_and(|draft| draft.1 == written)
    };
    first
        .1
        .until(&mut first.0, |screen, _| has_all(screen))
        .await?;

    // Their queue is full before they have it all.
    let mut late = (edge.stream("ben", None).await?, Screen::default());
    // Cut at each event in the middle, and come back from there.
    let mut cut = Screen::default();
    for _ in 0..10 {
        let mut stream = edge.stream("cleo", cut.cursor.as_deref()).await?;
        let seq = cut.seq;
        cut.until(&mut stream, |screen, _| screen.seq > seq + 3)
            .await?;
    }
    let mut cut = (edge.stream("cleo", cut.cursor.as_deref()).await?, cut);
    for (stream, screen) in [&mut late, &mut cut] {
        screen.until(stream, |screen, _| has_all(screen)).await?;
        assert_eq!(
            screen.draft.as_ref().map(|draft| &draft.2),
            Some(&hand.text)
        );
    }
    hand.write(&edge).await?;
    let text = hand.text.clone();
    hand.commit(&edge).await?;
    for (stream, screen) in [&mut first, &mut late, &mut cut] {
        screen
            .until(stream, |screen, _| screen.committed.is_some())
            .await?;
        assert_eq!(screen.committed.as_ref(), Some(&text));
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_draft_that_failed_while_its_reader_was_away_is_taken_from_them() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let other = edge.another().await?;
    edge.act("mira", "I wait").await?;
    let mut hand = Hand::take(&edge).await?;
    let mut stream = edge.stream("ana", None).await?;
    let mut screen = Screen::default();
    hand.write(&edge).await?;
    screen
        .until(&mut stream, |screen, _| screen.draft.is_some())
        .await?;
    drop(stream);
    hand.give_up(&edge).await?;
    let token = edge.token("ana", gateway::auth::Role::Reader)?;
    let mut stream =
        Stream::open(other.address(), "castle", &token, screen.cursor.as_deref()).await?;
    screen
        .until(&mut stream, |_, frame| frame["t"] == "live")
        .await?;
    assert_eq!((screen.seq, screen.draft), (2, None));
    edge.stack.end().await;
    Ok(())
}
