//! Budgets against the simplest model of them.

use std::collections::BTreeMap;

use bus::{Admitted, Used};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::server::Server;
use crate::wish::{NO_PAUSE, Wish};

/// One of a few turns, and one of its calls.
type Call = (u8, u32);

/// What befalls one of a few calls.
#[derive(Debug, Clone)]
enum Step {
    Admit {
        call: Call,
        attempt: u8,
        tokens: u64,
    },
    Settle {
        call: Call,
        attempt: u8,
        used: Option<u64>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (call, attempt) = ((0..2u8, 0..3u32), 0..2u8);
    prop_oneof![
        (call.clone(), attempt.clone(), 0..60u64).prop_map(|(call, attempt, tokens)| Step::Admit {
            call,
            attempt,
            tokens
        }),
        (call, attempt, prop::option::of(0..90u64)).prop_map(|(call, attempt, used)| {
            Step::Settle {
                call,
                attempt,
                used,
            }
        }),
    ]
}

/// What a budget has to say, in the simplest way.
#[derive(Default)]
struct Model {
    held: BTreeMap<Call, (u8, u64)>,
    used: u64,
}

impl Model {
    fn admit(&mut self, call: Call, attempt: u8, tokens: u64, a_day: u64) -> bool {
        if self
            .held
            .get(&call)
            .is_some_and(|(held, _)| *held == attempt)
        {
            return true;
        }
        let of_turn = |(turn, _): &Call| *turn == call.0;
        let mut of_turn = self.held.iter().filter(|(key, _)| of_turn(key));
        if of_turn.any(|(_, (held, _))| *held > attempt) {
            return false;
        }
        // Nobody tells any more what those of an earlier attempt used.
        let used = &mut self.used;
        self.held.retain(|(turn, _), (held, tokens)| {
            let stays = *turn != call.0 || *held == attempt;
            *used += if stays { 0 } else { *tokens };
            stays
        });
        let held: u64 = self.held.values().map(|(_, tokens)| tokens).sum();
        let fits = self.used + held + tokens <= a_day;
        if fits {
            self.held.insert(call, (attempt, tokens));
        }
        fits
    }

    fn settle(&mut self, call: Call, attempt: u8, used: Option<u64>) -> bool {
        match self.held.get(&call) {
            Some((held, tokens)) if *held == attempt => {
                self.used += used.unwrap_or(*tokens);
                self.held.remove(&call);
                true
            }
            _ => false,
        }
    }
}

#[test]
fn a_budget_counts_what_was_used_and_what_is_held() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Server::start();
    let bus = runtime.block_on(async { server.bus() });
    let run = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    });
    let ran = runner.run(&prop::collection::vec(step(), 1..40), |steps| {
        run.set(run.get() + 1);
        let name = format!("s{}", run.get());
        let wish = |(turn, number): Call, tokens| {
            Wish::new(&format!("{}-{turn}", run.get()), tokens)
                .number(number)
                .of(&name)
                .within(200)
        };
        let mut model = Model::default();
        runtime.block_on(async {
            for step in steps {
                match step {
                    Step::Admit {
                        call,
                        attempt,
                        tokens,
                    } => {
                        let went = bus
                            .admit(&wish(call, tokens).ask(&format!("7-0-{attempt}-a")))
                            .await;
                        let expected = model.admit(call, attempt, tokens, 200);
                        prop_assert_eq!(went.unwrap() == Admitted::Go, expected);
                    }
                    Step::Settle {
                        call,
                        attempt,
                        used,
                    } => {
                        let told = used.map(|tokens| Used { tokens, cost: 0 });
                        let settled = bus
                            .settle(
                                &wish(call, 0).ask(&format!("7-0-{attempt}-a")),
                                told,
                                NO_PAUSE,
                            )
                            .await;
                        prop_assert_eq!(settled.unwrap(), model.settle(call, attempt, used));
                    }
                }
            }
            Ok(())
        })
    });
    ran.unwrap();
}
