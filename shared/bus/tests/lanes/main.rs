//! The lane protocol under every schedule: random steps of people, workers, crashes, zombies, drains and burials run
//! against a real Redis and against a model of a few lines; after each step both must tell the same.

mod server;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bus::{Burial, Bus, Commit, Committed, Delivery, Emit, NewStory, Published, ReclaimCursor};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::Commands;
use server::{Server, action, answer, everything, story};
use story::{Agent, Event, EventId, Mode, Payload, Route};

const STORIES: [&str; 3] = ["castle", "forest", "sea"];
const AGENTS: [Agent; 2] = [Agent::Narrator, Agent::Dialogue];
const LEASE: Duration = Duration::from_secs(10);

/// One thing that happens. Numbers choose among what there is, whatever there is.
#[derive(Debug, Clone)]
enum Act {
    Publish {
        story: usize,
        agent: usize,
    },
    PublishAgain {
        event: usize,
    },
    Read {
        worker: usize,
        agent: usize,
        free: usize,
    },
    Reclaim {
        worker: usize,
        agent: usize,
    },
    /// By whoever was ever handed the entry, however long ago: a zombie too.
    Commit {
        hand: usize,
        consume: usize,
        follow_up: bool,
    },
    Bury {
        hand: usize,
    },
    Release {
        hand: usize,
    },
    Renew {
        hand: usize,
    },
    /// A worker forgets what it holds, and nobody is told.
    Crash {
        hand: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let one = 0..100_usize;
    prop_oneof![
        5 => (0..3_usize, 0..2_usize).prop_map(|(story, agent)| Act::Publish { story, agent }),
        1 => one.clone().prop_map(|event| Act::PublishAgain { event }),
        4 => (0..3_usize, 0..2_usize, 1..4_usize)
            .prop_map(|(worker, agent, free)| Act::Read { worker, agent, free }),
        2 => (0..3_usize, 0..2_usize).prop_map(|(worker, agent)| Act::Reclaim { worker, agent }),
        6 => (one.clone(), 0..3_usize, any::<bool>())
            .prop_map(|(hand, consume, follow_up)| Act::Commit { hand, consume, follow_up }),
        1 => one.clone().prop_map(|hand| Act::Bury { hand }),
        1 => one.clone().prop_map(|hand| Act::Release { hand }),
        1 => one.clone().prop_map(|hand| Act::Renew { hand }),
        1 => one.prop_map(|hand| Act::Crash { hand }),
    ]
}

/// Which lane: indices into `AGENTS` and `STORIES`.
type At = (usize, usize);

/// What should be true of Redis.
#[derive(Default)]
struct Model {
    /// The head of each lane is in the work stream, the rest is parked.
    lanes: BTreeMap<At, VecDeque<EventId>>,
    /// Who holds the head, and its delivery count; none = not delivered yet.
    held: BTreeMap<At, (String, u32)>,
    /// What was accepted in each lane, and what was answered or given up in each, both in order.
    accepted: BTreeMap<At, Vec<EventId>>,
    ended: BTreeMap<At, Vec<EventId>>,
    dead: Vec<EventId>,
    logs: BTreeMap<usize, Vec<EventId>>,
}

impl Model {
    fn accept(&mut self, at: At, id: &EventId) {
        self.lanes.entry(at).or_default().push_back(id.clone());
        self.accepted.entry(at).or_default().push(id.clone());
    }

    fn end(&mut self, at: At, events: usize) {
        self.held.remove(&at);
        let lane = self.lanes.entry(at).or_default();
        self.ended
            .entry(at)
            .or_default()
            .extend(lane.drain(..events));
    }

    /// What a call with this delivery should find.
    fn standing(&self, at: At, delivery: &Delivery) -> Standing {
        let head = self.lanes.get(&at).and_then(VecDeque::front);
        let ours = delivery
            .work
            .as_ref()
            .is_ok_and(|work| Some(&work.id) == head);
        match self.held.get(&at) {
            Some((owner, _)) if ours && *owner == delivery.consumer => Standing::Owner,
            Some(_) if ours => Standing::Fenced,
            _ => Standing::Gone,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Standing {
    Owner,
    Fenced,
    Gone,
}

struct Run {
    bus: Bus,
    raw: redis::Connection,
    model: Model,
    events: Vec<Event>,
    /// Every delivery that a worker still remembers.
    hands: Vec<(At, Delivery)>,
}

impl Run {
    async fn new(server: &Server) -> Self {
        let mut raw = server.raw();
        let _: () = redis::cmd("FLUSHALL").query(&mut raw).expect("FLUSHALL");
        let bus = server.bus();
        for id in STORIES {
            let new = NewStory::new(story(id));
            bus.create_story(&new).await.expect("a new story");
        }
        // Makes the groups, so that a read of an empty stream need not wait.
        for agent in AGENTS {
            let key = format!("sf:{{0}}:work:{agent}");
            let _: () = raw
                .xgroup_create_mkstream(key, "fleet", "0")
                .expect("a new group");
        }
        Self {
            bus,
            raw,
            model: Model::default(),
            events: Vec::new(),
            hands: Vec::new(),
        }
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Publish { story, agent } => self.publish(story, agent).await,
            Act::PublishAgain { event } => self.publish_again(event).await,
            Act::Read {
                worker,
                agent,
                free,
            } => self.read(worker, agent, free).await,
            Act::Reclaim { worker, agent } => self.reclaim(worker, agent).await,
            Act::Commit {
                hand,
                consume,
                follow_up,
            } => self.commit(hand, consume, follow_up).await,
            Act::Bury { hand } => self.bury(hand).await,
            Act::Release { hand } => self.release(hand).await,
            Act::Renew { hand } => self.renew(hand).await,
            Act::Crash { hand } => _ = self.take(hand),
        }
    }

    async fn publish(&mut self, story: usize, agent: usize) {
        let mut event = action(STORIES[story], &format!("e{}", self.events.len()));
        if AGENTS[agent] == Agent::Dialogue {
            let Payload::Action(mut said) = event.payload().clone() else {
                unreachable!("it is an action");
            };
            (said.mode, said.to) = (Mode::Say, Some("Sibyl".into()));
            event = Event::new(
                event.id,
                event.story,
                event.author,
                Payload::Action(said),
                event.at,
            );
        }
        self.model.accept((agent, story), &event.id);
        let log = self.model.logs.entry(story).or_default();
        log.push(event.id.clone());
        let published = self.bus.publish(&event).await.expect("publish");
        assert_eq!(published, Published::Logged(story::Seq(log.len() as u64)));
        self.events.push(event);
    }

    async fn publish_again(&mut self, event: usize) {
        if self.events.is_empty() {
            return;
        }
        let event = &self.events[event % self.events.len()];
        let before = everything(&mut self.raw);
        let published = self.bus.publish(event).await.expect("publish");
        assert_eq!(published, Published::Duplicate);
        assert_eq!(everything(&mut self.raw), before, "a duplicate wrote");
    }

    async fn read(&mut self, worker: usize, agent: usize, free: usize) {
        let unread = self.model.lanes.iter().filter(|(at, lane)| {
            at.0 == agent && !lane.is_empty() && !self.model.held.contains_key(at)
        });
        let expected = unread.count().min(free);
        if expected == 0 {
            return;
        }
        let mut reader = self.bus.reader(AGENTS[agent], &format!("w{worker}"));
        let deliveries = reader.next(free).await.expect("read");
        assert_eq!(deliveries.len(), expected);
        for delivery in deliveries {
            let at = place(agent, &delivery);
            let before = self.model.held.insert(at, (delivery.consumer.clone(), 1));
            assert_eq!(before, None, "delivered twice");
            self.handed(at, delivery);
        }
    }

    async fn reclaim(&mut self, worker: usize, agent: usize) {
        let consumer = format!("w{worker}");
        let mut cursor = ReclaimCursor::default();
        let claimed = self
            .bus
            .reclaim(AGENTS[agent], &consumer, Duration::ZERO, &mut cursor, 100)
            .await
            .expect("reclaim");
        assert!(cursor.is_over());
        let held = self.model.held.keys().filter(|at| at.0 == agent);
        assert_eq!(claimed.len(), held.count());
        for delivery in claimed {
            let at = place(agent, &delivery);
            let (owner, count) = self.model.held.get_mut(&at).expect("it was delivered");
            (*owner, *count) = (consumer.clone(), *count + 1);
            assert_eq!(delivery.deliveries, *count, "the delivery count");
            self.handed(at, delivery);
        }
    }

    fn handed(&mut self, at: At, delivery: Delivery) {
        let work = delivery.work.as_ref().expect("a readable entry");
        let head = self.model.lanes[&at].front();
        assert_eq!(Some(&work.id), head, "not the oldest of its lane");
        self.hands.push((at, delivery));
    }

    fn take(&mut self, hand: usize) -> Option<(At, Delivery)> {
        (!self.hands.is_empty()).then(|| self.hands.remove(hand % self.hands.len()))
    }

    async fn commit(&mut self, hand: usize, consume: usize, follow_up: bool) {
        let Some((at, delivery)) = self.take(hand) else {
            return;
        };
        let standing = self.model.standing(at, &delivery);
        let lane = self.model.lanes[&at].iter();
        let consume: Vec<EventId> = lane.skip(1).take(consume).cloned().collect();
        let event = answer(&delivery);
        let id = event.id.clone();
        // A narration that lets a character speak, as the narrator's do.
        let next = (AGENTS.len() - 1, at.1);
        let step = story::Step {
            agent: AGENTS[next.0],
            part: 0,
        };
        let steps = if follow_up && at.0 == 0 {
            vec![step]
        } else {
            Vec::new()
        };
        let effects = Commit {
            consume: consume.clone(),
            emit: vec![Emit {
                event,
                route: Route::Logged(steps.clone()),
            }],
            ..Commit::default()
        };
        let before = everything(&mut self.raw);
        let done = self.bus.commit(delivery, &effects).await.expect("commit");
        self.judge(standing, &done, &before);
        if standing == Standing::Owner {
            self.model.end(at, 1 + consume.len());
            self.model.logs.entry(at.1).or_default().push(id.clone());
            if !steps.is_empty() {
                self.model.accept(next, &id);
            }
        }
    }

    async fn bury(&mut self, hand: usize) {
        let Some((at, delivery)) = self.take(hand) else {
            return;
        };
        let standing = self.model.standing(at, &delivery);
        let failed = answer(&delivery);
        let cause = failed.cause[0].clone();
        let id = failed.id.clone();
        let burial = Burial {
            reason: "it always fails".into(),
            class: "crash".into(),
            tries: delivery.deliveries,
            failed: Some(failed),
        };
        let before = everything(&mut self.raw);
        let done = self.bus.bury(delivery, &burial).await.expect("bury");
        self.judge(standing, &done, &before);
        if standing == Standing::Owner {
            self.model.end(at, 1);
            self.model.dead.push(cause);
            self.model.logs.entry(at.1).or_default().push(id);
        }
    }

    fn judge(&mut self, standing: Standing, done: &Committed, before: &[(String, Vec<u8>)]) {
        match standing {
            Standing::Owner => assert!(matches!(done, Committed::Done(_)), "{done:?}"),
            Standing::Fenced => assert_eq!(*done, Committed::Fenced),
            Standing::Gone => assert_eq!(*done, Committed::Gone),
        }
        if standing != Standing::Owner {
            assert_eq!(everything(&mut self.raw), before, "{done:?} wrote");
        }
    }

    async fn release(&mut self, hand: usize) {
        let Some((at, delivery)) = self.take(hand) else {
            return;
        };
        let standing = self.model.standing(at, &delivery);
        let (agent, leases) = (delivery.agent, [delivery.lease]);
        let released = self.bus.release(agent, &delivery.consumer, LEASE, &leases);
        released.await.expect("release");
        if standing == Standing::Owner {
            let (_, count) = self.model.held.get_mut(&at).expect("it is held");
            *count = count.saturating_sub(1);
        }
    }

    async fn renew(&mut self, hand: usize) {
        if self.hands.is_empty() {
            return;
        }
        let (at, delivery) = &self.hands[hand % self.hands.len()];
        let leases = [delivery.lease.clone()];
        let renewed = self.bus.renew(delivery.agent, &delivery.consumer, &leases);
        let lost = renewed.await.expect("renew");
        let owner = self.model.standing(*at, delivery) == Standing::Owner;
        assert_eq!(lost.is_empty(), owner);
    }

    /// Redis holds what the model holds.
    fn check(&mut self) {
        for (agent, name) in AGENTS.into_iter().enumerate() {
            let work: Vec<(String, EventId, String)> = self.entries(&format!("work:{name}"));
            let mut lanes = 0;
            for (index, id) in STORIES.into_iter().enumerate() {
                let lane = self
                    .model
                    .lanes
                    .get(&(agent, index))
                    .cloned()
                    .unwrap_or_default();
                let entries: Vec<_> = work.iter().filter(|(_, _, of)| of == id).collect();
                let ids: Vec<_> = entries.iter().map(|(_, id, _)| id).collect();
                assert_eq!(
                    ids,
                    lane.front().into_iter().collect::<Vec<_>>(),
                    "in the work stream"
                );
                let turn: Option<String> = self
                    .raw
                    .get(format!("sf:{{0}}:turn:{name}:{id}"))
                    .expect("GET");
                assert_eq!(
                    turn.as_ref(),
                    entries.first().map(|(entry, _, _)| entry),
                    "the turn"
                );
                let parked: usize = self
                    .raw
                    .llen(format!("sf:{{0}}:parked:{name}:{id}"))
                    .expect("LLEN");
                assert_eq!(parked, lane.len().saturating_sub(1), "parked");
                lanes += usize::from(!lane.is_empty());
            }
            assert_eq!(work.len(), lanes, "the scaling signal");
        }
        for (index, id) in STORIES.into_iter().enumerate() {
            let log: Vec<EventId> = self.log(id);
            assert_eq!(
                log,
                self.model.logs.get(&index).cloned().unwrap_or_default()
            );
        }
        let mut dead: Vec<EventId> = Vec::new();
        for name in AGENTS {
            let letters = self.entries(&format!("dead:{name}"));
            dead.extend(letters.into_iter().map(|(_, id, _)| id));
        }
        let mut expected = self.model.dead.clone();
        dead.sort();
        expected.sort();
        assert_eq!(dead, expected, "the dead letters");
        for (at, accepted) in &self.model.accepted {
            let ended = self.model.ended.get(at).into_iter().flatten();
            let open = self.model.lanes.get(at).into_iter().flatten();
            assert!(
                ended.chain(open).eq(accepted),
                "each once, in the order of acceptance"
            );
        }
    }

    /// Entry, event and story of each entry of a stream.
    fn entries(&mut self, name: &str) -> Vec<(String, EventId, String)> {
        let rows = self.stream(name);
        rows.into_iter()
            .map(|(entry, mut fields)| {
                let mut field = |name: &str| fields.remove(name).expect("a whole entry");
                (entry, field("id").parse().expect("an id"), field("story"))
            })
            .collect()
    }

    fn log(&mut self, id: &str) -> Vec<EventId> {
        let rows = self.stream(&format!("log:{id}"));
        rows.into_iter()
            .map(|(_, fields)| Event::decode(fields["e"].as_bytes()).expect("an event").id)
            .collect()
    }

    fn stream(&mut self, name: &str) -> Vec<(String, BTreeMap<String, String>)> {
        let rows = self
            .raw
            .xrange_all(format!("sf:{{0}}:{name}"))
            .expect("XRANGE");
        redis::from_redis_value(rows).expect("a stream")
    }
}

fn place(agent: usize, delivery: &Delivery) -> At {
    let work = delivery.work.as_ref().expect("a readable entry");
    let story = STORIES.iter().position(|id| *id == work.story.as_str());
    (agent, story.expect("a known story"))
}

#[test]
fn every_schedule_keeps_order_and_loses_nothing() {
    // One server for all cases: starting one takes longer than a case does.
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: 96,
        max_shrink_iters: 400,
        ..ProptestConfig::with_source_file(file!())
    };
    let schedules = prop::collection::vec(act(), 1..60);
    TestRunner::new(config)
        .run(&schedules, |acts| {
            runtime.block_on(async {
                let mut run = Run::new(&server).await;
                for act in acts {
                    run.act(act).await;
                    run.check();
                }
            });
            Ok(())
        })
        .unwrap();
}
