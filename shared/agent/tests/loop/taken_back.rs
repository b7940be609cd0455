//! What an agent said and is taken back, however far back it is when its turn comes.

use std::time::Duration;

use agent::HandleError;
use bus::{Burial, Bus, Commit, Delivery, Emit};
use story::{
    Agent, Author, AuthorKind, Event, LogEntry, Narration, Payload, Retracted, Route, Status, Step,
};

use super::LEASE;
use super::actor::Act;
use super::stage::{NARRATOR, Stage};

/// More than a turn is told of the story.
const MORE_THAN_IS_TOLD: usize = 45;

async fn one(bus: &Bus, agent: Agent) -> Delivery {
    let taken = bus.reader(agent, "hand").next(1).await;
    taken.unwrap().pop().expect("an entry")
}

fn by(delivery: &Delivery, id: &str, payload: Payload) -> Event {
    let work = delivery.work.as_ref().unwrap();
    let author = Author {
        kind: AuthorKind::Agent,
        id: "hand".into(),
        name: String::new(),
    };
    let (story, at) = (work.story.clone(), work.event.at);
    Event::new(id.parse().unwrap(), story, author, payload, at)
}

impl Stage {
    /// A story in which an agent said `beat`, which is to be answered and judged.
    async fn with_a_beat() -> Self {
        let stage = Self::with(&["one"]).await;
        let delivery = one(&stage.bus, NARRATOR).await;
        let narration = Payload::Narration(Narration {
            text: "It rains.".into(),
            choices: Vec::new(),
            speak: Vec::new(),
            status: Status::Complete,
            llm: None,
        });
        let steps = [NARRATOR, Agent::Moderator].map(|agent| Step { agent, part: 0 });
        stage
            .emit(&delivery, by(&delivery, "beat", narration), &steps)
            .await;
        stage
    }

    async fn emit(&self, delivery: &Delivery, event: Event, steps: &[Step]) {
        let retract = match event.payload() {
            Payload::Retracted(retracted) => Some(retracted.target.clone()),
            _ => None,
        };
        let effects = Commit {
            retract,
            emit: vec![Emit {
                event,
                route: Route::Logged(steps.to_vec()),
            }],
            ..Commit::default()
        };
        self.bus.commit(delivery, &effects).await.unwrap();
    }

    async fn takes_back(&self) {
        let delivery = one(&self.bus, Agent::Moderator).await;
        let retracted = Payload::Retracted(Retracted {
            target: "beat".parse().unwrap(),
            reason: String::new(),
        });
        let retracted = by(&delivery, "back", retracted);
        self.emit(&delivery, retracted, &[]).await;
    }

    async fn goes_on(&self) {
        for n in 0..MORE_THAN_IS_TOLD {
            self.say("a", &format!("b{n}")).await;
        }
    }

    /// Until nothing waits; whether something answers the beat, be it that it failed.
    async fn is_answered(&self) -> bool {
        let ended = async || self.backlog().await == 0;
        self.until("the end of all", ended).await;
        let is_of = |entry: LogEntry| {
            let event = entry.event;
            event.kind() != "retracted" && event.cause.iter().any(|id| id.as_str() == "beat")
        };
        self.log("a").await.into_iter().any(is_of)
    }
}

#[tokio::test]
async fn what_was_taken_back_long_ago_is_not_answered() {
    let stage = Stage::with_a_beat().await;
    stage.takes_back().await;
    stage.goes_on().await;
    let worker = stage.worker(LEASE, 0, |_| Act::Answer);
    assert!(!stage.is_answered().await);
    assert_eq!(worker.times_begun("beat"), 0);
    worker.end().await;
}

#[tokio::test]
async fn what_was_taken_back_is_not_answered_when_it_is_sent_again() {
    for long_ago in [false, true] {
        let stage = Stage::with_a_beat().await;
        let burial = Burial {
            reason: "it failed".into(),
            class: "crash".into(),
            tries: 3,
            failed: None,
            answers: None,
            recording: None,
        };
        let delivery = one(&stage.bus, NARRATOR).await;
        stage.bus.bury(&delivery, &burial).await.unwrap();
        stage.takes_back().await;
        if long_ago {
            stage.goes_on().await;
        }
        let letter = stage.bus.dead(NARRATOR).await.unwrap().remove(0);
        assert!(stage.bus.redrive(NARRATOR, &letter.id).await.unwrap());
        let worker = stage.worker(LEASE, 0, |_| Act::Answer);
        assert!(!stage.is_answered().await, "long ago: {long_ago}");
        worker.end().await;
    }
}

#[tokio::test]
async fn what_was_said_long_ago_and_still_stands_is_answered() {
    let stage = Stage::with_a_beat().await;
    stage.goes_on().await;
    let worker = stage.worker(LEASE, 0, |_| Act::Answer);
    assert!(stage.is_answered().await);
    worker.end().await;
}

#[tokio::test]
async fn nothing_comes_of_what_is_taken_back_while_it_is_answered() {
    for long_ago in [false, true] {
        for fails in [false, true] {
            let stage = Stage::with_a_beat().await;
            if long_ago {
                stage.goes_on().await;
            }
            let mut worker = stage.worker(LEASE, 0, move |id| match id {
                "beat" if fails => {
                    let why = anyhow::anyhow!("no");
                    Act::FailWhenTold(HandleError::permanent("prompt", why))
                }
                "beat" => Act::AnswerWhenTold,
                _ => Act::Answer,
            });
            worker.begun("beat").await;
            stage.takes_back().await;
            worker.tell();
            let case = format!("long ago: {long_ago}, fails: {fails}");
            assert!(!stage.is_answered().await, "{case}");
            assert_eq!(stage.dead().await, 0, "{case}");
            worker.end().await;
        }
    }
}

#[tokio::test]
async fn no_letter_has_what_killed_its_workers_and_was_taken_back() {
    let stage = Stage::with_a_beat().await;
    stage.deserter().await;
    for deliveries in 2..=4 {
        assert_eq!(stage.steal(Duration::ZERO).await, [deliveries]);
    }
    stage.takes_back().await;
    let worker = stage.worker(LEASE, 0, |_| Act::Answer);
    assert!(!stage.is_answered().await);
    assert_eq!(stage.dead().await, 0);
    worker.end().await;
}

#[tokio::test]
async fn an_answer_whose_story_cannot_be_read_is_taken_back() {
    let stage = Stage::with_a_beat().await;
    stage.misplace("sf:{0}:lore:a").await;
    let worker = stage.moderator(|_| Act::Answer);
    let is_gone = async || {
        let log = stage.log("a").await;
        log.iter().any(|entry| entry.event.kind() == "retracted")
    };
    stage.until("the retraction", is_gone).await;
    worker.end().await;
    assert!(stage.bus.dead(Agent::Moderator).await.unwrap().is_empty());
}

/// Nobody judged it, and readers see it: it is not to stay.
#[tokio::test]
async fn an_answer_that_moderators_die_of_is_taken_back() {
    let stage = Stage::with_a_beat().await;
    let worker = stage.moderator(|_| Act::Panic);
    let is_gone = async || {
        let log = stage.log("a").await;
        log.iter().any(|entry| entry.event.kind() == "retracted")
    };
    stage.until("the retraction", is_gone).await;
    assert_eq!(worker.times_begun("beat"), 3);
    worker.end().await;
    let log = stage.log("a").await;
    let mut shown = log.iter().map(|entry| entry.event.encode());
    assert!(!shown.any(|event| event.contains("It rains.")));
    let back = &log.last().unwrap().event;
    let Payload::Retracted(retracted) = back.payload() else {
        panic!("{back:?}");
    };
    assert_eq!(retracted.target.as_str(), "beat");
    assert!(stage.bus.dead(Agent::Moderator).await.unwrap().is_empty());
}
