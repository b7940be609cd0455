//! A network between a bus and its Redis that fails at a chosen moment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use bus::{Bus, Settings};

/// Ends with the process.
pub struct Network {
    address: String,
    fault: Shared,
}

type Shared = Arc<Mutex<Option<(&'static str, Fault)>>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    LoseReply,
    WithholdReply,
    Stall,
}

impl Network {
    /// `redis` is its URL.
    pub fn before(redis: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let redis = redis.replace("redis://", "");
        let fault = Shared::default();
        let faults = Arc::clone(&fault);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&redis) else {
                    return;
                };
                carry(&near, &far, &faults);
            }
        });
        Self {
            address: format!("redis://{address}"),
            fault,
        }
    }

    pub fn url(&self) -> &str {
        &self.address
    }

    pub fn bus(&self, shards: u16) -> Bus {
        let settings = Settings {
            shards,
            ..Settings::new(self.address.as_str())
        };
        Bus::new(settings).expect("the settings are good")
    }

    /// Redis does the next command that contains `word`, and then the connection drops instead of bringing the reply.
    pub fn lose_reply(&self, word: &'static str) {
        self.plan(word, Fault::LoseReply);
    }

    /// Redis does the next command that contains `word`; the connection brings nothing any more, and stays open.
    pub fn withhold_reply(&self, word: &'static str) {
        self.plan(word, Fault::WithholdReply);
    }

    /// The connection of the next command that contains `word` carries nothing any more, and stays open.
    pub fn stall(&self, word: &'static str) {
        self.plan(word, Fault::Stall);
    }

    /// Whether what was planned has happened.
    pub fn has_failed(&self) -> bool {
        self.fault.lock().expect("nobody panics").is_none()
    }

    fn plan(&self, word: &'static str, fault: Fault) {
        *self.fault.lock().expect("nobody panics") = Some((word, fault));
    }
}

fn carry(near: &TcpStream, far: &TcpStream, faults: &Shared) {
    let reply = Arc::<Mutex<Option<Fault>>>::default();
    for stream in [near, far] {
        stream.set_nodelay(true).expect("an open stream");
    }
    let pair = || {
        (
            near.try_clone().expect("near"),
            far.try_clone().expect("far"),
        )
    };
    let ((near, far), (back, from)) = (pair(), pair());
    let (of_reply, faults) = (Arc::clone(&reply), Arc::clone(faults));
    thread::spawn(move || {
        pass(near, far, |bytes| {
            let mut planned = faults.lock().expect("nobody panics");
            let fault = planned.take_if(|(word, _)| {
                bytes
                    .windows(word.len())
                    .any(|part| part == word.as_bytes())
            });
            let (_, fault) = fault?;
            if fault == Fault::Stall {
                return Some(fault);
            }
            // The command itself passes.
            *of_reply.lock().expect("nobody panics") = Some(fault);
            None
        });
    });
    // A script that Redis does not know yet is sent again whole: that reply is the one to lose.
    thread::spawn(move || {
        pass(from, back, |bytes| {
            let fault = *reply.lock().expect("nobody panics");
            fault.filter(|_| !bytes.starts_with(b"-NOSCRIPT"))
        });
    });
}

/// Passes on what comes, until the fault that `meets` finds in it.
fn pass(mut from: TcpStream, mut to: TcpStream, meets: impl Fn(&[u8]) -> Option<Fault>) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        match meets(&buffer[..bytes]) {
            Some(Fault::Stall | Fault::WithholdReply) => return,
            Some(Fault::LoseReply) => break,
            None if to.write_all(&buffer[..bytes]).is_err() => break,
            None => {}
        }
    }
    for stream in [from, to] {
        // The other end may have hung up first.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
