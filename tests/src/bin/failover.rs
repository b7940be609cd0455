//! The failover run as a program: `make failover`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use system_tests::failover::{Blow, Topology, Trial, run};
use system_tests::ordeal::{self, say, tell, unless_ended};

/// Beyond the failover itself, alone on a machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills or freezes a master under a fleet at work, and accounts for everything that was confirmed.
///
/// 8 stories in 16 shards, in each an action every 250 ms, of three one to its character; 3 moderators, 3 narrators, 3 of
/// dialogue. Each action waits for the moderator, and each answer is looked at by it, in every other story before anybody
/// sees it. The replica takes over, the old master comes back as its replica, and in a cluster 300 slots are moved, with
/// stories in them. Exit 0: clean; 1: not, with what is wrong, and where the data and logs are. With --wait-replicas nothing
/// may be lost but what was said to be on too few replicas; without, nothing but what was confirmed while the replica was
/// behind. Nothing may be answered twice or out of order, and nobody may wait for longer than the failover and 5 s, neither
/// for the narrator nor for a character.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  make failover ARGS='--wait-replicas 1'\n  make failover ARGS='--topology sentinel --blow freeze'\n  make failover ARGS='--blow lag'"
)]
struct Args {
    #[arg(long, value_enum, default_value = "cluster")]
    topology: Topology,
    #[arg(long, value_enum, default_value = "kill")]
    blow: Blow,
    /// What publishers and workers wait for
    #[arg(long, default_value_t = 0, value_name = "N")]
    wait_replicas: u32,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    ordeal::main(failover).await
}

async fn failover(args: &Args) -> anyhow::Result<ExitCode> {
    let trial = Trial {
        topology: args.topology,
        blow: args.blow,
        wait_replicas: args.wait_replicas,
        patience: PATIENCE,
    };
    match unless_ended(run(trial, say)).await? {
        Some(report) => tell(&report, report.is_clean(), args.json),
        None => Ok(ExitCode::FAILURE),
    }
}
