//! Asks a program that runs on this machine whether it is well, for `check --health`: images have no shell and no curl that
//! could.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use axum::body::{Body, to_bytes};
use hyper::client::conn::http1::handshake;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than a page needs that asks Redis first.
const PATIENCE: Duration = Duration::from_secs(3);

/// Of what a page says, in bytes: it is one line.
const LONGEST: usize = 4_096;

/// What `page` says of the program that was told to listen at `listen`: a name may have several addresses, and whoever
/// listens there takes the first that it can have.
///
/// # Errors
/// When it says another status than 200, or nothing within 3 s; one of configuration where `listen` names nothing, or no
/// port.
pub async fn ask(listen: &[SocketAddr], page: &str) -> anyhow::Result<String> {
    let addresses: Vec<_> = listen.iter().copied().flat_map(own).collect();
    let Some(first) = addresses.first() else {
        return Err(exit::configuration(anyhow!("it is the name of nothing")));
    };
    if first.port() == 0 {
        let words = "port 0 is any free one: give the address that the program listens at";
        return Err(exit::configuration(anyhow!(words)));
    }
    let url = format!("http://{first}{page}");
    let asked = timeout(PATIENCE, get(&addresses, page)).await;
    let (status, says) = asked
        .map_err(|_| anyhow!("no answer within {PATIENCE:?}"))
        .flatten()
        .with_context(|| format!("{url} cannot be read"))?;
    match (status, says.as_str()) {
        (StatusCode::OK, _) => Ok(says),
        (StatusCode::NOT_FOUND, _) => bail!(
            "{url} is not there (404): another program listens at {first}, or this one has its readers there; give the address that it was told to have its own pages at"
        ),
        (_, "") => bail!(
            "{url} says {} and not why: see that what listens at {first} is this program",
            status.as_u16()
        ),
        (_, why) => bail!("{url} says {}: {why}", status.as_u16()),
    }
}

async fn get(addresses: &[SocketAddr], page: &str) -> anyhow::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(addresses).await;
    let stream = stream.context("see that the program runs and listens there")?;
    let host = stream.peer_addr()?.to_string();
    let (mut requests, connection) = handshake(TokioIo::new(stream)).await?;
    let request = Request::get(page)
        .header("host", host)
        .body(String::new())?;
    let answer = async move {
        let response = requests.send_request(request).await?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), LONGEST).await?;
        anyhow::Ok((status, exit::one_line(&String::from_utf8_lossy(&body))))
    };
    // The connection ends with its only request, and what goes wrong there the answer tells.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

/// Where this machine itself reaches who listens at `listen`. What listens at all addresses of IPv6 is reached by IPv4 too,
/// and has to be where IPv6 is switched off, as in many containers.
fn own(listen: SocketAddr) -> Vec<SocketAddr> {
    let addresses = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]
        }
        ip => vec![ip],
    };
    let at_port = |ip| SocketAddr::new(ip, listen.port());
    addresses.into_iter().map(at_port).collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;
    use tokio_util::task::TaskTracker;

    use super::*;

    async fn serve(at: &str, router: Router) -> SocketAddr {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn told(asked: anyhow::Result<String>) -> String {
        exit::line(&asked.unwrap_err())
    }

    #[tokio::test]
    async fn a_page_is_one_line_whatever_is_in_it() {
        let words = (StatusCode::SERVICE_UNAVAILABLE, "not\n\u{1b}[2J ready\n");
        let router = Router::new()
            .route("/well", get("well\n"))
            .route("/ill", get(words))
            .route("/mute", get(StatusCode::BAD_GATEWAY))
            .route("/long", get("x".repeat(LONGEST + 1)));
        let at = serve("127.0.0.1:0", router).await;
        assert_eq!(ask(&[at], "/well").await.unwrap(), "well");
        let url = format!("http://{at}");
        assert_eq!(
            told(ask(&[at], "/ill").await),
            format!("{url}/ill says 503: not [2J ready")
        );
        let nowhere = told(ask(&[at], "/nowhere").await);
        let words = format!("{url}/nowhere is not there (404): another program listens at {at}, ");
        assert!(nowhere.starts_with(&words), "{nowhere}");
        assert_eq!(
            told(ask(&[at], "/mute").await),
            format!(
                "{url}/mute says 502 and not why: see that what listens at {at} is this program"
            )
        );
        assert_eq!(
            told(ask(&[at], "/long").await),
            format!("{url}/long cannot be read: length limit exceeded")
        );
    }

    #[tokio::test]
    async fn who_listens_everywhere_is_asked_on_this_machine() {
        let router = Router::new().route("/", get("here"));
        let at = serve("0.0.0.0:0", router).await;
        assert_eq!(ask(&[at], "/").await.unwrap(), "here");
        // As where IPv6 is switched off.
        let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), at.port());
        assert_eq!(ask(&[everywhere], "/").await.unwrap(), "here");
    }

    #[tokio::test]
    async fn of_a_name_with_several_addresses_one_answers() {
        let at = serve("127.0.0.1:0", Router::new().route("/", get("here"))).await;
        let nobody = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), at.port());
        assert_eq!(ask(&[nobody, at], "/").await.unwrap(), "here");
        assert!(exit::is_configuration(&ask(&[], "/").await.unwrap_err()));
    }

    #[tokio::test]
    async fn a_port_that_is_not_known_is_a_matter_of_configuration() {
        let asked = ask(&["127.0.0.1:0".parse().unwrap()], "/").await;
        assert!(exit::is_configuration(&asked.unwrap_err()));
    }
}
