//! The stories that a session is in, each by its number. All that they give is looked up here, and few come and go: so they
//! lie in one row, in the order of their numbers.

use story::StoryId;

#[derive(Debug, Default)]
pub(super) struct Stories(Vec<(u32, StoryId)>);

impl Stories {
    /// Whether a story has this number.
    pub(super) fn has(&self, number: u32) -> bool {
        self.0
            .binary_search_by_key(&number, |(known, _)| *known)
            .is_ok()
    }

    pub(super) fn get(&self, story: &StoryId) -> Option<&u32> {
        let entry = self.0.iter().find(|(_, known)| known == story);
        entry.map(|(number, _)| number)
    }

    pub(super) fn contains_key(&self, story: &StoryId) -> bool {
        self.get(story).is_some()
    }

    /// One that is not here, with a number above all others.
    pub(super) fn insert(&mut self, story: StoryId, number: u32) {
        self.0.push((number, story));
    }

    pub(super) fn remove(&mut self, story: &StoryId) -> Option<u32> {
        let at = self.0.iter().position(|(_, known)| known == story)?;
        Some(self.0.remove(at).0)
    }

    pub(super) fn remove_number(&mut self, number: u32) -> Option<StoryId> {
        let at = self.0.binary_search_by_key(&number, |(known, _)| *known);
        at.ok().map(|at| self.0.remove(at).1)
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&StoryId, &u32) -> bool) {
        self.0.retain(|(number, story)| stays(story, number));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&StoryId, &u32)> {
        self.0.iter().map(|(number, story)| (story, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_found_by_its_number_while_it_is_there() {
        let story = |n: u32| format!("s{n}").parse::<StoryId>().unwrap();
        let mut stories = Stories::default();
        for n in 0..64 {
            stories.insert(story(n), n);
        }
        assert_eq!(stories.remove(&story(7)), Some(7));
        assert_eq!(stories.remove(&story(7)), None);
        stories.insert(story(7), 64);
        stories.retain(|_, number| number % 2 == 0);
        let there: Vec<u32> = (0..70).filter(|n| stories.has(*n)).collect();
        let even: Vec<u32> = (0..65).filter(|n| n % 2 == 0).collect();
        assert_eq!(there, even);
        assert_eq!(stories.get(&story(7)), Some(&64));
        assert!(!stories.contains_key(&story(9)) && stories.len() == 33);
    }
}
