//! Which Redis a command talks to: `--redis`, else the one that `storyfleet up` runs in the data folder. `REDIS_URL` stands for
//! the one, unless the other is named.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::exit;
use agent::flags::RedisTls;
use anyhow::{Context, anyhow, bail};
use bus::{Bus, Error};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::args::GLOBAL;
use crate::output::note;

/// Of whoever names no folder.
pub(crate) const DATA: &str = ".storyfleet";

/// Of one command to Redis.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Redis: redis://, rediss://, redis+sentinel:// or redis+cluster:// [default: the one of `storyfleet up`]
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        env = "REDIS_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) redis: Option<String>,

    /// Where `storyfleet up` keeps its data and other commands find its address. Given, it counts more than REDIS_URL
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        default_value = DATA,
        value_name = "DIR"
    )]
    pub(crate) data: PathBuf,

    /// What keys begin with, so that several fleets can share a Redis [default: that of `storyfleet up`, else sf]
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        env = "STORYFLEET_PREFIX",
        value_name = "PREFIX"
    )]
    prefix: Option<String>,

    /// Into how many shards the keys are split: the same for all of a fleet's life [default: as `storyfleet up`, else 1]
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        env = "STORYFLEET_SHARDS",
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    shards: Option<u16>,

    /// How many replicas must have what is written before it is said to be done, 1 s at most
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        env = "STORYFLEET_WAIT_REPLICAS",
        value_name = "N",
        default_value = "0",
        value_parser = clap::value_parser!(u32).range(..=16)
    )]
    wait_replicas: u32,

    // For `--redis`: what `storyfleet up` was given is beside its address.
    #[command(flatten, next_help_heading = GLOBAL)]
    tls: RedisTls,
}

const PREFIX: &str = "sf";
const SHARDS: u16 = 1;

/// What `up` leaves in the data folder for the other commands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) redis: String,
    /// Of the Redis server that belongs to the folder.
    pub(crate) redis_pid: Option<u32>,
    /// Of `up`.
    #[serde(default)]
    pub(crate) pid: Option<u32>,
    pub(crate) prefix: String,
    pub(crate) shards: u16,
    /// Of its TLS.
    #[serde(default)]
    pub(crate) encryption: bus::Encryption,
}

/// Nothing listens where the data folder says that the Redis of `up` is: both were killed.
#[derive(Debug, thiserror::Error)]
#[error(
    "the `storyfleet up` of {data} is gone, and its {redis} with it: start `storyfleet up` again"
)]
pub(crate) struct Gone {
    data: String,
    redis: String,
}

impl Target {
    /// Who names a folder means its fleet, whatever variable their shell has.
    pub(crate) fn settle(&mut self, given: &ArgMatches) {
        let is_from = |option: &str, source| given.value_source(option) == Some(source);
        if is_from("data", ValueSource::CommandLine) && is_from("redis", ValueSource::EnvVariable) {
            note("REDIS_URL is passed over, since --data is given: --redis URL is for that Redis");
            self.redis = None;
            // They are of that Redis.
            self.tls
                .retain(|option| !is_from(option, ValueSource::EnvVariable));
        }
    }

    /// The way there. Looks at once whether the fleet has as many shards as we think: with another number, what we send
    /// would lie where nobody reads.
    pub(crate) async fn bus(&self) -> anyhow::Result<Bus> {
        let (bus, shards) = self.reach().await?;
        shards?;
        Ok(bus)
    }

    /// The way to a Redis that answers, and whether the number of shards there is ours.
    pub(crate) async fn reach(&self) -> anyhow::Result<(Bus, Result<(), Error>)> {
        let bus = self.way()?;
        match bus.check_shards().await {
            Err(Error::Unreachable(error)) => {
                let redis = without_password(bus.url());
                if error.is_connection_refusal() && self.is_ups_own()? {
                    let data = self.data.display().to_string();
                    return Err(Gone { data, redis }.into());
                }
                Err(Error::Unreachable(error)).context(redis)
            }
            shards => Ok((bus, shards)),
        }
    }

    /// Whether the Redis is one that `up` started.
    fn is_ups_own(&self) -> anyhow::Result<bool> {
        if self.redis.is_some() {
            return Ok(false);
        }
        let state = State::read(&self.data)?;
        Ok(state.is_some_and(|state| state.redis_pid.is_some()))
    }

    /// Files of TLS have a Redis that they are for: the one of `up` has what it was given, and our own speaks none.
    ///
    /// # Errors
    /// They are given and no Redis is named.
    pub(crate) fn check_tls(&self) -> anyhow::Result<()> {
        if self.redis.is_none() && self.tls.is_given() {
            return Err(exit::configuration(anyhow!(
                "--redis-ca, --redis-cert and --redis-key (STORYFLEET_REDIS_…) are of a Redis that is named: give its --redis rediss://… too, or leave them away"
            )));
        }
        Ok(())
    }

    /// Whether the Redis outlived the `up` that started it, and its agents with it. Another process may have its number by
    /// now: then nobody knows.
    pub(crate) fn is_left_behind(&self) -> anyhow::Result<bool> {
        if self.redis.is_some() {
            return Ok(false);
        }
        let state = State::read(&self.data)?.filter(|state| state.redis_pid.is_some());
        let pid = state.and_then(|state| Pid::from_raw(i32::try_from(state.pid?).ok()?));
        Ok(pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)))
    }

    fn way(&self) -> anyhow::Result<Bus> {
        self.check_tls()?;
        if let Some(url) = &self.redis {
            return Ok(Bus::new(self.settings(url.clone()))?);
        }
        let settings = match State::read(&self.data)? {
            Some(state) => bus::Settings {
                prefix: self.prefix.clone().unwrap_or(state.prefix),
                shards: self.shards.unwrap_or(state.shards),
                encryption: state.encryption,
                ..self.settings(state.redis)
            },
            None => bail!(
                "no fleet runs in {}: start `storyfleet up`, or give --redis URL",
                self.data.display()
            ),
        };
        Ok(Bus::new(settings)?)
    }

    /// Whether the folder tells of another Redis than that of `bus`.
    pub(crate) fn has_moved(&self, bus: &Bus) -> anyhow::Result<bool> {
        if self.redis.is_some() {
            return Ok(false);
        }
        let state = State::read(&self.data)?;
        Ok(state.is_some_and(|state| state.redis != bus.url()))
    }

    pub(crate) fn settings(&self, url: String) -> bus::Settings {
        bus::Settings {
            prefix: self.prefix.clone().unwrap_or_else(|| PREFIX.to_owned()),
            shards: self.shards.unwrap_or(SHARDS),
            timeout: TIMEOUT,
            wait_replicas: self.wait_replicas,
            encryption: match self.redis {
                Some(_) => self.tls.encryption(),
                None => bus::Encryption::default(),
            },
            ..bus::Settings::new(url)
        }
    }
}

impl State {
    pub(crate) fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(data);
        match fs::read(&path) {
            Ok(bytes) => {
                let read = serde_json::from_slice(&bytes);
                Ok(Some(read.with_context(|| {
                    format!(
                        "{} is not readable: start `storyfleet up` again",
                        path.display()
                    )
                })?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(crate) fn write(&self, data: &Path) -> anyhow::Result<()> {
        let path = Self::path(data);
        write_private(&path, &serde_json::to_vec(self)?).with_context(|| not_writable(&path))
    }

    pub(crate) fn remove(data: &Path) -> anyhow::Result<()> {
        match fs::remove_file(Self::path(data)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context("cannot tidy the data folder")
            }
            _ => Ok(()),
        }
    }

    fn path(data: &Path) -> PathBuf {
        data.join("state.json")
    }
}

/// What to do about a data folder in which nothing can be written.
pub(crate) fn not_writable(path: &Path) -> String {
    format!(
        "cannot write {}: make its folder writable and see that its disk has room, or give another --data DIR",
        path.display()
    )
}

/// For our user alone, and whole or not at all: a reader never sees half of it.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, 0o600)
}

/// The same, for every user of this machine to read.
pub(crate) fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)?;
    // A file that was left there keeps its mode, and a umask takes from that of a new one.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    fs::rename(&new, path)
}

/// The address as it may be shown.
pub(crate) fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("rediss://u:p@s@h:1/0"), "rediss://h:1/0");
        assert_eq!(without_password("redis://h:1"), "redis://h:1");
    }

    #[test]
    fn what_is_public_is_readable_for_everybody_and_writable_for_us_alone() {
        use std::os::unix::fs::MetadataExt;
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("prometheus.json");
        write_public(&file, b"[]").unwrap();
        let mode = fs::metadata(&file).unwrap().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read(&file).unwrap(), b"[]");
    }

    #[test]
    fn what_a_killed_writer_left_does_not_decide_who_may_read() {
        use std::os::unix::fs::MetadataExt;
        let data = tempfile::tempdir().unwrap();
        let mode = |file: &Path| fs::metadata(file).unwrap().mode() & 0o777;
        for (name, write, left, wanted) in [
            (
                "public",
                write_public as fn(&Path, &[u8]) -> _,
                0o600,
                0o644,
            ),
            ("private", write_private, 0o644, 0o600),
        ] {
            let file = data.path().join(name);
            let new = file.with_extension("new");
            fs::write(&new, b"half of it").unwrap();
            fs::set_permissions(&new, Permissions::from_mode(left)).unwrap();
            write(&file, b"[]").unwrap();
            assert_eq!(mode(&file), wanted, "{name}");
            assert_eq!(fs::read(&file).unwrap(), b"[]");
        }
    }

    #[test]
    fn the_state_of_a_folder_reads_back_and_is_for_its_owner_alone() {
        use std::os::unix::fs::MetadataExt;
        let data = tempfile::tempdir().unwrap();
        assert!(State::read(data.path()).unwrap().is_none());
        let state = State {
            redis: "redis://h:1".to_owned(),
            redis_pid: Some(7),
            pid: Some(8),
            prefix: PREFIX.to_owned(),
            shards: SHARDS,
            encryption: bus::Encryption::default(),
        };
        state.write(data.path()).unwrap();
        assert_eq!(
            State::read(data.path()).unwrap().unwrap().redis,
            state.redis
        );
        let mode = fs::metadata(State::path(data.path())).unwrap().mode();
        assert_eq!(mode & 0o077, 0);
        State::remove(data.path()).unwrap();
        State::remove(data.path()).unwrap();
        assert!(State::read(data.path()).unwrap().is_none());
    }
}
