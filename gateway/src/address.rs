//! Whom a connection counts for: an IPv4 address, or the first half of an IPv6 one, since one line has all that it likes of
//! the other half. Behind trusted proxies it is what the outermost of them was connected from, where each says that in a
//! form that can be read; else the proxy itself.

mod network;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;

pub use network::{Network, NetworkError};

const FORWARDED: &str = "x-forwarded-for";

/// As it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client(IpAddr);

/// Proxies whose word counts.
#[derive(Debug, Default)]
pub(crate) struct Proxies(Vec<Network>);

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// For logs.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Proxies {
    pub(crate) fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address))
    }

    /// Whom a request counts for: whom a trusted proxy names, else the peer.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        self.named(peer, headers).unwrap_or(peer.into())
    }

    /// Whom a trusted proxy says that it is of, if it names anybody: each has put whom it heard it from at the end, and what
    /// is before the first that is no trusted proxy anybody can have made up. Where all are trusted it is the outermost: who
    /// lives in a trusted network is counted too. Where one of them cannot be read it is nobody.
    pub(crate) fn named(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Client> {
        if !self.trusts(peer) {
            return None;
        }
        let mut outermost = None;
        for line in headers.get_all(FORWARDED).iter().rev() {
            for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
                let named = str::from_utf8(entry).ok().and_then(address)?;
                outermost = Some(named.into());
                if !self.trusts(named) {
                    return outermost;
                }
            }
        }
        outermost
    }
}

/// Some proxies say the port too.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok();
    address.or_else(|| {
        text.parse()
            .ok()
            .map(|with_port: SocketAddr| with_port.ip())
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";
    const SECOND: &str = "10.0.0.2";

    fn headers(lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| HeaderValue::from_bytes(line.as_bytes()).expect("a header");
        let lines = lines.iter().map(value);
        lines.map(|v| (FORWARDED.parse().unwrap(), v)).collect()
    }

    fn client(peer: &str, lines: &[&str]) -> Client {
        let proxies = Proxies::new([PROXY, SECOND].map(|ip| ip.parse().unwrap()).into());
        proxies.client(peer.parse().unwrap(), &headers(lines))
    }

    fn of(address: &str) -> Client {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn who_is_no_trusted_proxy_speaks_for_nobody_else() {
        assert_eq!(client("192.0.2.7", &["198.51.100.1"]), of("192.0.2.7"));
    }

    #[test]
    fn behind_proxies_it_is_the_last_that_is_none() {
        for (lines, is) in [
            (&["198.51.100.1"][..], "198.51.100.1"),
            (&["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            (&["203.0.113.9, 198.51.100.1,10.0.0.2"], "198.51.100.1"),
            (&["203.0.113.9", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            (&["made up, 198.51.100.1"], "198.51.100.1"),
            (&["\u{e9}, 198.51.100.1"], "198.51.100.1"),
            (&["198.51.100.1:4711"], "198.51.100.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1"),
        ] {
            assert_eq!(client(PROXY, lines), of(is), "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_address_counts_for_the_proxy() {
        for lines in [
            &[][..],
            &[""],
            &["198.51.100.1,"],
            &["198.51.100.1, unknown"],
            &["198.51.100.1", "256.1.1.1"],
            &["fe80::1%eth0"],
            &["unknown, 10.0.0.2"],
            &["198.51.100.1", "unknown, 10.0.0.2, 10.0.0.1"],
            &["é, 10.0.0.2"],
        ] {
            assert_eq!(client(PROXY, lines), of(PROXY), "{lines:?}");
        }
    }

    #[test]
    fn where_all_are_trusted_it_is_the_outermost() {
        for lines in [
            &["10.0.0.2"][..],
            &["10.0.0.2, 10.0.0.1"],
            &["10.0.0.2", "10.0.0.1, 10.0.0.1"],
        ] {
            assert_eq!(client(PROXY, lines), of(SECOND), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn one_ipv6_network_is_one_client(network: u64, one: u64, other: u64) {
            let ip = |host: u64| IpAddr::from(Ipv6Addr::from_bits(u128::from(network) << 64 | u128::from(host)));
            prop_assume!(ip(one).to_canonical().is_ipv6() && ip(other).to_canonical().is_ipv6());
            prop_assert_eq!(Client::from(ip(one)), Client::from(ip(other)));
            let beside = IpAddr::from(Ipv6Addr::from_bits(u128::from(network ^ 1) << 64 | u128::from(one)));
            prop_assert_ne!(Client::from(ip(one)), Client::from(beside));
        }

        #[test]
        fn two_ipv4_addresses_are_two_clients_however_they_are_written(one: [u8; 4], other: [u8; 4]) {
            let (a, b) = (IpAddr::from(one), IpAddr::from(other));
            prop_assert_eq!(Client::from(a) == Client::from(b), one == other);
            let mapped = std::net::Ipv4Addr::from(one).to_ipv6_mapped();
            prop_assert_eq!(Client::from(IpAddr::from(mapped)), Client::from(a));
        }

        /// Whatever a client sends before what the proxy adds changes nothing.
        #[test]
        fn nothing_that_is_made_up_moves_a_client(
            made_up in prop::collection::vec("[ -~]{0,30}", 0..4), address: [u8; 4], via_second: bool,
        ) {
            let address = IpAddr::from(address);
            prop_assume!(![PROXY, SECOND].contains(&address.to_string().as_str()));
            let mut lines: Vec<&str> = made_up.iter().map(String::as_str).collect();
            let added = match via_second {
                true => format!("{}, {address}, {SECOND}", made_up.concat()),
                false => format!("{}, {address}", made_up.concat()),
            };
            lines.push(&added);
            prop_assert_eq!(client(PROXY, &lines), Client::from(address));
        }

        #[test]
        fn no_header_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else {
                return Ok(());
            };
            let headers = [(FORWARDED.parse().unwrap(), value)].into_iter().collect();
            let proxies = Proxies::new(vec![PROXY.parse().unwrap()]);
            let client = proxies.client(PROXY.parse().unwrap(), &headers);
            let last = bytes.rsplit(|byte| *byte == b',').next().and_then(|last| std::str::from_utf8(last).ok());
            let said = last.and_then(address);
            if said.is_none() {
                prop_assert_eq!(client, of(PROXY));
            }
        }
    }
}
