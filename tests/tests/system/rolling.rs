//! A deploy under load: six workers are replaced one by one, in order and in a hurry.

use std::time::Duration;

use system_tests::Build;
use system_tests::rolling::{self, Deploy, Step, Version, Way};

/// With the same programs on both sides; `make test-rolling` takes those of another version.
#[tokio::test]
async fn a_deploy_under_load_loses_nothing_and_keeps_nobody_waiting() -> anyhow::Result<()> {
    let steps = [Way::Drained, Way::Hurried].map(|way| Step {
        to: Version::New,
        way,
    });
    let report = rolling::run(
        Deploy {
            old: Build::current()?,
            new: Build::current()?,
            steps: steps.to_vec(),
            pace: Duration::from_secs(1),
            wait: Duration::from_secs(1),
            seed: 7,
        },
        |line| println!("{line}"),
    )
    .await?;
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    Ok(())
}
