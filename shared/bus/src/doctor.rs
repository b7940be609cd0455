//! What is wrong in Redis that the fleet does not mend by itself, and its repair. No repair loses an event.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use redis::Value;
use serde::Serialize;
use story::{Agent, EventId, StoryId};

use crate::keys::GROUP;
use crate::reply::read;
use crate::script::{Script, lane_script};
use crate::server::keeps_all;
use crate::{Bus, Error};

static LANES: Script = Script::new(lane_script!("lanes"));
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

/// What is in the lanes of one story at one moment.
#[derive(Default)]
pub(crate) struct Lanes {
    /// The events that wait or are in flight, and those that a held response among them answers.
    pub(crate) waiting: HashSet<EventId>,
    pub(crate) orphans: Vec<Orphan>,
}

/// A turn with its state, whether a draft is written, and id and JSON of each event.
type FoundLane = (String, String, bool, Vec<(String, Vec<u8>)>);

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
        for shard in self.keys.shards() {
            for agent in Agent::ALL {
                self.group(agent, shard, fix, &mut findings).await?;
                self.consumers(agent, shard, fix, &mut findings).await?;
            }
        }
        for story in self.stories().await? {
            for orphan in self.lanes(&story).await?.orphans {
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

    pub(crate) async fn lanes(&self, story: &StoryId) -> Result<Lanes, Error> {
        let mut call = LANES.call();
        call.key(self.keys.drafts(story));
        for agent in Agent::ALL {
            call.keys(self.keys.lane(agent, story).into_keys());
            call.arg(agent.as_str());
        }
        let found: Vec<FoundLane> = read(call.run_until_answered(&self.link).await?)?;
        let mut lanes = Lanes::default();
        for (agent, found) in Agent::ALL.into_iter().zip(found) {
            lanes.add(story, agent, &found);
        }
        Ok(lanes)
    }

    async fn policy(&self, fix: bool, findings: &mut Vec<Finding>) -> Result<(), Error> {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("maxmemory-policy");
        // A managed Redis may not tell; `check_server` reads the same from INFO.
        let reply: Vec<String> = match self.link.query(&get).await {
            Err(Error::Refused(_) | Error::Denied(_)) => return Ok(()),
            reply => read(reply?)?,
        };
        let policy = reply.into_iter().nth(1).unwrap_or_default();
        if keeps_all(&policy) {
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
    fn add(&mut self, story: &StoryId, agent: Agent, found: &FoundLane) {
        let (turn, state, draft, waiting) = found;
        let what = match state.as_str() {
            "running" => None,
            "stranded" => Some("the turn is an entry that nobody has and nobody will be given"),
            _ if !turn.is_empty() => Some("the turn is an entry that is not there"),
            _ if !waiting.is_empty() => Some("events wait behind nothing"),
            _ if *draft => Some("a draft is left that nobody writes"),
            _ => None,
        };
        self.orphans.extend(what.map(|what| Orphan {
            story: story.clone(),
            agent,
            what,
        }));
        for (id, held) in waiting {
            self.waiting.extend(id.parse());
            if let Ok(event) = story::Event::decode(held) {
                self.waiting.extend(event.cause);
            }
        }
    }
}
