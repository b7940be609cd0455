//! `storyfleet export`, `import`, `fork`.

use std::path::PathBuf;

use clap::Args;
use story::StoryId;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The story to write
    #[arg(long, value_name = "ID")]
    pub(crate) story: StoryId,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What export wrote
    pub(crate) file: PathBuf,
    /// The name of the new story: 1 to 64 of a-z, 0-9 and -
    pub(crate) story: StoryId,
}

#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    /// The story to go on from
    pub(crate) story: StoryId,
    /// The place of the last event that the new story has
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) at: u64,
    /// The name of the new story: 1 to 64 of a-z, 0-9 and -
    pub(crate) new: StoryId,
}
