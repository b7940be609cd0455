//! The command line. `--help` is the reference.

#[cfg(test)]
mod tests;

mod audit;
mod copy;
mod costs;
mod dead;
mod node;
mod revoke;
mod scale;
mod story;
mod text;
mod token;
mod top;
mod up;

use std::num::NonZeroUsize;

use ::story::{Cursor, EventId, StoryId};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::audit::AuditArgs;
pub(crate) use self::copy::{ExportArgs, ForkArgs, ImportArgs};
pub(crate) use self::costs::{By, CostsArgs};
pub(crate) use self::dead::{DeadCommand, Letter, RedriveArgs};
pub(crate) use self::node::{NodeCommand, Part};
pub(crate) use self::revoke::RevokeArgs;
pub(crate) use self::scale::{ScaleArgs, Signal};
pub(crate) use self::story::{CreateArgs, StoryCommand, TrimArgs};
pub(crate) use self::token::TokenArgs;
pub(crate) use self::top::TopArgs;
pub(crate) use self::up::UpArgs;
use crate::target::Target;

/// The options that every command has.
pub(crate) const GLOBAL: &str = "Options of every command";

const EXAMPLES: &str = "\
Examples:
  storyfleet up                                  run everything here; Ctrl-C stops it
  storyfleet watch demo                          (second terminal) the story as it is written
  storyfleet send demo \"I open the door\"         act in it
  storyfleet send demo \"Who are you?\" --to Sibyl --wait
  storyfleet audit                               was every action answered exactly once?

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, or what is named is not there: the same again ends the same,
3 the audit is not clean.";

/// People write into a story together; AI agents answer.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,

    /// Write JSON for programs, one value a line
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run Redis, a mock model, the three agents and the gateway until Ctrl-C
    #[command(after_help = "\
Examples:
  storyfleet up                                        nothing else is needed
  storyfleet up --llm http://127.0.0.1:8080/v1 --model tiny
  storyfleet up --redis redis://redis.local:6379       your own Redis; it may come later")]
    Up(UpArgs),

    /// Create, show and list stories
    #[command(subcommand)]
    Story(StoryCommand),

    /// Act in a story
    #[command(after_help = "\
Examples:
  storyfleet send demo \"I light the lamp\"
  storyfleet send demo \"Who are you?\" --to Sibyl --as Mira
  storyfleet send demo \"I wait\" --wait                 show how it ended
  storyfleet send demo \"I wait\" --id turn-7            sent again, it counts once")]
    Send(SendArgs),

    /// Read a story while it is written
    #[command(after_help = "\
Examples:
  storyfleet watch demo
  storyfleet watch demo --json --until-idle | jq -r 'select(.t == \"event\") | .event.text'
  storyfleet watch demo --json --from 4k2hq0v1m9xz-12-8f3a   go on after that cursor

Each line of --json has `t` and `cursor`, the place after it: `event` (seq, event), and of an answer that is being written
`delta` (re, attempt, text), `snapshot` (all of its text until now) and `reset` (it begins anew); `gap`: read from the start.")]
    Watch(WatchArgs),

    /// Write a story into a file: what is known of it, its log, and how its turns went
    #[command(after_help = "\
Examples:
  storyfleet export --story castle > castle.ndjson
  narrator replay --from-file castle.ndjson            without Redis
  storyfleet import castle.ndjson castle-copy

One JSON value a line. What people wrote and what models were asked is all in it: keep it as you keep the story.")]
    Export(ExportArgs),

    /// Make a story of a file that export wrote
    #[command(after_help = "\
Example:
  storyfleet import castle.ndjson castle-copy

It is a story of its own under the new name: readers of the other one begin anew in it.")]
    Import(ImportArgs),

    /// Make a story that goes on from a place in another one
    #[command(after_help = "\
Example:
  storyfleet fork castle --at 12 castle-otherwise      what happened up to there, and nothing of what came after")]
    Fork(ForkArgs),

    /// Look after events that no agent could answer
    #[command(
        subcommand,
        after_help = "\
Examples:
  storyfleet dead list
  storyfleet dead show narrator 0/1764000000000-0     why it died
  storyfleet dead redrive --all                       once its reason is mended"
    )]
    Dead(DeadCommand),

    /// Look for what is wrong in Redis: keys, lanes, consumers, settings, a full disk
    #[command(after_help = "\
Examples:
  storyfleet doctor            what is wrong, and what to do
  storyfleet doctor --fix      repairs what can be repaired without losing an event
  storyfleet doctor --json | jq '.findings[] | select(.fixed | not)'

Exit code 1 when anything is left to do: what was found and not fixed, or stories that wait for an agent that does not
run. A warning of how the server is set is none.")]
    Doctor(DoctorArgs),

    /// Account for every event: answered once, in order, none lost. Exit code 3 when not
    #[command(after_help = "\
Examples:
  storyfleet audit
  storyfleet send castle 'I wait' --json >> sent.ndjson    what was accepted, kept by who sent it
  storyfleet audit --sent sent.ndjson                      after a failover or a restore: what of it is gone

The id of what is trimmed, taken back or blocked is known for a day. So what is gone and was sent within the last day was lost:
have who sent it send it again. Of what is older nobody knows which of these it was.")]
    Audit(AuditArgs),

    /// What answers cost, by day, story, agent or model
    #[command(after_help = "\
Examples:
  storyfleet costs                                     of all there is, by day
  storyfleet costs --day 2026-11-30                    by story
  storyfleet costs --story castle --by model
  storyfleet costs --json | jq -r 'select(.day) | [.day, .cost] | @tsv'

It adds up what the answers in the stories' logs say of themselves: what was trimmed is not there, and a fork has the answers
of its beginning too. Prices are those of --models when an answer was made. Calls that gave no answer, and the moderator's, are
in storyfleet_llm_cost_total alone (docs/metrics.md).")]
    Costs(CostsArgs),

    /// Watch the fleet live: who is answered, how fast, what waits and why, which worker is silent
    #[command(after_help = "\
Examples:
  storyfleet top                                       q ends it, ? explains every column
  storyfleet top --metrics http://10.0.0.7:9090 http://10.0.0.8:9090
  storyfleet top --once                                the table as text
  storyfleet top --json | jq '.agents[] | {agent, waiting, in_flight}'

Of Redis it asks the same few things at each look, however many stories there are, and writes nothing. Turns and failures in
a second are every worker's; how long turns take and how many read is known only of the pages that --metrics names, with
--once since their processes began. A turn that takes in several actions counts once.")]
    Top(TopArgs),

    /// Make a token for the gateway, for development: in production an issuer does
    #[command(after_help = "\
Examples:
  openssl rand -base64 48 > secret                     what the gateway is started with too
  storyfleet token --sub mira --story castle=author --secret-file secret
  storyfleet token --sub u42 --story 'team-*=owner' --story '*=reader' --ttl 8h --secret-file secret

The token alone is written, or with --json an object of `token` and `expires_at` (seconds since 1970).
It is signed (HS256) with the first line of the file. A line may be `KID SECRET`: the token then names
that key.")]
    Token(TokenArgs),

    /// Take tokens back: every gateway closes their connections at once, and lets nobody in with them again
    #[command(after_help = "\
Examples:
  storyfleet revoke --sub mira                         all that she has; one that is issued 11 seconds later is good
  storyfleet revoke --jti 01JF8Z --for 2h              one alone, which lives no longer than that")]
    Revoke(RevokeArgs),

    /// Measure a worker, the gateway or a fleet on this machine: how fast, how late, how large, and what its guarantees cost
    #[command(after_help = "\
Examples:
  storyfleet bench --floor              two minutes, best on an idle machine
  storyfleet bench --gateway            three minutes, the same
  storyfleet bench --fleet              four minutes, the same
  storyfleet bench --context            a few seconds, the same

Everything runs here and ends with it: a Redis and a mock model without latency, the worker (`dialogue`: one event, one
call), and the bare loop that it is held against: XREADGROUP, HGETALL, the same streamed call, XADD, XACK, no guarantee.
The ratio is of young stories, three turns each, since the bare loop reads no history; long histories have a row of their
own. Both prompts are equally long. Rounds alternate, each on a Redis of its own, and medians are compared.

With --gateway it is a gateway with its defaults, thousands of readers in this process, and beside it a bare server (axum,
the same buffers and heartbeat, no tokens, no stories). Up to 8,000 connections at once, if that many files may be open.
With --fleet it is 1 to 12 workers with two gateways whose readers read along; a backlog of them all is worked off. Shards are
compared in turns, by one worker. Then stories are made and told, and Redis is asked what they take.
With --context nothing is started: the narrator's prompts are built in memory, each turn with one event that is new to it.

No target that is missed is a failure.")]
    Bench(BenchArgs),

    /// Play a day's load through KEDA and the autoscaler, to see how many workers come and how long people wait
    #[command(after_help = "\
Examples:
  storyfleet simulate-scale                                    the narrator's ScaledObject over a day
  storyfleet simulate-scale --signal work,lag,pending,cpu      why XLEN is the signal
  storyfleet simulate-scale --agent dialogue --pod-start 60s
  storyfleet simulate-scale --scaled-object mine.yaml --load monday.csv --call-p50 3s --call-p99 12s --json

`wait` is from an event's turn until a worker takes it, `answer` from its publication to its answer. `wasted` are worker-hours
beyond those that full workers would have needed: with a target of 48 of 64 places it is a quarter at best. The same options
give the same figures. A narrator's turn takes in what is parked behind it; here each event has a turn of its own.")]
    SimulateScale(ScaleArgs),

    /// Show the help of a command
    Help {
        /// The command, as in `storyfleet help dead redrive`
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
    },

    /// The bare loop of `bench --floor`
    #[command(hide = true)]
    Bare(BareArgs),

    /// A server of `bench --gateway`
    #[command(hide = true, subcommand)]
    Node(NodeCommand),
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The story to act in
    pub(crate) story: StoryId,
    /// What is done, said or told; the whole event, in JSON, has at most 64 KiB
    #[arg(value_parser = text::words)]
    pub(crate) text: String,
    /// How: an act, words spoken, or a passage of the story itself [default: do, or say with --to]
    #[arg(long)]
    pub(crate) mode: Option<SendMode>,
    /// The character spoken to: one of the story's, who answers; goes with no mode but say
    #[arg(long, value_name = "CHARACTER", value_parser = text::name)]
    pub(crate) to: Option<String>,
    /// Who acts: 1 to 64 characters
    #[arg(long = "as", default_value = "Player", value_name = "NAME", value_parser = text::name)]
    pub(crate) name: String,
    /// The event's id: the same id is taken once
    #[arg(long)]
    pub(crate) id: Option<EventId>,
    /// Wait until it is answered, blocked or failed
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SendMode {
    Do,
    Say,
    Story,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The story to read
    pub(crate) story: StoryId,
    /// Go on after this place; `--json` shows one with each event
    #[arg(long, value_name = "CURSOR")]
    pub(crate) from: Option<Cursor>,
    /// End once nothing of the story is left to answer
    #[arg(long)]
    pub(crate) until_idle: bool,
    /// End after this many events
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Repair what can be repaired without losing an event
    #[arg(long)]
    pub(crate) fix: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) what: BenchKind,

    /// How often throughput and latency are measured
    #[arg(long, default_value = "3", value_name = "N")]
    pub(crate) rounds: NonZeroUsize,

    /// Events of a round: at least 1000, or there is nothing to measure once all slots are busy
    #[arg(long, default_value = "6000", value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..))]
    pub(crate) events: u32,

    /// One small round in a few seconds: to see that it works, not how fast
    #[arg(long, conflicts_with_all = ["rounds", "events"])]
    pub(crate) quick: bool,

    /// Of --fleet, how many shards are held against one
    #[arg(long, default_value = "16", requires = "fleet", value_name = "N", value_parser = clap::value_parser!(u16).range(2..=1_024))]
    pub(crate) shards: u16,

    /// Of --fleet, how many stories are weighed
    #[arg(long, default_value = "20000", requires = "fleet", value_name = "N", value_parser = clap::value_parser!(u32).range(100..))]
    pub(crate) stories: u32,

    /// Of --gateway, one part alone
    #[arg(long, value_enum, requires = "gateway", value_name = "PART")]
    pub(crate) only: Option<Part>,
}

/// What is measured.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct BenchKind {
    /// A worker, against a bare loop with the same commands and the same call but no guarantees
    #[arg(long)]
    pub(crate) floor: bool,
    /// A gateway, against a bare server of the same transport
    #[arg(long, conflicts_with_all = ["rounds", "events"])]
    pub(crate) gateway: bool,
    /// Many workers and two gateways: how fast they are together, many shards against one, what a story takes of Redis
    #[arg(long)]
    pub(crate) fleet: bool,
    /// What an agent does before it asks a model: choosing what of a story of 500 events fits into the window
    #[arg(long, conflicts_with_all = ["rounds", "events"])]
    pub(crate) context: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BareArgs {
    /// The base URL of the model
    #[arg(long)]
    pub(crate) llm: String,
    /// Events answered at once
    #[arg(long)]
    pub(crate) concurrency: NonZeroUsize,
    /// Tokens put before what the story tells, so that prompts are as long as the worker's
    #[arg(long)]
    pub(crate) padding: usize,
}
