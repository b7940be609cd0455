//! A link without a Redis: its waits, and what becomes of its attempts to connect.

use super::*;

fn link(url: &str) -> Link {
    let settings = Settings::new(url);
    let topology = Topology::new(url, &settings.encryption).expect("a URL");
    Link::new(topology, &settings, settings.timeout)
}

/// Where something is bound that says nothing to whoever connects.
fn silent() -> (std::net::TcpListener, String) {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = bound.local_addr().expect("its address");
    (bound, address.to_string())
}

#[tokio::test]
async fn nobody_is_given_the_error_of_who_only_looked_at_the_cluster() {
    let (bound, address) = silent();
    drop(bound);
    let link = link(&format!("redis+cluster://{address}"));
    let (generation, _) = link.wire();
    assert!(link.cluster().await.is_none());
    assert_eq!(link.state().failures, 1);
    assert_ne!(link.wire().0, generation);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_for_which_nobody_waited_is_begun_anew() {
    let (_bound, address) = silent();
    let link = link(&format!("redis://mira:word@{address}"));
    let wait = async |time| {
        let connecting = link.wire();
        let looked = tokio::time::timeout(time, connecting.1).await;
        assert!(looked.is_err(), "it says nothing");
        connecting.0
    };
    let second = Duration::from_secs(1);
    let first = wait(second).await;
    // Those who come in time wait for the same.
    assert_eq!(wait(second / 2).await, first);
    tokio::time::advance(link.0.longest()).await;
    assert_ne!(wait(second).await, first);
    assert_eq!(link.state().failures, 0);
}

#[test]
fn the_wait_between_attempts_grows_to_its_bound() {
    let longest = Duration::from_secs(2);
    assert_eq!(backoff(0, longest), Duration::ZERO);
    for failures in 1..40 {
        let wait = backoff(failures, longest);
        assert!(wait >= Duration::from_millis(25) && wait <= longest);
    }
    assert!(backoff(u32::MAX, longest) >= longest / 2);
}
