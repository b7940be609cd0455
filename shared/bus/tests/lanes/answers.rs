//! What agents make of a step: the effects of a commit, for a few choices.

use bus::{Commit, Emit};
use story::{
    Agent, AuthorKind, Decision, Dialogue, Event, EventId, Failed, Narration, Payload, Retracted,
    Route, Seq, Speak, Stage, Status, Verdict,
};

use crate::model::{At, STORIES, Step};
use crate::server::event;

/// What an agent may decide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Waiting events that join the narrator's beat.
    pub(crate) merged: usize,
    /// Characters that the narrator lets speak.
    pub(crate) speakers: usize,
    /// Whether the moderator lets it pass.
    pub(crate) passes: bool,
}

/// `answers`: the place of the first step's event.
pub(crate) fn effects(at: At, steps: &[Step], choice: Choice, answers: Option<Seq>) -> Commit {
    let (agent, story) = at;
    let step = &steps[0];
    let re = step.response(agent);
    let mut commit = Commit {
        answers,
        responses: vec![re.clone()],
        ..Commit::default()
    };
    let payload = match agent {
        Agent::Narrator => {
            let merged = steps.iter().skip(1).take(choice.merged);
            commit.consume = merged.map(|step| step.event.id.clone()).collect();
            narration(choice.speakers)
        }
        Agent::Dialogue => dialogue(),
        Agent::Moderator if choice.passes => {
            let event = step.event.clone();
            let route = Route::Logged(story::passed(&event));
            commit
                .emit
                .extend(step.held.then_some(Emit { event, route }));
            return commit;
        }
        Agent::Moderator if step.held => blocked(step.event.id.clone()),
        Agent::Moderator => {
            let target = step.event.id.clone();
            let reason = String::new();
            commit.retract = Some(target.clone());
            Payload::Retracted(Retracted { target, reason })
        }
    };
    let mut answer = made(STORIES[story].0, &re, payload);
    answer.cause = step.causes();
    if agent != Agent::Moderator {
        answer.cause.truncate(1);
        answer.cause.extend(commit.consume.iter().cloned());
    }
    answer.hop = step.event.hop + 1;
    let route = story::route(&answer, STORIES[story].1);
    let event = answer;
    commit.emit.push(Emit { event, route });
    commit
}

/// What readers are told when a step is given up for the `times`th time.
pub(crate) fn failed(at: At, step: &Step, times: usize) -> Event {
    let payload = Payload::Failed(Failed {
        agent: at.0.to_string(),
        class: "crash".into(),
        tries: 3,
        notice: String::new(),
    });
    let id = format!("failed-{times}").parse().expect("an id");
    let mut failed = made(STORIES[at.1].0, &id, payload);
    failed.cause = step.causes();
    failed
}

fn made(story: &str, id: &EventId, payload: Payload) -> Event {
    event(story, id.as_str(), AuthorKind::Agent, payload)
}

fn narration(speakers: usize) -> Payload {
    let speak = Speak {
        character: "Sibyl".into(),
        intent: String::new(),
    };
    Payload::Narration(Narration {
        text: "Dust.".into(),
        choices: Vec::new(),
        speak: vec![speak; speakers],
        status: Status::Complete,
        llm: None,
    })
}

fn dialogue() -> Payload {
    Payload::Dialogue(Dialogue {
        character: "Sibyl".into(),
        text: "Who is there?".into(),
        status: Status::Complete,
        llm: None,
    })
}

fn blocked(target: EventId) -> Payload {
    Payload::Verdict(Verdict {
        target,
        stage: Stage::Input,
        decision: Decision::Block,
        categories: Vec::new(),
        tier: "rules".into(),
        reason: String::new(),
    })
}
