//! How soon a reader has the first character after the model gave the first token: through the worker, Redis and the
//! gateway. The mock model answers without latency, and a line between it and the worker sees its first token.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use story::StoryId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::report::{Group, Row};
use super::screen::Frame;
use super::stage::{Side, Stage};
use crate::bench::report::percentile;

/// Acted in by turns, so that nobody says more than a socket may.
const STORIES: usize = 16;
/// What an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Of a chunk with words in it, in the model's stream.
const CONTENT: &[u8] = br#""content":""#;

/// The first token of the answer that is waited for, in µs of the clock; 0: it has not come.
#[derive(Debug)]
struct Token {
    clock: Instant,
    at: AtomicU64,
}

/// What one action waited for.
struct Wait {
    from_token: Duration,
    from_action: Duration,
}

pub(super) async fn measure(stage: &Stage, actions: usize) -> anyhow::Result<Vec<Group>> {
    let token = Arc::new(Token {
        clock: Instant::now(),
        at: AtomicU64::new(0),
    });
    let mut tasks = JoinSet::new();
    let llm = model(&token, &mut tasks).await?;
    let node = stage.node(Side::Gateway).await?;
    let narrator = stage.narrator(&llm)?;
    let mut people = stage.people("first", STORIES, &node).await?;
    let mut waits = Vec::new();
    // The first of each story make connections, scripts and prompts known.
    for number in 0..STORIES + actions {
        let (client, story) = &mut people[number % STORIES];
        let wait = timeout(DEADLINE, act((client, story), number, &token)).await;
        let wait = wait.with_context(|| format!("action {number} was not answered"))??;
        if number >= STORIES {
            waits.push(wait);
        }
    }
    drop(tasks);
    narrator.end().await?;
    node.end().await?;
    let sorted = |of: fn(&Wait) -> Duration| {
        let mut waits: Vec<Duration> = waits.iter().map(of).collect();
        waits.sort_unstable();
        waits
    };
    let tokens = sorted(|wait| wait.from_token);
    let acts = sorted(|wait| wait.from_action);
    let rows = [
        Row::new(
            "from the model's first token, p50, ms",
            percentile(&tokens, 0.5),
        ),
        Row::new(
            "from the model's first token, p99, ms",
            percentile(&tokens, 0.99),
        )
        .at_most(100.0),
        Row::new("from the action, p50, ms", percentile(&acts, 0.5)),
        Row::new("from the action, p99, ms", percentile(&acts, 0.99)),
    ];
    let name =
        format!("{actions} actions, until their reader has the first character of the answer");
    Ok(vec![Group::new(name, rows)])
}

/// Starts the model and the line to it, until `tasks` is dropped; gives where it is reached.
async fn model(
    token: &Arc<Token>,
    tasks: &mut JoinSet<std::io::Result<()>>,
) -> anyhow::Result<String> {
    let model = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = model.local_addr()?;
    let options = mock_llm::Options::default();
    tasks.spawn(async move { mock_llm::serve(model, options, CancellationToken::new()).await });
    let line = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let llm = format!("http://{}/v1", line.local_addr()?);
    let seen = Arc::clone(token);
    tasks.spawn(async move { pass(&line, address, &seen).await });
    Ok(llm)
}

/// Until the answer is whole.
async fn act(
    (client, story): (&mut Client, &StoryId),
    number: usize,
    token: &Token,
) -> anyhow::Result<Wait> {
    token.at.store(0, Relaxed);
    let event = json!({"mode": "do", "text": format!("I light lamp {number}")});
    let message = json!({"t": "publish", "ref": number, "story": story, "event": event});
    let begin = token.now();
    client.say(&message.to_string()).await?;
    let mut first = None;
    loop {
        let message = client.next().await?;
        let now = token.now();
        let frame: Frame<'_> = serde_json::from_slice(message)?;
        let kind = frame.event.as_ref().map_or("", |event| event.kind.as_str());
        match (frame.t, kind) {
            ("err", _) | ("event", "failed") => {
                bail!("no answer: {}", String::from_utf8_lossy(message))
            }
            ("delta" | "snapshot", _) | ("event", "narration") => _ = first.get_or_insert(now),
            _ => {}
        }
        if let ("narration", Some(first)) = (kind, first) {
            let at = token.at.load(Relaxed);
            anyhow::ensure!(at > 0, "the model's first token was not seen");
            return Ok(Wait {
                from_token: Duration::from_micros(first.saturating_sub(at)),
                from_action: Duration::from_micros(first - begin),
            });
        }
    }
}

impl Token {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn see(&self) {
        // Only the first counts.
        let _is_first = self.at.compare_exchange(0, self.now(), Relaxed, Relaxed);
    }
}

/// The line between the worker and the model.
async fn pass(line: &TcpListener, model: SocketAddr, token: &Arc<Token>) -> std::io::Result<()> {
    let mut tasks = JoinSet::new();
    loop {
        let (worker, _) = line.accept().await?;
        let model = TcpStream::connect(model).await?;
        worker.set_nodelay(true)?;
        model.set_nodelay(true)?;
        let ((asks, hears), (says, takes)) = (worker.into_split(), model.into_split());
        tasks.spawn(copy(asks, takes, None));
        tasks.spawn(copy(says, hears, Some(Arc::clone(token))));
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    token: Option<Arc<Token>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1_024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        if let Some(token) = token.as_ref().filter(|_| has_words(&buffer[..count])) {
            token.see();
        }
        to.write_all(&buffer[..count]).await?;
    }
}

/// Whether any content in it is not empty.
fn has_words(bytes: &[u8]) -> bool {
    let windows = bytes.windows(CONTENT.len() + 1);
    let mut contents = windows.filter(|window| window.starts_with(CONTENT));
    contents.any(|window| window.last() != Some(&b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_content_that_is_not_empty() {
        for (bytes, is) in [
            (
                r#"data: {"delta":{"role":"assistant","content":""}}"#,
                false,
            ),
            (r#"data: {"delta":{"content":"The"}}"#, true),
            (r#"{"content":""} {"content":"x"}"#, true),
            (r#"{"content":"#, false),
        ] {
            assert_eq!(has_words(bytes.as_bytes()), is, "{bytes}");
        }
    }
}
