//! What somebody may do in which story: the `stories` claim.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use story::{IdError, StoryId};

/// What somebody may do in a story. Each role may also do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read it.
    Reader,
    /// Publish in it.
    Author,
    /// Create it, and change its settings.
    Owner,
}

/// Why a text grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("'{0}' is no role: use reader, author or owner")]
    Role(String),
    #[error(
        "that names no stories: use a story's id, a beginning of ids as in 'team-*', or '*' for all"
    )]
    Pattern(#[source] IdError),
}

/// One story, or all whose ids begin alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// `castle`
    Story(StoryId),
    /// `team-*`: every id that begins so, `team-` itself too; without a beginning, `*`, every id.
    Beginning(String),
}

impl Pattern {
    /// How closely it names `story`, if at all: the more, the closer.
    fn fits(&self, story: &StoryId) -> Option<usize> {
        match self {
            Self::Story(id) => (id == story).then_some(usize::MAX),
            Self::Beginning(start) => story.as_str().starts_with(start).then_some(start.len()),
        }
    }
}

/// Roles by story or pattern. In JSON, a map: `{"castle": "author", "team-*": "reader"}`.
///
/// For a story, the most specific entry counts, alone: its own id before any pattern, a longer beginning before a shorter
/// one, `*` last. So `{"*": "owner", "castle": "reader"}` is an owner everywhere but in `castle`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Pattern, Role>", into = "BTreeMap<Pattern, Role>")]
// Each connection keeps one, most of one entry: a map has room for eleven.
pub struct Grants(Box<[(Pattern, Role)]>);

impl Grants {
    /// The role in `story`, if any.
    #[must_use]
    pub fn role(&self, story: &StoryId) -> Option<Role> {
        let fitting = self
            .0
            .iter()
            .filter_map(|(pattern, role)| Some((pattern.fits(story)?, role)));
        fitting.max_by_key(|(fit, _)| *fit).map(|(_, role)| *role)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Pattern, Role)> for Grants {
    fn from_iter<I: IntoIterator<Item = (Pattern, Role)>>(granted: I) -> Self {
        BTreeMap::from_iter(granted).into()
    }
}

impl From<BTreeMap<Pattern, Role>> for Grants {
    fn from(granted: BTreeMap<Pattern, Role>) -> Self {
        Self(granted.into_iter().collect())
    }
}

impl From<Grants> for BTreeMap<Pattern, Role> {
    fn from(Grants(granted): Grants) -> Self {
        granted.into_iter().collect()
    }
}

impl FromStr for Pattern {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Beginning(String::new())),
            Some(start) => {
                let id: StoryId = start.parse().map_err(GrantError::Pattern)?;
                Ok(Self::Beginning(id.into()))
            }
            None => text.parse().map(Self::Story).map_err(GrantError::Pattern),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = GrantError;

    fn try_from(text: String) -> Result<Self, GrantError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Story(id) => id.fmt(f),
            Self::Beginning(start) => write!(f, "{start}*"),
        }
    }
}

impl FromStr for Role {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        match text {
            "reader" => Ok(Self::Reader),
            "author" => Ok(Self::Author),
            "owner" => Ok(Self::Owner),
            _ => Err(GrantError::Role(
                exit::one_line(text).chars().take(32).collect(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(json: &str) -> Grants {
        serde_json::from_str(json).unwrap()
    }

    fn role(grants: &Grants, story: &str) -> Option<Role> {
        grants.role(&story.parse().unwrap())
    }

    #[test]
    fn the_most_specific_entry_counts_alone() {
        let grants = grants(
            r#"{"*":"reader","team-*":"owner","team-a*":"author","team-a1":"reader","castle":"owner"}"#,
        );
        for (story, expected) in [
            ("other", Role::Reader),
            ("team", Role::Reader),
            ("team-b", Role::Owner),
            ("team-a2", Role::Author),
            ("team-a1", Role::Reader),
            ("castle", Role::Owner),
            ("castles", Role::Reader),
        ] {
            assert_eq!(role(&grants, story), Some(expected), "{story}");
        }
    }

    #[test]
    fn who_is_granted_nothing_may_nothing() {
        assert_eq!(role(&Grants::default(), "castle"), None);
        assert_eq!(role(&grants(r#"{"castle-*":"owner"}"#), "castle"), None);
        assert_eq!(
            role(&grants(r#"{"castle*":"owner"}"#), "castle"),
            Some(Role::Owner)
        );
    }

    #[test]
    fn roles_are_ordered() {
        assert!(Role::Reader < Role::Author && Role::Author < Role::Owner);
    }

    #[test]
    fn what_is_neither_id_nor_pattern_grants_nothing_at_all() {
        for key in ["", "**", "*a", "te*m", "Castle", "-*", "a b", "team-**"] {
            let json = format!(r#"{{"castle":"reader","{key}":"owner"}}"#);
            assert!(serde_json::from_str::<Grants>(&json).is_err(), "{key}");
        }
        let longest = format!("{}*", "a".repeat(64));
        assert!(longest.parse::<Pattern>().is_ok());
        assert!(format!("a{longest}").parse::<Pattern>().is_err());
        for role in ["", "Owner", "admin", "owner "] {
            let json = format!(r#"{{"castle":"{role}"}}"#);
            assert!(serde_json::from_str::<Grants>(&json).is_err(), "{role}");
            assert!(role.parse::<Role>().is_err());
        }
    }

    #[test]
    fn grants_read_back_as_they_were_written() {
        let json = r#"{"castle":"author","*":"reader","team-*":"owner"}"#;
        let written = serde_json::to_string(&grants(json)).unwrap();
        assert_eq!(grants(&written), grants(json));
    }
}
