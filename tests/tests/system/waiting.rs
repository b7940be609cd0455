//! `storyfleet send --wait`: which end of an action it tells.

use std::process::Stdio;

use bus::{Burial, Bus, Commit, Delivery, Emit};
use serde_json::Value;
use story::{
    Agent, Author, AuthorKind, Event, Failed, Narration, Payload, Policies, Route, Status,
};
use system_tests::{Options, Process, Stack, program};
use tokio::process::Command;

async fn delivered(bus: &Bus) -> anyhow::Result<Delivery> {
    Ok(bus.reader(Agent::Narrator, "w1").next(1).await?.remove(0))
}

fn end_of(delivery: &Delivery, id: &str, payload: Payload) -> anyhow::Result<Event> {
    let work = delivery
        .work
        .as_ref()
        .map_err(|bad| anyhow::anyhow!("{bad}"))?;
    let author = Author {
        kind: AuthorKind::Agent,
        id: "narrator".to_owned(),
        name: String::new(),
    };
    let mut event = Event::new(
        id.parse()?,
        work.story.clone(),
        author,
        payload,
        work.event.at,
    );
    event.cause = vec![work.id.clone()];
    Ok(event)
}

#[tokio::test]
async fn an_action_that_failed_and_was_sent_again_ends_with_its_answer() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let bus = &stack.bus;
    stack.act(&story, "a1", "I open the door").await?;
    let delivery = delivered(bus).await?;
    let failed = Payload::Failed(Failed {
        agent: "narrator".to_owned(),
        class: "provider".to_owned(),
        tries: 3,
        notice: "The narrator lost the thread.".to_owned(),
    });
    let burial = Burial {
        reason: "the model said no".to_owned(),
        class: "provider".to_owned(),
        tries: 3,
        failed: Some(end_of(&delivery, "f1", failed)?),
        answers: None,
        recording: None,
    };
    bus.bury(&delivery, &burial).await?;
    assert_eq!(wait_for_a1(&stack).await?, "failed");

    let letter = bus.dead(Agent::Narrator).await?.remove(0);
    assert!(bus.redrive(Agent::Narrator, &letter.id).await?);
    let delivery = delivered(bus).await?;
    let narration = Payload::Narration(Narration {
        text: "It opens.".to_owned(),
        choices: Vec::new(),
        speak: Vec::new(),
        status: Status::Complete,
        llm: None,
    });
    let effects = Commit {
        emit: vec![Emit {
            event: end_of(&delivery, "r1", narration)?,
            route: Route::Logged(Vec::new()),
        }],
        ..Commit::default()
    };
    bus.commit(&delivery, &effects).await?;
    assert_eq!(wait_for_a1(&stack).await?, "narration");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn who_waits_is_told_that_redis_is_away_and_back() -> anyhow::Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    stack.story("castle", Policies::default()).await?;
    let mut send = Command::new(program("storyfleet")?);
    send.args(["send", "castle", "I open the door", "--wait"])
        .args(["--redis", &stack.redis_url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut send = Process::start(&mut send)?;
    let (mut out, mut errors) = (send.output()?, send.errors()?);
    // It watches by then.
    errors.line("; waiting").await?;
    stack.kill_redis().await?;
    errors.line("Redis is out of sight").await?;
    stack.resume_redis().await?;
    errors.line("Redis is back").await?;
    let _fleet = stack.fleet()?;
    out.line("sent").await?;
    assert!(send.gone().await?.success());
    assert_eq!(errors.with("Redis is").len(), 2, "{errors:?}");
    stack.end().await;
    Ok(())
}

/// The type of the event that `send --wait` says ended the action.
async fn wait_for_a1(stack: &Stack) -> anyhow::Result<String> {
    let mut send = Command::new(program("storyfleet")?);
    send.args([
        "send",
        "castle",
        "I open the door",
        "--id",
        "a1",
        "--wait",
        "--json",
    ])
    .args(["--redis", &stack.redis_url()]);
    let output = send.output().await?;
    let event: Value = serde_json::from_slice(&output.stdout)?;
    Ok(event["type"].as_str().unwrap_or_default().to_owned())
}
