//! The name of every key and channel. All keys of one story share a hash tag, so that one script can touch them all.

use story::{Agent, EventId, StoryId};

use crate::Error;

/// The one consumer group of every work stream.
pub(crate) const GROUP: &str = "fleet";

#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    shards: u16,
}

/// The three keys of one (agent, story): scripts take them in this order.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) work: String,
    pub(crate) turn: String,
    pub(crate) parked: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str, shards: u16) -> Result<Self, Error> {
        if shards == 0 {
            return Err(Error::Settings("there must be at least one shard".into()));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if prefix.is_empty() || !prefix.bytes().all(plain) {
            let text =
                format!("the key prefix '{prefix}' is not letters, digits, '-', '_' and '.'");
            return Err(Error::Settings(text));
        }
        let prefix = prefix.to_owned();
        Ok(Self { prefix, shards })
    }

    pub(crate) fn shards(&self) -> std::ops::Range<u16> {
        0..self.shards
    }

    pub(crate) fn shard(&self, story: &StoryId) -> u16 {
        crc16(story.as_str().as_bytes()) % self.shards
    }

    pub(crate) fn log(&self, story: &StoryId) -> String {
        self.of(story, "log")
    }

    pub(crate) fn ctx(&self, story: &StoryId) -> String {
        self.of(story, "ctx")
    }

    pub(crate) fn chars(&self, story: &StoryId) -> String {
        self.of(story, "chars")
    }

    pub(crate) fn lore(&self, story: &StoryId) -> String {
        self.of(story, "lore")
    }

    pub(crate) fn seen(&self, story: &StoryId) -> String {
        self.of(story, "seen")
    }

    pub(crate) fn gone(&self, story: &StoryId) -> String {
        self.of(story, "gone")
    }

    pub(crate) fn redriven(&self, story: &StoryId) -> String {
        self.of(story, "redriven")
    }

    pub(crate) fn drafts(&self, story: &StoryId) -> String {
        self.of(story, "drafts")
    }

    /// How the turns of its agents went.
    pub(crate) fn recordings(&self, story: &StoryId) -> String {
        self.of(story, "rec")
    }

    /// A part of a story in the making.
    pub(crate) fn staged(&self, story: &StoryId, run: &str, kind: &str) -> String {
        self.of(story, &format!("staged:{run}:{kind}"))
    }

    pub(crate) fn live(&self, story: &StoryId) -> String {
        self.of(story, "live")
    }

    /// Who is in the story, by node.
    pub(crate) fn here(&self, story: &StoryId) -> String {
        self.of(story, "here")
    }

    /// The same nodes, by the time up to which they count.
    pub(crate) fn here_until(&self, story: &StoryId) -> String {
        self.of(story, "here-until")
    }

    /// The channel of what is not kept.
    pub(crate) fn room(&self, story: &StoryId) -> String {
        self.of(story, "room")
    }

    pub(crate) fn draft(&self, story: &StoryId, response: &EventId, attempt: u32) -> String {
        format!("{}{attempt}", self.draft_base(story, response))
    }

    /// A draft's key without its attempt.
    pub(crate) fn draft_base(&self, story: &StoryId, response: &EventId) -> String {
        self.at(self.shard(story), &format!("draft:{response}:"))
    }

    /// What was paid for a response that is in the making.
    pub(crate) fn paid(&self, story: &StoryId, response: &EventId) -> String {
        format!("{}paid", self.draft_base(story, response))
    }

    pub(crate) fn lane(&self, agent: Agent, story: &StoryId) -> Lane {
        Lane {
            work: self.work(agent, self.shard(story)),
            turn: self.of(story, &format!("turn:{agent}")),
            parked: self.of(story, &format!("parked:{agent}")),
        }
    }

    pub(crate) fn work(&self, agent: Agent, shard: u16) -> String {
        self.at(shard, &format!("work:{agent}"))
    }

    pub(crate) fn dead(&self, agent: Agent, shard: u16) -> String {
        self.at(shard, &format!("dead:{agent}"))
    }

    pub(crate) fn stories(&self, shard: u16) -> String {
        self.at(shard, "stories")
    }

    /// Nothing, or nothing but empty words: for asking whether Redis takes writes, what its user may do, and whether
    /// replicas follow.
    pub(crate) fn probe(&self, shard: u16) -> String {
        self.at(shard, "probe")
    }

    /// The keys that an agent has in a shard for all stories, each with its type.
    pub(crate) fn of_agent(&self, agent: Agent, shard: u16) -> Vec<(String, &'static str)> {
        vec![
            (self.work(agent, shard), "stream"),
            (self.dead(agent, shard), "stream"),
        ]
    }

    /// The keys of a story alone, each with its type.
    pub(crate) fn of_story(&self, story: &StoryId) -> Vec<(String, &'static str)> {
        let mut keys = vec![
            (self.ctx(story), "hash"),
            (self.chars(story), "hash"),
            (self.lore(story), "hash"),
            (self.log(story), "stream"),
            (self.gone(story), "hash"),
            (self.seen(story), "zset"),
            (self.redriven(story), "hash"),
            (self.drafts(story), "hash"),
            (self.recordings(story), "stream"),
            (self.here(story), "hash"),
            (self.here_until(story), "zset"),
        ];
        for agent in Agent::ALL {
            let lane = self.lane(agent, story);
            keys.extend([(lane.turn, "string"), (lane.parked, "list")]);
        }
        keys
    }

    /// What all processes of an installation must agree on.
    pub(crate) fn meta(&self) -> String {
        self.at(0, "meta")
    }

    /// By the ticket's digest: tickets are of no story, and any shard will do.
    pub(crate) fn ticket(&self, digest: &str) -> String {
        let shard = crc16(digest.as_bytes()) % self.shards;
        self.at(shard, &format!("ticket:{digest}"))
    }

    /// What counts no more, of the whole installation.
    pub(crate) fn revoked(&self) -> String {
        self.at(0, "revoked")
    }

    /// The same, by when it is over.
    pub(crate) fn revoked_until(&self) -> String {
        self.at(0, "revoked-until")
    }

    /// The channel on which each revocation is told.
    pub(crate) fn revocations(&self) -> String {
        self.at(0, "revocations")
    }

    /// What calls to models hold, and what was spent: the keys that both scripts of admission begin with, and those of one
    /// model. All in one place: a limit is of the whole installation.
    pub(crate) fn admission(&self, model: &str) -> Vec<String> {
        let all = ["holds", "held", "busy", "spent:0", "spent:1", "spent:2"];
        let of_model =
            ["bucket", "queue", "waiters", "flows"].map(|kind| format!("{kind}:{model}"));
        let names = all.into_iter().map(str::to_owned).chain(of_model);
        names
            .map(|name| self.at(0, &format!("admission:{name}")))
            .collect()
    }

    /// How models fare, and how many retries may be made.
    pub(crate) fn health(&self) -> String {
        self.at(0, "admission:health")
    }

    fn of(&self, story: &StoryId, kind: &str) -> String {
        self.at(self.shard(story), &format!("{kind}:{story}"))
    }

    fn at(&self, shard: u16, name: &str) -> String {
        format!("{}:{{{shard}}}:{name}", self.prefix)
    }
}

impl Lane {
    pub(crate) fn into_keys(self) -> [String; 3] {
        [self.work, self.turn, self.parked]
    }
}

/// CRC-16/XMODEM, the one that Redis Cluster hashes keys with.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            }
        })
    })
}

/// The probe of the shard that a key is of.
pub(crate) fn probe_beside(key: &str) -> String {
    let shard = key.split_once('}').map_or("", |(shard, _)| shard);
    format!("{shard}}}:probe")
}

/// The slot of a hash tag in a cluster.
pub(crate) fn slot(tag: &str) -> u16 {
    crc16(tag.as_bytes()) % 16_384
}

/// What one master has, by a key or a channel of it: a hash tag of a cluster, and all there is elsewhere.
pub(crate) fn place(is_cluster: bool, key: &str) -> &str {
    if is_cluster { tag(key) } else { "" }
}

/// The hash tag of a key or a channel.
pub(crate) fn tag(key: &str) -> &str {
    let rest = key.split_once('{').map_or("", |(_, rest)| rest);
    rest.split_once('}').map_or("", |(tag, _)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        // As CLUSTER KEYSLOT says.
        assert_eq!((slot("0"), slot("15")), (13_907, 4_178));
    }

    #[test]
    fn every_key_of_a_story_has_the_tag_of_its_shard() {
        let keys = Keys::new("sf", 7).unwrap();
        let story: StoryId = "castle".parse().unwrap();
        let tag = format!("sf:{{{}}}:", keys.shard(&story));
        let lane = keys.lane(Agent::Narrator, &story);
        assert_eq!(lane.turn, format!("{tag}turn:narrator:castle"));
        assert_eq!(lane.parked, format!("{tag}parked:narrator:castle"));
        assert_eq!(lane.work, format!("{tag}work:narrator"));
        assert_eq!(keys.log(&story), format!("{tag}log:castle"));
        let response = "r1".parse().unwrap();
        assert_eq!(keys.draft(&story, &response, 2), format!("{tag}draft:r1:2"));
    }

    #[test]
    fn the_keys_of_one_script_share_a_tag() {
        let keys = Keys::new("sf", 7).unwrap();
        let story: StoryId = "castle".parse().unwrap();
        let tag = format!("sf:{{{}}}:", keys.shard(&story));
        for key in [
            keys.here(&story),
            keys.here_until(&story),
            keys.room(&story),
        ] {
            assert!(key.starts_with(&tag), "{key}");
        }
        assert_eq!(
            probe_beside(&keys.ctx(&story)),
            keys.probe(keys.shard(&story))
        );
        for key in [keys.revoked(), keys.revoked_until(), keys.revocations()] {
            assert!(key.starts_with("sf:{0}:"), "{key}");
        }
    }

    #[test]
    fn a_prefix_cannot_change_the_hash_tag() {
        for bad in ["", "a{b}", "a:b", "a b"] {
            assert!(Keys::new(bad, 1).is_err(), "{bad:?}");
        }
        assert!(Keys::new("sf", 0).is_err());
    }
}
