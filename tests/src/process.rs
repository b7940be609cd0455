//! A program of the workspace as a child process that can be killed, frozen, thawed and asked to end.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use story::Agent;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Output;

/// Longer than any drain of a test.
const END: Duration = Duration::from_secs(60);

/// A child that dies with the test.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
}

/// The folder with the programs of one build.
#[derive(Debug, Clone)]
pub struct Build(PathBuf);

impl Build {
    /// The one that this program is of: beside it, or beside the folder of this test.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn current() -> anyhow::Result<Self> {
        let this = std::env::current_exe()?;
        let folder = this.parent().context("a program is in a folder")?;
        Ok(match folder.parent() {
            Some(profile) if folder.ends_with("deps") => Self(profile.to_owned()),
            _ => Self(folder.to_owned()),
        })
    }

    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// A worker of `agent` that is to be started, on the Redis and with the model at these addresses.
    ///
    /// # Errors
    /// When it was not built.
    pub fn worker(&self, agent: Agent, redis: &str, llm: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(self.program(agent.as_str())?);
        command.args(["run", "--redis", redis, "--llm", llm, "--model", "mock"]);
        Ok(command)
    }

    /// Where its program `name` is.
    ///
    /// # Errors
    /// When it was not built.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        ensure!(
            path.exists(),
            "{} is not built: run `cargo build --workspace`, or `make test`, which does",
            path.display()
        );
        Ok(path)
    }
}

/// A worker of this build.
///
/// # Errors
/// When it was not built.
pub fn worker(agent: Agent, redis: &str, llm: &str) -> anyhow::Result<Command> {
    Build::current()?.worker(agent, redis, llm)
}

/// Where the workspace's program `name` was built.
///
/// # Errors
/// When it was not.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    Build::current()?.program(name)
}

impl Process {
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// One that reads and writes there.
    pub(crate) fn start_with(
        command: &mut Command,
        input: Stdio,
        output: Stdio,
        errors: Stdio,
    ) -> anyhow::Result<Self> {
        Self::spawn(command.stdin(input).stdout(output).stderr(errors))
    }

    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        let id = child
            .id()
            .context("a child that was just started has an id")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("an id is not 0")?;
        Ok(Self { child, pid })
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot look after a process")
    }

    /// SIGKILL: it gets no chance to tidy up.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill")
    }

    /// SIGSTOP: alive to the system, dead to everyone else.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.gone().await
    }

    /// SIGTERM to one that may not run, and waits for its end.
    pub(crate) async fn end_if(process: &mut Option<Self>) -> anyhow::Result<()> {
        if let Some(process) = process.take() {
            process.end().await?;
        }
        Ok(())
    }

    /// SIGKILL to one that may not run.
    pub(crate) async fn kill_if(process: &mut Option<Self>) -> anyhow::Result<()> {
        match process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Waits for its end, which something else brings.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn gone(mut self) -> anyhow::Result<ExitStatus> {
        let ended = timeout(END, self.child.wait()).await;
        Ok(ended.context("it did not end when asked to")??)
    }

    /// What it writes to standard output, if that was made a pipe.
    ///
    /// # Errors
    /// When it was not, or was taken before.
    pub fn output(&mut self) -> anyhow::Result<Output> {
        let out = self.child.stdout.take();
        Ok(Output::of(out.context("no pipe from standard output")?))
    }

    /// What it writes to standard error, if that was made a pipe.
    ///
    /// # Errors
    /// When it was not, or was taken before.
    pub fn errors(&mut self) -> anyhow::Result<Output> {
        let err = self.child.stderr.take();
        Ok(Output::of(err.context("no pipe from standard error")?))
    }

    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("cannot send {signal:?}"))
    }

    /// To all of its group, if it was started in one of its own.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal_group(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process_group(self.pid, signal).with_context(|| format!("cannot send {signal:?}"))
    }

    /// What its first thread started.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn children(&self) -> anyhow::Result<Vec<Pid>> {
        let pid = self.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children = children.split_whitespace().map(str::parse);
        let children = children.collect::<Result<Vec<i32>, _>>()?;
        Ok(children.into_iter().filter_map(Pid::from_raw).collect())
    }

    /// Whether a process runs; one that nobody has buried yet does not.
    #[must_use]
    pub fn runs(pid: Pid) -> bool {
        let status = format!("/proc/{}/status", pid.as_raw_nonzero());
        std::fs::read_to_string(status).is_ok_and(|status| !status.contains("State:\tZ"))
    }
}
