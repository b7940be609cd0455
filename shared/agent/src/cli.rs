//! The command line that every agent has: `run`, `once`, `replay`, `check`. `--help` is the reference of the configuration.

mod check;
mod explain;
mod look;
mod once;
mod options;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;

use crate::flags::{SecondTier, Tier, without_empty};
use crate::replay::Replay;
use crate::{Agent, Shutdown, exit};

pub use check::no_list;
pub(crate) use options::Provider;
pub use options::{NoOptions, Setup};

/// Takes events of its kind from Redis and answers them through a language model.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."
)]
struct Cli<O: Args> {
    #[command(subcommand)]
    command: Command<O>,
}

#[derive(Debug, Subcommand)]
enum Command<O: Args> {
    /// Answer events until SIGTERM or SIGINT; a second signal ends at once
    #[command(after_help = "\
Examples, of any agent:
  narrator run --llm http://127.0.0.1:8080/v1 --model tiny
  narrator run --redis redis://redis.local:6379 --llm https://llm.local/v1 --model tiny --llm-key-file key
  narrator run --llm http://127.0.0.1:8080/v1 --model tiny --log json --metrics-listen 0.0.0.0:9090")]
    Run {
        #[command(flatten)]
        options: options::Options<O>,
        #[command(flatten)]
        worker: options::Worker,
    },
    /// Answer one event and print the effects as JSON; nothing is written
    #[command(after_help = "\
Examples, of the narrator, with an event.json of
  {\"v\":1,\"id\":\"turn-1\",\"type\":\"action\",\"story\":\"demo\",
   \"author\":{\"kind\":\"user\",\"id\":\"u1\",\"name\":\"Mira\"},
   \"mode\":\"do\",\"text\":\"I open the door\",
   \"at\":\"2026-11-24T01:02:03Z\"}
in a story that nothing is known of, in one of --redis, and in one of a file:
  narrator once event.json --llm http://127.0.0.1:8080/v1 --model tiny
  narrator once event.json --llm http://127.0.0.1:8080/v1 --model tiny --story demo
  narrator once event.json --llm http://127.0.0.1:8080/v1 --model tiny --context story.json
The story.json has what is known of the story, events like that one in its history, the
oldest first. Any field may be left out:
  {\"title\":\"The lamp\",\"style\":\"Plain and short.\",
   \"premise\":\"The keeper of the lighthouse is gone.\",
   \"summary\":\"Mira has climbed the stairs.\",
   \"policies\":{\"input\":\"off\",\"output\":\"hold\"},
   \"characters\":{\"Nell\":{
     \"description\":\"The keeper's daughter.\",
     \"voice\":\"Dry.\"}},
   \"lore\":{\"lamp\":\"It burns by itself.\"},\"history\":[]}
what it would be asked, and why not more:
  narrator once --explain event.json --model gpt-4o-mini

Exit codes: 0 answered, 1 failed, 2 wrong usage or configuration, a file among it that cannot be used.")]
    Once {
        #[command(flatten)]
        options: options::Options<O>,
        #[command(flatten)]
        once: once::Once,
    },
    /// Go through recorded turns again, and show what went otherwise; nothing is written
    #[command(after_help = "\
Examples, of any agent:
  narrator replay --story castle                           as recorded: is it still the same?
  narrator replay --story castle --prompts new/            what would other prompts have asked?
  narrator replay --story castle --llm live --model small  what would another model say?
  narrator replay --from-file castle.ndjson --diff json

Exit codes: 0 the same, 1 something differs, or it failed, 2 wrong usage or configuration, or what was recorded cannot be
used, 3 something is not recorded, 4 not deterministic, 5 over the budget.")]
    Replay(Box<Replay<O>>),
    /// Say whether the configuration, the prompts, Redis and the model are usable, or whether a worker is ready
    #[command(after_help = "\
Examples, of any agent:
  narrator check --llm http://127.0.0.1:8080/v1 --model tiny
  narrator check --health --metrics-listen 127.0.0.1:9090

Exit codes: 0 usable, or ready; 1 not; 2 wrong usage or configuration.")]
    Check(look::Look<O>),
}

/// The whole program of an agent. `build` makes it from its own options.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
pub fn main<A, O>(agent: story::Agent, build: impl Fn(&O) -> A) -> ExitCode
where
    A: Agent,
    O: Args + Serialize + DeserializeOwned,
{
    let command = Cli::<O>::command().name(agent.as_str());
    // What agents warn of was true when it was recorded.
    let quiet = |replay: clap::Command| {
        replay.mut_arg("log_filter", |filter| filter.default_value("error"))
    };
    let command = command.mut_subcommand("replay", quiet);
    let command = command.mut_subcommand("once", once::needs_no_model);
    let mut command = without_empty(command.mut_subcommand("run", SecondTier::of_all));
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = parsed.and_then(|matches| {
        Ok((
            Cli::<O>::from_arg_matches(&matches)?,
            Given::of::<O>(&matches),
        ))
    });
    match parsed {
        Ok((cli, given)) => start(agent, cli.command, build, &given).unwrap_or_else(exit::failed),
        Err(error) => exit::usage(&error.format(&mut command)),
    }
}

/// What the parsed command does not tell of its line.
struct Given {
    /// The agent's own options that the line names, and not only the environment.
    own: Vec<String>,
    /// To `run` an agent, whether or not it is one of its own options; none where nobody said.
    tier2: Option<Tier>,
}

impl Given {
    fn of<O: Args>(matches: &ArgMatches) -> Self {
        let own = O::augment_args(clap::Command::new("own"));
        let names = own
            .get_arguments()
            .map(|option| option.get_id().as_str().to_owned());
        let Some((_, matches)) = matches.subcommand() else {
            return Self {
                own: Vec::new(),
                tier2: None,
            };
        };
        let is_given = |name: &String| {
            let known = matches.try_contains_id(name).is_ok();
            known && matches.value_source(name) == Some(ValueSource::CommandLine)
        };
        let tier2 = matches.try_get_one("tier2").ok().flatten();
        let is_said =
            tier2.is_some() && matches.value_source("tier2") != Some(ValueSource::DefaultValue);
        Self {
            own: names.filter(is_given).collect(),
            tier2: tier2.copied().filter(|_| is_said),
        }
    }
}

fn start<A, O>(
    agent: story::Agent,
    command: Command<O>,
    build: impl Fn(&O) -> A,
    given: &Given,
) -> anyhow::Result<ExitCode>
where
    A: Agent,
    O: Args + Serialize + DeserializeOwned,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    match command {
        Command::Run { options, worker } => {
            let settings = worker.settings(agent, &options, given.tier2)?;
            let logs = options.logs_traced(&worker, agent);
            let _traces = logs.map_err(exit::configuration)?;
            let setup = options.setup(settings.metrics.llm(agent));
            let setup = setup.map_err(exit::configuration)?;
            let ran = runtime.block_on(run(build(&options.own), setup, settings));
            // A look at prompts that hangs is not waited for.
            runtime.shutdown_background();
            ran.map(|()| ExitCode::SUCCESS)
        }
        Command::Once { options, once } => {
            let setup = options
                .logs()
                .and_then(|()| options.setup(llm::Observer::default()));
            let setup = setup.map_err(exit::configuration)?;
            let agent = build(&options.own);
            print(&runtime.block_on(once.run(&agent, setup, &options))?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Replay(replay) => {
            replay.logs().map_err(exit::configuration)?;
            runtime.block_on(replay.run(agent, build, &given.own))
        }
        Command::Check(look::Look::Running(running)) => {
            print(&runtime.block_on(running.ask())?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(look::Look::Needs(needs)) => {
            let options = needs.options.without_patience();
            let built = options.setup(llm::Observer::default()).and_then(|setup| {
                let prompts = build(&options.own).prompts(setup.prompts.as_deref())?;
                Ok((setup, prompts))
            });
            let report = runtime.block_on(check::run(&options, built));
            print(&report.text(needs.json)?)?;
            Ok(report.code())
        }
    }
}

async fn run<A: Agent>(agent: A, setup: Setup, settings: crate::Settings) -> anyhow::Result<()> {
    let signals = TaskTracker::new();
    let shutdown = Shutdown::on_signals(&signals)?;
    let ran = crate::run(agent, setup, settings, shutdown.clone()).await;
    shutdown.now.cancel();
    signals.close();
    signals.wait().await;
    ran
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{text}").context("the output cannot be written")
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;
    use serde_json::Deserializer;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::<NoOptions>::command().debug_assert();
    }

    /// The JSON in the help of `once`, as terminals of several widths show it.
    fn jsons() -> Vec<Vec<String>> {
        let shown = [60, 80, 100].map(|width| {
            let mut command = Cli::<NoOptions>::command().term_width(width);
            let once = command.find_subcommand_mut("once").unwrap();
            let help = once.clone().term_width(width).render_long_help();
            let help = help.to_string();
            let begun = help.split("\n  {").skip(1);
            let whole = begun.map(|rest| {
                let json = format!("{{{rest}");
                let mut values = Deserializer::from_str(&json).into_iter::<IgnoredAny>();
                values.next().unwrap().unwrap();
                json[..values.byte_offset()].to_owned()
            });
            whole.collect()
        });
        shown.into()
    }

    /// clap wraps what is longer than the terminal is wide, in the middle of strings too.
    #[test]
    fn the_event_in_the_help_can_be_copied() {
        for jsons in jsons() {
            let event = story::Event::decode(jsons[0].as_bytes()).unwrap();
            assert_eq!(event.id.as_str(), "turn-1");
        }
    }

    #[test]
    fn the_story_in_the_help_can_be_copied_and_have_the_event_in_its_history() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for jsons in jsons() {
            let [event, story] = &jsons[..] else {
                panic!("{jsons:?}")
            };
            let history = format!("\"history\":[{event}]");
            let with_event = story.replace("\"history\":[]", &history);
            assert_ne!(*story, with_event);
            for (json, events) in [(story, 0), (&with_event, 1)] {
                std::fs::write(file.path(), json).unwrap();
                let context = once::written(file.path()).unwrap();
                assert_eq!(context.history.len(), events);
                assert_eq!(context.premise, "The keeper of the lighthouse is gone.");
                assert_eq!(context.characters["Nell"].voice, "Dry.");
            }
        }
    }
}
