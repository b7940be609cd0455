//! `storyfleet costs …`.

use clap::{Args, ValueEnum};
use jiff::civil::Date;
use story::StoryId;

#[derive(Debug, Args)]
pub(crate) struct CostsArgs {
    /// Of this story alone
    #[arg(long, value_name = "ID")]
    pub(crate) story: Option<StoryId>,
    /// Of this day alone, UTC: 2026-11-30
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub(crate) day: Option<Date>,
    /// What a line is of [default: story with --day, else day]
    #[arg(long, value_enum)]
    pub(crate) by: Option<By>,
}

/// What answers are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// The day that the answer was made on, UTC
    Day,
    Story,
    Agent,
    /// The model that answered, by its own name for itself
    Model,
}

impl CostsArgs {
    pub(crate) fn by(&self) -> By {
        self.by.unwrap_or(match self.day {
            Some(_) => By::Story,
            None => By::Day,
        })
    }
}

fn day(text: &str) -> Result<Date, String> {
    text.parse()
        .map_err(|_| "write it like 2026-11-30".to_owned())
}
