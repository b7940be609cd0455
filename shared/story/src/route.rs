//! Who acts on an event next. A pure function, so that every producer and every agent agrees.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AuthorKind, Event, InputPolicy, Mode, OutputPolicy, Payload, Policies};

/// Routing stops when this many agents have acted since a person did.
pub const MAX_HOPS: u32 = 4;

/// The agents of the fleet, by the names that their streams and processes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agent {
    Moderator,
    Narrator,
    Dialogue,
}

impl Agent {
    pub const ALL: [Self; 3] = [Self::Moderator, Self::Narrator, Self::Dialogue];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Moderator => "moderator",
            Self::Narrator => "narrator",
            Self::Dialogue => "dialogue",
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Agent {
    type Err = UnknownAgent;

    fn from_str(text: &str) -> Result<Self, UnknownAgent> {
        Self::ALL
            .into_iter()
            .find(|agent| agent.as_str() == text)
            .ok_or_else(|| UnknownAgent(text.chars().take(40).collect()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown agent '{0}': use moderator, narrator or dialogue")]
pub struct UnknownAgent(String);

/// What happens to an event that someone makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Readers see it once the moderator lets it pass.
    Held,
    /// Readers see it now, and each entry is one more step for that agent, in this order. `part` tells the steps
    /// that one event causes apart.
    Logged(Vec<Step>),
}

/// One step that an event causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub agent: Agent,
    pub part: u32,
}

/// Where an event goes in a story with these policies, when it is made.
#[must_use]
pub fn route(event: &Event, policies: Policies) -> Route {
    let held = match event.payload() {
        Payload::Action(_) => policies.input == InputPolicy::Hold,
        Payload::Narration(_) | Payload::Dialogue(_) => policies.output == OutputPolicy::Hold,
        _ => false,
    };
    if held {
        return Route::Held;
    }
    let mut steps = passed(event);
    let judged_afterwards = matches!(
        event.payload(),
        Payload::Narration(_) | Payload::Dialogue(_)
    ) && policies.output == OutputPolicy::Retract;
    if judged_afterwards {
        steps.push(Step {
            agent: Agent::Moderator,
            part: 0,
        });
    }
    Route::Logged(steps)
}

/// The steps of an event that readers may see: one that needs no verdict, or has a good one.
#[must_use]
pub fn passed(event: &Event) -> Vec<Step> {
    if event.hop >= MAX_HOPS {
        return Vec::new();
    }
    match event.payload() {
        Payload::Action(action) if event.author.kind == AuthorKind::User => {
            let spoken_to = action.mode == Mode::Say && action.to.is_some();
            let agent = if spoken_to {
                Agent::Dialogue
            } else {
                Agent::Narrator
            };
            vec![Step { agent, part: 0 }]
        }
        Payload::Narration(narration) => (0..)
            .zip(&narration.speak)
            .map(|(part, _)| Step {
                agent: Agent::Dialogue,
                part,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether a producer may make the event: what a person does, caused by nothing before it, and with an audience that
/// answers have room for. What agents say is made by
/// a commit alone, so that nobody forges an outcome, and nothing is accepted that nobody would answer. Types that this
/// version does not know are carried.
#[must_use]
pub fn may_publish(event: &Event) -> bool {
    let own = event.author.kind == AuthorKind::User && event.hop == 0 && event.cause.is_empty();
    own && event.has_a_sane_audience()
        && match event.payload() {
            Payload::Action(_) => true,
            Payload::Unknown(unknown) => unknown.foreign.is_none(),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{MAX_AUDIENCE, MAX_USER_BYTES};
    use crate::{Action, Author, Narration, Speak, Status};
    use proptest::prelude::*;

    fn event(kind: AuthorKind, hop: u32, payload: Payload) -> Event {
        let author = Author {
            kind,
            id: "a".into(),
            name: String::new(),
        };
        let mut event = Event::new(
            "e1".parse().unwrap(),
            "castle".parse().unwrap(),
            author,
            payload,
            jiff::Timestamp::UNIX_EPOCH,
        );
        event.hop = hop;
        event
    }

    fn action(mode: Mode, to: Option<&str>) -> Event {
        let action = Action {
            mode,
            text: "hello".into(),
            to: to.map(Into::into),
            choice: None,
            target: None,
        };
        event(AuthorKind::User, 0, Payload::Action(action))
    }

    fn narration(hop: u32, speakers: usize) -> Event {
        let speak = Speak {
            character: "Sibyl".into(),
            intent: String::new(),
        };
        let narration = Narration {
            text: "Dust.".into(),
            choices: Vec::new(),
            speak: vec![speak; speakers],
            status: Status::Complete,
            llm: None,
        };
        event(AuthorKind::Agent, hop, Payload::Narration(narration))
    }

    fn agents(event: &Event, policies: Policies) -> Vec<Agent> {
        match route(event, policies) {
            Route::Held => panic!("held"),
            Route::Logged(steps) => steps.iter().map(|step| step.agent).collect(),
        }
    }

    #[test]
    fn an_action_goes_to_the_agent_it_speaks_to() {
        let open = Policies::default();
        assert_eq!(agents(&action(Mode::Do, None), open), [Agent::Narrator]);
        assert_eq!(agents(&action(Mode::Say, None), open), [Agent::Narrator]);
        assert_eq!(
            agents(&action(Mode::Say, Some("Sibyl")), open),
            [Agent::Dialogue]
        );
    }

    #[test]
    fn a_policy_of_hold_keeps_an_event_from_readers_until_it_passed() {
        let hold = Policies {
            input: InputPolicy::Hold,
            output: OutputPolicy::Hold,
            ..Policies::default()
        };
        assert_eq!(route(&action(Mode::Do, None), hold), Route::Held);
        assert_eq!(route(&narration(1, 1), hold), Route::Held);
        assert_eq!(passed(&action(Mode::Do, None))[0].agent, Agent::Narrator);
    }

    #[test]
    fn under_retract_a_response_is_seen_and_judged_afterwards() {
        let retract = Policies {
            output: OutputPolicy::Retract,
            ..Policies::default()
        };
        assert_eq!(
            agents(&narration(1, 2), retract),
            [Agent::Dialogue, Agent::Dialogue, Agent::Moderator]
        );
    }

    #[test]
    fn an_agent_cannot_pose_as_a_person() {
        let mut forged = action(Mode::Do, None);
        forged.author.kind = AuthorKind::Agent;
        assert_eq!(agents(&forged, Policies::default()), []);
        assert!(!may_publish(&forged));
    }

    #[test]
    fn a_producer_publishes_what_a_person_does_and_nothing_that_an_agent_says() {
        assert!(may_publish(&action(Mode::Do, None)));
        let mut narrated = narration(0, 0);
        narrated.author.kind = AuthorKind::User;
        assert!(!may_publish(&narrated));
        let mut late = action(Mode::Do, None);
        late.hop = 1;
        assert!(!may_publish(&late));
        let mut whispered = action(Mode::Do, None);
        whispered.audience = Some(vec!["u".repeat(MAX_USER_BYTES); MAX_AUDIENCE]);
        assert!(may_publish(&whispered));
        whispered.audience = Some(vec!["u".to_owned(); MAX_AUDIENCE + 1]);
        assert!(!may_publish(&whispered));
        whispered.audience = Some(vec!["u".repeat(MAX_USER_BYTES + 1)]);
        assert!(!may_publish(&whispered));
        let mut caused = action(Mode::Do, None);
        caused.cause = vec!["e0".parse().unwrap()];
        assert!(!may_publish(&caused));
        for (kind, may) in [("narration", false), ("gesture", true)] {
            let later = action(Mode::Do, None).encode().replace("action", kind);
            assert_eq!(may_publish(&Event::carry(later.as_bytes()).unwrap()), may);
        }
    }

    proptest! {
        #[test]
        fn routing_never_goes_past_the_last_hop(hop in 0..10_u32, speakers in 0..5_usize) {
            let steps = passed(&narration(hop, speakers));
            prop_assert_eq!(steps.len(), if hop < MAX_HOPS { speakers } else { 0 });
            let parts: Vec<u32> = steps.iter().map(|step| step.part).collect();
            prop_assert!(parts.iter().copied().eq(0..u32::try_from(steps.len()).unwrap()));
        }
    }
}
