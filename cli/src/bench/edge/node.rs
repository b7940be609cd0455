//! What runs in the processes that are measured.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use agent::telemetry::{self, Format};
use agent::{Setup, Shutdown};
use anyhow::Context;
use gateway::auth::{self, Origins};
use gateway::{Gateway, Limits, Rate, Settings};
use narrator::Narrator;
use scene::Budget;
use tokio_util::task::TaskTracker;

use super::bare;
use super::token::NAME;
use crate::args::NodeCommand;
use crate::target::Target;

const RECONNECT: Duration = Duration::from_millis(250);

/// Until it is killed.
pub(crate) async fn run(command: NodeCommand, target: &Target) -> anyhow::Result<ExitCode> {
    telemetry::start(Format::Pretty, "warn")?;
    let signals = TaskTracker::new();
    let shutdown = Shutdown::on_signals(&signals)?;
    let bus = || {
        let url = target.redis.clone().context("--redis is needed")?;
        anyhow::Ok(target.settings(url))
    };
    match command {
        NodeCommand::Gateway {
            listen,
            jwt_secrets,
            jwks_file,
        } => {
            let tokens = auth::Settings {
                secrets: Some(jwt_secrets),
                jwks_file: Some(jwks_file),
                ..auth::Settings::new(NAME, NAME)
            };
            serve(settings(bus()?, listen, tokens), &shutdown).await?;
        }
        NodeCommand::Bare { listen } => bare::serve(listen).await?,
        NodeCommand::Narrator { llm } => {
            let setup = Setup {
                llm: llm::Client::new(llm::Settings::new(llm))?,
                model: "mock".to_owned(),
                prompts: None,
                key_file: None,
                models: agent::Models::default(),
            };
            let narrator = Narrator::new(Budget::default());
            agent::run(narrator, setup, agent::Settings::new(bus()?), shutdown).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As a gateway is started by hand, with its own defaults but for what keeps one person and one machine from doing so much.
fn settings(bus: bus::Settings, listen: SocketAddr, tokens: auth::Settings) -> Settings {
    Settings {
        listen,
        internal: None,
        bus: bus::Settings {
            reconnect: RECONNECT,
            ..bus
        },
        tokens,
        origins: Origins::default(),
        tls: None,
        hsts: None,
        proxies: Vec::new(),
        limits: Limits {
            per_address: 1_000_000,
            requests: Rate::a_second(1_000_000),
            publishes: Rate::a_minute(10_000_000),
            ..Limits::default()
        },
        presence: true,
    }
}

async fn serve(settings: Settings, shutdown: &Shutdown) -> anyhow::Result<()> {
    let gateway = Gateway::bind(settings, shutdown).await?;
    gateway.run(shutdown).await;
    Ok(())
}
