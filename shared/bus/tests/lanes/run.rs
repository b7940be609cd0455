//! Does to a real Redis and to the model what a schedule says, and compares the replies.

use std::time::Duration;

use bus::{Burial, Bus, Committed, Delivery, Draft, DraftChunk, Drafted, NewStory, Published};
use redis::Commands;
use story::{Agent, Event, Mode, Payload, Seq};

use crate::Act;
use crate::answers::{self, Choice};
use crate::model::{At, Head, Model, SHARDS, STORIES, Standing, Step, shard};
use crate::server::network::Network;
use crate::server::{Server, action, draft, everything, story};

pub(crate) struct Run<'a> {
    network: &'a Network,
    pub(crate) bus: Bus,
    pub(crate) raw: redis::Connection,
    pub(crate) model: Model,
    pub(crate) events: Vec<Event>,
    /// Every delivery that a worker still remembers.
    pub(crate) hands: Vec<Hand>,
    handed: usize,
    buried: usize,
}

/// A delivery in a worker's hands, with what it wrote of its response.
pub(crate) struct Hand {
    at: At,
    delivery: Delivery,
    step: Step,
    /// The last attempt when it was delivered.
    before: u32,
    attempt: Option<u32>,
    sent: u32,
    text: String,
}

impl<'a> Run<'a> {
    pub(crate) async fn new(server: &Server, network: &'a Network) -> Self {
        let mut raw = server.raw();
        let _: () = redis::cmd("FLUSHALL").query(&mut raw).expect("FLUSHALL");
        let bus = network.bus(SHARDS);
        for (id, policies) in STORIES {
            let mut new = NewStory::new(story(id));
            new.policies = policies;
            bus.create_story(&new).await.expect("a new story");
        }
        // Makes the groups, so that a read of an empty stream need not wait.
        for agent in Agent::ALL {
            for shard in 0..SHARDS {
                let key = format!("sf:{{{shard}}}:work:{agent}");
                let made = raw.xgroup_create_mkstream(key, "fleet", "0");
                let () = made.expect("a new group");
            }
        }
        Self {
            network,
            bus,
            raw,
            model: Model::default(),
            events: Vec::new(),
            hands: Vec::new(),
            handed: 0,
            buried: 0,
        }
    }

    pub(crate) async fn act(&mut self, act: Act) {
        match act {
            Act::Publish {
                story,
                spoken,
                lost,
            } => self.publish(story, spoken, lost).await,
            Act::PublishAgain { event } => self.publish_again(event).await,
            Act::Read {
                worker,
                agent,
                free,
            } => self.read(worker, agent, free).await,
            Act::Reclaim { worker, agent } => self.reclaim(worker, agent).await,
            Act::Commit { hand, choice, lost } => self.commit(hand, choice, lost).await,
            Act::Bury { hand, lost } => self.bury(hand, lost).await,
            Act::Draft { hand, anew } => self.draft(hand, anew).await,
            Act::Release { hand } => self.release(hand).await,
            Act::Renew { hand } => self.renew(hand).await,
            Act::Crash { hand } => _ = self.take(hand),
            Act::Destroy { worker, agent } => self.destroy(worker, agent),
            Act::Repair => self.repair().await,
            Act::Redrive { letter, lost } => self.redrive(letter, lost).await,
        }
    }

    async fn publish(&mut self, story: usize, spoken: bool, lost: bool) {
        let mut event = action(STORIES[story].0, &format!("e{}", self.events.len()));
        if spoken {
            let Payload::Action(mut said) = event.payload().clone() else {
                unreachable!("it is an action");
            };
            (said.mode, said.to) = (Mode::Say, Some("Sibyl".into()));
            let payload = Payload::Action(said);
            event = Event::new(event.id, event.story, event.author, payload, event.at);
        }
        self.lose(lost);
        let published = self.bus.publish(&event).await.expect("publish");
        let expected = match self.model.publish(story, &event) {
            _ if lost => Published::Duplicate,
            Some(seq) => Published::Logged(Seq(seq)),
            None => Published::Held,
        };
        assert_eq!(published, expected);
        self.events.push(event);
    }

    async fn publish_again(&mut self, event: usize) {
        let Some(event) = event.checked_rem(self.events.len()) else {
            return;
        };
        let event = &self.events[event];
        let before = everything(&mut self.raw);
        let published = self.bus.publish(event).await.expect("publish");
        assert_eq!(published, Published::Duplicate);
        assert_eq!(everything(&mut self.raw), before, "a duplicate wrote");
    }

    pub(crate) async fn read(&mut self, worker: usize, agent: Agent, free: usize) {
        let unread = self.model.lanes.iter().filter(|(at, lane)| {
            at.0 == agent && !lane.steps.is_empty() && lane.head == Head::Undelivered
        });
        let expected = unread.count().min(free);
        if expected == 0 {
            return;
        }
        let mut reader = self.bus.reader(agent, &format!("w{worker}"));
        let deliveries = reader.next(free).await.expect("read");
        assert_eq!(deliveries.len(), expected);
        for delivery in deliveries {
            assert_eq!(delivery.deliveries, 1);
            let lane = self.model.lane(place(&delivery));
            assert_eq!(lane.head, Head::Undelivered, "delivered twice");
            self.handed(delivery);
        }
    }

    pub(crate) async fn reclaim(&mut self, worker: usize, agent: Agent) {
        let consumer = format!("w{worker}");
        let claimed = self
            .bus
            .reclaim(agent, &consumer, Duration::ZERO, 100)
            .await
            .expect("reclaim");
        let leased = self
            .model
            .lanes
            .iter()
            .filter(|(at, lane)| at.0 == agent && matches!(lane.head, Head::Leased { .. }));
        assert_eq!(claimed.len(), leased.count());
        for delivery in claimed {
            let head = &self.model.lane(place(&delivery)).head;
            let Head::Leased { deliveries, .. } = head else {
                panic!("claimed from nobody: {delivery:?}");
            };
            assert_eq!(delivery.deliveries, deliveries + 1);
            self.handed(delivery);
        }
    }

    fn handed(&mut self, delivery: Delivery) {
        let at = place(&delivery);
        let lane = self.model.lane(at);
        let work = delivery.work.as_ref().expect("a readable entry");
        let step = lane.steps.front().expect("something waits").clone();
        let (event, part, held) = (work.event.clone(), work.part, work.held);
        let found = Step { event, part, held };
        assert_eq!(found, step, "not the oldest of its lane");
        lane.head = Head::Leased {
            lease: delivery.lease.clone(),
            owner: delivery.consumer.clone(),
            deliveries: delivery.deliveries,
        };
        // A worker that is given again what it has drops what it had.
        let same = |hand: &Hand| {
            (&hand.delivery.lease, &hand.delivery.consumer) == (&delivery.lease, &delivery.consumer)
        };
        self.hands.retain(|hand| !same(hand));
        self.handed += 1;
        self.hands.push(Hand {
            at,
            before: self.model.attempt(at, &step.response(at.0)),
            delivery,
            step,
            attempt: None,
            sent: 0,
            text: format!("of hand {}", self.handed),
        });
    }

    /// A hand, and what a call with it should find.
    fn take(&mut self, hand: usize) -> Option<(Hand, Standing)> {
        let hand = hand.checked_rem(self.hands.len())?;
        let hand = self.hands.remove(hand);
        let standing = self.model.standing(hand.at, &hand.delivery);
        Some((hand, standing))
    }

    pub(crate) async fn commit(&mut self, hand: usize, choice: Choice, lost: bool) {
        let Some((hand, standing)) = self.take(hand) else {
            return;
        };
        let Hand {
            at, delivery, step, ..
        } = hand;
        let mut steps = vec![step];
        let waiting = self.model.lanes[&at].steps.iter().skip(1);
        // Its context was read when it was the head.
        steps.extend(waiting.filter(|_| standing == Standing::Owner).cloned());
        let place = self.model.place(at.1, &steps[0].event);
        let commit = answers::effects(at, &steps, choice, place);
        let before = everything(&mut self.raw);
        self.lose(lost);
        let done = self.bus.commit(&delivery, &commit).await.expect("commit");
        self.judge(standing, lost, &done, &before);
        if standing == Standing::Owner {
            self.model.commit(at, &commit);
        }
    }

    async fn bury(&mut self, hand: usize, lost: bool) {
        let Some((hand, standing)) = self.take(hand) else {
            return;
        };
        let Hand {
            at, delivery, step, ..
        } = hand;
        self.buried += 1;
        let failed = answers::failed(at, &step, self.buried);
        let burial = Burial {
            reason: "it always fails".into(),
            class: "crash".into(),
            tries: delivery.deliveries,
            failed: Some(failed.clone()),
            answers: self.model.place(at.1, &step.event),
            recording: None,
        };
        let before = everything(&mut self.raw);
        self.lose(lost);
        let done = self.bus.bury(&delivery, &burial).await.expect("bury");
        self.judge(standing, lost, &done, &before);
        if standing == Standing::Owner {
            let gone = self.model.is_gone(at.1, burial.answers);
            self.model.bury(at, &step.response(at.0), &failed, gone);
        }
    }

    fn judge(
        &mut self,
        standing: Standing,
        lost: bool,
        done: &Committed,
        before: &[(String, Vec<u8>)],
    ) {
        match standing {
            Standing::Owner if !lost => assert!(matches!(done, Committed::Done(_)), "{done:?}"),
            Standing::Gone if !lost => assert_eq!(*done, Committed::Gone),
            Standing::Owner | Standing::Gone => assert_eq!(*done, Committed::Already),
            Standing::Fenced => assert_eq!(*done, Committed::Fenced),
        }
        if standing != Standing::Owner {
            assert_eq!(everything(&mut self.raw), before, "{done:?} wrote");
        }
    }

    /// As a worker does it: a response that was begun before is begun anew.
    async fn draft(&mut self, hand: usize, anew: bool) {
        let Some((mut hand, standing)) = self.take(hand) else {
            return;
        };
        let (at, re) = (hand.at, hand.step.response(hand.at.0));
        let owner = standing == Standing::Owner;
        let answers = self.model.place(at.1, &hand.step.event);
        let draft = Draft {
            answers,
            ..draft(&hand.delivery, re.clone())
        };
        let gone = self.model.is_gone(at.1, answers);
        if anew || (hand.attempt.is_none() && hand.before > 0) {
            let attempt = self.bus.reset_draft(&draft).await.expect("a reset");
            assert_eq!(attempt.is_some(), owner);
            if let Some(attempt) = attempt {
                self.model.reset(at, &re, attempt, gone);
            }
            (hand.attempt, hand.sent) = (attempt, 0);
        }
        let attempt = hand.attempt.unwrap_or(1);
        let chunk = DraftChunk {
            draft: &draft,
            attempt,
            i: hand.sent,
            n: 1,
            text: &hand.text,
        };
        let drafted = self.bus.draft(&chunk).await.expect("a chunk");
        let chunk = (hand.sent as usize, hand.text.as_str());
        let counts = owner && (gone || self.model.draft(at, &re, attempt, chunk));
        assert_eq!(drafted, if counts { Drafted::Ok } else { Drafted::Stale });
        hand.attempt = Some(attempt);
        hand.sent += 1;
        self.hands.push(hand);
    }

    async fn release(&mut self, hand: usize) {
        let Some((Hand { at, delivery, .. }, standing)) = self.take(hand) else {
            return;
        };
        let (agent, leases) = (delivery.agent, [delivery.lease]);
        let release = self.bus.release(agent, &delivery.consumer, &leases);
        release.await.expect("release");
        if let (Standing::Owner, Head::Leased { deliveries, .. }) =
            (standing, &mut self.model.lane(at).head)
        {
            *deliveries = deliveries.saturating_sub(1);
        }
    }

    async fn renew(&mut self, hand: usize) {
        let Some(hand) = hand.checked_rem(self.hands.len()) else {
            return;
        };
        let Hand { at, delivery, .. } = &self.hands[hand];
        let leases = [delivery.lease.clone()];
        let renewed = self.bus.renew(delivery.agent, &delivery.consumer, &leases);
        let lost = renewed.await.expect("renew");
        let standing = self.model.standing(*at, delivery);
        assert_eq!(lost.is_empty(), standing == Standing::Owner);
    }

    fn destroy(&mut self, worker: usize, agent: Agent) {
        let consumer = format!("w{worker}");
        for shard in 0..SHARDS {
            let key = format!("sf:{{{shard}}}:work:{agent}");
            let gone: Result<u64, _> = self.raw.xgroup_delconsumer(key, "fleet", &consumer);
            gone.expect("XGROUP");
        }
        for (at, lane) in &mut self.model.lanes {
            if matches!(&lane.head, Head::Leased { owner, .. } if at.0 == agent && *owner == consumer)
            {
                lane.head = Head::Stranded;
            }
        }
    }

    pub(crate) async fn repair(&mut self) {
        let lanes = self.model.lanes.values();
        let stranded = lanes.filter(|lane| lane.head == Head::Stranded).count();
        let findings = self.bus.doctor(true).await.expect("a repair");
        assert_eq!(findings.len(), stranded, "{findings:?}");
        self.model.repair();
    }

    async fn redrive(&mut self, letter: usize, lost: bool) {
        if self.model.dead.is_empty() {
            return;
        }
        let letter = letter % self.model.dead.len();
        let ((agent, at), step) = self.model.dead[letter].clone();
        let letters = self.bus.dead(agent).await.expect("the dead letters");
        let found = letters.into_iter().find(|found| {
            let part = found.fields["part"].parse() == Ok(step.part);
            found.event.as_ref() == Some(&step.event.id) && part
        });
        let id = found.expect("the letter").id;
        assert!(id.starts_with(&format!("{}/", shard(at))), "{id}");
        self.lose(lost);
        assert!(self.bus.redrive(agent, &id).await.expect("a redrive"));
        self.model.redrive(letter);
        let before = everything(&mut self.raw);
        assert!(!self.bus.redrive(agent, &id).await.expect("another one"));
        assert_eq!(everything(&mut self.raw), before, "it wrote");
    }

    /// The next script is run, and its reply is lost.
    fn lose(&self, lost: bool) {
        if lost {
            self.network.lose_reply("EVAL");
        }
    }
}

fn place(delivery: &Delivery) -> At {
    let work = delivery.work.as_ref().expect("a readable entry");
    let story = STORIES
        .iter()
        .position(|(id, _)| *id == work.story.as_str());
    (delivery.agent, story.expect("a known story"))
}
