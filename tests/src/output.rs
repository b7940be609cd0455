//! What a program writes, line by line. It is read all the time, so that the program never waits for its reader.

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::wait::DEADLINE;

/// The lines so far. Who drops it closes the pipe, and the program may fail to write more.
#[derive(Debug)]
pub struct Output {
    lines: watch::Receiver<Vec<String>>,
    _reading: AbortOnDropHandle<()>,
}

impl Output {
    /// Reads until the program's end.
    pub fn of(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        let reading = TaskTracker::new().spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|seen| seen.push(line));
            }
        });
        Self {
            lines,
            _reading: AbortOnDropHandle::new(reading),
        }
    }

    /// The first line that has `words`, once it was written.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn line(&mut self, words: &str) -> anyhow::Result<String> {
        let found = self
            .lines
            .wait_for(|lines| lines.iter().any(|line| line.contains(words)));
        let ended = timeout(DEADLINE, found).await.map(|found| found.is_ok());
        let line = self.with(words).into_iter().next();
        line.with_context(|| {
            let why = if ended.is_err() {
                "in time"
            } else {
                "before its end"
            };
            format!("no line has {words:?} {why}: {:#?}", self.with(""))
        })
    }

    /// The lines so far that have `words`.
    #[must_use]
    pub fn with(&self, words: &str) -> Vec<String> {
        let lines = self.lines.borrow();
        let found = lines.iter().filter(|line| line.contains(words));
        found.cloned().collect()
    }
}
