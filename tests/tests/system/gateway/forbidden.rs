//! What the rules forbid, on every way that an answer takes to readers: streamed or at once, by the narrator or a character,
//! under each policy; live, joined later, on another node, by page, in the log, in Redis and in the next prompt.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::ensure;
use gateway::auth::Role;
use serde_json::{Value, json};
use story::{Agent, EventId, OutputPolicy, Policies, StoryId};
use system_tests::edge::{Person, Socket, Stream};
use system_tests::{Options, Stack, action};

use super::{Edge, join};

const NUMBER: &str = "4111 1111 1111 1111";
/// The first window of the answer, and nothing of what follows it.
const FIRST: &str = "Dust falls on the sill.";

/// Whoever asks is answered with the number; whose prompt holds it says so.
const SCENARIO: &str = r#"rules:
- when: { endpoint: chat, regex: "pay with|1111 1111", within: prompt }
  reply: { text: "It has leaked." }
- when: { agent: narrator, regex: "(?s)# Now.*I ask" }
  reply: { text: "Dust falls on the sill. The clerk whispers: pay with 4111 1111 1111 1111 at the door. Rain follows, and a bell rings. Then it is still again.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[]}" }
- when: { agent: dialogue, regex: "(?s)# Now.*I ask" }
  reply: { text: "Dust falls on the sill. I tell you: pay with 4111 1111 1111 1111 at the door. Rain follows, and a bell rings. Then it is still again." }
- when: { agent: narrator }
  reply: { text: "Nothing happens.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[]}" }
"#;

/// How an answer ends for those who watch.
const ENDS: [(OutputPolicy, &str); 3] = [
    (OutputPolicy::Hold, "verdict"),
    (OutputPolicy::Retract, "retracted"),
    (OutputPolicy::Off, "answer"),
];

fn output(output: OutputPolicy) -> Policies {
    Policies {
        output,
        ..Policies::default()
    }
}

fn holds_number(words: &str) -> bool {
    words.contains(NUMBER)
}

/// Whether any of what may not be shown is in it. Four digits alone tell nothing: times have them too, and no space behind them.
fn has_leaked(words: &str) -> bool {
    let parts = ["whispers", "I tell you", "pay with", "4111 ", "1111 "];
    parts.iter().any(|part| words.contains(part))
}

/// Whether it ends the answer: `kind` is its event's type, or any answer.
fn is_end(frame: &Value, kind: &str) -> bool {
    let told = frame["event"]["type"].as_str();
    match kind {
        "answer" => matches!(told, Some("narration" | "dialogue")),
        kind => told == Some(kind),
    }
}

/// All that was shown of drafts, attempt by attempt, in order.
#[derive(Default)]
struct Shown(RefCell<Vec<Value>>);

impl Shown {
    fn see(&self, frame: &Value) {
        self.0.borrow_mut().push(frame.clone());
    }

    fn drafts(&self) -> String {
        let frames = self.0.borrow();
        let drafts = frames.iter().filter(|frame| frame.get("re").is_some());
        let texts = drafts.map(|frame| match frame["t"].as_str() {
            Some("delta") => frame["text"].as_str().unwrap_or_default().to_owned(),
            _ => format!("\n{}", frame["text"].as_str().unwrap_or_default()),
        });
        texts.collect()
    }

    fn all(&self) -> String {
        format!("{:?}", self.0.borrow())
    }
}

/// Each value that Redis keeps, but for recordings: those say what agents saw, to operators.
async fn kept(stack: &Stack) -> anyhow::Result<String> {
    let script = r"
local out = {}
local function flat(value)
  if type(value) == 'table' then
    for _, one in ipairs(value) do flat(one) end
  else
    out[#out + 1] = tostring(value)
  end
end
local read = {
  string = function(key) return redis.call('GET', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1) end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if not string.find(key, ':rec:') then
    flat({ key, read[redis.call('TYPE', key).ok](key) })
  end
end
local all = string.gsub(table.concat(out, ' '), '%s', ' ')
return redis.status_reply(all)
";
    let words = ["EVAL", script, "0"].map(str::as_bytes);
    stack.redis.command(&words).await
}

struct Case<'a> {
    edge: &'a Edge,
    story: StoryId,
    token: String,
}

impl Case<'_> {
    async fn socket(&self) -> anyhow::Result<Socket> {
        let mut socket = Socket::open_as(self.edge.address(), &self.token).await?;
        let mut join = join(None);
        join["story"] = json!(self.story);
        socket.say(&join).await?;
        Ok(socket)
    }

    async fn stream(&self) -> anyhow::Result<Stream> {
        let (story, token) = (self.story.as_str(), self.token.as_str());
        Stream::open(self.edge.address(), story, token, None).await
    }

    async fn asks(&self, id: &str, text: &str, of: Agent) -> anyhow::Result<EventId> {
        let to = (of == Agent::Dialogue).then(|| "Sibyl".to_owned());
        let event = action(&self.story, id, text, to)?;
        self.edge.stack.bus.publish(&event).await?;
        Ok(event.id)
    }

    /// What somebody who comes now is given, over both transports, and the history.
    async fn given_now(&self) -> anyhow::Result<String> {
        let given = Shown::default();
        let is_live = |frame: &Value| {
            given.see(frame);
            frame["t"] == "live"
        };
        let mut socket = self.socket().await?;
        socket.until("what runs", is_live).await?;
        let mut stream = self.stream().await?;
        stream
            .until("what runs", |sent| is_live(&sent.data))
            .await?;
        let page = format!("/v1/stories/{}/events", self.story);
        let request = self.edge.client.get(self.edge.node.url(&page));
        let page = request.bearer_auth(&self.token).send().await?;
        let log = self
            .edge
            .stack
            .bus
            .log(&self.story, story::Seq(0), 100)
            .await?;
        Ok(format!("{} {} {log:?}", given.all(), page.text().await?))
    }

    /// Plays it, and looks everywhere.
    async fn plays(&self, (policy, end): (OutputPolicy, &str), of: Agent) -> anyhow::Result<()> {
        let (mut socket, mut stream) = (self.socket().await?, self.stream().await?);
        let (heard, streamed) = (Shown::default(), Shown::default());
        self.asks("a1", "I ask", of).await?;
        let ends = |shown: &Shown, frame: &Value| {
            shown.see(frame);
            is_end(frame, end)
        };
        socket.until(end, |frame| ends(&heard, frame)).await?;
        stream
            .until(end, |sent| ends(&streamed, &sent.data))
            .await?;
        let later = self.given_now().await?;
        // What the next prompt holds is told by its answer.
        let next = self.asks("a2", "I wait", Agent::Narrator).await?;
        let mut watcher = self.edge.stack.hear(&self.story).await?;
        let next = watcher.end_of(&next).await?;
        let leaked = next
            .payload()
            .text()
            .is_some_and(|text| text.contains("leaked"));

        let what = format!("{policy:?}, {of}: {later}");
        for shown in [&heard, &streamed] {
            let drafts = shown.drafts();
            let is_seen = policy == OutputPolicy::Off || !holds_number(&drafts);
            ensure!(is_seen, "{what}: {drafts}");
            // What is not held is shown at once, until it is taken back.
            let is_shown = holds_number(&shown.all());
            ensure!(is_shown == (policy != OutputPolicy::Hold), "{what}");
        }
        let stays = policy == OutputPolicy::Off;
        ensure!(holds_number(&later) == stays, "{what}");
        ensure!(leaked == stays, "{what}: {next:?}");
        ensure!(has_leaked(&later) == stays, "{what}");
        Ok(())
    }
}

/// On a stage whose model gives its answers so: each story is played, and then Redis is looked through.
async fn is_nowhere(model: Options) -> anyhow::Result<()> {
    let edge = Edge::start_with(model, &[]).await?;
    let _fleet = edge.stack.fleet()?;
    let token = edge
        .issuer
        .token(&Person::new("mira", &[("*", Role::Author)]))?;
    for end in ENDS {
        for of in [Agent::Narrator, Agent::Dialogue] {
            let story = format!("{}-{of}", end.0.as_str());
            let story = edge.stack.story(&story, output(end.0)).await?;
            let (edge, token) = (&edge, token.clone());
            let case = Case { edge, story, token };
            case.plays(end, of).await?;
        }
        let kept = kept(&edge.stack).await?;
        let stays = end.0 == OutputPolicy::Off;
        ensure!(holds_number(&kept) == stays, "{end:?}: {kept}");
        ensure!(!kept.contains(":draft:"), "{end:?}: {kept}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_forbidden_sentence_that_is_streamed_is_kept_from_readers() -> anyhow::Result<()> {
    is_nowhere(Options {
        between_tokens: Duration::from_millis(8),
        ..Options::playing(SCENARIO)
    })
    .await
}

#[tokio::test]
async fn a_forbidden_sentence_that_comes_at_once_is_kept_from_readers() -> anyhow::Result<()> {
    is_nowhere(Options {
        tokens: 10_000,
        ..Options::playing(SCENARIO)
    })
    .await
}

/// All of it is in the first piece, and there is time to show that before the next.
#[tokio::test]
async fn a_forbidden_sentence_within_one_piece_is_kept_from_readers() -> anyhow::Result<()> {
    is_nowhere(Options {
        tokens: 40,
        between_tokens: Duration::from_millis(150),
        ..Options::playing(SCENARIO)
    })
    .await
}

#[tokio::test]
async fn a_draft_that_a_verdict_blocks_is_taken_from_all_who_have_it() -> anyhow::Result<()> {
    let model = Options {
        between_tokens: Duration::from_millis(50),
        ..Options::playing(SCENARIO)
    };
    let edge = Edge::start_in(model, &[], output(OutputPolicy::Hold)).await?;
    let other = edge.another().await?;
    let token = edge.token("ada", Role::Reader)?;
    let _narrator = edge.stack.worker(Agent::Narrator)?;
    let mut mira = edge.joined("mira", None).await?;
    let mut stream = edge.stream("oren", None).await?;
    let asked = action(&edge.story, "a1", "I ask", None)?;
    let re = asked.response(Agent::Narrator, 0);
    edge.stack.bus.publish(&asked).await?;

    // Each of them has the first window: live, out of Redis, and out of what the node remembers.
    let is_first = |frame: &Value| {
        assert!(!has_leaked(&frame.to_string()), "{frame}");
        frame["re"] == json!(re) && frame["text"] == FIRST
    };
    mira.until("the first window", is_first).await?;
    let mut elsewhere = Socket::open_as(other.address(), &token).await?;
    elsewhere.say(&join(None)).await?;
    elsewhere.until("the first window", is_first).await?;
    stream
        .until("the first window", |sent| is_first(&sent.data))
        .await?;
    edge.stack.backlog(Agent::Moderator, 1).await?;
    let mut late = edge.joined("ada", None).await?;
    late.until("the first window", is_first).await?;
    let live = late
        .until("what runs", |frame| frame["t"] == "live")
        .await?;
    assert_eq!(live["drafts"], json!([re]));

    let _moderator = edge.stack.worker(Agent::Moderator)?;
    let is_verdict = |frame: &Value| {
        assert!(!has_leaked(&frame.to_string()), "{frame}");
        is_end(frame, "verdict")
    };
    for reader in [&mut mira, &mut elsewhere, &mut late] {
        let verdict = reader.until("the verdict", is_verdict).await?;
        assert_eq!(verdict["void"], json!([re]));
    }
    let verdict = stream.until("the verdict", |sent| is_verdict(&sent.data));
    assert_eq!(verdict.await?.data["void"], json!([re]));
    // Whoever comes now hears of no draft, here or elsewhere.
    for node in [edge.address(), other.address()] {
        let mut socket = Socket::open_as(node, &token).await?;
        socket.say(&join(None)).await?;
        let is_live = |frame: &Value| {
            assert!(!frame.to_string().contains(FIRST), "{frame}");
            frame["t"] == "live"
        };
        let live = socket.until("what runs", is_live).await?;
        assert_eq!(live["drafts"], json!([]));
    }
    edge.stack.end().await;
    Ok(())
}
