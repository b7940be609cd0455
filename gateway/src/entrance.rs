//! Where connections and requests come in: whom they count for, and how many connections one address may have. What comes
//! through trusted proxies is counted once it is known whose it is: each socket and each stream of whom they name.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::address::{Client, Proxies};
use crate::app::App;
use crate::problem::Problem;
use crate::quota::{OF_ADDRESS, Place, Quota};

/// How long it may take to hear that.
const FAREWELL: Duration = Duration::from_secs(1);
/// Those that are told at the same time; more are closed without a word, and get no socket.
const FAREWELLS: usize = 64;

/// What a request's connection is from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Whom a trusted proxy names, if one does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brought(Option<Client>);

/// Counts connections by address. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    proxies: Arc<Proxies>,
    places: Quota<Client>,
    farewells: Arc<Semaphore>,
}

/// What came in and counts for an address; a proxy's own connections do not, since they are many people's.
#[derive(Debug)]
pub(crate) struct Entered(
    #[expect(dead_code, reason = "it counts until it is dropped")] Option<Place<Client>>,
);

/// Whoever may not come in is told so, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Farewell(
    #[expect(dead_code, reason = "it counts until it is dropped")] OwnedSemaphorePermit,
);

impl Entrance {
    /// So many of each address.
    pub(crate) fn new(most: u32, proxies: Proxies) -> Self {
        Self {
            proxies: Arc::new(proxies),
            places: Quota::new(most),
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
        }
    }

    /// One more, unless the address has all that it may have.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Entered> {
        if self.proxies.trusts(peer) {
            return Some(Entered(None));
        }
        self.places.take(peer).map(|place| Entered(Some(place)))
    }

    /// One more that a trusted proxy has brought, unless whom it names has all that they may have. Any other was counted when
    /// it came in, or names nobody.
    pub(crate) fn enter_through(&self, brought: Brought) -> Option<Entered> {
        match brought.0 {
            Some(client) => self.places.take(client).map(|place| Entered(Some(place))),
            None => Some(Entered(None)),
        }
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
    /// `None` where their address has no more.
    pub(crate) entered: Option<Entered>,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let entrance = &app.entrance;
        Ok(Self {
            client: entrance.client(peer(parts), &parts.headers),
            entered: entrance.enter_through(entrance.brought(parts)),
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

    fn entrance() -> Entrance {
        let proxies = vec!["10.0.0.0/31".parse().expect("a network")];
        Entrance::new(2, Proxies::new(proxies))
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
    fn an_ipv6_network_is_one_address() {
        let entrance = entrance();
        let enter = |address: &str| entrance.enter(address.parse().expect("an address"));
        let both = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(both.0.is_some() && both.1.is_some() && enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
    }
}
