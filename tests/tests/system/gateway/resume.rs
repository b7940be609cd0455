//! Those who come back, with good cursors and bad ones.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use story::{Agent, Policies};
use system_tests::Options;
use system_tests::edge::{Node, Socket, Stream};

use super::{Edge, is_of_story, join, says};

/// One who reads a draft by pieces, over this and that, and keeps it.
#[derive(Default)]
struct Reader {
    cursor: Option<String>,
    re: Option<String>,
    next: u64,
    text: String,
    committed: Option<String>,
    snapshots: u32,
}

impl Reader {
    fn take(&mut self, frame: &Value) -> anyhow::Result<()> {
        let word = |name: &str| frame[name].as_str().map(str::to_owned);
        match frame["t"].as_str().context("t")? {
            "delta" => {
                assert_eq!(frame["i"].as_u64(), Some(self.next), "{frame}");
                assert!(self.re.is_none() || self.re == word("re"), "{frame}");
                self.re = word("re");
                self.text += frame["text"].as_str().context("text")?;
                self.next += frame["n"].as_u64().context("n")?;
            }
            "snapshot" => {
                self.snapshots += 1;
                self.re = word("re");
                self.text = word("text").context("text")?;
                self.next = frame["upto"].as_u64().context("upto")?;
            }
            "event" if frame["event"]["type"] == "narration" => {
                self.committed = frame["event"]["text"].as_str().map(str::to_owned);
            }
            "gap" => anyhow::bail!("a gap"),
            _ => {}
        }
        self.cursor = word("cursor").or(self.cursor.take());
        Ok(())
    }

    /// Reads so many pieces over a new WebSocket, or to the end.
    async fn over_socket(&mut self, edge: &Edge, node: &Node, pieces: usize) -> anyhow::Result<()> {
        let token = edge.token("mira", gateway::auth::Role::Author)?;
        let mut socket = Socket::open_as(node.address(), &token).await?;
        socket.say(&join(self.cursor.as_deref())).await?;
        let mut count = 0;
        while count < pieces && self.committed.is_none() {
            let frame = socket
                .until("more", |frame| frame.get("cursor").is_some())
                .await?;
            count += usize::from(frame["t"] == "delta");
            self.take(&frame)?;
        }
        Ok(())
    }

    async fn over_stream(&mut self, edge: &Edge, node: &Node, pieces: usize) -> anyhow::Result<()> {
        let token = edge.token("mira", gateway::auth::Role::Reader)?;
        let cursor = self.cursor.as_deref();
        let mut stream = Stream::open(node.address(), "castle", &token, cursor).await?;
        let mut count = 0;
        while count < pieces && self.committed.is_none() {
            let sent = stream.until("more", is_of_story).await?;
            count += usize::from(sent.event == "delta");
            assert_eq!(sent.data["cursor"].as_str().unwrap_or_default(), sent.id);
            self.take(&sent.data)?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_draft_goes_on_where_it_was_across_transports_and_nodes() -> anyhow::Result<()> {
    let text: String = (0..300).map(|n| format!("w{n} é{n} ")).collect();
    let scenario = format!(
        "rules:\n- when: {{endpoint: chat, agent: narrator}}\n  reply: {{text: {}}}\n",
        serde_json::to_string(&format!(
            "{}.\n@@@\n{{\"choices\":[],\"speak\":[]}}",
            text.trim()
        ))?
    );
    let model = Options {
        scenario,
        between_tokens: Duration::from_millis(15),
        ..Options::default()
    };
    let edge = Edge::start_with(model, &[]).await?;
    let other = edge.another().await?;
    let _narrator = edge.stack.worker(Agent::Narrator)?;
    let mut reader = Reader::default();
    edge.act("mira", "I wait").await?;
    for _ in 0..4 {
        reader.over_socket(&edge, &edge.node, 3).await?;
        reader.over_stream(&edge, &other, 3).await?;
        reader.over_stream(&edge, &edge.node, 2).await?;
        reader.over_socket(&edge, &other, 2).await?;
    }
    assert!(
        reader.committed.is_none() && reader.next > 30,
        "{}",
        reader.next
    );
    // The late one has all so far at once, and goes on like the others.
    let mut late = Reader::default();
    late.over_socket(&edge, &edge.node, 1).await?;
    assert_eq!(late.snapshots, 1);
    tokio::try_join!(
        late.over_stream(&edge, &edge.node, usize::MAX),
        reader.over_socket(&edge, &other, usize::MAX),
    )?;
    for reader in [reader, late] {
        let committed = reader.committed.context("committed")?;
        assert!(committed.starts_with(&reader.text), "{:?}", reader.text);
        let read = (reader.text.len(), committed.len(), reader.next);
        assert!(read.0 > 500, "{read:?}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_cursor_of_another_history_gives_one_gap_and_a_fresh_start() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    edge.stack.story("tower", Policies::default()).await?;
    edge.act("mira", "first").await?;
    edge.act("mira", "second").await?;
    let mut mira = edge.joined("mira", None).await?;
    let good = mira.until("both", |frame| says(frame, "second")).await?;
    let good = good["cursor"].as_str().context("a cursor")?.to_owned();
    let parts: Vec<&str> = good.split('-').collect();
    let (epoch, tag) = (parts[0], parts[2]);
    let tower = edge.stack.bus.story(&"tower".parse()?).await?;
    assert_eq!(tower.seq.0, 0);
    for bad in [
        // Of another epoch, as that of another story; beyond the end; of another history.
        format!("other-2-{tag}"),
        format!("{epoch}-9-{tag}"),
        format!("{epoch}-2-zzzz"),
        format!("{epoch}-9-{tag}:r1.1.5"),
    ] {
        let mut socket = edge.socket("oren").await?;
        socket.say(&join(Some(&bad))).await?;
        let first = socket
            .until("a story", |frame| frame.get("cursor").is_some())
            .await?;
        assert_eq!(first["t"], "gap", "{bad}: {first}");
        let next = socket
            .until("the start", |frame| frame.get("cursor").is_some())
            .await?;
        assert!(says(&next, "first") && next["seq"] == 1, "{bad}: {next}");

        let mut stream = edge.stream("oren", Some(&bad)).await?;
        let first = stream.until("a story", is_of_story).await?;
        assert_eq!(first.event, "gap", "{bad}");
        let next = stream.until("the start", is_of_story).await?;
        assert!(says(&next.data, "first"), "{bad}: {next:?}");
        // The id of what came after it is good.
        let mut again = edge.stream("oren", Some(&next.id)).await?;
        let sent = again.until("the rest", is_of_story).await?;
        assert!(says(&sent.data, "second"), "{sent:?}");
    }
    // A place in a draft that never was: there is nothing to give, and what comes is given.
    let odd = format!("{good}:r1.3.7");
    let mut socket = edge.joined("oren", Some(&odd)).await?;
    edge.act("mira", "third").await?;
    let next = socket
        .until("what is new", |frame| frame.get("cursor").is_some())
        .await?;
    assert!(says(&next, "third"), "{next}");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_no_cursor_is_told_on_a_socket_and_a_gap_on_a_stream() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    edge.act("mira", "first").await?;
    for bad in [
        "",
        "x",
        "a-1",
        "a-01-abcd",
        "a-1-abcd:",
        "a-1-abcd:r.1",
        "a-99999999999999999999-abcd",
    ] {
        let mut socket = edge.socket("oren").await?;
        let answer = socket.ask_for(join(Some(bad))).await?;
        assert_eq!(answer["code"], "bad_cursor", "{bad}: {answer}");
        let told = answer["message"].as_str().unwrap_or_default();
        assert!(told.contains("<epoch>-<seq>-<tag>"), "{told}");
        assert_eq!(socket.ask_for(join(None)).await?["t"], "ok");

        let mut stream = edge.stream("oren", Some(bad)).await?;
        let first = stream.until("a start", is_of_story).await?;
        let expected = if bad.is_empty() { "event" } else { "gap" };
        assert_eq!(first.event, expected, "{bad}");
    }
    edge.stack.end().await;
    Ok(())
}
