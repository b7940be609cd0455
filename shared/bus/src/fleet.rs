//! The fleet at one moment: what waits for each agent, who works, how the servers are. Reads only, and what it costs does not
//! grow with the number of stories: of each work stream it looks at the first entries, and at no other story's keys.
//! `audit` and `doctor` look at every story.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::future::{join_all, join3, try_join};
use story::{Agent, StoryId};

use crate::breaker::Open;
use crate::consumers::{Consumer, SILENT};
use crate::reply::read;
use crate::script::LOOK;
use crate::server::software;
use crate::{Bus, Error};

/// Lanes of an agent, in all shards, of which it is looked how many events are parked there.
const LANES: usize = 96;
/// The fewest of a shard.
const LANES_OF_A_SHARD: usize = 8;
/// Between the start of Redis's process, which it tells in full seconds, and the end of its reading of usual files.
const READING: Duration = Duration::from_secs(1);

/// What all there is to see costs the same to look at, however many stories there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    /// One for each agent and shard.
    pub queues: Vec<Backlog>,
    /// One for each consumer of an agent, in the order of their names.
    pub workers: Vec<Worker>,
    /// One for each node that tells; none where the user may not ask.
    pub servers: Vec<ServerLoad>,
    /// Whether Redis tells of workers that were given nothing yet (7.2 or later).
    pub tells_idle: bool,
    /// The queues that cannot be read: something else lies under their keys. `doctor` tells what.
    pub unreadable: Vec<(Agent, u16)>,
    /// The shards whose master in a cluster does not answer: nothing is known of what waits there.
    pub away: Vec<u16>,
    /// Addresses of the cluster's nodes that do not answer.
    pub silent: Vec<String>,
    /// The models that are left alone; none where the user may not see it.
    pub open: Vec<Open>,
}

/// What is to be done by one agent in one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    pub agent: Agent,
    pub shard: u16,
    /// Entries of the work stream: waiting and in flight.
    pub length: u64,
    /// Those of them that workers hold.
    pub in_flight: u64,
    /// How long the oldest entry has been in the stream, by Redis's clock.
    pub oldest: Option<Duration>,
    pub parked: Parked,
    /// Turns that ended since the stream was made, however they ended.
    pub ended: u64,
    /// Dead letters that are there.
    pub dead: u64,
    /// Dead letters that were ever written.
    pub buried: u64,
}

/// Events that wait behind their own story's turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parked {
    pub events: u64,
    /// Whether these are all: else the lanes of later entries were not looked at, and there may be more.
    pub is_all: bool,
}

/// A process that reads an agent's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub agent: Agent,
    /// As Redis has it: whoever may use the group could name it anything.
    pub consumer: String,
    pub in_flight: u64,
    /// Since it last asked for work or renewed a lease.
    pub seen: Duration,
    /// Since it last was given anything; Redis before 7.2 does not tell.
    pub quiet: Option<Duration>,
    /// Whether it was not heard of since Redis began, which is not long ago: then `seen` is since Redis read it from its
    /// files, and may be of the dead.
    pub is_read: bool,
}

/// How one Redis server is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerLoad {
    /// Of a cluster's node; empty where there is one server.
    pub address: String,
    /// `Redis` or `Valkey`.
    pub software: &'static str,
    pub version: String,
    /// `master` or `slave`, as the server says.
    pub role: String,
    /// In bytes.
    pub memory: u64,
    /// `maxmemory` in bytes; `None`: no limit.
    pub memory_limit: Option<u64>,
    /// In the last moments, by its own count.
    pub commands_per_second: u64,
    pub clients: u64,
    /// Of a master: replicas that are connected.
    pub replicas: u64,
    /// Of a master: bytes that the slowest of them has not confirmed.
    pub behind: Option<u64>,
    /// Of a replica: whether it hears its master.
    pub master_link: Option<bool>,
    /// Whether its last write to the append-only file failed.
    pub disk_failed: bool,
    /// Since its process began, in full seconds; `None` where it does not tell.
    pub up: Option<Duration>,
}

impl Worker {
    /// Whether it was heard of in the last seconds: a worker asks every 2 s, or renews its leases. `None` where nobody can
    /// tell: before 7.2 Redis takes no notice of who asks and is given nothing, and one that has just begun says of
    /// everybody that they were seen when it read its files.
    #[must_use]
    pub fn is_alive(&self) -> Option<bool> {
        if self.seen < SILENT {
            return (!self.is_read).then_some(true);
        }
        (self.in_flight > 0 || self.quiet.is_some()).then_some(false)
    }

    /// Whether nobody can tell for some seconds: it was not heard of since Redis began, or since it is back, for so long, in
    /// the sight of whoever had lost it. Another server may serve by now.
    #[must_use]
    pub fn is_unheard(&self, back: Option<Duration>) -> bool {
        let is_read = self.is_read && self.seen < SILENT;
        is_read || back.is_some_and(|back| back < SILENT && self.seen >= back)
    }
}

/// What one look finds of an agent in one shard.
struct Look {
    work: Counts,
    dead: Counts,
    oldest: Option<Duration>,
    /// Entries that were looked at, and the stories that they are of.
    looked: usize,
    stories: Vec<StoryId>,
}

/// How long a stream is, and how many entries it ever had.
struct Counts {
    length: u64,
    added: u64,
}

impl Bus {
    /// Looks at the whole fleet.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn fleet(&self) -> Result<Fleet, Error> {
        // Nobody answers for the others, and whoever asks for one of them holds up the rest.
        self.coverage.look().await;
        let served = self.coverage.shards().await;
        let looks = Agent::ALL.into_iter().flat_map(|agent| {
            let served = &served;
            served.iter().map(move |shard| (agent, *shard))
        });
        let looks = looks.map(async |(agent, shard)| {
            let consumers = self.consumers_of(agent, shard);
            let looked = try_join(self.queue(agent, shard), consumers).await;
            ((agent, shard), looked)
        });
        let (looked, servers, open) = join3(join_all(looks), self.servers(), self.failing()).await;
        let (servers, silent) = servers?;
        // Which master has a shard is not known here: of several the youngest counts.
        let masters = servers.iter().filter(|server| server.role == "master");
        let up = masters.filter_map(|server| server.up).min();
        let mut fleet = Fleet {
            tells_idle: servers.iter().any(tells_idle),
            servers,
            silent,
            open: open.unwrap_or_default(),
            ..Fleet::default()
        };
        let (mut away, mut failed) = (self.keys.shards().collect::<BTreeSet<_>>(), None);
        away.retain(|shard| !served.contains(shard));
        for ((agent, shard), looked) in looked {
            let (mut queue, consumers) = match looked {
                Ok(looked) => looked,
                Err(error) if error.is_of_the_data() => {
                    fleet.unreadable.push((agent, shard));
                    continue;
                }
                Err(error) if error.is_away() && self.topology.is_cluster() => {
                    away.insert(shard);
                    failed = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            queue.in_flight = consumers.iter().map(|consumer| consumer.pending).sum();
            fleet.queues.push(queue);
            for consumer in consumers {
                fleet.add(agent, consumer);
            }
        }
        if let Some(error) = failed {
            self.coverage.look().await;
            if away.len() == self.keys.shards().len() {
                return Err(error);
            }
        }
        fleet.away = away.into_iter().collect();
        for worker in &mut fleet.workers {
            worker.is_read = up.is_some_and(|up| worker.seen + READING >= up);
        }
        fleet
            .workers
            .sort_by(|a, b| (a.agent, &a.consumer).cmp(&(b.agent, &b.consumer)));
        Ok(fleet)
    }

    /// All but what is in flight: its consumers tell.
    async fn queue(&self, agent: Agent, shard: u16) -> Result<Backlog, Error> {
        let lanes = (LANES / self.keys.shards().len()).max(LANES_OF_A_SHARD);
        let Look {
            work,
            dead,
            oldest,
            looked,
            stories,
        } = self.look(agent, shard, lanes).await?;
        let parked = stories.iter().map(|story| {
            let mut cmd = redis::cmd("LLEN");
            cmd.arg(self.keys.lane(agent, story).parked);
            cmd
        });
        let parked: Vec<_> = parked.collect();
        // A pipeline of nothing is refused.
        let parked = match parked.is_empty() {
            true => Vec::new(),
            false => self.link.each(&parked).await?,
        };
        let events = parked
            .into_iter()
            .map(read::<u64>)
            .sum::<Result<u64, _>>()?;
        Ok(Backlog {
            agent,
            shard,
            length: work.length,
            in_flight: 0,
            oldest,
            parked: Parked {
                events,
                is_all: looked < lanes,
            },
            // Every end deletes its entry, and nothing else does.
            ended: work.added.saturating_sub(work.length),
            dead: dead.length,
            buried: dead.added,
        })
    }

    async fn look(&self, agent: Agent, shard: u16, lanes: usize) -> Result<Look, Error> {
        let mut call = LOOK.call();
        call.key(self.keys.work(agent, shard))
            .key(self.keys.dead(agent, shard))
            .arg(lanes.to_string());
        type Reply = ((u64, u64), (u64, u64), u64, String, usize, Vec<Vec<u8>>);
        let (work, dead, now, first, looked, stories): Reply =
            read(call.run_alone(&self.link).await?)?;
        let counts = |(length, added)| Counts { length, added };
        let named = stories.iter().filter_map(|name| {
            let story: StoryId = std::str::from_utf8(name).ok()?.parse().ok()?;
            (self.keys.shard(&story) == shard).then_some(story)
        });
        Ok(Look {
            work: counts(work),
            dead: counts(dead),
            oldest: age(&first, now),
            looked,
            stories: named.collect(),
        })
    }
}

impl Fleet {
    /// A worker is one consumer in each shard.
    fn add(&mut self, agent: Agent, consumer: Consumer) {
        let known = self
            .workers
            .iter_mut()
            .find(|worker| worker.agent == agent && worker.consumer == consumer.name);
        let Some(worker) = known else {
            self.workers.push(Worker {
                agent,
                consumer: consumer.name,
                in_flight: consumer.pending,
                seen: consumer.idle,
                quiet: consumer.quiet,
                is_read: false,
            });
            return;
        };
        worker.in_flight += consumer.pending;
        worker.seen = worker.seen.min(consumer.idle);
        worker.quiet = match (worker.quiet, consumer.quiet) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

fn tells_idle(server: &ServerLoad) -> bool {
    let mut parts = server
        .version
        .split('.')
        .map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version >= (7, 2)
}

/// What an entry's id says of its age.
fn age(id: &str, now: u64) -> Option<Duration> {
    let (ms, _) = id.split_once('-')?;
    let ms = ms.parse().ok()?;
    Some(Duration::from_millis(now.saturating_sub(ms)))
}

pub(crate) fn server(address: String, info: &str) -> ServerLoad {
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    let fields: HashMap<&str, &str> = lines.collect();
    let field = |name: &str| fields.get(name).map_or("", |value| value.trim());
    let number = |name: &str| field(name).parse::<u64>().ok();
    let count = |name: &str| number(name).unwrap_or(0);
    let (software, version) = software(field);
    let replicas = count("connected_slaves");
    let end = count("master_repl_offset");
    let confirmed = (0..replicas).filter_map(|at| offset(field(&format!("slave{at}"))));
    ServerLoad {
        address,
        software,
        version: version.to_owned(),
        role: field("role").to_owned(),
        memory: count("used_memory"),
        memory_limit: number("maxmemory").filter(|limit| *limit > 0),
        commands_per_second: count("instantaneous_ops_per_sec"),
        clients: count("connected_clients"),
        replicas,
        behind: confirmed.min().map(|offset| end.saturating_sub(offset)),
        master_link: (field("role") == "slave").then(|| field("master_link_status") == "up"),
        disk_failed: field("aof_last_write_status") == "err",
        up: number("uptime_in_seconds").map(Duration::from_secs),
    }
}

/// Up to where a replica confirmed: `ip=…,port=…,state=online,offset=42,lag=0`.
fn offset(replica: &str) -> Option<u64> {
    let parts = replica.split(',').filter_map(|part| part.split_once('='));
    let mut offsets = parts.filter(|(name, _)| *name == "offset");
    offsets.next()?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_tells_how_far_its_slowest_replica_is() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nused_memory:1024\r\nmaxmemory:0\r\n\
            instantaneous_ops_per_sec:7\r\nconnected_clients:3\r\nconnected_slaves:2\r\n\
            slave0:ip=10.0.0.1,port=6379,state=online,offset=90,lag=0\r\n\
            slave1:ip=10.0.0.2,port=6379,state=online,offset=70,lag=1\r\nmaster_repl_offset:100\r\n";
        let load = server(String::new(), info);
        assert_eq!((load.replicas, load.behind), (2, Some(30)));
        assert_eq!((load.memory, load.memory_limit), (1_024, None));
        assert_eq!((load.commands_per_second, load.clients), (7, 3));
        assert_eq!((load.master_link, load.up), (None, None));
        let replica = server(String::new(), "role:slave\r\nmaster_link_status:down\r\n");
        assert_eq!(replica.master_link, Some(false));
    }

    #[test]
    fn an_age_is_by_the_servers_clock_and_never_negative() {
        assert_eq!(age("1000-3", 1_500), Some(Duration::from_millis(500)));
        assert_eq!(age("2000-0", 1_500), Some(Duration::ZERO));
        assert_eq!(age("x", 1), None);
    }
}
