//! A Redis server of our own: a child process on a free port of this machine, its data in the data folder.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use agent::exit;
use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::orphan;
use crate::target::not_writable;

/// Names that the server may have, the first found is taken.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// In the data folder.
const LOG: &str = "redis.log";
const EVENTS: &str = "appendonlydir";

const STOP: Duration = Duration::from_secs(10);

/// The data folder, ours alone while this lives.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Ends with this process, however it ends.
    _ours: File,
    /// Is the server's too, which may outlive this process: no other writes the data meanwhile.
    servers: File,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    child: Child,
}

impl Folder {
    pub(crate) async fn claim(path: &Path) -> anyhow::Result<Self> {
        if path.is_file() {
            let what = anyhow!("--data {} is a file: give a folder", path.display());
            return Err(exit::configuration(what));
        }
        fs::create_dir_all(path).with_context(|| not_writable(path))?;
        let path = path.canonicalize()?;
        let Some(ours) = lock(&path.join("lock"))? else {
            bail!(
                "a `storyfleet up` already runs in {}: use it, stop it, or give another --data DIR",
                path.display()
            );
        };
        let held = path.join("redis.lock");
        let servers = match lock(&held)? {
            Some(servers) => servers,
            None => orphan::end(&path, &held).await?,
        };
        Ok(Self {
            path,
            _ours: ours,
            servers,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes a lock file; `None`: another process has it.
pub(super) fn lock(path: &Path) -> anyhow::Result<Option<File>> {
    let file = File::create(path).with_context(|| not_writable(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
    }
}

impl Server {
    /// Starts a server that is in a process group of its own: Ctrl-C reaches it only after the fleet has drained.
    pub(crate) fn start(folder: &Folder) -> anyhow::Result<Self> {
        keep_private(&folder.path).with_context(|| not_writable(&folder.path))?;
        let port = free_port()?;
        let child = spawn(folder, port)?;
        let url = format!("redis://127.0.0.1:{port}");
        Ok(Self { url, child })
    }

    /// SIGKILL, as by a crash: what it had answered is in its file.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Starts it again at its address, with what it left in its folder.
    pub(crate) fn again(&mut self, folder: &Folder) -> anyhow::Result<()> {
        let port = self.url.rsplit_once(':').map(|(_, port)| port.parse());
        self.child = spawn(folder, port.context("an address without a port")??)?;
        Ok(())
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Resolves when the server ended by itself.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow!(
                "the Redis server ended ({status}): its log is redis.log in the data folder"
            ),
            Err(error) => error.into(),
        }
    }

    /// Lets the server write what it holds, then ends it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).context("cannot stop the Redis server")?;
        }
        match timeout(STOP, self.child.wait()).await {
            Ok(status) => {
                status?;
            }
            Err(_) => self.child.kill().await?,
        }
        Ok(())
    }
}

/// What people write is in the server's files: they are for our user alone. The folder itself is not, since whoever runs
/// Prometheus reads its targets there.
fn keep_private(folder: &Path) -> io::Result<()> {
    let (log, events) = (folder.join(LOG), folder.join(EVENTS));
    File::options().create(true).append(true).open(&log)?;
    fs::set_permissions(log, Permissions::from_mode(0o600))?;
    fs::create_dir_all(&events)?;
    fs::set_permissions(events, Permissions::from_mode(0o700))
}

fn spawn(folder: &Folder, port: u16) -> anyhow::Result<Child> {
    for program in PROGRAMS {
        let spawned = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--save",
                "",
            ])
            .args(["--maxmemory-policy", "noeviction", "--daemonize", "no"])
            .args(["--logfile", LOG, "--appenddirname", EVENTS, "--dir"])
            .arg(&folder.path)
            // The lock lives as long as any process that holds the file.
            .stdin(Stdio::from(folder.servers.try_clone()?))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        match spawned {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            spawned => return spawned.with_context(|| format!("cannot start {program}")),
        }
    }
    bail!("there is no redis-server and no valkey-server: install one, or give --redis URL")
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
