//! One who plays a story: acts over WebSocket and over HTTP in turn, the same action again until it is accepted, and goes
//! on when a reader saw the end of all but the last few.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rand::RngExt;
use reqwest::{Client, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::cuts::plan;
use crate::cuts::stage::Stage;
use crate::edge::Socket;

/// The end of an action, deaths of its agent included.
const END: Duration = Duration::from_secs(120);
/// Actions that may be unanswered when the next one comes.
const AHEAD: usize = 2;
const TRY: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// What players did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Played {
    pub over_socket: u64,
    pub over_http: u64,
    /// Actions that came again, and were known.
    pub duplicates: u64,
    /// Tries without an answer.
    pub in_vain: u64,
    /// (story, id) as accepted.
    #[serde(skip)]
    pub(super) accepted: Vec<(usize, String)>,
}

impl Played {
    pub(super) fn add(&mut self, mut other: Self) {
        self.over_socket += other.over_socket;
        self.over_http += other.over_http;
        self.duplicates += other.duplicates;
        self.in_vain += other.in_vain;
        self.accepted.append(&mut other.accepted);
    }
}

/// Plays until nobody does anything new.
pub(super) async fn play(stage: Arc<Stage>, story: usize) -> anyhow::Result<Played> {
    let number = u64::try_from(story)?;
    let mut random = plan::source(stage.seed, 100_000 + number);
    let token = stage.token(&format!("p{story}"))?;
    let (client, mut played) = (Client::new(), Played::default());
    let mut ended = stage.stories[story].ended.subscribe();
    let mut open = VecDeque::new();
    for count in 0.. {
        if stage.calm.is_cancelled() {
            break;
        }
        let (text, to) = plan::action(story, count, &mut random);
        let mode = if to.is_some() { "say" } else { "do" };
        let mut action = json!({"id": format!("a{count}"), "mode": mode, "text": text});
        if let Some(to) = to {
            action["to"] = to.into();
        }
        let id = loop {
            let node = stage.nodes[random.random_range(0..stage.nodes.len())];
            let id = stage.stories[story].id.as_str();
            let over_socket = random.random_bool(0.5);
            let said = if over_socket {
                timeout(TRY, over_ws(node, id, &token, &action)).await
            } else {
                timeout(TRY, over_http(&client, node, id, (&token, &action))).await
            };
            match said {
                Ok(Ok(Some(accepted))) => {
                    played.over_socket += u64::from(over_socket);
                    played.over_http += u64::from(!over_socket);
                    played.duplicates += u64::from(accepted["status"] == "duplicate");
                    break accepted["id"].as_str().context("an id")?.to_owned();
                }
                Ok(Err(error)) => return Err(error),
                // It may have got there all the same.
                Ok(Ok(None)) | Err(_) => {
                    played.in_vain += 1;
                    sleep(PAUSE).await;
                }
            }
        };
        played.accepted.push((story, id.clone()));
        open.push_back(id);
        // People do not wait for an answer either: what they do then comes in the middle of one.
        let patience = random.random_range(0..=AHEAD);
        while open.len() > patience {
            let id = open.pop_front().context("one that is not answered")?;
            let end = timeout(END, ended.wait_for(|ended| ended.contains(&id))).await;
            end.with_context(|| format!("no reader of story {story} sees the end of {id}"))??;
        }
    }
    for id in open {
        let end = timeout(END, ended.wait_for(|ended| ended.contains(&id))).await;
        end.with_context(|| format!("no reader of story {story} sees the end of {id}"))??;
    }
    Ok(played)
}

/// `None` when there was no answer.
async fn over_ws(
    node: std::net::SocketAddr,
    story: &str,
    token: &str,
    action: &Value,
) -> anyhow::Result<Option<Value>> {
    let answers = async {
        let mut socket = Socket::open_as(node, token).await?;
        let join = json!({"t": "join", "story": story});
        let joined = socket.ask_for(join).await?;
        if joined["t"] != "ok" {
            return Ok(joined);
        }
        let publish = json!({"t": "publish", "story": story, "event": action});
        socket.ask_for(publish).await
    };
    // Whatever became of the connection, the action is sent again.
    let answer: anyhow::Result<Value> = answers.await;
    match answer {
        Ok(answer) if answer["t"] == "ok" => Ok(Some(answer)),
        Ok(answer) if answer["code"] == "unavailable" => Ok(None),
        Ok(answer) => bail!("a player is told {answer}"),
        Err(_) => Ok(None),
    }
}

async fn over_http(
    client: &Client,
    node: std::net::SocketAddr,
    story: &str,
    (token, action): (&str, &Value),
) -> anyhow::Result<Option<Value>> {
    let url = format!("http://{node}/v1/stories/{story}/events");
    let sent = client.post(url).bearer_auth(token).json(action).send();
    let Ok(response) = sent.await else {
        return Ok(None);
    };
    match response.status() {
        StatusCode::ACCEPTED => Ok(response.json().await.ok()),
        StatusCode::SERVICE_UNAVAILABLE => Ok(None),
        status => bail!("a player is told {status}: {}", response.text().await?),
    }
}
