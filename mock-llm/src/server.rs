//! The accept loop. It owns the connections, which `axum::serve` would hide: a fault may reset one,
//! and shutdown ends those that hang.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::Options;
use crate::app::{self, App};
use crate::ending::Abort;

/// What calls under way get at shutdown. Those that a fault lets hang would never end.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `shutdown`, then lets the calls under way finish for a moment and closes every connection.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = app::router(Arc::new(App::new(options)));
    let connections = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, router.clone(), shutdown.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it was served");
        return;
    }
    let abort = Abort::default();
    let service = service_fn({
        let abort = abort.clone();
        move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(abort.clone());
            router.clone().call(request)
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let served = tokio::select! {
        served = &mut connection => served,
        () = shutdown.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            match tokio::time::timeout(GRACE, &mut connection).await {
                Ok(served) => served,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
    if abort.is_asked() {
        let stream = connection.into_parts().io.into_inner();
        if let Err(error) = stream.set_zero_linger() {
            tracing::warn!(%error, "a connection is closed where it should be reset");
        }
    }
}
