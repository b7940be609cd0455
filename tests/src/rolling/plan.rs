//! What people do while a fleet is deployed.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use story::{InputPolicy, OutputPolicy, Policies, StoryId};

use super::{Deploy, PUBLISHERS, RATE, SHARDS, STORIES, WATCHED, WORKERS};
use crate::chaos::plan::{Plan, Planned};

/// Times what a deploy takes at its pace. How long workers drain, and how busy the machine is, adds to that.
const SPARE: u32 = 10;

/// Who publishes what and when, for much longer than the deploy takes: what is left at its end is not published.
pub(super) fn plan(deploy: &Deploy) -> anyhow::Result<Plan> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(deploy.seed);
    let steps = u32::try_from(deploy.steps.len())?;
    let length = deploy.pace * WORKERS * steps * SPARE;
    let policies = |number: usize| Policies {
        input: if number.is_multiple_of(4) {
            InputPolicy::Hold
        } else {
            InputPolicy::Off
        },
        output: [OutputPolicy::Off, OutputPolicy::Retract, OutputPolicy::Hold][number % 3],
        ..Policies::default()
    };
    let stories =
        (0..STORIES).map(|number| Ok((format!("story-{number}").parse()?, policies(number))));
    let stories = stories.collect::<anyhow::Result<Vec<(StoryId, Policies)>>>()?;
    let each = usize::try_from((length * RATE).as_secs())? / PUBLISHERS;
    let mut actions = |publisher: usize| {
        let action = |number: usize| {
            anyhow::Ok(Planned {
                at: length.mul_f64(number as f64 / each as f64),
                id: format!("p{publisher}-{number}").parse()?,
                story: random.random_range(0..STORIES),
                text: "I open the door",
                said: random.random_bool(0.3),
            })
        };
        (0..each).map(action).collect::<anyhow::Result<Vec<_>>>()
    };
    let actions = (0..PUBLISHERS)
        .map(&mut actions)
        .collect::<anyhow::Result<_>>()?;
    Ok(Plan {
        seed: deploy.seed,
        shards: SHARDS,
        stories,
        actions,
        blows: Vec::new(),
        watched: (0..WATCHED).collect(),
    })
}
