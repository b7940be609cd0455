//! The mock LLM process: serves, checks a script, asks one that serves whether it is well, or lists what can go wrong.

mod args;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use mock_llm::Scenario;
use tokio::net::{TcpListener, lookup_host};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use args::{Args, Check, Command, Serve};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    let done = match args.into_command() {
        Command::Serve(args) => serve(args),
        Command::Check(Check {
            script: Some(script),
            ..
        }) => check(&script),
        Command::Check(Check { listen, .. }) => health(listen.as_deref()),
        Command::Faults { json } => say(&args::faults(json)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failed(&error),
    }
}

#[tokio::main]
async fn serve(args: Serve) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let filter = EnvFilter::try_new(&args.log).context("--log holds no tracing directives");
    let filter = filter.map_err(exit::configuration)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let listener = TcpListener::bind(&args.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
    let ready = args.ready(listener.local_addr()?);
    let options = args.options().map_err(exit::configuration)?;
    let shutdown = CancellationToken::new();
    say(&ready)?;
    let serving = mock_llm::serve(listener, options, shutdown.clone());
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    };
    let (served, ()) = tokio::join!(serving, stop);
    served.context("the server failed")
}

fn check(script: &Path) -> anyhow::Result<()> {
    let scenario = Scenario::read(script).map_err(exit::configuration)?;
    let rules = scenario.rules();
    say(&format!("{} is well, rules: {rules}", script.display()))
}

#[tokio::main(flavor = "current_thread")]
async fn health(listen: Option<&str>) -> anyhow::Result<()> {
    let words =
        "there is no page to ask: --listen (MOCK_LLM_LISTEN) is to be the server's own address";
    let listen = listen.context(words).map_err(exit::configuration)?;
    let found = lookup_host(listen).await;
    let found = found.with_context(|| format!("{listen} is no address to listen at"));
    let addresses: Vec<_> = found.map_err(exit::configuration)?.collect();
    say(&probe::ask(&addresses, "/healthz").await?)
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("standard output is closed")
}
