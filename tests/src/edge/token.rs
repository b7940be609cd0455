//! Tokens for the people of a test.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gateway::auth::{Grants, NewToken, Pattern, Role, Secrets, mint};
use secrecy::ExposeSecret;

/// Signs with the secret that the nodes of its folder know.
#[derive(Debug)]
pub struct Issuer {
    secrets: Secrets,
}

/// What a token says of somebody.
#[derive(Debug, Clone)]
pub struct Person<'a> {
    pub sub: &'a str,
    /// Story or pattern, and role.
    pub stories: &'a [(&'a str, Role)],
    pub ttl: Duration,
    /// The token's id.
    pub jti: Option<&'a str>,
}

impl<'a> Person<'a> {
    /// Good for an hour.
    #[must_use]
    pub fn new(sub: &'a str, stories: &'a [(&'a str, Role)]) -> Self {
        let ttl = Duration::from_secs(3_600);
        Self {
            sub,
            stories,
            ttl,
            jti: None,
        }
    }
}

impl Issuer {
    /// Writes a new secret to `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("secrets");
        let letters: String = (0..48)
            .map(|_| char::from(rand::random_range(b'a'..=b'z')))
            .collect();
        std::fs::write(&path, letters)?;
        let secrets = Secrets::read(&path)?;
        Ok(Self { secrets })
    }

    /// # Errors
    /// When no gateway would take what it says.
    pub fn token(&self, person: &Person<'_>) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let grant = |(story, role): &(&str, Role)| anyhow::Ok((story.parse::<Pattern>()?, *role));
        let grants = person.stories.iter().map(grant);
        let new = NewToken {
            sub: person.sub.to_owned(),
            name: None,
            jti: person.jti.map(str::to_owned),
            stories: grants.collect::<anyhow::Result<Grants>>()?,
            audience: "storyfleet".to_owned(),
            issuer: "storyfleet".to_owned(),
            issued_at: now.as_secs(),
            expires_at: (now + person.ttl).as_secs(),
        };
        Ok(mint(&self.secrets, &new)?.expose_secret().to_owned())
    }
}
