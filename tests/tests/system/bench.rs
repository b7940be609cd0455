//! `storyfleet bench`, as small as it goes. It fails by itself unless each event has one answer; how fast they come is no
//! matter of a test.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use system_tests::{Process, program};
use tokio::process::Command;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(120);

async fn bench(of: &str) -> anyhow::Result<Value> {
    let mut command = Command::new(program("storyfleet")?);
    command
        .args(["bench", of, "--quick", "--json"])
        .kill_on_drop(true);
    let output = timeout(DEADLINE, command.output())
        .await
        .context("it does not end")??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test]
async fn the_bench_measures_both_sides_alike_and_its_figures_agree() -> anyhow::Result<()> {
    let report = bench("--floor").await?;
    let figure = |path: &str| {
        let figure = report.pointer(path).and_then(Value::as_f64);
        figure.with_context(|| format!("no {path} in {report}"))
    };
    for path in [
        "/latency_ms/floor/p99",
        "/latency_ms/fleet/p99",
        "/cpu_s_per_1000",
    ] {
        assert!(figure(path)? > 0.0, "{path}");
    }
    let ratio = figure("/fleet/events_per_s")? / figure("/floor/events_per_s")?;
    assert!((ratio - figure("/ratio")?).abs() < 1e-6, "{report}");
    let rate = figure("/inflight_ratio")? * figure("/inflight/ideal_per_s")?;
    assert!(
        (rate - figure("/inflight/fleet_per_s")?).abs() < 1e-6,
        "{report}"
    );
    assert!(
        figure("/rss_mb/idle")? <= figure("/rss_mb/inflight_1000")?,
        "{report}"
    );
    let prompts = figure("/floor/prompt_tokens")? / figure("/fleet/prompt_tokens")?;
    assert!(
        (0.8..1.25).contains(&prompts),
        "the sides do not send the same: {report}"
    );
    Ok(())
}

#[tokio::test]
async fn a_bench_of_a_fleet_measures_shards_scale_and_memory() -> anyhow::Result<()> {
    let report = bench("--fleet").await?;
    let workers: Vec<_> = report["scale"]
        .as_array()
        .context("rounds")?
        .iter()
        .collect();
    assert_eq!(workers.len(), 4, "{report}");
    for round in workers {
        for figure in ["events_per_s", "redis_cpu_s_per_1000", "frames"] {
            assert!(round[figure].as_f64() > Some(0.0), "{figure}: {round}");
        }
    }
    let figure = |path: &str| report.pointer(path).and_then(Value::as_f64);
    assert!(figure("/shards/ratio") > Some(0.0), "{report}");
    assert!(figure("/memory/told") > figure("/memory/made"), "{report}");
    assert!(figure("/memory/made") > Some(0.0), "{report}");
    let keys = report["memory"]["keys"].as_object().context("keys")?;
    for key in ["log", "context", "recordings"] {
        assert!(keys.contains_key(key), "{report}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bench_that_is_asked_to_end_leaves_no_process_behind() -> anyhow::Result<()> {
    let mut command = Command::new(program("storyfleet")?);
    command.args(["bench", "--floor"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut bench = Process::start(&mut command)?;
    let mut said = bench.errors()?;
    // Redis and a model run by then, and the first round is under way.
    said.line("round 1").await?;
    let children = bench.children()?;
    assert!(children.len() >= 2, "{children:?}");
    assert_eq!(bench.end().await?.code(), Some(1));
    for child in children {
        assert!(!Process::runs(child), "{child:?} still runs");
    }
    Ok(())
}

#[tokio::test]
async fn the_prompts_of_a_long_story_are_within_their_windows() -> anyhow::Result<()> {
    let report = bench("--context").await?;
    let built = report["built"].as_array().context("what was built")?;
    assert_eq!(built.len(), 3, "{report}");
    for row in built {
        let figure = |name: &str| row[name].as_f64().context("a figure");
        assert!(figure("tokens")? < figure("window")?, "{row}");
        assert!(figure("p50_ms")? <= figure("p99_ms")?, "{row}");
    }
    // The largest one holds more of the story.
    assert!(
        built[2]["tokens"].as_u64() > built[1]["tokens"].as_u64(),
        "{report}"
    );
    Ok(())
}
