//! How fast a recording answers.

use std::time::Duration;

use story::Agent;
use system_tests::Options;
use tokio::time::Instant;

use super::{answered, replay, turns};

#[tokio::test]
async fn a_recording_answers_as_slowly_as_it_went_only_where_that_is_asked_for()
-> anyhow::Result<()> {
    let (stack, story) = answered(Options {
        between_tokens: Duration::from_millis(30),
        ..Options::default()
    })
    .await?;
    let recorded = turns(&stack, &story).await?;
    let calls = recorded.iter().flat_map(|turn| &turn.calls);
    let went: u64 = calls
        .filter_map(|call| call.took)
        .map(|took| took.whole)
        .sum();
    let went = Duration::from_millis(went);

    let took = async |speed: &str| -> anyhow::Result<Duration> {
        let started = Instant::now();
        let again = replay(
            &stack,
            Agent::Narrator,
            &["--story", "castle", "--speed", speed],
        )
        .await?;
        assert_eq!(again.code, Some(0), "{again:#?}");
        Ok(started.elapsed())
    };
    let (as_it_went, at_once) = (took("1").await?, took("0").await?);
    println!("went {went:.1?}; again {as_it_went:.1?}, at once {at_once:.1?}");
    assert!(
        as_it_went > went.mul_f64(0.9) && as_it_went < went * 3,
        "{as_it_went:?} of {went:?}"
    );
    assert!(at_once * 2 < as_it_went, "{at_once:?} of {as_it_went:?}");
    stack.end().await;
    Ok(())
}
