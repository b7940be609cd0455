//! What `check` looks at: all that a worker needs, or, with `--health`, a worker that runs. For the latter nothing else need
//! be given.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::options::Options;
use crate::exit;

#[derive(Debug)]
pub(super) enum Look<O: Args> {
    Needs(Box<Needs<O>>),
    Running(Running),
}

#[derive(Debug, Args)]
pub(super) struct Needs<O: Args> {
    #[command(flatten)]
    pub(super) options: Options<O>,
    /// Print JSON
    #[arg(long, conflicts_with = "health")]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Health")]
pub(super) struct Running {
    /// Ask the worker that runs on this machine whether it is ready; nothing else is looked at or needed
    #[arg(long)]
    health: bool,
    /// Where it serves /readyz
    #[arg(long, env = "STORYFLEET_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
}

impl Running {
    pub(super) async fn ask(&self) -> anyhow::Result<String> {
        let listen = self.metrics_listen.context(
            "there is no page to ask: --metrics-listen (STORYFLEET_METRICS_LISTEN) is to be the worker's own",
        );
        probe::ask(&[listen.map_err(exit::configuration)?], "/readyz").await
    }
}

impl<O: Args> FromArgMatches for Look<O> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let running = Running::from_arg_matches(matches)?;
        if running.health {
            return Ok(Self::Running(running));
        }
        Needs::from_arg_matches(matches).map(|needs| Self::Needs(Box::new(needs)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<O: Args> Args for Look<O> {
    fn augment_args(command: Command) -> Command {
        let command = Needs::<O>::augment_args(command).mut_args(|option| {
            if option.is_required_set() {
                option.required(false).required_unless_present("health")
            } else {
                option
            }
        });
        Running::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
