//! For the tests of the agents: a turn of theirs, and the mock model over real HTTP to play it with.

use agent::{Agent, DraftSender, Effects, HandleError, Prompts, Turn};
use mock_llm::{Options, Scenario};
use story::{
    Action, Author, AuthorKind, Character, Context, Event, Mode, Narration, Payload, Status,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What `agent` makes of `turn` when the model answers by the `scenario`.
///
/// # Errors
/// Those of the agent.
///
/// # Panics
/// When the scenario or a prompt cannot be read, or the model cannot be served.
pub async fn play<A: Agent>(scenario: &str, agent: &A, turn: Turn) -> Result<Effects, HandleError> {
    overhear(scenario, agent, turn).await.0
}

/// The same, and the bodies of the requests that the model was asked with.
///
/// # Panics
/// As [`play`] does.
pub async fn overhear<A: Agent>(
    scenario: &str,
    agent: &A,
    turn: Turn,
) -> (Result<Effects, HandleError>, Vec<String>) {
    let scenario: Scenario = scenario.parse().expect("the test wrote a scenario");
    let bound = TcpListener::bind("127.0.0.1:0").await;
    let listener = bound.expect("loopback has a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    let options = Options {
        scenario,
        ..Options::default()
    };
    let (llm, tape) = model(&format!("http://{address}/v1")).taped();
    let turn = Turn {
        llm,
        prompts: agent.prompts(None).expect("its own prompts are good"),
        ..turn
    };
    let effects = tokio::select! {
        served = mock_llm::serve(listener, options, CancellationToken::new()) => panic!("the mock ended: {served:?}"),
        effects = agent.handle(&turn) => effects,
    };
    let calls = tape.take().into_iter();
    let asked = calls.map(|call| call.request.get().to_owned());
    (effects, asked.collect())
}

fn model(url: &str) -> llm::Client {
    llm::Client::new(llm::Settings::new(url)).expect("the address is a URL")
}

/// An event of the story `castle`: an action is by the user `u1`, Mira, and anything else by an agent.
///
/// # Panics
/// When `id` is none.
#[must_use]
pub fn event(id: &str, payload: Payload) -> Event {
    let (kind, author, name) = match payload {
        Payload::Action(_) => (AuthorKind::User, "u1", "Mira"),
        _ => (AuthorKind::Agent, "narrator", ""),
    };
    let author = Author {
        kind,
        id: author.to_owned(),
        name: name.to_owned(),
    };
    let id = id.parse().expect("the test wrote an id");
    let story = "castle".parse().expect("it is a story's id");
    Event::new(id, story, author, payload, jiff::Timestamp::UNIX_EPOCH)
}

#[must_use]
pub fn action(mode: Mode, text: &str) -> Action {
    Action {
        mode,
        text: text.to_owned(),
        to: None,
        choice: None,
        target: None,
    }
}

#[must_use]
pub fn narration(text: &str) -> Narration {
    Narration {
        text: text.to_owned(),
        choices: Vec::new(),
        speak: Vec::new(),
        status: Status::Complete,
        llm: None,
    }
}

/// The turn of `event` in a story with the characters Oto and Sibyl, of which nobody hears a draft.
#[must_use]
pub fn turn(agent: story::Agent, event: Event) -> Turn {
    let cast = ["Oto", "Sibyl"].map(|name| (name.to_owned(), Character::default()));
    Turn {
        agent,
        event,
        part: 0,
        held: false,
        context: Context {
            characters: cast.into(),
            ..Context::default()
        },
        waiting: Vec::new(),
        draft: DraftSender::off(),
        now: jiff::Timestamp::UNIX_EPOCH,
        llm: model("http://127.0.0.1:1/v1"),
        model: "mock".to_owned(),
        window: None,
        prompts: Prompts::default(),
    }
}
