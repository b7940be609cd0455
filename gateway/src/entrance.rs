//! Where requests come in: whom they count for.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::address::Client;
use crate::app::App;

/// What a request's connection is from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl FromRequestParts<App> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        // Where there is no connection, as in a test of a route, all are one.
        let peer = parts.extensions.get();
        let Peer(peer) = *peer.unwrap_or(&Peer(Ipv6Addr::UNSPECIFIED.into()));
        Ok(app.proxies.client(peer, &parts.headers))
    }
}
