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
            // Other tests run beside this one, on machines of two cores: a worker may have to wait for one of them. An event
            // that nobody takes until a lease has passed waits for more. `make test-rolling`, alone, bounds it by 1 s.
            wait: Duration::from_secs(5),
            seed: 7,
        },
        |line| println!("{line}"),
    )
    .await?;
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    Ok(())
}
