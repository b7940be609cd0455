//! Whatever the model does, an action ends once, in time and in the way that the fault deserves. The table is shown by
//! `cargo test -p system-tests faults -- --nocapture`.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use mock_llm::fault::TABLE;
use story::{
    Agent, Event, EventId, InputPolicy, Outcome, OutputPolicy, Payload, Policies, Status, StoryId,
    outcome,
};
use system_tests::{Options, Stack, Watcher};
use tokio::time::Instant;

use crate::command::up;

const FIRST_TOKEN: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(2);
/// Of one call, its retries included.
const CALL: Duration = Duration::from_secs(12);
/// Counted tries of one call.
const TRIES: u32 = 3;
/// The two between them, of 250 and 500 ms, each at most half as long again.
const PAUSES: Duration = Duration::from_millis(1_125);
/// For all but the waits that the fault costs: the other call of the action, the text, the bus and a busy machine.
const ALLOWANCE: Duration = Duration::from_secs(5);

/// The outcome and its class, or the status of the answer.
type End = (&'static str, String);

/// Every fault of the mock has its line here.
fn expected(fault: &str, agent: Agent) -> Option<(&'static str, &'static str)> {
    let told = told(fault, agent)?;
    Some(match (agent, told, fault) {
        // It judges a narration that waits: what the model does not judge is not shown, and the narration is whole.
        (Agent::Moderator, ("failed", _) | (_, "truncated"), _) => ("blocked", "llm"),
        // No verdict at all.
        (Agent::Moderator, _, "breaks_character" | "bad_trailer") => ("blocked", "llm"),
        _ => told,
    })
}

/// Without a moderator.
fn told(fault: &str, agent: Agent) -> Option<(&'static str, &'static str)> {
    Some(match fault {
        "no_headers" | "no_first_token" => ("failed", "ttft"),
        "stall" => ("failed", "stall"),
        // Readers saw what came before the end: it is told. Bytes that are no text are known as such at the end only.
        "eof" | "no_finish_reason" | "cut" | "cut_utf8" | "bad_utf8" => ("answered", "truncated"),
        "error_frame" | "broken_json" | "html_answer" => ("failed", "provider"),
        "error_500" | "error_502" | "error_503" | "error_529" => ("failed", "provider"),
        // A line that is no field is skipped, as the standard of event streams has it.
        "bad_sse" | "unknown_finish_reason" | "no_usage" => ("answered", "complete"),
        // Only a beat is so long that the call is over first.
        "slow_drip" if agent != Agent::Narrator => ("answered", "complete"),
        "slow_drip" => ("failed", "deadline"),
        "content_filter" => ("failed", "blocked"),
        "empty_answer" => ("failed", "empty"),
        "rate_limit" | "rate_limit_date" | "rate_limit_ms" | "rate_limit_bare" => {
            ("failed", "rate")
        }
        "rate_limit_text" | "rate_limit_integer_code" | "rate_limit_flat" => ("failed", "rate"),
        // Tried again with the usual patience, which is longer than a call here.
        "refused" => ("failed", "connect"),
        "unauthorized" => ("failed", "auth"),
        "context_length_exceeded" => ("failed", "context"),
        "insufficient_quota" => ("failed", "quota"),
        // Not what was asked for, and an answer all the same.
        "speaks_for_player" | "breaks_character" | "obeys_injection" => ("answered", "complete"),
        // A line has fewer tokens than a beat.
        "repeats" if agent == Agent::Dialogue => ("answered", "truncated"),
        "bad_trailer" | "no_trailer" | "repeats" => ("answered", "complete"),
        _ => return None,
    })
}

/// In what time the fault must have had its end: the longest that the deadlines let the one call wait that meets it.
fn deadline(fault: &str, agent: Agent) -> Option<Duration> {
    let (_, class) = told(fault, agent)?;
    let tries = |each: Duration| each * TRIES + PAUSES;
    let waits = match (class, fault) {
        // Tried again until the call is over, or so slow that it may last as long.
        ("rate" | "connect" | "deadline", _) | (_, "slow_drip") => CALL,
        ("ttft", _) => tries(FIRST_TOKEN),
        ("stall", _) => tries(STALL),
        // Nothing is waited for.
        ("truncated" | "provider", _) => tries(Duration::ZERO),
        // Nothing is tried again.
        _ => Duration::ZERO,
    };
    Some(waits + ALLOWANCE)
}

/// All of it came, and only the finish reason did not.
#[tokio::test]
async fn done_alone_ends_an_answer_only_where_that_is_accepted() -> anyhow::Result<()> {
    let scenario = "rules:\n- when: { agent: narrator }\n  reply: { text: 'Dust falls. It fell', fault: no_finish_reason(99) }\n";
    let stack = Stack::start(Options::playing(scenario)).await?;
    let answer = async |id: &str| -> anyhow::Result<(Option<String>, End)> {
        let story = stack.story(id, Policies::default()).await?;
        let mut reader = stack.hear(&story).await?;
        let action = stack.act(&story, "a1", "I look up.").await?;
        let answer = reader.end_of(&action).await?;
        let text = answer.payload().text().map(str::to_owned);
        Ok((text, end_of(&answer)))
    };
    let told = |text: &str, status: &str| (Some(text.to_owned()), ("answered", status.to_owned()));

    let strict = stack.worker(Agent::Narrator)?;
    assert_eq!(answer("cut").await?, told("Dust falls.", "truncated"));
    assert!(strict.end().await?.success());

    let whole = told("Dust falls. It fell", "complete");
    let (lenient, _log) = stack.worker_with(Agent::Narrator, &["--llm-accept-done"])?;
    assert_eq!(answer("worker").await?, whole);
    assert!(lenient.end().await?.success());

    let (data, redis) = (tempfile::tempdir()?, stack.redis_url());
    let model = ["--llm", stack.llm(), "--model", "mock"];
    let lenient = ["--redis", &redis, "--llm-accept-done"];
    let (fleet, _) = up(data.path(), &[&lenient[..], &model].concat()).await?;
    assert_eq!(answer("up").await?, whole);
    assert!(fleet.end().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_was_asked_of_the_model_in_vain_is_in_the_metrics() -> anyhow::Result<()> {
    let scenario = "rules:
- when: { agent: narrator, regex: 'I wait', nth: 1 }
  reply: { fault: rate_limit_ms(50) }
- when: { agent: narrator, regex: 'I wait' }
  reply: { text: \"Dust falls.\\n@@@\\n{\\\"choices\\\":[\\\"Go on\\\"]}\" }
- when: { agent: narrator }
  reply: { fault: unauthorized }
";
    let stack = Stack::start(Options::playing(scenario)).await?;
    let options = ["--metrics-listen", "127.0.0.1:0", "--log", "json"];
    let (worker, mut log) = stack.worker_with(Agent::Narrator, &options)?;
    let serving: serde_json::Value = serde_json::from_str(&log.line("/metrics").await?)?;
    let page = format!(
        "http://{}/metrics",
        serving["address"].as_str().context("an address")?
    );
    for (id, text, kind) in [
        ("waits", "I wait.", "narration"),
        ("fails", "I look.", "failed"),
    ] {
        let story = stack.story(id, Policies::default()).await?;
        let mut reader = stack.hear(&story).await?;
        let action = stack.act(&story, "a1", text).await?;
        assert_eq!(reader.end_of(&action).await?.kind(), kind);
    }
    let metrics = reqwest::get(page).await?.text().await?;
    for line in [
        r#"tries_total{agent="narrator",result="rate"} 1"#,
        r#"tries_total{agent="narrator",result="ok"} 1"#,
        r#"tries_total{agent="narrator",result="auth"} 1"#,
        r#"calls_total{agent="narrator",result="ok"} 1"#,
        r#"calls_total{agent="narrator",result="auth"} 1"#,
        r#"seconds_count{agent="narrator"} 2"#,
    ] {
        assert!(
            metrics.contains(&format!("storyfleet_llm_{line}")),
            "{line}: {metrics}"
        );
    }
    assert!(worker.end().await?.success());
    stack.end().await;
    Ok(())
}

struct Row {
    fault: &'static str,
    agent: Agent,
    end: End,
    took: Duration,
}

#[tokio::test]
async fn every_fault_of_the_model_ends_an_action_once_and_in_time() -> anyhow::Result<()> {
    let scenario = scenario();
    let mut stack = Stack::start(Options {
        scenario,
        ..Options::default()
    })
    .await?;
    let limits = [FIRST_TOKEN, STALL, CALL].map(|limit| format!("{}s", limit.as_secs()));
    let options = [
        ["--llm-first-token-timeout", &limits[0]],
        ["--llm-stall-timeout", &limits[1]],
        ["--llm-timeout", &limits[2]],
        // Here is what becomes of each call by itself: all of them would be a model that is left alone.
        ["--breaker", "false"],
    ];
    let agents = [Agent::Narrator, Agent::Dialogue, Agent::Moderator];
    let mut fleet = Vec::new();
    for agent in agents {
        let tier: &[_] = match agent {
            Agent::Moderator => &["--tier2", "llm"],
            _ => &[],
        };
        fleet.push(stack.worker_with(agent, &[options.as_flattened(), tier].concat())?);
    }
    let pairs = TABLE
        .iter()
        .flat_map(|row| agents.map(|agent| (row.name, agent)));
    let mut rows = try_join_all(pairs.map(|(fault, agent)| meet(&stack, fault, agent))).await?;
    rows.extend(refused(&mut stack).await?);

    let (table, wrong) = judged(&rows);
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    let ended = |how| rows.iter().filter(|row| row.end.0 == how).count() as u64;
    let audit = stack.audit(ended("answered") + rows.len() as u64).await?;
    let others = (audit.failed, audit.blocked);
    assert_eq!(others, (ended("failed"), ended("blocked")), "{audit:?}");
    stack.end().await;
    Ok(())
}

/// A fault strikes each call whose turn names it: only what happens now has a verb. The moderator's model is asked only
/// about what its rules find, and when its first answer is none, with that in a message behind the turn.
fn scenario() -> String {
    let mut rules = "rules:\n".to_owned();
    let mut rule = |when: &str, reply: &str| {
        writeln!(rules, "- when: {{ {when} }}\n  reply: {{ {reply} }}").expect("a text takes all");
    };
    for row in &TABLE {
        let (name, fault) = (row.name, format!("fault: {}", row.name));
        rule(
            &format!("regex: ' (does|says to \\w+): I meet {name}\\. \\w+>>>'"),
            &fault,
        );
        rule(
            &format!("agent: moderator, within: prompt, regex: 'a bomb: {name}\\.'"),
            &fault,
        );
        rule(
            &format!("agent: narrator, regex: ' does: I read of {name}\\. \\w+>>>'"),
            &format!(r#"text: "The recipe for a bomb: {name}.\n@@@\n{{\"choices\":[\"Go on\"]}}""#),
        );
    }
    rules
}

/// A story of its own in which somebody meets the fault, then goes on without it.
async fn meet(stack: &Stack, fault: &'static str, agent: Agent) -> anyhow::Result<Row> {
    let met = Met::begin(stack, fault, agent).await?;
    met.go_on(stack).await
}

/// No fault of the mock: it is not there. The moderator would have nothing to judge.
async fn refused(stack: &mut Stack) -> anyhow::Result<Vec<Row>> {
    stack.kill_model().await?;
    let agents = [Agent::Narrator, Agent::Dialogue];
    let met = try_join_all(agents.map(|agent| Met::begin(stack, "refused", agent))).await?;
    stack.resume_model().await?;
    try_join_all(met.into_iter().map(|met| met.go_on(stack))).await
}

/// Somebody who has met a fault.
struct Met {
    row: Row,
    story: StoryId,
    reader: Watcher,
    action: EventId,
}

impl Met {
    async fn begin(stack: &Stack, fault: &'static str, agent: Agent) -> anyhow::Result<Self> {
        let id = format!("{agent}-{}", fault.replace('_', "-"));
        let (output, meet) = match agent {
            Agent::Moderator => (OutputPolicy::Hold, "read of"),
            _ => (OutputPolicy::Off, "meet"),
        };
        let input = InputPolicy::Off;
        let story = stack
            .story(
                &id,
                Policies {
                    input,
                    output,
                    ..Policies::default()
                },
            )
            .await?;
        let mut reader = stack.hear(&story).await?;
        let started = Instant::now();
        let action = turn(stack, &story, agent, &format!("I {meet} {fault}.")).await?;
        let end = end_of(&reader.end_of(&action).await?);
        let took = started.elapsed();
        let row = Row {
            fault,
            agent,
            end,
            took,
        };
        Ok(Self {
            row,
            story,
            reader,
            action,
        })
    }

    async fn go_on(mut self, stack: &Stack) -> anyhow::Result<Row> {
        let next = turn(stack, &self.story, self.row.agent, "I go on.").await?;
        let answer = self.reader.end_of(&next).await?;
        let answered = outcome(&answer).map(|(end, _)| end);
        ensure!(
            answered == Some(Outcome::Answered),
            "{} does not go on: {answer:?}",
            self.story
        );
        for action in [&self.action, &next] {
            let ends = self.reader.ends_of(action);
            ensure!(ends == 1, "{}: {action} has {ends} ends", self.story);
        }
        Ok(self.row)
    }
}

async fn turn(stack: &Stack, story: &StoryId, agent: Agent, text: &str) -> anyhow::Result<EventId> {
    let id = format!("{story}-{}", text.len());
    match agent {
        Agent::Dialogue => stack.say(story, &id, text).await,
        _ => stack.act(story, &id, text).await,
    }
}

fn end_of(event: &Event) -> End {
    let answered = |status| match status {
        Status::Complete => ("answered", "complete".to_owned()),
        Status::Truncated => ("answered", "truncated".to_owned()),
    };
    match event.payload() {
        Payload::Narration(narration) => answered(narration.status),
        Payload::Dialogue(dialogue) => answered(dialogue.status),
        Payload::Verdict(verdict) => ("blocked", verdict.tier.clone()),
        Payload::Failed(failed) => ("failed", failed.class.clone()),
        other => ("none", other.kind().to_owned()),
    }
}

/// The table, and the lines of it that are not as they should be.
fn judged(rows: &[Row]) -> (String, Vec<String>) {
    let mut lines = vec![format!(
        "{:<24}| {:<10}| {:<9}| {:<10}| {:>7} | {:>8}",
        "fault", "agent", "outcome", "class", "seconds", "deadline"
    )];
    let mut wrong = Vec::new();
    for Row {
        fault,
        agent,
        end: (end, class),
        took,
    } in rows
    {
        let told = expected(fault, *agent);
        let deadline = deadline(fault, *agent).unwrap_or_default().as_secs_f64();
        let (agent, took) = (agent.as_str(), took.as_secs_f64());
        let line = format!(
            "{fault:<24}| {agent:<10}| {end:<9}| {class:<10}| {took:>7.1} | {deadline:>8.1}"
        );
        match told {
            None => wrong.push(format!("{line} (has no expected end: write it down)")),
            Some(told) if told != (*end, class) => {
                wrong.push(format!("{line} (expected {told:?})"));
            }
            Some(_) if took > deadline => wrong.push(format!("{line} (too late)")),
            Some(_) => {}
        }
        lines.push(line);
    }
    (lines.join("\n"), wrong)
}
