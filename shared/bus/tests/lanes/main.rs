//! The lane protocol under every schedule: random steps of people, workers, moderators, crashes, zombies, drains,
//! burials, operators and a network that loses replies run against a real Redis and against a model of a few lines;
//! after each step both must tell the same, and in the end everything has come to an end.

mod answers;
mod check;
mod model;
mod run;
#[path = "../server/mod.rs"]
mod server;

use answers::Choice;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use run::Run;
use server::Server;
use server::network::Network;
use story::Agent;

/// One thing that happens. Numbers choose among what there is, whatever there is; `lost` = Redis does it, and the
/// reply is lost.
#[derive(Debug, Clone)]
enum Act {
    Publish {
        story: usize,
        spoken: bool,
        lost: bool,
    },
    PublishAgain {
        event: usize,
    },
    Read {
        worker: usize,
        agent: Agent,
        free: usize,
    },
    Reclaim {
        worker: usize,
        agent: Agent,
    },
    /// By whoever was ever handed the entry, however long ago: a zombie too.
    Commit {
        hand: usize,
        choice: Choice,
        lost: bool,
    },
    Bury {
        hand: usize,
        lost: bool,
    },
    Draft {
        hand: usize,
        anew: bool,
    },
    Release {
        hand: usize,
    },
    Renew {
        hand: usize,
    },
    /// A worker forgets what it holds, and nobody is told.
    Crash {
        hand: usize,
    },
    /// Somebody removes a consumer with all that it holds.
    Destroy {
        worker: usize,
        agent: Agent,
    },
    Repair,
    Redrive {
        letter: usize,
        lost: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let one = || 0..100_usize;
    let worker = || 0..3_usize;
    let agent = || prop::sample::select(&Agent::ALL[..]);
    // Each one costs a new connection.
    let lost = || prop::bool::weighted(0.05);
    let choice =
        (0..3_usize, 0..3_usize, any::<bool>()).prop_map(|(merged, speakers, passes)| Choice {
            merged,
            speakers,
            passes,
        });
    prop_oneof![
        8 => (0..3_usize, any::<bool>(), lost())
            .prop_map(|(story, spoken, lost)| Act::Publish { story, spoken, lost }),
        1 => one().prop_map(|event| Act::PublishAgain { event }),
        9 => (worker(), agent(), 1..4_usize)
            .prop_map(|(worker, agent, free)| Act::Read { worker, agent, free }),
        4 => (worker(), agent()).prop_map(|(worker, agent)| Act::Reclaim { worker, agent }),
        11 => (one(), choice, lost()).prop_map(|(hand, choice, lost)| Act::Commit { hand, choice, lost }),
        3 => (one(), lost()).prop_map(|(hand, lost)| Act::Bury { hand, lost }),
        5 => (one(), any::<bool>()).prop_map(|(hand, anew)| Act::Draft { hand, anew }),
        1 => one().prop_map(|hand| Act::Release { hand }),
        1 => one().prop_map(|hand| Act::Renew { hand }),
        1 => one().prop_map(|hand| Act::Crash { hand }),
        1 => (worker(), agent()).prop_map(|(worker, agent)| Act::Destroy { worker, agent }),
        1 => Just(Act::Repair),
        3 => (one(), lost()).prop_map(|(letter, lost)| Act::Redrive { letter, lost }),
    ]
}

#[test]
fn every_schedule_keeps_order_and_loses_nothing() {
    // One server for all cases: starting one takes longer than a case does.
    let server = Server::start();
    let network = Network::before(&server.url());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: 64,
        max_shrink_iters: 400,
        ..ProptestConfig::with_source_file(file!())
    };
    let schedules = prop::collection::vec(act(), 1..80);
    TestRunner::new(config)
        .run(&schedules, |acts| {
            runtime.block_on(async {
                let mut run = Run::new(&server, &network).await;
                for act in acts {
                    run.act(act).await;
                    run.check().await;
                }
                run.settle().await;
            });
            Ok(())
        })
        .unwrap();
}
