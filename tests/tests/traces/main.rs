//! What a collector of OpenTelemetry is told of an action's way through programs that are built with the feature `otel`, in the
//! folder that STORYFLEET_BINARIES names: `make test-otel`.

mod collector;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use gateway::auth::Role;
use serde_json::{Value, json};
use story::{Agent, EventId, InputPolicy, Policies};
use system_tests::edge::{Issuer, Node, Person};
use system_tests::{Build, Options, Output, Process, Stack, free_address};
use tokio::net::TcpListener;
use tokio::time::Instant;

use self::collector::{Collector, Seen};

/// In what people write, and in what the model answers.
const WORDS: [&str; 2] = ["quicksilver", "marzipan"];

/// A beat after which a character speaks.
const TOLD: &str = r#"
rules:
- when: { agent: narrator }
  reply: { text: "The marzipan door opens.\n@@@\n{\"choices\":[\"Go in\",\"Wait\"],\"speak\":[{\"character\":\"Sibyl\",\"intent\":\"warn\"}]}" }
- when: { agent: dialogue }
  reply: { text: "Beware of the marzipan." }
"#;

/// The parent of a request that somebody else's trace holds.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A story whose actions wait for the moderator, a gateway, and a worker of each agent, whose spans go to one place.
struct Fleet {
    stack: Stack,
    node: Node,
    workers: Vec<(Process, Output)>,
    issuer: Issuer,
    _folder: tempfile::TempDir,
}

fn programs() -> anyhow::Result<Build> {
    let folder = std::env::var_os("STORYFLEET_BINARIES");
    let folder = folder.context("STORYFLEET_BINARIES names the programs: make test-otel")?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Ok(Build::at(workspace.join(PathBuf::from(folder))))
}

impl Fleet {
    async fn start(collector: &str, options: &[&str]) -> anyhow::Result<Self> {
        let build = programs()?;
        let stack = Stack::start(Options::playing(TOLD)).await?;
        let folder = tempfile::tempdir()?;
        let issuer = Issuer::new(folder.path())?;
        let to = ["--otlp-endpoint", collector];
        let options = [&to[..], options].concat();
        let redis = stack.redis_url();
        let node = Node::start_of(build.clone(), &redis, folder.path(), &options).await?;
        let mut workers = Vec::new();
        for agent in Agent::ALL {
            let mut command = build.worker(agent, &redis, stack.llm())?;
            // In more than one batch.
            let command = command.args(&options).env("OTEL_BSP_SCHEDULE_DELAY", "100");
            let mut process = Process::start(command.stderr(Stdio::piped()))?;
            let log = process.errors()?;
            workers.push((process, log));
        }
        let policies = Policies {
            input: InputPolicy::Hold,
            ..Policies::default()
        };
        stack.story("castle", policies).await?;
        Ok(Self {
            stack,
            node,
            workers,
            issuer,
            _folder: folder,
        })
    }

    /// Has Mira open the door, in a trace that goes on with these flags, and waits for what Sibyl says then.
    async fn act(&self, flags: &str) -> anyhow::Result<EventId> {
        let story = "castle".parse()?;
        let mut reader = self.stack.hear(&story).await?;
        let token = self
            .issuer
            .token(&Person::new("mira", &[("castle", Role::Author)]))?;
        let sent = reqwest::Client::new()
            .post(self.node.url("/v1/stories/castle/events"))
            .bearer_auth(token)
            .header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}"))
            .json(&json!({"mode": "do", "text": "I pour quicksilver on the door."}))
            .send()
            .await?;
        let sent: Value = sent.error_for_status()?.json().await?;
        let id: EventId = sent["id"].as_str().context("an id")?.parse()?;
        reader.end_of(&id).await?;
        reader.until_kind("dialogue").await?;
        Ok(id)
    }

    async fn end(self) -> anyhow::Result<Vec<Output>> {
        let mut logs = Vec::new();
        for (worker, log) in self.workers {
            assert!(worker.end().await?.success());
            logs.push(log);
        }
        self.node.end().await?;
        self.stack.end().await;
        Ok(logs)
    }
}

fn the<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let mut named = spans.iter().filter(|span| span.name == name);
    let one = named
        .next()
        .unwrap_or_else(|| panic!("no {name}: {spans:#?}"));
    assert!(named.next().is_none(), "two of {name}: {spans:#?}");
    one
}

fn below<'a>(spans: &'a [Seen], parent: &'a Seen) -> Vec<&'a str> {
    let children = spans.iter().filter(|span| span.parent == parent.id);
    let mut names: Vec<&str> = children.map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn one_trace_shows_the_whole_way_of_an_action() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let fleet = Fleet::start(&collector.url(), &[]).await?;
    let id = fleet.act("01").await?;
    fleet.end().await?;
    let spans = collector.spans();
    let traces: BTreeSet<&str> = spans.iter().map(|span| span.trace.as_str()).collect();
    assert_eq!(traces, BTreeSet::from([TRACE]), "{spans:#?}");

    let publish = the(&spans, "publish");
    assert_eq!((&*publish.service, &*publish.parent), ("gateway", CALLER));
    let turns = ["process moderator", "process narrator", "process dialogue"];
    let [moderator, narrator, dialogue] = turns.map(|name| the(&spans, name));
    assert_eq!(
        (&moderator.parent, &narrator.parent),
        (&publish.id, &publish.id)
    );
    assert_eq!(dialogue.parent, narrator.id);
    assert_eq!(below(&spans, moderator), ["commit", "context"]);
    assert_eq!(
        below(&spans, narrator),
        ["chat mock", "commit", "context", "process dialogue"]
    );
    assert_eq!(below(&spans, dialogue), ["chat mock", "commit", "context"]);
    for (span, agent) in [
        (moderator, "moderator"),
        (narrator, "narrator"),
        (dialogue, "dialogue"),
    ] {
        assert_eq!(span.service, agent);
        assert_eq!(span.attributes["storyfleet.outcome"], "answered");
        assert_eq!(span.attributes["storyfleet.story"], "castle");
        assert_eq!(span.attributes["messaging.system"], "redis");
    }
    assert_eq!(narrator.attributes["messaging.message.id"], id.as_str());

    for chat in spans.iter().filter(|span| span.name == "chat mock") {
        for (name, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.request.model", "mock"),
            ("gen_ai.response.finish_reasons", "[stop]"),
            ("storyfleet.llm.tries", "1"),
        ] {
            assert_eq!(chat.attributes[name], value, "{chat:#?}");
        }
        let tokens = &chat.attributes["gen_ai.usage.input_tokens"];
        assert!(tokens.parse::<u32>()? > 10, "{chat:#?}");
    }
    for word in WORDS {
        assert!(!format!("{spans:?}").contains(word), "{spans:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_people_and_models_write_is_in_a_trace_where_it_is_asked_for() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let fleet = Fleet::start(&collector.url(), &["--trace-content"]).await?;
    fleet.act("01").await?;
    fleet.end().await?;
    let spans = collector.spans();
    let chats: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "chat mock")
        .collect();
    assert_eq!(chats.len(), 2);
    for chat in chats {
        for word in WORDS {
            assert!(chat.events.contains(word), "{word}: {chat:#?}");
        }
        assert!(chat.events.contains("gen_ai.input.messages"), "{chat:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_is_not_told_of() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let fleet = Fleet::start(&collector.url(), &[]).await?;
    fleet.act("00").await?;
    fleet.end().await?;
    assert_eq!(collector.spans().len(), 0, "{:#?}", collector.spans());
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_spans() -> anyhow::Result<()> {
    let nowhere = format!("http://{}", free_address()?);
    let fleet = Fleet::start(&nowhere, &[]).await?;
    for _ in 0..3 {
        fleet.act("01").await?;
    }
    let logs = fleet.end().await?;
    for mut log in logs {
        log.line("the collector takes no traces").await?;
        assert_eq!(log.with("the collector takes no traces").len(), 1);
        assert_eq!(log.with("panicked"), Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn a_collector_that_hangs_keeps_no_turn_and_no_end() -> anyhow::Result<()> {
    // The system takes connections for it, and nobody reads them.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let collector = format!("http://{}", listener.local_addr()?);
    let fleet = Fleet::start(&collector, &[]).await?;
    fleet.act("01").await?;
    let asked = Instant::now();
    fleet.end().await?;
    // Four programs, one after the other: 2 s each, where a request may take 10.
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "{:?}",
        asked.elapsed()
    );
    Ok(())
}
