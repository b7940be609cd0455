//! Who is in a story now. Each node keeps an entry of its own, which expires by Redis's clock when the node is no more
//! heard of; who is here is all of them together.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use story::StoryId;

use crate::digest::sha256;
use crate::lease::millis;
use crate::reply::read;
use crate::revocations::MAX_ID_BYTES;
use crate::script::Script;
use crate::{Bus, Error};

pub(crate) static HERE: Script = Script::new(include_str!("../scripts/here.lua"));
pub(crate) static WHO: Script = Script::new(include_str!("../scripts/who.lua"));

/// People that a node lists in a story.
pub const MAX_PEOPLE_LISTED: usize = 200;
/// Of a name, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Somebody in a story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The user's id, at most 256 bytes.
    pub sub: String,
    /// As others see it; what is beyond 128 bytes is cut off.
    pub name: String,
    /// How often they are connected.
    pub connections: u32,
}

/// Who is in a story.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
    /// Each once, by `sub`: of each node at most 200, the first in the order of `sub`.
    pub people: Vec<Person>,
    /// How many there are, with those that are not listed. Only who is not listed can be counted twice: once for each
    /// node that they are connected to.
    pub count: u64,
}

/// What a node stores.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Entry {
    people: Vec<Person>,
    /// How many are not listed.
    more: u64,
}

impl Bus {
    /// These people are in the story at `node`, which counts for `lives` (at least 1 ms) by Redis's clock: to be repeated
    /// before then. Takes the place of what the node said before; without people the node leaves. When the people changed
    /// (not how often they are connected), or a node that is over is removed, the story's room gets
    /// [`crate::Hint::People`]. Gives whether it did.
    ///
    /// # Errors
    /// [`Error::Oversized`] when the node's name or a `sub` has more than 256 bytes; or Redis was not reached or refuses.
    pub async fn be_here(
        &self,
        story: &StoryId,
        node: &str,
        people: &[Person],
        lives: Duration,
    ) -> Result<bool, Error> {
        for person in people {
            Error::check_size("a sub", person.sub.len(), MAX_ID_BYTES)?;
        }
        if people.is_empty() {
            return self.leave(story, node).await;
        }
        self.keep(story, node, millis(lives).max(1), &Entry::of(people))
            .await
    }

    /// The node has nobody in the story any more. Gives whether the people changed.
    ///
    /// # Errors
    /// [`Error::Oversized`] when the node's name has more than 256 bytes; or Redis was not reached or refuses.
    pub async fn leave(&self, story: &StoryId, node: &str) -> Result<bool, Error> {
        self.keep(story, node, 0, &Entry::default()).await
    }

    /// Who is in the story, at all nodes.
    ///
    /// # Errors
    /// [`Error::Data`] when what is stored cannot be read; or Redis was not reached or refuses.
    pub async fn who_is_here(&self, story: &StoryId) -> Result<Here, Error> {
        let mut call = WHO.call();
        call.key(self.keys.here(story))
            .key(self.keys.here_until(story));
        let stored: Vec<Option<String>> = read(call.run_until_answered(&self.link).await?)?;
        let entries = stored.iter().flatten().map(|stored| {
            let (_digest, json) = stored.split_once(' ').unwrap_or_default();
            serde_json::from_str(json)
                .map_err(|error| Error::data(format!("who is in '{story}': {error}")))
        });
        Ok(merged(entries.collect::<Result<_, _>>()?))
    }

    async fn keep(
        &self,
        story: &StoryId,
        node: &str,
        life: u64,
        entry: &Entry,
    ) -> Result<bool, Error> {
        Error::check_size("a node's name", node.len(), MAX_ID_BYTES)?;
        let json = |error: serde_json::Error| Error::data(error.to_string());
        let mut call = HERE.call();
        call.key(self.keys.here(story))
            .key(self.keys.here_until(story))
            .key(self.keys.room(story));
        call.arg(node)
            .number(life)
            .arg(entry.digest().map_err(json)?)
            .arg(serde_json::to_vec(entry).map_err(json)?);
        Ok(read::<u8>(call.run_until_answered(&self.link).await?)? == 1)
    }
}

impl Entry {
    fn of(people: &[Person]) -> Self {
        let mut people = by_sub(people.iter().cloned());
        let more = people.len().saturating_sub(MAX_PEOPLE_LISTED);
        people.truncate(MAX_PEOPLE_LISTED);
        for person in &mut people {
            let end = person.name.floor_char_boundary(MAX_NAME_BYTES);
            person.name.truncate(end);
        }
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        Self { people, more }
    }

    /// Of who they are, not of how often they are connected.
    fn digest(&self) -> serde_json::Result<String> {
        let people = self.people.iter();
        let people: Vec<_> = people.map(|each| (&each.sub, &each.name)).collect();
        Ok(sha256(&serde_json::to_vec(&(people, self.more))?))
    }
}

fn merged(entries: Vec<Entry>) -> Here {
    let more = entries
        .iter()
        .fold(0, |more: u64, entry| more.saturating_add(entry.more));
    let people = by_sub(entries.into_iter().flat_map(|entry| entry.people));
    let count = u64::try_from(people.len()).unwrap_or(u64::MAX);
    let count = count.saturating_add(more);
    Here { people, count }
}

/// Each once and with all their connections. Of several names the last in the alphabet counts, whatever order they come in.
fn by_sub(people: impl Iterator<Item = Person>) -> Vec<Person> {
    let mut all = BTreeMap::<String, Person>::new();
    for person in people {
        match all.get_mut(&person.sub) {
            Some(same) => {
                same.connections = same.connections.saturating_add(person.connections);
                if person.name > same.name {
                    same.name = person.name;
                }
            }
            None => drop(all.insert(person.sub.clone(), person)),
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn person(sub: &str, name: &str, connections: u32) -> Person {
        let (sub, name) = (sub.to_owned(), name.to_owned());
        Person {
            sub,
            name,
            connections,
        }
    }

    #[test]
    fn people_beyond_the_bound_are_counted_and_not_listed() {
        for (count, listed) in [(1, 1), (199, 199), (200, 200), (201, 200), (5_000, 200)] {
            let people: Vec<_> = (0..count).map(|i| person(&i.to_string(), "", 1)).collect();
            let here = merged(vec![Entry::of(&people)]);
            assert_eq!((here.people.len(), here.count), (listed, count));
        }
    }

    #[test]
    fn a_long_name_is_cut_between_two_letters() {
        for (name, left) in [(128, 128), (129, 128)] {
            let entry = Entry::of(&[person("a", &"x".repeat(name), 1)]);
            assert_eq!(entry.people[0].name.len(), left);
        }
        let entry = Entry::of(&[person("a", &format!("{}é", "x".repeat(127)), 1)]);
        assert_eq!(entry.people[0].name, "x".repeat(127));
    }

    #[test]
    fn how_often_they_are_connected_is_no_change_of_people() {
        let digest = |people: &[Person]| Entry::of(people).digest().unwrap();
        let once = digest(&[person("a", "Ann", 1), person("b", "Bob", 1)]);
        assert_eq!(
            once,
            digest(&[person("b", "Bob", 3), person("a", "Ann", 2)])
        );
        assert_ne!(once, digest(&[person("a", "Ann", 1), person("b", "Bo", 1)]));
        assert_ne!(once, digest(&[person("a", "Ann", 1)]));
    }

    proptest! {
        #[test]
        fn whoever_is_at_several_nodes_is_there_once(
            nodes in proptest::collection::vec(proptest::collection::vec(("[a-d]", 1..9_u32), 0..9), 0..5)
        ) {
            let mut all = BTreeMap::<String, u32>::new();
            for (sub, connections) in nodes.iter().flatten() {
                *all.entry(sub.clone()).or_default() += connections;
            }
            let entry = |node: &Vec<(String, u32)>| {
                let people: Vec<_> = node.iter().map(|(sub, n)| person(sub, "", *n)).collect();
                Entry::of(&people)
            };
            let here = merged(nodes.iter().map(entry).collect());
            prop_assert_eq!(here.count, all.len() as u64);
            let people: BTreeMap<_, _> =
                here.people.into_iter().map(|each| (each.sub, each.connections)).collect();
            prop_assert_eq!(people, all);
        }
    }
}
