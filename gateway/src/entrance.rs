//! Where connections and requests come in: whom they count for, and how many connections one address may have. What comes
//! through trusted proxies is counted once it is known whose it is: each socket and each stream of whom they name. Each
//! stream of a connection of HTTP/2 counts as a connection: the first has its connection's place.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::address::{Client, Proxies};
use crate::app::App;
use crate::metrics::Refusals;
use crate::problem::Problem;
use crate::quota::{self, OF_ADDRESS, OF_NODE, Place, Quota};
use crate::seldom::Seldom;

/// How long it may take to hear that.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often it is logged that an address has no more.
const MINUTE: Duration = Duration::from_secs(60);
/// Those that are told at the same time; more are closed without a word, and get no socket.
const FAREWELLS: usize = 64;

/// What a request's connection is from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What the streams of one connection take that has many at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// The connection's own place, for one of them.
    own: Arc<Semaphore>,
    /// The node's, for the others.
    room: Arc<Semaphore>,
}

/// Whom a trusted proxy names, if one does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brought(Option<Client>);

/// Counts connections by address. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    proxies: Arc<Proxies>,
    places: Quota<Client>,
    farewells: Arc<Semaphore>,
    refused: Refusals,
    /// That an address is refused.
    told: Arc<Seldom>,
}

/// What came in and counts for an address; a proxy's own connections do not, since they are many people's.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "it counts until it is dropped")]
pub(crate) struct Entered {
    place: Option<Place<Client>>,
    /// Of one among many on its connection.
    room: Option<OwnedSemaphorePermit>,
}

/// Who has no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Address,
    Node,
}

impl Shared {
    pub(crate) fn new(room: Arc<Semaphore>) -> Self {
        Self {
            own: Arc::new(Semaphore::new(1)),
            room,
        }
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        match full {
            Full::Address => Self::crowd(OF_ADDRESS),
            Full::Node => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", OF_NODE)
                .later(quota::AFTER),
        }
    }
}

/// Whoever may not come in is told so, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Farewell(
    #[expect(dead_code, reason = "it counts until it is dropped")] OwnedSemaphorePermit,
);

impl Entrance {
    /// So many of each address.
    pub(crate) fn new(most: u32, proxies: Proxies, refused: Refusals) -> Self {
        Self {
            proxies: Arc::new(proxies),
            places: Quota::new(most),
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
            refused,
            told: Arc::new(Seldom::new(MINUTE)),
        }
    }

    /// One more, unless the address has all that it may have.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Entered> {
        match self.proxies.trusts(peer) {
            true => Some(Entered::default()),
            false => self.place(peer).or_else(|| self.refuse(peer.into())),
        }
    }

    /// One more that a trusted proxy has brought, unless whom it names has all that they may have. Any other was counted when
    /// it came in, or names nobody.
    pub(crate) fn enter_through(&self, brought: Brought) -> Option<Entered> {
        match brought.0 {
            Some(client) => self.place(client),
            None => Some(Entered::default()),
        }
    }

    /// Counts one that its address may not have, and tells an operator, who may not have meant that.
    fn refuse<T>(&self, client: Client) -> Option<T> {
        self.refused.count("per_address");
        if self.told.is_due() {
            tracing::warn!(
                address = %client,
                "connections are refused: their address has as many as it may have (--per-address); if it is a proxy's, name it with --trusted-proxy"
            );
        }
        None
    }

    /// One more socket or stream, which may be one of many on its connection.
    fn visit(&self, parts: &Parts) -> Result<Entered, Full> {
        let brought = self.brought(parts);
        let Some(shared) = parts.extensions.get::<Shared>() else {
            return self.brings(brought).ok_or(Full::Address);
        };
        let own = Arc::clone(&shared.own).try_acquire_owned().ok();
        let entered = match (brought.0, &own) {
            (None, None) => self.enter(peer(parts)),
            _ => self.brings(brought),
        };
        let entered = entered.ok_or(Full::Address)?;
        let room = own.or_else(|| Arc::clone(&shared.room).try_acquire_owned().ok());
        if room.is_none() {
            self.refused.count("connections");
            return Err(Full::Node);
        }
        Ok(Entered { room, ..entered })
    }

    fn brings(&self, brought: Brought) -> Option<Entered> {
        let entered = self.enter_through(brought);
        entered.or_else(|| self.refuse(brought.0?))
    }

    fn place(&self, of: impl Into<Client>) -> Option<Entered> {
        let place = Some(self.places.take(of)?);
        Some(Entered { place, room: None })
    }

    /// By whom a request is.
    pub(crate) fn brought(&self, parts: &Parts) -> Brought {
        Brought(self.proxies.named(peer(parts), &parts.headers))
    }

    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        self.proxies.client(peer, headers)
    }

    /// One more that is told, unless so many are.
    pub(crate) fn farewell(&self) -> Option<Farewell> {
        let one = Arc::clone(&self.farewells).try_acquire_owned();
        one.ok().map(Farewell)
    }

    /// Says so to one that may not.
    pub(crate) async fn turn_away(self, mut stream: TcpStream) {
        let Some(_one) = self.farewell() else {
            return;
        };
        let told = async {
            stream.write_all(turned_away().as_bytes()).await?;
            stream.shutdown().await?;
            // What is closed while it is not read is reset, and its client hears nothing.
            let mut rest = [0; 1_024];
            while stream.read(&mut rest).await? > 0 {}
            std::io::Result::Ok(())
        };
        // However that ends, it is over.
        let _told = timeout(FAREWELL, told).await;
    }
}

/// What a connection is told that is one too many.
fn turned_away() -> String {
    let body = serde_json::to_string(&Problem::crowd(OF_ADDRESS))
        .unwrap_or_else(|error| unreachable!("a problem is always JSON: {error}"));
    format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\nretry-after: 5\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

impl FromRequestParts<App> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(app.entrance.client(peer(parts), &parts.headers))
    }
}

/// Whoever asks for a socket or a stream.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) client: Client,
    pub(crate) entered: Result<Entered, Full>,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let entrance = &app.entrance;
        Ok(Self {
            client: entrance.client(peer(parts), &parts.headers),
            entered: entrance.visit(parts),
        })
    }
}

/// Where there is no connection, as in a test of a route, all are one.
fn peer(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get();
    let Peer(peer) = *peer.unwrap_or(&Peer(Ipv6Addr::UNSPECIFIED.into()));
    peer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn entrance() -> Entrance {
        let proxies = vec!["10.0.0.0/31".parse().expect("a network")];
        Entrance::new(2, Proxies::new(proxies), Metrics::new().refused)
    }

    #[test]
    fn an_address_has_so_many_and_a_proxy_as_many_as_it_likes() {
        let entrance = entrance();
        let enter = |address: &str| entrance.enter(address.parse().expect("an address"));
        let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some() && enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        let proxied: Vec<_> = (0..10).map(|_| enter("10.0.0.1")).collect();
        assert!(proxied.iter().all(Option::is_some));
        drop(first);
        let again = enter("192.0.2.1");
        assert!(again.is_some() && enter("192.0.2.1").is_none());
    }

    #[test]
    fn whom_a_proxy_names_has_as_many_as_who_comes_alone() {
        let entrance = entrance();
        let through = |peer: &str, named: &str| {
            let forwarded = (
                "x-forwarded-for".parse().expect("a name"),
                named.parse().expect("a header"),
            );
            let peer = peer.parse().expect("an address");
            let named = entrance
                .proxies
                .named(peer, &[forwarded].into_iter().collect());
            entrance.enter_through(Brought(named))
        };
        let alone = entrance.enter("192.0.2.1".parse().expect("an address"));
        let second = through("10.0.0.1", "198.51.100.7, 192.0.2.1, 10.0.0.0");
        assert!(alone.is_some() && second.is_some());
        assert!(through("10.0.0.0", "192.0.2.1").is_none());
        assert!(through("10.0.0.0", "192.0.2.2").is_some());
        // One of the proxies' own network is one too.
        let inside: Vec<_> = (0..3).map(|_| through("10.0.0.1", "10.0.0.0")).collect();
        assert_eq!(inside.iter().filter(|one| one.is_some()).count(), 2);
        // What is nobody's, or was counted when it came in.
        for (peer, named) in [("10.0.0.1", "unknown"), ("10.0.0.2", "192.0.2.1")] {
            let all: Vec<_> = (0..3).map(|_| through(peer, named)).collect();
            assert!(all.iter().all(Option::is_some));
        }
        drop(second);
        assert!(through("10.0.0.0", "192.0.2.1").is_some());
    }

    #[test]
    fn each_stream_of_a_connection_of_many_counts_as_a_connection() {
        let entrance = entrance();
        let room = Arc::new(Semaphore::new(2));
        let connection = |address: &str| {
            let address = address.parse().expect("an address");
            let (mut parts, ()) = axum::http::Request::new(()).into_parts();
            parts.extensions.insert(Peer(address));
            parts.extensions.insert(Shared::new(Arc::clone(&room)));
            (entrance.enter(address), parts)
        };
        let told = |parts: &Parts| entrance.visit(parts).map(drop);
        let (_held, one) = connection("192.0.2.1");
        let own = entrance.visit(&one);
        let more = entrance.visit(&one);
        assert!(own.is_ok() && more.is_ok());
        assert_eq!(told(&one), Err(Full::Address));
        let (_held, other) = connection("192.0.2.2");
        let others = [entrance.visit(&other), entrance.visit(&other)];
        assert!(others.iter().all(Result::is_ok));
        // A proxy's count for nobody, and take room all the same.
        let (_held, proxy) = connection("10.0.0.1");
        let first = entrance.visit(&proxy);
        assert!(first.is_ok());
        assert_eq!(told(&proxy), Err(Full::Node));
        drop(more);
        assert_eq!((told(&proxy), told(&one)), (Ok(()), Ok(())));
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let entrance = entrance();
        let enter = |address: &str| entrance.enter(address.parse().expect("an address"));
        let both = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(both.0.is_some() && both.1.is_some() && enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
    }
}
