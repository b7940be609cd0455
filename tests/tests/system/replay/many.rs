//! A long story is gone through turn by turn, and never in memory as a whole.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use serde_json::{Value, json};
use story::Agent;
use system_tests::{Process, eventually, program};
use tokio::process::Command;
use tokio::time::Instant;

const TURNS: usize = 1_000;
/// Of the replay; the file has more.
const MOST_MB: f64 = 60.0;

#[tokio::test]
async fn a_thousand_turns_are_gone_through_in_little_memory() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("long.ndjson");
    write(&file)?;
    let written = std::fs::metadata(&file)?.len() as f64 / 1e6;
    assert!(written > MOST_MB, "{written} MB");

    let mut command = Command::new(program(Agent::Narrator.as_str())?);
    command.arg("replay").arg("--from-file").arg(&file);
    command
        .args(["--diff", "json"])
        .env_remove("STORYFLEET_PROMPTS");
    let started = Instant::now();
    let mut replay = Process::start(command.stdout(Stdio::piped()))?;
    let mut out = replay.output()?;
    let status = format!("/proc/{}/status", replay.child().id().context("it runs")?);
    let mut peak_mb: f64 = 0.0;
    let ended = eventually("the replay's end", async || {
        // Once it ended there is none.
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        peak_mb = peak_mb.max(peak(&status).unwrap_or(0.0));
        replay.ended()
    })
    .await?;
    println!(
        "{TURNS} turns, {written:.0} MB: {:.1?}, at most {peak_mb:.0} MB",
        started.elapsed()
    );
    assert!(ended.success(), "{ended}");
    let sum: Value = serde_json::from_str(&out.line("\"outcomes\"").await?)?;
    assert_eq!(sum["outcomes"]["same"], TURNS);
    assert!((1.0..MOST_MB).contains(&peak_mb), "{peak_mb} MB");
    Ok(())
}

/// Of `/proc/<pid>/status`, in MB.
fn peak(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kb: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kb * 1024.0 / 1e6)
}

/// A narrator's turn of the golden story, again and again.
fn write(file: &Path) -> anyhow::Result<()> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lamp.ndjson");
    let golden = std::fs::read_to_string(golden)?;
    let is_told = |line: &&str| line.contains(r#""agent":"narrator","id""#);
    let told = golden.lines().find(is_told).context("a turn")?;
    // As text: its request counts to the byte.
    let (head, rest) = told.split_once(r#""seq":"#).context("a place")?;
    let (_, rest) = rest.split_once(',').context("more")?;
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    writeln!(out, "{}", golden.lines().next().context("a head")?)?;
    for seq in 1..=TURNS {
        writeln!(out, r#"{head}"seq":{seq},{rest}"#)?;
    }
    writeln!(
        out,
        "{}",
        json!({"end": {"events": 0, "recordings": TURNS}})
    )?;
    out.flush()?;
    Ok(())
}
