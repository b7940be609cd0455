//! For every policy, every verdict and every way an agent can answer: an action ends exactly once, and the fleet
//! comes to rest.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::VecDeque;

use proptest::prelude::*;
use story::{
    Action, Agent, Author, AuthorKind, Decision, Dialogue, Event, EventId, Failed, InputPolicy,
    Mode, Narration, Outcome, OutputPolicy, Payload, Policies, Retracted, Route, Speak, Stage,
    Status, Step, Verdict, ended_with, outcome, passed, route,
};

/// One turn of one agent, waiting.
struct Waiting {
    step: Step,
    event: Event,
    held: bool,
}

/// The fleet as the design describes it, with the chances drawn beforehand.
struct Fleet {
    policies: Policies,
    chances: Vec<u8>,
    drawn: usize,
    queue: VecDeque<Waiting>,
    log: Vec<Event>,
}

impl Fleet {
    fn chance(&mut self) -> u8 {
        let chance = self.chances[self.drawn % self.chances.len()];
        self.drawn += 1;
        chance
    }

    fn made(&mut self, event: Event) {
        match route(&event, self.policies) {
            Route::Held => self.queue.push_back(Waiting {
                step: Step {
                    agent: Agent::Moderator,
                    part: 0,
                },
                event,
                held: true,
            }),
            Route::Logged(steps) => self.logged(event, steps),
        }
    }

    fn logged(&mut self, event: Event, steps: Vec<Step>) {
        for step in steps {
            self.queue.push_back(Waiting {
                step,
                event: event.clone(),
                held: false,
            });
        }
        self.log.push(event);
    }

    fn turn(&mut self, waiting: Waiting) {
        let chance = self.chance();
        match waiting.step.agent {
            agent if chance.is_multiple_of(5) => self.fail(&waiting, agent),
            Agent::Moderator => self.judge(waiting, chance),
            Agent::Narrator => {
                let speak = Speak {
                    character: "Sibyl".into(),
                    intent: String::new(),
                };
                let narration = Narration {
                    text: "Dust falls.".into(),
                    choices: Vec::new(),
                    speak: vec![speak; usize::from(chance % 4)],
                    status: Status::Complete,
                    llm: None,
                };
                self.answer(&waiting, Payload::Narration(narration));
            }
            Agent::Dialogue => {
                let dialogue = Dialogue {
                    character: "Sibyl".into(),
                    text: "Who goes there?".into(),
                    status: Status::Complete,
                    llm: None,
                };
                self.answer(&waiting, Payload::Dialogue(dialogue));
            }
        }
    }

    fn fail(&mut self, waiting: &Waiting, agent: Agent) {
        let failed = Failed {
            agent: agent.to_string(),
            class: "provider".into(),
            tries: 3,
            notice: "The narrator lost the thread.".into(),
        };
        let mut failed = answer_to(waiting, Payload::Failed(failed));
        failed.cause = ended_with(&waiting.event, waiting.held);
        self.made(failed);
    }

    fn judge(&mut self, waiting: Waiting, chance: u8) {
        let target = waiting.event.id.clone();
        let blocked = chance.is_multiple_of(3);
        match (waiting.held, blocked) {
            (true, false) => {
                let steps = passed(&waiting.event);
                self.logged(waiting.event, steps);
            }
            (true, true) => {
                let mut verdict = answer_to(&waiting, Payload::Verdict(block(target)));
                verdict.cause = ended_with(&waiting.event, true);
                self.made(verdict);
            }
            (false, true) => {
                let reason = String::new();
                self.answer(&waiting, Payload::Retracted(Retracted { target, reason }));
            }
            (false, false) => {}
        }
    }

    fn answer(&mut self, waiting: &Waiting, payload: Payload) {
        self.made(answer_to(waiting, payload));
    }
}

fn block(target: EventId) -> Verdict {
    Verdict {
        target,
        stage: Stage::Output,
        decision: Decision::Block,
        categories: Vec::new(),
        tier: "rules".into(),
        reason: String::new(),
    }
}

fn answer_to(waiting: &Waiting, payload: Payload) -> Event {
    let agent = waiting.step.agent.as_str();
    let cause = &waiting.event;
    let id = cause
        .id
        .derive(&cause.story, agent, waiting.step.part, cause.at);
    let mut event = Event::new(
        id,
        cause.story.clone(),
        author(AuthorKind::Agent, agent),
        payload,
        cause.at,
    );
    event.cause = vec![cause.id.clone()];
    event.hop = cause.hop + 1;
    event
}

fn author(kind: AuthorKind, id: &str) -> Author {
    Author {
        kind,
        id: id.into(),
        name: String::new(),
    }
}

fn action(to: bool) -> Event {
    let action = Action {
        mode: if to { Mode::Say } else { Mode::Do },
        text: "I open the door".into(),
        to: to.then(|| "Sibyl".into()),
        choice: None,
        target: None,
    };
    Event::new(
        "act".parse().unwrap(),
        "castle".parse().unwrap(),
        author(AuthorKind::User, "u1"),
        Payload::Action(action),
        jiff::Timestamp::UNIX_EPOCH,
    )
}

fn policies() -> impl Strategy<Value = Policies> {
    let input = prop_oneof![Just(InputPolicy::Hold), Just(InputPolicy::Off)];
    let output = prop_oneof![
        Just(OutputPolicy::Hold),
        Just(OutputPolicy::Retract),
        Just(OutputPolicy::Off)
    ];
    (input, output).prop_map(|(input, output)| Policies {
        input,
        output,
        ..Policies::default()
    })
}

proptest! {
    #[test]
    fn every_action_ends_exactly_once(
        policies in policies(),
        to: bool,
        chances in prop::collection::vec(any::<u8>(), 1..24),
    ) {
        let mut fleet = Fleet { policies, chances, drawn: 0, queue: VecDeque::new(), log: Vec::new() };
        let action = action(to);
        fleet.made(action.clone());
        let mut turns = 0;
        while let Some(waiting) = fleet.queue.pop_front() {
            turns += 1;
            prop_assert!(turns < 100, "the fleet never comes to rest");
            fleet.turn(waiting);
        }
        let ends: Vec<Outcome> = fleet
            .log
            .iter()
            .filter_map(outcome)
            .filter(|(_, ended)| ended.contains(&action.id))
            .map(|(outcome, _)| outcome)
            .collect();
        prop_assert_eq!(ends.len(), 1, "{:?}", ends);
    }
}
