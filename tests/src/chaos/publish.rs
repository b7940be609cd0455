//! The publishers: each sends its actions at their times, and the same action again for as long as Redis does not answer.

use anyhow::bail;
use bus::Bus;
use story::{Action, Author, AuthorKind, Event, Mode, Payload};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::chaos::CHARACTER;
use crate::chaos::plan::{Plan, Planned};

/// Publishes all actions of one publisher; `count` counts those of all.
pub(crate) async fn publish(
    bus: Bus,
    plan: &Plan,
    publisher: usize,
    start: Instant,
    count: &watch::Sender<usize>,
) -> anyhow::Result<()> {
    for action in &plan.actions[publisher] {
        sleep_until(start + action.at).await;
        insist(&bus, &event(plan, publisher, action)).await?;
        count.send_modify(|count| *count += 1);
    }
    Ok(())
}

/// An action whose reply was lost is known by its id when it comes again. The bus paces the tries.
async fn insist(bus: &Bus, event: &Event) -> anyhow::Result<()> {
    loop {
        match bus.publish(event).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_away() => {}
            Err(error) => bail!("{} was not accepted: {error:?}", event.id),
        }
    }
}

fn event(plan: &Plan, publisher: usize, action: &Planned) -> Event {
    let author = Author {
        kind: AuthorKind::User,
        id: format!("p{publisher}"),
        name: format!("Player {publisher}"),
    };
    let payload = Action {
        mode: if action.said { Mode::Say } else { Mode::Do },
        text: action.text.to_owned(),
        to: action.said.then(|| CHARACTER.to_owned()),
        choice: None,
        target: None,
    };
    let (story, _) = &plan.stories[action.story];
    Event::new(
        action.id.clone(),
        story.clone(),
        author,
        Payload::Action(payload),
        jiff::Timestamp::now(),
    )
}
