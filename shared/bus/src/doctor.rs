//! What is wrong in Redis that the fleet does not mend by itself, and its repair. No repair loses an event.

use std::time::Duration;

use redis::Value;
use serde::Serialize;
use story::{Agent, StoryId};

use crate::audit::Inspected;
use crate::keys::GROUP;
use crate::reply::read;
use crate::server::keeps_all;
use crate::{Bus, Error};

/// A consumer with nothing pending that was not heard of for so long is gone: readers ask every 2 s.
const STALE: Duration = Duration::from_secs(300);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In words, with the keys' names.
    pub what: String,
    /// Whether a repair is known that loses nothing; for what has none the words say what to do.
    pub repairable: bool,
    pub fixed: bool,
}

/// One round of the doctor.
struct Round<'a> {
    bus: &'a Bus,
    fix: bool,
    findings: Vec<Finding>,
}

impl Bus {
    /// Looks for what is wrong, and with `fix` repairs what can be repaired.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn doctor(&self, fix: bool) -> Result<Vec<Finding>, Error> {
        let mut round = Round {
            bus: self,
            fix,
            findings: Vec::new(),
        };
        round.policy().await?;
        round.shards().await?;
        for shard in self.keys.shards() {
            round.writes(shard).await?;
            for agent in Agent::ALL {
                if round.types(self.keys.of_agent(agent, shard)).await? {
                    round.group(agent, shard).await?;
                    round.consumers(agent, shard).await?;
                }
            }
        }
        let mut stories = Vec::new();
        for shard in self.keys.shards() {
            stories.extend(round.stories(shard).await?);
        }
        stories.sort();
        for story in stories {
            if round.types(self.keys.of_story(&story)).await? {
                round.story(&story).await?;
            }
        }
        Ok(round.findings)
    }
}

impl Round<'_> {
    fn repairable(&mut self, what: String, fixed: bool) {
        self.findings.push(Finding {
            what,
            repairable: true,
            fixed,
        });
    }

    /// Of what only people can mend.
    fn told(&mut self, what: String) {
        self.findings.push(Finding {
            what,
            repairable: false,
            fixed: false,
        });
    }

    async fn policy(&mut self) -> Result<(), Error> {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("maxmemory-policy");
        // A managed Redis may not tell; `check_server` reads the same from INFO.
        let reply: Vec<String> = match self.bus.link.query(&get).await {
            Err(Error::Refused(_) | Error::Denied(_)) => return Ok(()),
            reply => read(reply?)?,
        };
        let policy = reply.into_iter().nth(1).unwrap_or_default();
        if keeps_all(&policy) {
            return Ok(());
        }
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory-policy").arg("noeviction");
        let fixed = self.fix && self.bus.link.query(&set).await.is_ok();
        let what =
            format!("maxmemory-policy is {policy}, so Redis may drop events: set noeviction");
        self.repairable(what, fixed);
        Ok(())
    }

    /// Where the number of shards cannot be read nothing is repaired: all keys may be elsewhere.
    async fn shards(&mut self) -> Result<(), Error> {
        match self.bus.check_shards().await {
            Err(error @ Error::Data(_)) => {
                self.fix = false;
                self.told(error.to_string());
                Ok(())
            }
            checked => checked,
        }
    }

    async fn stories(&mut self, shard: u16) -> Result<Vec<StoryId>, Error> {
        let (stories, strange) = match self.bus.named_stories(shard).await {
            Err(error @ Error::Data(_)) => {
                self.told(error.to_string());
                return Ok(Vec::new());
            }
            named => named?,
        };
        for name in strange {
            let what = format!(
                "{name:?} is among the stories and is no story's name: another program put it there; remove it (SREM)"
            );
            self.told(what);
        }
        Ok(stories)
    }

    /// Whether Redis takes writes. Where it does not, nothing can be repaired now.
    async fn writes(&mut self, shard: u16) -> Result<(), Error> {
        if let Some(refusal) = self.bus.write_refusal_of(shard).await? {
            self.fix = false;
            self.told(refusal.to_string());
        }
        Ok(())
    }

    /// Whether every key is of its type, or not there.
    async fn types(&mut self, expected: Vec<(String, &'static str)>) -> Result<bool, Error> {
        let mistyped = self.bus.mistyped(expected).await?;
        let good = mistyped.is_empty();
        for what in mistyped {
            self.told(what);
        }
        Ok(good)
    }

    async fn group(&mut self, agent: Agent, shard: u16) -> Result<(), Error> {
        let link = &self.bus.link;
        let work = self.bus.keys.work(agent, shard);
        let exists: bool = read(link.query(redis::cmd("EXISTS").arg(&work)).await?)?;
        if !exists {
            // Readers make the stream with its group.
            return Ok(());
        }
        let mut groups = redis::cmd("XINFO");
        groups.arg("GROUPS").arg(&work);
        let groups: Vec<Vec<Value>> = read(link.query(&groups).await?)?;
        let has = |group: &Vec<Value>| group.get(1) == Some(&Value::BulkString(GROUP.into()));
        if groups.iter().any(has) {
            return Ok(());
        }
        if self.fix {
            let mut create = redis::cmd("XGROUP");
            create.arg("CREATE").arg(&work).arg(GROUP).arg("0");
            match link.query(&create).await {
                Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
                _ => {}
            }
        }
        let what = format!("the stream {work} has no group {GROUP}");
        self.repairable(what, self.fix);
        Ok(())
    }

    async fn consumers(&mut self, agent: Agent, shard: u16) -> Result<(), Error> {
        let consumers = self.bus.consumers_of(agent, shard).await?.into_iter();
        let stale = consumers.filter(|each| each.pending == 0 && each.idle > STALE);
        let stale = stale.count();
        if stale == 0 {
            return Ok(());
        }
        if self.fix {
            self.bus.remove_idle_consumers(agent, STALE).await?;
        }
        let (work, minutes) = (self.bus.keys.work(agent, shard), STALE.as_secs() / 60);
        let what = format!("{stale} consumers of {work} were not heard of for {minutes} minutes");
        self.repairable(what, self.fix);
        Ok(())
    }

    async fn story(&mut self, story: &StoryId) -> Result<(), Error> {
        let bus = self.bus;
        let read = async {
            bus.story(story).await?;
            bus.inspect(story).await
        };
        let inspected = match read.await {
            Err(error) if error.is_of_the_data() => {
                self.told(format!("the story {story} cannot be read: {error}"));
                return Ok(());
            }
            inspected => inspected?,
        };
        for orphan in &inspected.orphans {
            let fixed = self.fix && bus.repair(story, orphan.agent).await?;
            let (agent, what) = (orphan.agent, orphan.what);
            let what = format!("{what} of {agent} in the story {story}");
            self.repairable(what, fixed);
        }
        self.destroyed(story, &inspected);
        self.lost(story, &inspected).await
    }

    /// What a program of other people, or a disk, took out of the log: nothing has it any more.
    fn destroyed(&mut self, story: &StoryId, inspected: &Inspected) {
        let log = self.bus.keys.log(story);
        for hole in &inspected.holes {
            self.told(format!("the log {log} has no {hole}: destroyed, not retracted or trimmed; readers pass over the hole, and only a backup has it"));
        }
        if let Some(cut) = &inspected.cut {
            let what = match cut.begins {
                Some(begins) => format!("the log {log} begins at {begins}"),
                None => format!("the log {log} is gone"),
            };
            self.told(format!("{what}: something else than `story trim` destroyed what was before, and nothing tells how so many of its actions ended: {}; only a backup has it", cut.actions));
        }
        if let Some(counted) = inspected.ahead {
            let end = inspected.end;
            self.told(format!("the story {story} counts {counted} events and its log ends at {end}: the last ones were destroyed, or the count was changed; the next event leaves a hole, which readers pass over"));
        }
    }

    /// After the lanes are set going: what was lost goes behind what waits there.
    async fn lost(&mut self, story: &StoryId, inspected: &Inspected) -> Result<(), Error> {
        for (id, event) in &inspected.lost {
            let readmitted = match event {
                Some(event) if self.fix => self.bus.readmit(event, inspected.end).await?.is_some(),
                _ => false,
            };
            let lost =
                format!("no agent has the action {id} of the story {story}, and none answered it");
            let what = match event {
                Some(_) => lost,
                None => format!(
                    "{lost}; it is not in the log either: ask for it to be sent again under another id"
                ),
            };
            match event {
                Some(_) => self.repairable(what, readmitted),
                None => self.told(what),
            }
        }
        Ok(())
    }
}
