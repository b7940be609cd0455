//! A network between a bus and its Redis that fails at a chosen moment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bus::{Bus, Settings};

use super::Server;

/// Ends with the process.
pub struct Network {
    address: String,
    fault: Shared,
}

type Shared = Arc<Mutex<Option<(&'static str, Fault)>>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    LoseReply,
    Stall,
}

impl Network {
    pub fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let redis = server.url().replace("redis://", "");
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
    let cut = Arc::new(AtomicBool::new(false));
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
    let (cutting, faults) = (Arc::clone(&cut), Arc::clone(faults));
    thread::spawn(move || {
        pass(near, far, |bytes| {
            let mut planned = faults.lock().expect("nobody panics");
            let fault = planned.take_if(|(word, _)| {
                bytes
                    .windows(word.len())
                    .any(|part| part == word.as_bytes())
            });
            let fault = fault.map(|(_, fault)| fault);
            // The command itself passes.
            if fault == Some(Fault::LoseReply) {
                cutting.store(true, Ordering::SeqCst);
            }
            fault.filter(|fault| *fault == Fault::Stall)
        });
    });
    // A script that Redis does not know yet is sent again whole: that reply is the one to lose.
    thread::spawn(move || {
        pass(from, back, |reply| {
            let lost = cut.load(Ordering::SeqCst) && !reply.starts_with(b"-NOSCRIPT");
            lost.then_some(Fault::LoseReply)
        });
    });
}

/// Passes on what comes, until the fault that `meets` finds in it.
fn pass(mut from: TcpStream, mut to: TcpStream, meets: impl Fn(&[u8]) -> Option<Fault>) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        match meets(&buffer[..bytes]) {
            Some(Fault::Stall) => return,
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
