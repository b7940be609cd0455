//! A terminal of our own for a program: a pty, and an emulator (`vt100`) that shows what a person would see.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use tokio::process::Command;

use crate::{Process, eventually};

/// Lines that were shown; none is kept once it scrolled away.
const HISTORY: usize = 0;

/// The terminal outlives the program, so that one can see how it was left.
pub struct Terminal {
    /// Our end.
    ours: File,
    /// The program's end.
    theirs: OwnedFd,
    parser: Arc<Mutex<vt100::Parser>>,
}

/// What of a terminal must be again as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes {
    input: rustix::termios::InputModes,
    output: rustix::termios::OutputModes,
    local: rustix::termios::LocalModes,
}

impl Terminal {
    /// # Errors
    /// When the system gives none.
    pub fn open(columns: u16, rows: u16) -> anyhow::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let theirs = rustix::fs::open(
            &name,
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        let (height, width) = size(columns, rows)?;
        let parser = Arc::new(Mutex::new(vt100::Parser::new(height, width, HISTORY)));
        let ours = File::from(ours);
        let (mut reader, seen) = (ours.try_clone()?, Arc::clone(&parser));
        // Ends with the last end of the terminal.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                locked(&seen).process(&bytes[..count]);
            }
        });
        let terminal = Self {
            ours,
            theirs,
            parser,
        };
        terminal.resize(columns, rows)?;
        Ok(terminal)
    }

    /// A program in it: the leader of a session whose terminal it is, as a shell's first program. `/dev/tty` is this one
    /// then, whatever terminal the tests were started from, and the program is told of another size.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&self, command: &Command) -> anyhow::Result<Process> {
        let command = command.as_std();
        // It becomes the program: its id stays the same.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program());
        session.args(command.get_args());
        session.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let end = || self.theirs.try_clone();
        Process::start_with(&mut session, end()?.into(), end()?.into(), end()?.into())
    }

    /// # Errors
    /// When the system refuses.
    pub fn resize(&self, columns: u16, rows: u16) -> anyhow::Result<()> {
        let (height, width) = size(columns, rows)?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        locked(&self.parser).screen_mut().set_size(height, width);
        tcsetwinsize(&self.ours, size).context("no other size")
    }

    /// # Errors
    /// When nobody reads any more.
    pub fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        self.ours
            .write_all(keys.as_bytes())
            .context("no key can be pressed")
    }

    /// What is on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        locked(&self.parser).screen().contents()
    }

    /// Whether a program has put its own page over what was there.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        locked(&self.parser).screen().alternate_screen()
    }

    /// Waits until the screen shows `words`; gives all of it.
    ///
    /// # Errors
    /// When it does not in time: says what it shows.
    pub async fn shows(&self, words: &str) -> anyhow::Result<String> {
        eventually(&format!("the screen shows {words:?}"), async || {
            Ok(Some(self.screen()).filter(|screen| screen.contains(words)))
        })
        .await
        .with_context(|| self.screen())
    }

    /// # Errors
    /// When the system does not tell.
    pub fn modes(&self) -> anyhow::Result<Modes> {
        let Termios {
            input_modes: input,
            output_modes: output,
            local_modes: local,
            ..
        } = tcgetattr(&self.theirs)?;
        Ok(Modes {
            input,
            output,
            local,
        })
    }
}

fn size(columns: u16, rows: u16) -> anyhow::Result<(NonZeroU16, NonZeroU16)> {
    let height = NonZeroU16::new(rows).context("no rows")?;
    Ok((height, NonZeroU16::new(columns).context("no columns")?))
}

fn locked(parser: &Mutex<vt100::Parser>) -> std::sync::MutexGuard<'_, vt100::Parser> {
    parser.lock().unwrap_or_else(PoisonError::into_inner)
}
