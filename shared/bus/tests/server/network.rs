//! A network between a bus and its Redis that fails at a chosen moment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use bus::{Bus, Settings};

/// Ends with the process.
pub struct Network {
    address: String,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    planned: Mutex<Option<(&'static str, Fault)>>,
    slow: AtomicBool,
    /// Connections that were opened.
    opened: AtomicUsize,
    /// So many of them, the first, carry nothing any more.
    silent: AtomicUsize,
}

/// Of each reply, where it is slow.
const SLOW: Duration = Duration::from_millis(50);

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
        let faults = Arc::<Faults>::default();
        let shared = Arc::clone(&faults);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&redis) else {
                    return;
                };
                carry(&near, &far, &shared);
            }
        });
        Self {
            address: format!("redis://{address}"),
            faults,
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

    /// All connections that there are carry nothing any more, and stay open; those to come are well.
    pub fn fall_silent(&self) {
        let opened = self.faults.opened.load(Ordering::SeqCst);
        self.faults.silent.store(opened, Ordering::SeqCst);
    }

    /// From now on replies are late where scripts are run, and only there.
    pub fn slow_scripts(&self) {
        self.faults.slow.store(true, Ordering::SeqCst);
    }

    /// Whether what was planned has happened.
    pub fn has_failed(&self) -> bool {
        self.planned().is_none()
    }

    fn plan(&self, word: &'static str, fault: Fault) {
        *self.planned() = Some((word, fault));
    }

    fn planned(&self) -> MutexGuard<'_, Option<(&'static str, Fault)>> {
        self.faults.planned.lock().expect("nobody panics")
    }
}

fn carry(near: &TcpStream, far: &TcpStream, faults: &Arc<Faults>) {
    let reply = Arc::<Mutex<Option<Fault>>>::default();
    let number = faults.opened.fetch_add(1, Ordering::SeqCst);
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
    let runs_scripts = Arc::new(AtomicBool::new(false));
    let (of_reply, scripts, planned) = (
        Arc::clone(&reply),
        Arc::clone(&runs_scripts),
        Arc::clone(faults),
    );
    thread::spawn(move || {
        pass(near, far, |bytes| {
            if contains(bytes, "EVAL") {
                scripts.store(true, Ordering::SeqCst);
            }
            if number < planned.silent.load(Ordering::SeqCst) {
                return Some(Fault::Stall);
            }
            let mut planned = planned.planned.lock().expect("nobody panics");
            let (_, fault) = planned.take_if(|(word, _)| contains(bytes, word))?;
            if fault == Fault::Stall {
                return Some(fault);
            }
            // The command itself passes.
            *of_reply.lock().expect("nobody panics") = Some(fault);
            None
        });
    });
    let faults = Arc::clone(faults);
    thread::spawn(move || {
        pass(from, back, |bytes| {
            if faults.slow.load(Ordering::SeqCst) && runs_scripts.load(Ordering::SeqCst) {
                thread::sleep(SLOW);
            }
            let fault = *reply.lock().expect("nobody panics");
            // A script that Redis does not know yet is sent again whole: that reply is the one to lose.
            fault.filter(|_| !bytes.starts_with(b"-NOSCRIPT"))
        });
    });
}

fn contains(bytes: &[u8], word: &str) -> bool {
    let mut parts = bytes.windows(word.len());
    parts.any(|part| part == word.as_bytes())
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
