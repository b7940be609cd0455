//! The gateway as its clients see it: a node as a process, a real Redis, clients of our own.

mod amid;
mod api;
mod bad;
mod bytes;
mod certificates;
mod check;
mod clients;
mod doubt;
mod early;
mod ends;
mod environment;
mod forbidden;
mod frames;
mod full;
mod holes;
mod http2;
mod life;
mod limits;
mod openapi;
mod outside;
mod pages;
mod private;
mod refusals;
mod resume;
mod revoke;
mod room;
mod talk;
mod tickets;
mod tls;
mod undisturbed;
mod unheard;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use gateway::auth::Role;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use story::{Policies, StoryId};
use system_tests::edge::{Issuer, Node, Person, Sent, Socket, Stream};
use system_tests::{Options, Stack};
use tempfile::TempDir;

/// A stack with a node, and the people of the story `castle`.
struct Edge {
    stack: Stack,
    node: Node,
    issuer: Issuer,
    story: StoryId,
    client: Client,
    folder: TempDir,
}

impl Edge {
    async fn start(options: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(Options::default(), options).await
    }

    async fn start_with(model: Options, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_in(model, options, Policies::default()).await
    }

    /// The same in a story with these policies.
    async fn start_in(
        model: Options,
        options: &[&str],
        policies: Policies,
    ) -> anyhow::Result<Self> {
        let stack = Stack::start(model).await?;
        let folder = tempfile::tempdir()?;
        let issuer = Issuer::new(folder.path())?;
        let node = Node::start(&stack.redis_url(), folder.path(), options).await?;
        let story = stack.story("castle", policies).await?;
        Ok(Self {
            stack,
            node,
            issuer,
            story,
            client: Client::new(),
            folder,
        })
    }

    fn address(&self) -> SocketAddr {
        self.node.address()
    }

    /// One more node.
    async fn another(&self) -> anyhow::Result<Node> {
        self.another_with(&[]).await
    }

    async fn another_with(&self, options: &[&str]) -> anyhow::Result<Node> {
        Node::start(&self.stack.redis_url(), self.folder.path(), options).await
    }

    fn token(&self, sub: &str, role: Role) -> anyhow::Result<String> {
        self.issuer.token(&Person::new(sub, &[("castle", role)]))
    }

    /// Good for so long.
    fn brief(&self, sub: &str, ttl: Duration) -> anyhow::Result<String> {
        let stories = &[("castle", Role::Author)];
        self.issuer.token(&Person {
            ttl,
            ..Person::new(sub, stories)
        })
    }

    /// Somebody who may write.
    async fn socket(&self, sub: &str) -> anyhow::Result<Socket> {
        Socket::open_as(self.address(), &self.token(sub, Role::Author)?).await
    }

    /// The same in the story.
    async fn joined(&self, sub: &str, cursor: Option<&str>) -> anyhow::Result<Socket> {
        let mut socket = self.socket(sub).await?;
        let answer = socket.ask_for(join(cursor)).await?;
        ensure!(answer["t"] == "ok", "{answer}");
        Ok(socket)
    }

    async fn stream(&self, sub: &str, cursor: Option<&str>) -> anyhow::Result<Stream> {
        let token = self.token(sub, Role::Reader)?;
        Stream::open(self.address(), "castle", &token, cursor).await
    }

    async fn post(&self, sub: &str, path: &str, body: &Value) -> anyhow::Result<Response> {
        let token = self.token(sub, Role::Author)?;
        let request = self.client.post(self.node.url(path)).bearer_auth(token);
        Ok(request.json(body).send().await?)
    }

    /// Somebody does something over HTTP; gives the id.
    async fn act(&self, sub: &str, text: &str) -> anyhow::Result<String> {
        let action = json!({"mode": "do", "text": text});
        let response = self.post(sub, "/v1/stories/castle/events", &action).await?;
        ensure!(response.status() == 202, "{response:?}");
        let accepted: Value = response.json().await?;
        Ok(accepted["id"].as_str().context("an id")?.to_owned())
    }

    async fn page(&self, sub: &str, query: &str) -> anyhow::Result<Response> {
        let token = self.token(sub, Role::Reader)?;
        let url = self.node.url(&format!("/v1/stories/castle/events{query}"));
        Ok(self.client.get(url).bearer_auth(token).send().await?)
    }
}

fn join(cursor: Option<&str>) -> Value {
    match cursor {
        Some(cursor) => json!({"t": "join", "story": "castle", "cursor": cursor}),
        None => json!({"t": "join", "story": "castle"}),
    }
}

fn publish(text: &str) -> Value {
    let event = json!({"mode": "do", "text": text});
    json!({"t": "publish", "story": "castle", "event": event})
}

/// Whether a frame is the event with this text.
fn says(frame: &Value, text: &str) -> bool {
    frame["t"] == "event" && frame["event"]["text"] == text
}

/// Whether it is the story's own, which has a place: who is here has none.
fn is_of_story(sent: &Sent) -> bool {
    sent.data.get("cursor").is_some()
}
