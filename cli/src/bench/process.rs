//! A program under measurement: a child process, and what the system says it used.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::{Child, Command};

/// A child that dies with this.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: u32,
    log: PathBuf,
}

/// What a process used since it began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    /// In memory now, and at most so far; MB of 10^6 bytes.
    pub(super) rss_mb: f64,
    pub(super) peak_mb: f64,
}

impl Process {
    /// What it says goes to `log`.
    pub(super) fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        let pid = child.id().context("it ended at once")?;
        Ok(Self { child, pid, log })
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        usage(self.pid)
    }

    /// An error with its last words, if it has ended.
    pub(super) fn must_live(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let said = fs::read_to_string(&self.log)?;
        let last = said.lines().last().unwrap_or("it said nothing");
        bail!("a measured process ended ({status}): {last}")
    }

    /// SIGKILL: nothing of it is needed any more.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// The program `name` that was built beside this one.
pub(super) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is not there: `make bench` builds it, or `cargo build --release -p {name}`",
        path.display()
    );
    Ok(path)
}

pub(super) fn usage(pid: u32) -> anyhow::Result<Usage> {
    let folder = Path::new("/proc").join(pid.to_string());
    let read = |name: &str| {
        fs::read_to_string(folder.join(name))
            .with_context(|| format!("no {name} of process {pid} in /proc: the bench needs Linux"))
    };
    let status = read("status")?;
    Ok(Usage {
        cpu: cpu(&read("stat")?).context("/proc/<pid>/stat cannot be read")?,
        rss_mb: megabytes(&status, "VmRSS:").context("/proc/<pid>/status has no VmRSS")?,
        peak_mb: megabytes(&status, "VmHWM:").context("/proc/<pid>/status has no VmHWM")?,
    })
}

/// utime and stime: the 12th and 13th after the command's name, which may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<u64> = ticks.map(str::parse).collect::<Result<_, _>>().ok()?;
    let ticks: f64 = [*ticks.first()?, *ticks.get(1)?]
        .map(|ticks| ticks as f64)
        .iter()
        .sum();
    Some(Duration::from_secs_f64(
        ticks / rustix::param::clock_ticks_per_second() as f64,
    ))
}

fn megabytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read_whatever_the_program_is_called() {
        let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu(stat), Some(Duration::from_secs_f64(42.0 * tick)));
        assert_eq!(cpu("7 (a) R 1"), None);
        let status = "Name:\tx\nVmHWM:\t   20000 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(megabytes(status, "VmHWM:"), Some(20.48));
        assert_eq!(megabytes(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.rss_mb > 0.0 && usage.peak_mb >= usage.rss_mb);
    }
}
