//! What is still on its way of a request that is refused: it is read and forgotten, within bounds. A connection that is
//! closed with bytes unread is reset, and its client is shown that and not the answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Error;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::entrance::Entrance;

/// How long a body may be on its way.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// How long nothing of it may come, once it is forgotten.
const SILENCE: Duration = Duration::from_secs(2);
/// What is read of it.
const MOST_BYTES: usize = 16 * 1_024 * 1_024;

/// A body that two read, one after the other.
#[derive(Clone)]
struct Shared(Arc<Mutex<Rest>>);

struct Rest {
    body: BodyDataStream,
    /// Whoever sends `Expect: 100-continue` sends nothing before somebody reads.
    is_coming: bool,
}

/// A layer around all routes. What a trusted proxy brings takes a place of whom it names while it is forgotten: the proxy's
/// own connections are not counted.
pub(super) async fn forgotten(
    State(entrance): State<Entrance>,
    request: Request,
    next: Next,
) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let until = Instant::now() + PATIENCE;
    let (parts, body) = request.into_parts();
    let brought = entrance.brought(&parts);
    let rest = Shared(Arc::new(Mutex::new(Rest {
        body: body.into_data_stream(),
        is_coming: !parts.headers.contains_key(header::EXPECT),
    })));
    let theirs = rest.clone();
    let body = Body::from_stream(stream::poll_fn(move |context| theirs.poll(context)));
    let response = next.run(Request::from_parts(parts, body)).await;
    let is_refused = response.status().is_client_error() || response.status().is_server_error();
    if is_refused
        && rest.is_coming()
        && let Some(_entered) = entrance.enter_through(brought)
    {
        // However that ends, the answer is due.
        let _is_late = timeout_at(until, rest.forget()).await;
    }
    response
}

impl Shared {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let mut rest = self.rest();
        rest.is_coming = true;
        rest.body.poll_next_unpin(context)
    }

    fn is_coming(&self) -> bool {
        self.rest().is_coming
    }

    async fn forget(&self) {
        let mut parts = stream::poll_fn(|context| self.poll(context));
        let mut bytes = 0;
        while bytes <= MOST_BYTES
            && let Ok(Some(Ok(part))) = timeout(SILENCE, parts.next()).await
        {
            bytes += part.len();
        }
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        // Whoever panicked while it was held has not read it to its end: the next may.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::from_fn_with_state;
    use axum::routing::post;
    use tokio::time::sleep;
    use tower::Service as _;

    use super::*;
    use crate::address::Proxies;
    use crate::entrance::Peer;
    use crate::metrics::Metrics;

    const PART: usize = 1_024 * 1_024;
    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// One connection of each address.
    fn entrance() -> Entrance {
        let proxies = vec![PROXY.to_string().parse().expect("a network")];
        Entrance::new(1, Proxies::new(proxies), Metrics::new().refused)
    }

    async fn answered(entrance: Entrance, request: Request) {
        let mut router = Router::new()
            .route("/no", post(async || StatusCode::UNAUTHORIZED))
            .route("/yes", post(async || StatusCode::NO_CONTENT))
            .layer(from_fn_with_state(entrance, forgotten));
        router.call(request).await.expect("an answer");
    }

    /// Sends that many parts, then the end or for ever nothing; gives the bytes that were read of it.
    async fn sent(path: &str, parts: usize, ends: bool, expects: bool) -> usize {
        let read = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&read);
        let parts = stream::iter(0..parts).map(move |_| {
            counts.fetch_add(PART, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; PART]))
        });
        let body = match ends {
            true => Body::from_stream(parts),
            false => Body::from_stream(parts.chain(stream::pending())),
        };
        let mut request = Request::post(path);
        if expects {
            request = request.header("expect", "100-continue");
        }
        let request = request.body(body).expect("a request");
        answered(entrance(), request).await;
        read.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_read_up_to_its_bounds_and_nothing_else_is() {
        let begun = Instant::now();
        assert_eq!(sent("/no", 3, true, false).await, 3 * PART);
        assert_eq!(sent("/no", 20, true, false).await, MOST_BYTES + PART);
        assert_eq!(sent("/yes", 3, true, false).await, 0);
        // Whoever asks before they send need send nothing.
        assert_eq!(sent("/no", 3, true, true).await, 0);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(sent("/no", 3, false, false).await, 3 * PART);
        assert_eq!(begun.elapsed(), SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_slowly_is_read_for_as_long_as_a_body_may_take() {
        let begun = Instant::now();
        let byte = async |()| {
            sleep(SILENCE / 2).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        };
        let body = Body::from_stream(stream::unfold((), byte));
        let request = Request::post("/no").body(body).expect("a request");
        answered(entrance(), request).await;
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_proxy_brings_is_forgotten_while_whom_it_names_has_room() {
        let entrance = entrance();
        let takes = async |named: &str| {
            let begun = Instant::now();
            let never = stream::pending::<std::io::Result<Bytes>>();
            let request = Request::post("/no")
                .header("x-forwarded-for", named)
                .extension(Peer(PROXY))
                .body(Body::from_stream(never))
                .expect("a request");
            answered(entrance.clone(), request).await;
            begun.elapsed()
        };
        let [one, another] = ["198.51.100.1", "198.51.100.2"];
        let both = tokio::join!(takes(one), takes(one), takes(another));
        assert_eq!(both, (SILENCE, Duration::ZERO, SILENCE));
        assert_eq!(takes(one).await, SILENCE);
    }
}
