//! The command line, and what it makes of the server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use mock_llm::fault::{self, Fault};
use mock_llm::scenario::Rate;
use mock_llm::{Delay, Latency, Options, Scenario};
use secrecy::SecretString;
use serde_json::json;

/// An OpenAI-compatible server without a model: deterministic answers, scripts, latency, and every fault there is.
///
/// Answers are a function of the seed and the request's bytes. `x-storyfleet-agent` and `x-storyfleet-event` headers tell who
/// asks and for what; `x-mock-fault`, `x-mock-ttft`, `x-mock-itl` and `x-mock-seed` override the server for one request.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve until SIGTERM or SIGINT (the default).
    Serve(Serve),
    /// Read a script and say what is wrong with it, or ask a server whether it is well; `mock-llm check --help` shows a script.
    #[command(after_help = SCRIPT)]
    Check(Check),
    /// List the faults, one a line.
    Faults {
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// A script of rules (YAML).
    #[arg(required_unless_present = "health", conflicts_with = "health")]
    pub(crate) script: Option<PathBuf>,
    /// Ask the server that runs on this machine whether it is well.
    #[arg(long)]
    health: bool,
    /// Where it listens.
    #[arg(long, env = "MOCK_LLM_LISTEN")]
    pub(crate) listen: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", env = "MOCK_LLM_LISTEN")]
    pub(crate) listen: String,
    /// Print the `ready` line as JSON.
    #[arg(long)]
    json: bool,
    /// A script of rules (YAML): `mock-llm check --help` shows one.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Other seeds give other words.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Answer 401 to all who do not show this key.
    #[arg(long, env = "MOCK_LLM_API_KEY", hide_env_values = true)]
    api_key: Option<SecretString>,
    /// Delay of the first token: 20ms, lognormal(200ms,0.5) or p50=200ms,p99=1s.
    #[arg(long, default_value = "0", value_name = "DELAY")]
    ttft: Delay,
    /// Delay between two frames of a stream, written like --ttft.
    #[arg(long, default_value = "0", value_name = "DELAY")]
    itl: Delay,
    /// Tokens in one frame of a stream.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    chunk_tokens: u32,
    /// Requests a minute; more are answered 429.
    #[arg(long)]
    limit_rpm: Option<u32>,
    /// Tokens a minute, of prompts and answers; more are answered 429.
    #[arg(long)]
    limit_tpm: Option<u32>,
    /// The share of calls that fail, 0 to 1, by seed, event and try.
    #[arg(long, value_name = "RATE")]
    fault_rate: Option<Rate>,
    /// What they fail with [default: every fault after which a retry may succeed].
    #[arg(long, value_name = "FAULT,…", value_delimiter = ',')]
    fault_set: Vec<Fault>,
    /// What is logged to stderr, in tracing's directives.
    #[arg(long, default_value = "warn", env = "MOCK_LLM_LOG")]
    pub(crate) log: String,
}

const SCRIPT: &str = "\
A script, every part of it optional:
  models: [mock]                          # others are 404; none named: every model exists
  limits: {requests: 60, tokens: 10000, minute: sliding}   # or fixed, bucket
  chaos: {rate: 0.05, faults: [stall(3), cut]}
  rules:                                  # the first one that matches replies
  - when: {agent: narrator, attempt: 1}   # the first call of each event
    reply: {fault: stall(12)}
  - when: {regex: '(?i)dragon', within: prompt, nth: [2, 3], probability: 0.5}
    reply: {text: There are no dragons here.}
  - when: {agent: moderator, regex: knife}   # within: last_user, unless told
    reply: {json: {decision: flag, categories: [violence], reason: A knife.}}
  - when: {endpoint: moderations}         # or chat; a fault alone strikes both
    reply: {fault: error_503}";

const EXAMPLES: &str = "\
Examples:
  mock-llm --listen 127.0.0.1:8080 --ttft 'lognormal(300ms,0.5)' --itl 20ms
  mock-llm --fault-rate 0.05 --fault-set 'stall(3),cut,rate_limit(2)'
  curl -N 127.0.0.1:8080/v1/chat/completions -H 'x-mock-fault: cut_utf8' \\
       -d '{\"model\":\"mock\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Go on.\"}]}'
  curl 127.0.0.1:8080/admin/calls";

impl Args {
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

impl Serve {
    /// The script's settings, overridden by those of the command line.
    pub(crate) fn options(self) -> anyhow::Result<Options> {
        let mut scenario = match &self.scenario {
            Some(file) => Scenario::read(file)?,
            None => Scenario::default(),
        };
        scenario.limits.requests = self.limit_rpm.or(scenario.limits.requests);
        scenario.limits.tokens = self.limit_tpm.or(scenario.limits.tokens);
        scenario.chaos.rate = self.fault_rate.unwrap_or(scenario.chaos.rate);
        if !self.fault_set.is_empty() {
            scenario.chaos.faults = self.fault_set;
        }
        Ok(Options {
            seed: self.seed,
            latency: Latency {
                first_token: self.ttft,
                between_tokens: self.itl,
                chunk_tokens: self.chunk_tokens,
            },
            scenario,
            api_key: self.api_key,
        })
    }

    pub(crate) fn ready(&self, address: SocketAddr) -> String {
        let base = format!("http://{address}/v1");
        if self.json {
            let admin = format!("http://{address}/admin");
            json!({"ready": true, "base_url": base, "admin": admin}).to_string()
        } else {
            format!("ready {base}")
        }
    }
}

/// The table of faults, for people or for programs.
pub(crate) fn faults(json: bool) -> String {
    let line = |row: &fault::Row| {
        let usual = row.amount.map(|(amount, _)| amount);
        if json {
            let unit = row.amount.map(|(_, unit)| unit.to_string());
            json!({"name": row.name, "amount": usual, "unit": unit, "transient": row.transient,
                "meaning": row.meaning})
            .to_string()
        } else {
            let amount = usual.map(|amount| format!("({amount})"));
            let call = row.name.to_owned() + &amount.unwrap_or_default();
            format!("{call:<24} {}", row.meaning)
        }
    };
    let lines: Vec<_> = fault::TABLE.iter().map(line).collect();
    lines.join("\n")
}
