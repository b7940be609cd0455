//! Addresses that begin alike, as `10.0.0.0/8`; one alone is a network too.

use std::net::IpAddr;
use std::str::FromStr;

/// The bits of an IPv6 address; an IPv4 one is taken as the IPv6 one that means it.
const BITS: u32 = 128;
const V4_BITS: u32 = 32;

/// `ADDRESS[/BITS]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: u128,
    /// That all of its addresses share.
    bits: u32,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("it is no address: write it as 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32")]
    Address,
    #[error("what follows the / is 1 to {0}: so many bits are the network's")]
    Bits(u32),
    #[error("it has every IPv4 address: name only the networks of your proxies")]
    Everyone,
    #[error("it has more bits than the / says: the network's address ends in zeros")]
    Host,
}

impl Network {
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        begins_alike(self.first, whole(address), self.bits)
    }

    /// Of IPv4 at least: whoever comes would be a proxy.
    fn has_all(&self) -> bool {
        let v4 = IpAddr::from([0; 4]);
        self.bits <= BITS - V4_BITS && self.has(v4)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let most = if address.is_ipv4() { V4_BITS } else { BITS };
        let bits = match bits {
            Some(bits) => number(bits)
                .filter(|bits| *bits <= most)
                .ok_or(NetworkError::Bits(most))?,
            None => most,
        };
        let (first, bits) = (whole(address), BITS - most + bits);
        let rest = first.checked_shl(bits).unwrap_or(0);
        let network = Self { first, bits };
        match rest {
            0 if network.has_all() => Err(NetworkError::Everyone),
            0 => Ok(network),
            _ => Err(NetworkError::Host),
        }
    }
}

/// Digits alone.
fn number(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn whole(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn begins_alike(one: u128, other: u128, bits: u32) -> bool {
    (one ^ other).checked_shr(BITS - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_network_has_the_addresses_between_its_ends_and_none_beside() {
        for (text, inside, outside) in [
            (
                "10.0.0.1",
                &["10.0.0.1", "::ffff:10.0.0.1"][..],
                &["10.0.0.0", "10.0.0.2"][..],
            ),
            ("10.0.0.1/32", &["10.0.0.1"], &["10.0.0.0", "10.0.0.2"]),
            (
                "10.0.0.0/31",
                &["10.0.0.0", "10.0.0.1"],
                &["9.255.255.255", "10.0.0.2"],
            ),
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255"],
                &["9.255.255.255", "11.0.0.0", "::a00:1"],
            ),
            (
                "172.16.0.0/12",
                &["172.16.0.0", "172.31.255.255"],
                &["172.15.255.255", "172.32.0.0"],
            ),
            (
                "128.0.0.0/1",
                &["128.0.0.0", "255.255.255.255"],
                &["127.255.255.255", "::1"],
            ),
            ("::1", &["::1"], &["::", "::2", "127.0.0.1"]),
            (
                "2001:db8::/32",
                &["2001:db8::", "2001:db8:ffff::1"],
                &["2001:db7:ffff::", "2001:db9::"],
            ),
            (
                "2001:db8::/127",
                &["2001:db8::", "2001:db8::1"],
                &["2001:db8::2"],
            ),
            (
                "::ffff:10.0.0.0/104",
                &["10.0.0.0", "10.255.255.255"],
                &["11.0.0.0"],
            ),
            ("8000::/1", &["8000::", "fe80::1"], &["::1", "10.0.0.1"]),
        ] {
            let has = |address: &&str| network(text).has(address.parse().expect("an address"));
            assert!(inside.iter().all(has), "{text}");
            assert!(!outside.iter().any(has), "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_its_bounds() {
        use NetworkError::{Address, Bits, Everyone, Host};
        for (text, error) in [
            ("", Address),
            ("/8", Address),
            ("proxy", Address),
            ("10.0.0/8", Address),
            (" 10.0.0.0/8", Address),
            ("[::1]", Address),
            ("10.0.0.0/", Bits(32)),
            ("10.0.0.0/33", Bits(32)),
            ("10.0.0.0/-1", Bits(32)),
            ("10.0.0.0/+8", Bits(32)),
            ("10.0.0.0/8/8", Bits(32)),
            ("10.0.0.0/4294967304", Bits(32)),
            ("::/129", Bits(128)),
            ("10.0.0.1/31", Host),
            ("128.0.0.0/0", Host),
            ("2001:db8::1/127", Host),
            ("0.0.0.0/0", Everyone),
            ("::ffff:0.0.0.0/96", Everyone),
            ("::/0", Everyone),
            ("::/1", Everyone),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn two_addresses_are_in_one_network_as_far_as_they_begin_alike(one: [u8; 4], other: [u8; 4], bits in 1_u32..=32) {
            let [a, b] = [one, other].map(u32::from_be_bytes);
            let mask = u32::MAX << (32 - bits);
            let text = format!("{}/{bits}", std::net::Ipv4Addr::from_bits(a & mask));
            prop_assert!(network(&text).has(one.into()));
            prop_assert_eq!(network(&text).has(other.into()), a & mask == b & mask);
        }

        #[test]
        fn no_text_breaks_it(text in "[0-9a-f:./+-]{0,24}|\\PC{0,12}") {
            let _parsed = text.parse::<Network>();
        }
    }
}
