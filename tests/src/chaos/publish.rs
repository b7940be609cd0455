//! The publishers: each sends its actions at their times, and the same action again for as long as Redis does not answer.

use anyhow::bail;
use bus::Bus;
use story::{Action, Author, AuthorKind, Event, Mode, Payload};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::chaos::CHARACTER;
use crate::chaos::plan::{Plan, Planned};

/// From when publishers publish, and until when if their actions last so long.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) start: Instant,
    pub(crate) end: CancellationToken,
}

/// Publishes the actions of one publisher, and gives how many it did: all, or those before the end. `count` counts those
/// of all publishers.
pub(crate) async fn publish(
    bus: Bus,
    plan: &Plan,
    publisher: usize,
    span: Span,
    count: &watch::Sender<usize>,
) -> anyhow::Result<usize> {
    for (number, action) in plan.actions[publisher].iter().enumerate() {
        tokio::select! {
            biased;
            () = span.end.cancelled() => return Ok(number),
            () = sleep_until(span.start + action.at) => {}
        }
        insist(&bus, &event(plan, publisher, action)).await?;
        count.send_modify(|count| *count += 1);
    }
    Ok(plan.actions[publisher].len())
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
