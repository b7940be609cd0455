//! What is wrong in Redis that the fleet does not mend by itself, and its repair. No repair loses an event.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use serde::Serialize;
use story::{Agent, EventId, StoryId};

use crate::keys::GROUP;
use crate::reply::{Entry, next, read};
use crate::script::{Script, lane_script};
use crate::work::{Fields, unpack};
use crate::{Bus, Error};

static LANES: Script = Script::new(include_str!("../scripts/lanes.lua"));
static REPAIR: Script = Script::new(lane_script!("repair"));

/// A consumer with nothing pending that was not heard of for so long is gone: readers ask every 2 s.
const STALE: Duration = Duration::from_secs(300);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In words, with the keys' names.
    pub what: String,
    pub fixed: bool,
}

/// What is in the lanes of one shard at one moment.
pub(crate) struct Lanes {
    /// Everything that waits or is in flight.
    pub(crate) steps: Vec<Waiting>,
    pub(crate) orphans: Vec<Orphan>,
}

/// A step in a lane.
pub(crate) struct Waiting {
    pub(crate) story: StoryId,
    pub(crate) id: EventId,
    /// The events that its event answers.
    pub(crate) cause: Vec<EventId>,
}

/// What is left in a lane whose turn is nobody's.
pub(crate) struct Orphan {
    story: StoryId,
    agent: Agent,
    what: &'static str,
}

impl Bus {
    /// Looks for what is wrong, and with `fix` repairs what can be repaired.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn doctor(&self, fix: bool) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        self.policy(fix, &mut findings).await?;
        let stories = self.stories().await?;
        for shard in self.keys.shards() {
            for agent in Agent::ALL {
                self.group(agent, shard, fix, &mut findings).await?;
                self.consumers(agent, shard, fix, &mut findings).await?;
            }
            for orphan in self.lanes(shard, &stories).await?.orphans {
                if fix {
                    self.repair(&orphan).await?;
                }
                let Orphan { story, agent, what } = orphan;
                findings.push(Finding {
                    what: format!("{what} of {agent} in the story {story}"),
                    fixed: fix,
                });
            }
        }
        Ok(findings)
    }

    /// The lanes of those of the stories that are in this shard.
    pub(crate) async fn lanes(&self, shard: u16, stories: &[StoryId]) -> Result<Lanes, Error> {
        let here = stories
            .iter()
            .filter(|story| self.keys.shard(story) == shard);
        let here: Vec<&StoryId> = here.collect();
        let mut call = LANES.call();
        call.keys(Agent::ALL.map(|agent| self.keys.work(agent, shard)));
        for story in &here {
            for agent in Agent::ALL {
                let lane = self.keys.lane(agent, story);
                call.key(lane.turn).key(lane.parked);
            }
            call.key(self.keys.drafts(story));
        }
        call.count(&Agent::ALL);
        let mut reply = read::<Vec<Value>>(call.run_until_answered(&self.link).await?)?.into_iter();
        let work: Vec<Vec<Entry>> = next(&mut reply)?;
        let found: Vec<Vec<Value>> = next(&mut reply)?;
        let mut lanes = Lanes {
            steps: work
                .iter()
                .flatten()
                .filter_map(|(_, fields)| waiting(fields))
                .collect(),
            orphans: Vec::new(),
        };
        for (story, found) in here.into_iter().zip(found) {
            lanes.add(story, &work, found)?;
        }
        Ok(lanes)
    }

    async fn policy(&self, fix: bool, findings: &mut Vec<Finding>) -> Result<(), Error> {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("maxmemory-policy");
        // A managed Redis may not tell; `check_server` reads the same from INFO.
        let reply: Vec<String> = match self.link.query(&get).await {
            Err(Error::Refused(_)) => return Ok(()),
            reply => read(reply?)?,
        };
        let policy = reply.into_iter().nth(1).unwrap_or_default();
        if matches!(policy.as_str(), "" | "noeviction") {
            return Ok(());
        }
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory-policy").arg("noeviction");
        let fixed = fix && self.link.query(&set).await.is_ok();
        findings.push(Finding {
            what: format!("maxmemory-policy is {policy}, so Redis may drop events: set noeviction"),
            fixed,
        });
        Ok(())
    }

    async fn group(
        &self,
        agent: Agent,
        shard: u16,
        fix: bool,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Error> {
        let work = self.keys.work(agent, shard);
        let exists: bool = read(self.link.query(redis::cmd("EXISTS").arg(&work)).await?)?;
        if !exists {
            // Readers make the stream with its group.
            return Ok(());
        }
        let mut groups = redis::cmd("XINFO");
        groups.arg("GROUPS").arg(&work);
        let groups: Vec<Vec<Value>> = read(self.link.query(&groups).await?)?;
        let has = |group: &Vec<Value>| group.get(1) == Some(&Value::BulkString(GROUP.into()));
        if groups.iter().any(has) {
            return Ok(());
        }
        if fix {
            let mut create = redis::cmd("XGROUP");
            create.arg("CREATE").arg(&work).arg(GROUP).arg("0");
            match self.link.query(&create).await {
                Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
                _ => {}
            }
        }
        findings.push(Finding {
            what: format!("the stream {work} has no group {GROUP}"),
            fixed: fix,
        });
        Ok(())
    }

    async fn consumers(
        &self,
        agent: Agent,
        shard: u16,
        fix: bool,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Error> {
        let work = self.keys.work(agent, shard);
        let mut cmd = redis::cmd("XINFO");
        cmd.arg("CONSUMERS").arg(&work).arg(GROUP);
        let consumers: Vec<HashMap<String, Value>> = match self.link.query(&cmd).await {
            // Neither the stream nor its group need be there yet.
            Err(Error::Refused(_)) => return Ok(()),
            reply => read(reply?)?,
        };
        let millis = |consumer: &HashMap<String, Value>, name: &str| match consumer.get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let stale = |consumer: &&HashMap<String, Value>| {
            millis(consumer, "pending") == 0
                && Duration::from_millis(millis(consumer, "idle")) > STALE
        };
        let stale = consumers.iter().filter(stale).count();
        if stale == 0 {
            return Ok(());
        }
        if fix {
            self.remove_idle_consumers(agent, STALE).await?;
        }
        findings.push(Finding {
            what: format!(
                "{stale} consumers of {work} were not heard of for {} minutes",
                STALE.as_secs() / 60
            ),
            fixed: fix,
        });
        Ok(())
    }

    async fn repair(&self, orphan: &Orphan) -> Result<(), Error> {
        let mut call = REPAIR.call();
        call.keys(self.keys.lane(orphan.agent, &orphan.story).into_keys())
            .key(self.keys.drafts(&orphan.story));
        call.arg(orphan.agent.as_str());
        call.run_until_answered(&self.link).await.map(|_| ())
    }
}

impl Lanes {
    /// Takes what lanes.lua found of one story.
    fn add(
        &mut self,
        story: &StoryId,
        work: &[Vec<Entry>],
        found: Vec<Value>,
    ) -> Result<(), Error> {
        let mut found = found.into_iter();
        let mut turns = Vec::new();
        for (agent, work) in Agent::ALL.into_iter().zip(work) {
            let (turn, parked): (String, Vec<Vec<u8>>) = next(&mut found)?;
            let running = work.iter().any(|(entry, _)| *entry == turn);
            let what = match (running, turn.is_empty(), parked.is_empty()) {
                (false, false, _) => Some("the turn is an entry that is not there"),
                (false, true, false) => Some("events wait behind nothing"),
                _ => None,
            };
            self.orphans.extend(what.map(|what| Orphan {
                story: story.clone(),
                agent,
                what,
            }));
            let parked = parked.iter().filter_map(|packed| waiting(&unpack(packed)?));
            self.steps.extend(parked);
            turns.push((agent, running));
        }
        let drafts: Vec<(String, String)> = next(&mut found)?;
        for (agent, running) in turns {
            if !running && drafts.iter().any(|(field, _)| field == agent.as_str()) {
                self.orphans.push(Orphan {
                    story: story.clone(),
                    agent,
                    what: "a draft is left that nobody writes",
                });
            }
        }
        Ok(())
    }
}

fn waiting(fields: &Fields) -> Option<Waiting> {
    let field = |name: &[u8]| {
        let (_, value) = fields.iter().find(|(field, _)| field == name)?;
        Some(value.as_slice())
    };
    let text = |name: &[u8]| std::str::from_utf8(field(name)?).ok();
    let event = field(b"e").and_then(|json| story::Event::decode(json).ok());
    Some(Waiting {
        story: text(b"story")?.parse().ok()?,
        id: text(b"id")?.parse().ok()?,
        cause: event.map_or_else(Vec::new, |event| event.cause),
    })
}
