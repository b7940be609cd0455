//! Whether the gateway of `up` would listen where the model is, or is to be once it is started: the agents would then ask the
//! gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::bail;
use reqwest::Url;

use crate::args::UpArgs;

/// Where something of this machine is asked for, however that is spelled.
#[derive(Debug, Clone)]
pub(super) struct Place {
    addresses: Vec<IpAddr>,
    port: u16,
}

impl Place {
    /// Of the model; `None` where its URL names no address, which is then another machine's name or wrong.
    pub(super) fn of(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let port = url.port_or_known_default()?;
        let host = url.host_str()?.trim_end_matches('.');
        let addresses = match host.trim_matches(['[', ']']).parse() {
            Ok(address) => vec![reached(address)],
            Err(_) if host == "localhost" || host.ends_with(".localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Err(_) => return None,
        };
        Some(Self { addresses, port })
    }

    /// Whether who asks there would be answered by a server that listens at `listen`.
    pub(super) fn is_taken_by(&self, listen: SocketAddr) -> bool {
        let at = listen.ip().to_canonical();
        let takes = |address: &IpAddr| match at {
            // Listening at all addresses of IPv6, Linux takes those of IPv4 too.
            IpAddr::V6(at) if at.is_unspecified() => address.is_loopback(),
            IpAddr::V4(at) if at.is_unspecified() => address.is_ipv4() && address.is_loopback(),
            at => *address == at,
        };
        self.port == listen.port() && self.addresses.iter().any(takes)
    }
}

/// Who asks at no address in particular asks this machine.
fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// What was asked for is not quietly done otherwise.
pub(super) fn check(args: &UpArgs) -> anyhow::Result<()> {
    let Some(place) = Place::of(&args.llm) else {
        return Ok(());
    };
    let internal = Some(args.internal_listen);
    for (option, listen) in [("--listen", args.listen), ("--internal-listen", internal)] {
        if listen.is_some_and(|listen| place.is_taken_by(listen)) {
            bail!("{option} is where --llm is: give another, or leave it out");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_however_it_is_spelled() {
        for (url, listen, is_taken) in [
            ("http://127.0.0.1:8080/v1", "127.0.0.1:8080", true),
            ("http://localhost:8080/v1", "127.0.0.1:8080", true),
            ("http://LOCALHOST.:8080/v1", "[::1]:8080", true),
            ("http://127.1:8080/v1", "127.0.0.1:8080", true),
            ("http://0.0.0.0:8080/v1", "127.0.0.1:8080", true),
            ("http://[::ffff:127.0.0.1]:8080/v1", "127.0.0.1:8080", true),
            ("http://127.0.0.1:8080/v1", "0.0.0.0:8080", true),
            ("http://127.0.0.1:8080/v1", "[::]:8080", true),
            ("http://[::1]:8080/v1", "[::]:8080", true),
            ("http://127.0.0.1/v1", "127.0.0.1:80", true),
            ("http://127.0.0.1:8081/v1", "127.0.0.1:8080", false),
            ("http://127.0.0.2:8080/v1", "127.0.0.1:8080", false),
            ("http://[::1]:8080/v1", "127.0.0.1:8080", false),
        ] {
            let place = Place::of(url).unwrap();
            assert_eq!(
                place.is_taken_by(listen.parse().unwrap()),
                is_taken,
                "{url} {listen}"
            );
        }
        for url in ["mock", "http://llm.local:8080/v1"] {
            assert!(Place::of(url).is_none(), "{url}");
        }
    }
}
