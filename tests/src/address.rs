//! Addresses for servers that are told where to listen.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

/// They and the ports of the bus are below those that outgoing connections are given (32768 and up), and none is both.
const PORTS: Range<u16> = 10_000..20_000;
/// A node of a cluster listens so much above its port too.
const BUS: u16 = 10_000;

/// An address where nobody listens. It is given to nobody else in this process: while its server is away for a while,
/// nobody takes it.
///
/// # Errors
/// When none is free.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let is_free = |port: u16| TcpListener::bind(at(port)).is_ok();
    let mut tried = (0..1_000).map(|_| rand::random_range(PORTS));
    let port = tried.find(|port| {
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        is_free(*port) && is_free(port + BUS) && given.insert(*port)
    });
    port.map(at).context("no port is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_a_bus_or_an_outgoing_connections() {
        let system = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let outgoing: u16 = system.split_whitespace().next().unwrap().parse().unwrap();
        assert!(PORTS.end <= PORTS.start + BUS && PORTS.end + BUS <= outgoing);
    }

    #[test]
    fn an_address_is_given_once() {
        let all: BTreeSet<_> = (0..500).map(|_| free_address().unwrap()).collect();
        assert_eq!(all.len(), 500);
    }
}
