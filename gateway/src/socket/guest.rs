//! Who asks for a socket. A browser shows a page no more of a refused handshake than that it failed: whoever may not come in
//! is let in to be told so.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Version};
use axum::response::{IntoResponse, Response};

use crate::app::{App, Unauthorized, now};
use crate::auth::{Identity, Refusal};
use crate::entrance::{Farewell, Visitor};
use crate::problem::Problem;
use crate::quota::OF_ADDRESS;
use crate::session::Act;
use crate::socket::Socket;
use crate::wire::{Answer, Close, Code, MAX_FRAME_BYTES, Reference, SUBPROTOCOL};

/// Read at once. Small, since thousands of sockets have one each and most messages fit.
const BUFFER: usize = 512;
/// What is written at once. It is there only once there was so much to write.
const WRITE_BUFFER: usize = 4 * 1_024;

/// Open a WebSocket with the subprotocol `storyfleet.v1`; its messages are in docs/asyncapi.yaml
///
/// It comes by HTTP/1.1, on a connection of its own: over HTTP/2 it is refused.
#[utoipa::path(get, path = "/v1/ws", operation_id = "connect", tag = "events",
    responses((status = 101, description = "It is open; whoever is refused is told over it")))]
pub(crate) async fn upgrade(
    State(app): State<App>,
    visitor: Visitor,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    (version, upgrade): (Version, Result<WebSocketUpgrade, WebSocketUpgradeRejection>),
) -> Result<Response, Problem> {
    if version == Version::HTTP_2 {
        let words =
            "a WebSocket comes by HTTP/1.1: ask for it on a connection whose ALPN is http/1.1";
        let status = StatusCode::BAD_REQUEST;
        return Err(Problem::new(status, "websocket_needs_http1", words));
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    let guest = Guest::of(&app, &visitor, (&headers, query.as_deref())).await?;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MAX_FRAME_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .read_buffer_size(BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(4 * story::MAX_EVENT_BYTES);
    Ok(upgrade.on_upgrade(move |socket| {
        let mut socket = Socket::new(app, visitor, socket);
        socket.admit(guest);
        // Of a future that is given its socket there are two: the one it was called with stays.
        async move { socket.run().await }
    }))
}

enum Guest {
    Known(Identity),
    /// Says it later.
    Unknown,
    Refused(Unauthorized),
    /// Of an address that has no more places.
    Crowd(Farewell),
    /// A page that may not, whoever looks at it; in words.
    Foreign(String),
}

impl Guest {
    /// A problem where even that they may not come in cannot be told over a socket.
    async fn of(
        app: &App,
        visitor: &Visitor,
        (headers, query): (&HeaderMap, Option<&str>),
    ) -> Result<Self, Problem> {
        if visitor.entered.is_err() {
            let farewell = app.entrance.farewell().map(Self::Crowd);
            return farewell.ok_or_else(|| Problem::crowd(OF_ADDRESS));
        }
        if !app.origins.allows(headers) {
            let words =
                "pages of this origin may not connect: the gateway's --origin names those that may";
            return Ok(Self::Foreign(words.to_owned()));
        }
        let who = async {
            match app.identify(headers, query).await {
                // Not yet a failure.
                Err(Unauthorized::Refused(Refusal::Missing)) => Ok(None),
                who => who.map(Some),
            }
        };
        Ok(match app.tried(visitor.client, who).await {
            Ok(Some(identity)) => Self::Known(identity),
            Ok(None) => Self::Unknown,
            Err(Unauthorized::Refused(refusal @ Refusal::Origin)) => {
                Self::Foreign(refusal.to_string())
            }
            Err(refusal) => Self::Refused(refusal),
        })
    }
}

impl Socket {
    /// Lets them in, or tells them why not.
    fn admit(&mut self, guest: Guest) {
        match guest {
            // Since the changes are heard of: one that came before them was not.
            Guest::Known(identity) if self.app.revoked.has(&identity) => {
                self.refuse(Unauthorized::Revoked);
            }
            Guest::Known(identity) if identity.is_over(now().unix) => {
                self.refuse(Unauthorized::Refused(Refusal::Expired));
            }
            Guest::Known(identity) if self.takes_place(&identity) => {
                self.acts.extend(self.session.welcome(identity, now()));
            }
            Guest::Refused(refusal) => self.refuse(refusal),
            Guest::Foreign(words) => {
                let answer = Answer::err(Reference::default(), Code::Forbidden, words);
                self.acts
                    .extend([Act::Send(answer), Act::Close(Close::Forbidden)]);
            }
            Guest::Crowd(farewell) => {
                self.farewell = Some(farewell);
                self.crowd(OF_ADDRESS);
            }
            Guest::Known(_) | Guest::Unknown => {}
        }
    }
}
