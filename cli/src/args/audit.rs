//! `storyfleet audit …`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Also tell which of these events are gone: lines as `send --json` writes them; - for stdin. What was sent more than a day
    /// ago may be gone on purpose: trimmed, taken back or blocked
    #[arg(long, value_name = "FILE")]
    pub(crate) sent: Option<PathBuf>,
}
