//! What a node of a cluster has written down of the shards that the nodes are in.

/// Whether a node's file has each replica in the shard of its master. Valkey, and Redis from 7.2 on, make up names of shards
/// that nodes tell each other later, and until then a node that is killed may not start again: "corrupted cluster config file".
pub(super) fn agrees(file: &str) -> bool {
    let lines: Vec<Vec<&str>> = file.lines().map(|line| line.split(' ').collect()).collect();
    let shard = |id: &str| {
        let node = lines.iter().find(|words| words[0] == id)?;
        node.get(1)?
            .split(',')
            .find(|word| word.starts_with("shard-id="))
    };
    let masters = lines
        .iter()
        .filter_map(|words| Some((words[0], *words.get(3)?)));
    let mut replicas = masters.filter(|(_, master)| shard(master).is_some());
    replicas.all(|(id, master)| shard(id) == shard(master))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_is_not_in_the_shard_of_its_master_is_seen() {
        let file = |shard: &str| {
            format!(
                "a1 127.0.0.1:1@2,,tls-port=0,shard-id=s1 master - 0 0 1 connected 0-5460\n\
                 b2 127.0.0.1:3@4,,tls-port=0,shard-id={shard} myself,slave a1 0 0 1 connected\n\
                 vars currentEpoch 6 lastVoteEpoch 0\n"
            )
        };
        assert!(agrees(&file("s1")));
        assert!(!agrees(&file("s2")));
        // As Redis 7.0 has it.
        assert!(agrees(&file("s2").replace("shard-id=", "")));
    }
}
