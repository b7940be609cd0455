//! `storyfleet story …`.

use clap::{Args, Subcommand};
use story::{InputPolicy, OutputPolicy, Rating, RecordingPolicy, StoryId};

use super::text::pair;

#[derive(Debug, Subcommand)]
pub(crate) enum StoryCommand {
    /// Create a story
    #[command(after_help = "\
Example:
  storyfleet story create castle --title \"The castle\" --premise \"A lamp went out.\" --character \"Sibyl=Keeps the lamp.\"")]
    Create(CreateArgs),
    /// Show a story's settings, people and lore
    Show {
        /// The story to show
        story: StoryId,
    },
    /// List the stories
    List,
    /// Delete old events for good: those that are neither among the last ones nor young
    #[command(after_help = "\
Example, once a day:
  storyfleet story trim --keep 10000 --days 365

Readers whose place is before what is left start anew there. Nothing is ever deleted unless this is run.")]
    Trim(TrimArgs),
    /// Have every reader begin anew: for when Redis was put back to what it was before
    #[command(after_help = "\
Example, before the fleet is started on a Redis that was restored:
  storyfleet story renew

What was told since the backup may be told otherwise now, under the same names: who had read it would keep what is no more.
Nothing of the stories changes. docs/operations.md has the whole of it.")]
    Renew {
        /// The story to renew [default: every one]
        story: Option<StoryId>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    /// The story to trim [default: every one]
    pub(crate) story: Option<StoryId>,
    /// How many of the last events stay, whatever their age: at least 100
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(100..))]
    pub(crate) keep: u64,
    /// How many days any event stays
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) days: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its id: 1 to 64 of a-z, 0-9 and -
    pub(crate) story: StoryId,
    /// What readers call it
    #[arg(long, default_value = "")]
    pub(crate) title: String,
    /// How it is told
    #[arg(long, default_value = "")]
    pub(crate) style: String,
    /// Where it begins
    #[arg(long, default_value = "")]
    pub(crate) premise: String,
    /// Do actions wait for a verdict? hold, off. The moderator gives it by rules, and by a model only with its --tier2
    #[arg(long, default_value = "off", value_name = "POLICY")]
    pub(crate) input: InputPolicy,
    /// Are responses judged, before or after readers see them whole? hold, retract, off: docs/moderation.md
    #[arg(long, default_value = "off", value_name = "POLICY")]
    pub(crate) output: OutputPolicy,
    /// Is it kept how each answer was made, so that it can be replayed? on, off
    #[arg(long, default_value = "on", value_name = "POLICY")]
    pub(crate) recording: RecordingPolicy,
    /// Whom is it for? general (everybody), teen (from 13 on), mature (adults). Agents write for them; rules (English) and the second tier judge so
    #[arg(long, default_value = "teen", value_name = "RATING")]
    pub(crate) rating: Rating,
    /// A word or phrase that is blocked where texts are judged (--input, --output); may be given again
    #[arg(long = "block", value_name = "WORDS")]
    pub(crate) blocked: Vec<String>,
    /// One that is neither flagged nor forbidden by the rating; may be given again
    #[arg(long = "allow", value_name = "WORDS")]
    pub(crate) allowed: Vec<String>,
    /// Someone whom the agents speak for; may be given again
    #[arg(long = "character", value_name = "NAME=DESCRIPTION", value_parser = pair)]
    pub(crate) characters: Vec<(String, String)>,
    /// A fact of the world; may be given again
    #[arg(long, value_name = "KEY=TEXT", value_parser = pair)]
    pub(crate) lore: Vec<(String, String)>,
}
