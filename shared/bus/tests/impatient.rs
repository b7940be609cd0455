//! A watch whose caller is often woken by something else, and drops `next` each time.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bus::{Bus, Seen, Settings, Watch};
use redis::Commands;
use server::{Server, action, castle, create, pass, place, story};
use story::{Event, Policies, Seq};

/// How far away a slow Redis is, one way: several times what the reader waits for anything.
const DISTANCE: Duration = Duration::from_millis(40);
const TICK: Duration = Duration::from_millis(25);

/// The next thing to see, for a reader who never waits longer than a tick.
async fn next(watch: &mut Watch) -> Seen {
    let ticks = async {
        loop {
            if let Ok(seen) = tokio::time::timeout(TICK, watch.next()).await {
                return seen.unwrap();
            }
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), ticks).await;
    seen.expect("something to see")
}

/// The same Redis over a network that is slow; gives its address. Ends with the process.
fn far_away(server: &Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let redis = server.url().replace("redis://", "");
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(&redis) else {
                return;
            };
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || carry(from, to));
            }
        }
    });
    format!("redis://{address}")
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        thread::sleep(DISTANCE);
        if to.write_all(&buffer[..bytes]).is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_slow_redis_is_seen_by_a_reader_who_never_waits_long() {
    let server = Server::start();
    create(&server.bus(), "castle", Policies::default()).await;
    server.bus().publish(&action("castle", "a")).await.unwrap();
    let bus = Bus::new(Settings::new(far_away(&server))).unwrap();
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (1, "a"));
    server.bus().publish(&action("castle", "b")).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (2, "b"));
}

#[tokio::test]
async fn what_no_live_message_told_of_is_seen_when_the_quiet_is_doubted() {
    let (server, bus) = castle(&["a"]).await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (1, "a"));
    let more = tokio::time::timeout(4 * TICK, watch.next()).await;
    assert!(more.is_err(), "nothing is left to read: {more:?}");
    let untold: Event = action("castle", "b");
    let mut raw = server.raw();
    let fields = [("e", untold.encode())];
    let _: String = raw.xadd("sf:{0}:log:castle", "2-0", &fields).unwrap();
    let _: u64 = raw.hincr("sf:{0}:ctx:castle", "seq", 1).unwrap();
    pass(Duration::from_secs(30)).await;
    assert_eq!(place(&next(&mut watch).await), (2, "b"));
    assert_eq!(watch.cursor().seq, Seq(2));
}
