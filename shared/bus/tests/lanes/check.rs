//! Compares what Redis holds with what the model holds, and at the end both with the bus's own audit.

use std::collections::BTreeMap;

use redis::Commands;
use story::{Agent, EventId, Seq};

use crate::answers::Choice;
use crate::model::{At, Head, Lane, Room, SHARDS, STORIES, shard};
use crate::run::Run;
use crate::server::story;

/// An entry with its fields.
type Entry = (String, BTreeMap<String, String>);

impl Run<'_> {
    /// Redis holds what the model holds.
    pub(crate) async fn check(&mut self) {
        for agent in Agent::ALL {
            for shard in 0..SHARDS {
                self.check_work(agent, shard);
            }
        }
        self.check_dead();
        for story in 0..STORIES.len() {
            self.check_log(story).await;
            self.check_drafts(story);
        }
    }

    fn check_work(&mut self, agent: Agent, part: u16) {
        let work = self.stream(&format!("sf:{{{part}}}:work:{agent}"));
        let mut lanes = 0;
        for index in (0..STORIES.len()).filter(|index| shard(*index) == part) {
            let name = STORIES[index].0;
            let entries = work.iter().filter(|(_, fields)| fields["story"] == name);
            let entries: Vec<&Entry> = entries.collect();
            lanes += self.check_lane((agent, index), &entries);
        }
        assert_eq!(work.len(), lanes, "the scaling signal");
    }

    /// How many entries of the lane should be in the work stream.
    fn check_lane(&mut self, at: At, entries: &[&Entry]) -> usize {
        let (agent, name, part) = (at.0, STORIES[at.1].0, shard(at.1));
        let none = Lane::default();
        let lane = self.model.lanes.get(&at).unwrap_or(&none);
        let expected = lane.steps.front().map(|step| {
            let held = step.held.then(|| "1".to_owned());
            (step.event.id.to_string(), step.part.to_string(), held)
        });
        let found = entries.iter().map(|(_, fields)| {
            let field = |name: &str| fields[name].clone();
            (field("id"), field("part"), fields.get("held").cloned())
        });
        assert!(found.eq(expected), "in the work stream of {at:?}");
        let key = format!("sf:{{{part}}}:turn:{agent}:{name}");
        let turn: Option<String> = self.raw.get(key).expect("GET");
        assert_eq!(turn.as_ref(), entries.first().map(|(entry, _)| entry));
        let key = format!("sf:{{{part}}}:parked:{agent}:{name}");
        let parked: usize = self.raw.llen(key).expect("LLEN");
        assert_eq!(parked, lane.steps.len().saturating_sub(1), "parked");
        if let Some(entry) = &turn {
            let mut cmd = redis::cmd("XPENDING");
            cmd.arg(format!("sf:{{{part}}}:work:{agent}")).arg("fleet");
            cmd.arg(entry).arg(entry).arg(1);
            let pending: Vec<(String, String, u64, u32)> =
                cmd.query(&mut self.raw).expect("XPENDING");
            let pending = pending
                .into_iter()
                .map(|(_, owner, _, count)| (owner, count));
            let leased = match &lane.head {
                Head::Leased {
                    owner, deliveries, ..
                } => Some((owner.clone(), *deliveries)),
                _ => None,
            };
            assert!(pending.eq(leased), "the lease of {at:?}");
        }
        usize::from(turn.is_some())
    }

    fn check_dead(&mut self) {
        let mut dead = Vec::new();
        for agent in Agent::ALL {
            for shard in 0..SHARDS {
                let letters = self.stream(&format!("sf:{{{shard}}}:dead:{agent}"));
                let ids = letters
                    .into_iter()
                    .map(|(_, mut fields)| fields.remove("id"));
                dead.extend(ids.map(|id| (agent, id.expect("a whole letter"))));
            }
        }
        let expected = self.model.dead.iter();
        let mut expected: Vec<(Agent, String)> = expected
            .map(|((agent, _), step)| (*agent, step.event.id.to_string()))
            .collect();
        dead.sort();
        expected.sort();
        assert_eq!(dead, expected, "the dead letters");
    }

    async fn check_log(&mut self, index: usize) {
        let name = story(STORIES[index].0);
        let log = self.bus.log(&name, Seq(0), 1_000).await;
        let log = log.expect("the log").into_iter().zip(1..);
        let log = log.map(|(entry, seq)| {
            assert_eq!(entry.seq, Seq(seq), "the log has a hole");
            let taken = entry.event.extra.contains_key("retracted");
            (entry.event.id, taken)
        });
        let log: Vec<(EventId, bool)> = log.collect();
        let room = self.model.rooms.get(&index);
        assert_eq!(log, room.map_or_else(Vec::new, |room| room.log.clone()));
    }

    fn check_drafts(&mut self, index: usize) {
        let (name, part) = (STORIES[index].0, shard(index));
        let none = Room::default();
        let room = self.model.rooms.get(&index).unwrap_or(&none);
        let key = format!("sf:{{{part}}}:drafts:{name}");
        let fields: BTreeMap<String, String> = self.raw.hgetall(key).expect("HGETALL");
        let running = room.running.iter();
        let running =
            running.map(|(agent, (re, attempt))| (agent.to_string(), format!("{re}:{attempt}")));
        let attempts = room.attempts.iter();
        let attempts = attempts.map(|(re, (attempt, _))| (format!("n:{re}"), attempt.to_string()));
        let expected: BTreeMap<String, String> = running.chain(attempts).collect();
        assert_eq!(fields, expected, "the drafts of {name}");
        for (re, (attempt, chunks)) in &room.attempts {
            let key = format!("sf:{{{part}}}:draft:{re}:{attempt}");
            let list: Vec<String> = self.raw.lrange(key, 0, -1).expect("LRANGE");
            let expected = chunks
                .iter()
                .zip(0..)
                .map(|(text, i)| format!("{i} 1 {text}"));
            assert!(list.iter().eq(&expected.collect::<Vec<_>>()), "a draft");
        }
    }

    /// Nothing more happens but good work: every event ends, and the bus's account says so.
    pub(crate) async fn settle(&mut self) {
        self.hands.clear();
        self.repair().await;
        let choice = Choice {
            merged: 0,
            speakers: 0,
            passes: true,
        };
        while !self.model.is_idle() {
            for agent in Agent::ALL {
                self.reclaim(0, agent).await;
                self.read(0, agent, 100).await;
                while !self.hands.is_empty() {
                    self.commit(0, choice, false).await;
                }
            }
            self.check().await;
        }
        let lists: Vec<String> = self.raw.keys("*:draft:*").expect("KEYS");
        assert_eq!(lists, [""; 0], "texts that nobody will end");
        let audit = self.bus.audit().await.expect("an audit");
        assert!(audit.is_clean(), "{audit:?}");
        let ended = audit.answered + audit.blocked + audit.failed;
        let published = self.events.len() as u64;
        assert_eq!((audit.events, ended), (published, published), "{audit:?}");
        assert_eq!(audit.dead, self.model.dead.len() as u64);
    }

    fn stream(&mut self, key: &str) -> Vec<Entry> {
        let rows = self.raw.xrange_all(key).expect("XRANGE");
        redis::from_redis_value(rows).expect("a stream")
    }
}
