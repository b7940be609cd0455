//! The model may be restarted: who asks it waits for its return, and no action fails.

use std::time::Duration;

use anyhow::ensure;
use futures::future::try_join_all;
use story::{Agent, EventId, Outcome, Policies, StoryId, outcome};
use system_tests::{Options, Stack, lasting};
use tokio::time::{MissedTickBehavior, interval};

/// How long the model is away.
const AWAY: Duration = Duration::from_secs(3);
const STORIES: usize = 6;
/// In each story: before, while and after the model is away.
const ACTIONS: usize = 30;
/// Between two of them.
const EVERY: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_restart_of_the_model_fails_no_action() -> anyhow::Result<()> {
    let mut stack = Stack::start(Options {
        between_tokens: Duration::from_millis(5),
        ..Options::default()
    })
    .await?;
    let _narrators = [(); 2].map(|()| stack.worker(Agent::Narrator));
    let _dialogue = stack.worker(Agent::Dialogue)?;
    let mut rooms = Vec::new();
    for n in 0..STORIES {
        rooms.push(
            stack
                .story(&format!("room-{n}"), Policies::default())
                .await?,
        );
    }
    let bus = stack.bus.clone();
    let writing = try_join_all(rooms.iter().map(|room| write(&bus, room)));
    let away = async {
        lasting(AWAY / 2).await;
        stack.kill_model().await?;
        lasting(AWAY).await;
        stack.resume_model().await
    };
    let (acted, away) = tokio::join!(writing, away);
    away?;
    for (room, acted) in rooms.iter().zip(acted?) {
        let mut reader = stack.hear(room).await?;
        for action in acted {
            let end = reader.end_of(&action).await?;
            let answer = outcome(&end).map(|(end, _)| end);
            ensure!(answer == Some(Outcome::Answered), "{end:?}");
        }
    }
    stack.audit((STORIES * ACTIONS) as u64).await?;
    stack.end().await;
    Ok(())
}

async fn write(bus: &bus::Bus, room: &StoryId) -> anyhow::Result<Vec<EventId>> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut acted = Vec::new();
    for n in 0..ACTIONS {
        ticks.tick().await;
        let event = system_tests::action(room, &format!("{room}-{n}"), "I go on.", None)?;
        bus.publish(&event).await?;
        acted.push(event.id);
    }
    Ok(acted)
}
