//! Where Redis is, how keys are laid out there, what is waited for, and whom is trusted.

use std::time::Duration;

use crate::Encryption;

/// Where Redis is, how keys are laid out there, and what is waited for. `Debug` hides passwords and keys.
#[derive(Clone)]
pub struct Settings {
    /// `redis://`, `rediss://` (TLS), `redis+sentinel://host:port,host:port/name`, `redis+cluster://host:port,…`; the
    /// latter two also as `rediss+…`. Credentials of an ACL user: `user:password@` before the hosts.
    pub url: String,
    /// The first part of every key, so that environments can share a server.
    pub prefix: String,
    /// How many hash tags stories are spread over. Fixed for the life of an installation.
    pub shards: u16,
    /// How long to wait for a connection, and for an answer.
    pub timeout: Duration,
    /// The longest wait between two tries to connect.
    pub reconnect: Duration,
    /// How many replicas must have what is published and committed before it is said to be; 0 = none. It is waited for them
    /// for a quarter of the timeout at most: it is done all the same, and [`crate::Replicated`] tells.
    pub wait_replicas: u32,
    /// Of TLS, where the URL asks for it.
    pub encryption: Encryption,
}

impl Settings {
    /// The defaults for a server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "sf".into(),
            shards: 1,
            timeout: Duration::from_secs(2),
            reconnect: Duration::from_secs(2),
            wait_replicas: 0,
            encryption: Encryption::default(),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://…@{hosts}"),
            (None, Some((_, hosts))) => format!("…@{hosts}"),
            _ => self.url.clone(),
        };
        f.debug_struct("Settings")
            .field("url", &url)
            .field("prefix", &self.prefix)
            .field("shards", &self.shards)
            .field("timeout", &self.timeout)
            .field("reconnect", &self.reconnect)
            .field("wait_replicas", &self.wait_replicas)
            .field("encryption", &self.encryption)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for url in ["redis://user:se@cret@host:1/0", "user:se@cret@host:1/0"] {
            let shown = format!("{:?}", Settings::new(url));
            assert!(
                shown.contains("host:1/0") && !shown.contains("cret") && !shown.contains("user"),
                "{shown}"
            );
        }
    }
}
