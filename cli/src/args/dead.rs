//! `storyfleet dead …`.

use clap::{Args, Subcommand};
use story::Agent;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters, of one agent or of all
    #[command(after_help = "\
Examples:
  storyfleet dead list
  storyfleet dead list narrator --json | jq -r .reason")]
    List {
        /// moderator, narrator or dialogue
        agent: Option<Agent>,
    },
    /// Show one whole, with its reason
    Show(Letter),
    /// Put one back into its lane, or all of them; done twice it counts once
    #[command(after_help = "\
Examples:
  storyfleet dead redrive narrator 0/1764000000000-0
  storyfleet dead redrive --class rate           all that the model's limits killed
  storyfleet dead redrive dialogue --all")]
    Redrive(RedriveArgs),
    /// Delete one for good
    Purge(Letter),
}

#[derive(Debug, Args)]
pub(crate) struct Letter {
    /// The agent that gave it up
    pub(crate) agent: Agent,
    /// Its id, as `dead list` shows it
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct RedriveArgs {
    /// The agent that gave it up [default, with --all or --class: any]
    #[arg(required_unless_present_any = ["all", "class"])]
    pub(crate) agent: Option<Agent>,
    /// Its id, as `dead list` shows it
    #[arg(required_unless_present_any = ["all", "class"], conflicts_with_all = ["all", "class"])]
    pub(crate) id: Option<String>,
    /// All that there are now
    #[arg(long)]
    pub(crate) all: bool,
    /// All of that class: rate, crash, undecodable …, as `dead list` shows it
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<String>,
}
