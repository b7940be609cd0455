//! An answer in one piece, and the faults that break a body of JSON.

use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;

use crate::calls::Call;
use crate::ending::{Abort, Cut, Ending};
use crate::fault::{Fault, Kind};
use crate::refusal;
use crate::wire::json_body;

/// How much of a body comes at once under `slow_drip`.
const DRIP: usize = 64;

/// Bytes on their way. Nothing is known of their length beforehand.
pub(crate) struct Raw {
    pub(crate) bytes: Bytes,
    /// A pause after every [`DRIP`] bytes; without one all come at once.
    pub(crate) drip: Option<Duration>,
    pub(crate) ending: Ending,
    /// Under way until the body is dropped.
    pub(crate) _call: Call,
    pub(crate) abort: Abort,
}

/// The response that carries `json`, broken as the fault asks.
pub(crate) fn respond(
    json: String,
    fault: Option<Fault>,
    mut call: Call,
    abort: Abort,
) -> Response {
    let Some(fault) = fault else {
        call.outcome = "ok";
        return json_body(json).into_response();
    };
    let (half, rest) = json.split_at(json.floor_char_boundary(json.len() / 2));
    let (bytes, ending) = match fault.kind {
        Kind::NoFirstToken => (Bytes::new(), Ending::Hang),
        Kind::Stall => (half.to_owned().into(), Ending::Hang),
        Kind::Eof | Kind::NoFinishReason | Kind::BrokenJson => {
            (half.to_owned().into(), Ending::Complete)
        }
        Kind::Cut => (half.to_owned().into(), Ending::Cut),
        Kind::CutUtf8 => ([half.as_bytes(), b"\xe2"].concat().into(), Ending::Cut),
        Kind::BadUtf8 => {
            let bytes = [half.as_bytes(), b"\xff\xfe", rest.as_bytes()].concat();
            (bytes.into(), Ending::Complete)
        }
        Kind::BadSse => {
            let text = format!("<<< upstream hiccup >>>\n{json}");
            (text.into(), Ending::Complete)
        }
        Kind::ErrorFrame => {
            let error = refusal::in_band().envelope().to_string();
            (error.into(), Ending::Complete)
        }
        _ => (json.into(), Ending::Complete),
    };
    let raw = Raw {
        bytes,
        drip: fault.drip(),
        ending,
        _call: call,
        abort,
    };
    raw.respond("application/json")
}

impl Raw {
    pub(crate) fn respond(self, content_type: &'static str) -> Response {
        let body = Body::from_stream(stream::unfold((self, true), |(raw, first)| {
            raw.piece(first)
        }));
        (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], body).into_response()
    }

    async fn piece(mut self, first: bool) -> Option<(Result<Bytes, Cut>, (Self, bool))> {
        if self.bytes.is_empty() {
            let cut = self.ending.reach(&self.abort).await?;
            return Some((Err(cut), (self, false)));
        }
        let mut length = self.bytes.len();
        if let Some(pause) = self.drip {
            length = length.min(DRIP);
            if !first {
                tokio::time::sleep(pause).await;
            }
        }
        let piece = self.bytes.split_to(length);
        Some((Ok(piece), (self, false)))
    }
}
