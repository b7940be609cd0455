//! The gateway of `up`, for people of this machine: its secret is in the data folder, and whoever reads the terminal may
//! do everything.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::Shutdown;
use anyhow::Context;
use gateway::auth::{self, Grants, NewToken, Origins, Pattern, Role, Secrets, mint};
use gateway::{Gateway, Limits, Settings};
use secrecy::ExposeSecret;

use super::place::Place;
use crate::target::{not_writable, write_private};

/// Where it listens unless something else does already, or the model is to.
const USUAL: u16 = 8080;
/// Who reads the page that `up` prints.
const PERSON: &str = "player";
/// How long the page can be used without `up` being started again.
const LIVES: Duration = Duration::from_secs(24 * 60 * 60);
/// Connections are told to go, and nobody waits long for them at Ctrl-C.
const DRAIN: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_millis(250);
const NAME: &str = "storyfleet";

/// Where it is to listen.
pub(super) struct Listen {
    /// `None`: where it is usual, or else anywhere.
    pub(super) at: Option<SocketAddr>,
    /// Where the model is, or will be.
    pub(super) not: Option<Place>,
    /// Where operators look.
    pub(super) internal: SocketAddr,
}

pub(super) struct Door {
    gateway: Gateway,
    /// Of the gateway.
    pub(super) url: String,
    /// Where operators look.
    pub(super) internal: String,
    token: String,
}

impl Door {
    pub(super) async fn open(
        data: &Path,
        Listen { at, not, internal }: Listen,
        (bus, shutdown): (bus::Settings, &Shutdown),
    ) -> anyhow::Result<Self> {
        let path = data.join("jwt-secrets");
        let secrets = secrets(&path)?;
        let settings = |listen| Settings {
            listen,
            internal: Some(internal),
            bus: bus::Settings {
                reconnect: RECONNECT,
                ..bus.clone()
            },
            tokens: auth::Settings {
                secrets: Some(path.clone()),
                ..auth::Settings::new(NAME, NAME)
            },
            origins: Origins::default(),
            tls: None,
            hsts: None,
            proxies: Vec::new(),
            limits: Limits {
                drain: DRAIN,
                ..Limits::default()
            },
            presence: true,
        };
        let gateway = match at {
            Some(listen) => Gateway::bind(settings(listen), shutdown).await?,
            None => match Gateway::bind(settings(usual(not.as_ref())), shutdown).await {
                Err(error) if is_taken(&error) => {
                    Gateway::bind(settings(local(0)), shutdown).await?
                }
                bound => bound?,
            },
        };
        let internal = gateway.internal_address()?.unwrap_or(internal);
        Ok(Self {
            url: format!("http://{}", gateway.address()?),
            internal: format!("http://{internal}"),
            gateway,
            token: token(&secrets)?,
        })
    }

    /// A fragment is not sent to any server, nor kept in its logs.
    pub(super) fn page(&self, story: &str) -> String {
        format!("{}/#story={story}&token={}", self.url, self.token)
    }

    pub(super) async fn run(self, shutdown: &Shutdown) {
        self.gateway.run(shutdown).await;
    }
}

/// The folder's own, made when it has none.
fn secrets(path: &Path) -> anyhow::Result<Secrets> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let secret = rand::random::<[u8; 32]>();
            let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            write_private(path, secret.as_bytes()).with_context(|| not_writable(path))?;
        }
        _ => {}
    }
    let words = || format!("{}: remove it, and another is made", path.display());
    Secrets::read(path).with_context(words)
}

fn token(secrets: &Secrets) -> anyhow::Result<String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("this machine's clock is before 1970")?;
    let everything: Pattern = "*".parse()?;
    let stories: Grants = [(everything, Role::Owner)].into_iter().collect();
    let token = mint(
        secrets,
        &NewToken {
            sub: PERSON.to_owned(),
            name: Some("Player".to_owned()),
            jti: None,
            stories,
            audience: NAME.to_owned(),
            issuer: NAME.to_owned(),
            issued_at: now.as_secs(),
            expires_at: (now + LIVES).as_secs(),
        },
    )?;
    Ok(token.expose_secret().to_owned())
}

fn usual(not: Option<&Place>) -> SocketAddr {
    match not {
        Some(model) if model.is_taken_by(local(USUAL)) => local(0),
        _ => local(USUAL),
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn is_taken(error: &anyhow::Error) -> bool {
    let system = error.downcast_ref::<std::io::Error>();
    system.is_some_and(|error| error.kind() == ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_model_that_is_yet_to_start_is_left_to_it() {
        let at = |url| usual(Place::of(url).as_ref()).port();
        assert_eq!(at("http://localhost:8080/v1"), 0);
        assert_eq!(at("http://127.0.0.1:11434/v1"), USUAL);
        assert_eq!(at("mock"), USUAL);
    }
}
