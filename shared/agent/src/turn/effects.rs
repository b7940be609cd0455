//! What a turn's effects are to Redis: one commit, in which every event knows where it goes.

use bus::{Commit, Emit};
use story::{EventId, Policies, Route};

use crate::{Effects, Emitted, HandleError, spans};

/// `waiting`: the events that could join the turn. `response`: the name of its draft.
///
/// # Errors
/// When more of them were merged than there are.
pub(super) fn commit(
    effects: Effects,
    waiting: &[EventId],
    policies: Policies,
    response: EventId,
) -> Result<Commit, HandleError> {
    let Some(consume) = waiting.get(..effects.merged) else {
        let what = anyhow::anyhow!(
            "{} events merged, {} were waiting",
            effects.merged,
            waiting.len()
        );
        return Err(HandleError::permanent("internal", what));
    };
    // Not where the answer is made: its recording, and what goes through it again, know no span.
    let trace = spans::current();
    let emit = |emitted| match emitted {
        Emitted::New(mut event) => {
            event.trace = trace.clone().or(event.trace);
            let route = story::route(&event, policies);
            Emit { route, event }
        }
        Emitted::Passed(event) => Emit {
            route: Route::Logged(story::passed(&event)),
            event,
        },
    };
    Ok(Commit {
        consume: consume.to_vec(),
        emit: effects.emit.into_iter().map(emit).collect(),
        fields: effects.fields,
        answers: None,
        retract: effects.retract,
        responses: vec![response],
        recording: None,
    })
}
