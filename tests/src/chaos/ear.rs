//! An ear at the live channels of all stories. It hears what is sent to readers as it is on the wire, where a reader's
//! watch leaves out what does not fit.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;
use story::{OutputPolicy, Policies, StoryId};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::chaos::plan::Plan;
use crate::chaos::secret;

/// Between two tries to reach a Redis that is away.
const AGAIN: Duration = Duration::from_millis(50);

/// What was sent.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) messages: Messages,
    pub(super) wrong: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Messages {
    pub all: u64,
    /// Of stories that hold what is not judged.
    pub held: u64,
    /// Since Redis was last away.
    pub latest: u64,
}

/// Listens until `end`, through all that happens to Redis; what is sent while it is not connected nobody hears.
pub(super) async fn listen(port: u16, plan: &Plan, end: CancellationToken) -> Heard {
    let channels: HashMap<String, &(StoryId, Policies)> = plan
        .stories
        .iter()
        .flat_map(|story| {
            // Which shard a story is in is the bus's affair.
            (0..plan.shards).map(move |shard| (format!("sf:{{{shard}}}:live:{}", story.0), story))
        })
        .collect();
    let (mut heard, mut tries) = (Heard::default(), interval(AGAIN));
    loop {
        tokio::select! {
            // A lost connection is what the run is for.
            _lost = heard.connection(port, &channels) => {}
            () = end.cancelled() => return heard,
        }
        tries.tick().await;
    }
}

impl Heard {
    /// Hears until the connection is lost.
    async fn connection(
        &mut self,
        port: u16,
        channels: &HashMap<String, &(StoryId, Policies)>,
    ) -> anyhow::Result<()> {
        self.messages.latest = 0;
        let mut stream = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?);
        for channel in channels.keys() {
            let asks = format!("SSUBSCRIBE {channel}\r\n");
            stream.write_all(asks.as_bytes()).await?;
        }
        loop {
            let mut words = Vec::new();
            for _ in 0..length(&mut stream, '*').await? {
                words.push(word(&mut stream).await?);
            }
            if let [kind, channel, message] = &words[..]
                && kind == "smessage"
            {
                let (story, policies) = channels.get(channel).context("nobody's channel")?;
                self.message(story, *policies, message);
            }
        }
    }

    fn message(&mut self, story: &StoryId, policies: Policies, message: &str) {
        self.messages.all += 1;
        self.messages.latest += 1;
        self.messages.held += u64::from(policies.output == OutputPolicy::Hold);
        if let Some(words) = secret::leaked(policies, message) {
            self.wrong
                .push(format!("{story}: {words:?} was sent to readers: {message}"));
        }
        let kind = serde_json::from_str(message).map(|message: Value| message["t"].clone());
        let is_event = kind.is_ok_and(|kind| kind == "event");
        if policies.output == OutputPolicy::Hold && !is_event {
            self.wrong.push(format!(
                "{story}: readers were sent what waits for its verdict: {message}"
            ));
        }
    }
}

/// A bulk string; a number is its digits.
async fn word(stream: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    if stream.fill_buf().await?.first() == Some(&b':') {
        return line(stream).await;
    }
    let mut bytes = vec![0; length(stream, '$').await? + "\r\n".len()];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes)?
        .trim_end_matches("\r\n")
        .to_owned())
}

async fn length(stream: &mut BufReader<TcpStream>, kind: char) -> anyhow::Result<usize> {
    let line = line(stream).await?;
    let length = line.strip_prefix(kind);
    Ok(length
        .with_context(|| format!("{line:?} for {kind}"))?
        .parse()?)
}

async fn line(stream: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut line = String::new();
    ensure!(stream.read_line(&mut line).await? > 0, "Redis hung up");
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_verdict_is_not_to_be_heard() {
        let event = |text: &str| format!(r#"{{"t":"event","seq":1,"event":{{"text":"{text}"}}}}"#);
        let delta = r#"{"t":"delta","re":"r1","text":"so"}"#.to_owned();
        for (message, wrong) in [
            (event("I wait"), 0),
            (event(secret::PEOPLES), 1),
            (event(secret::MODELS), 1),
            (delta, 1),
        ] {
            for (policies, wrong) in [(secret::HOLD, wrong), (secret::OFF, 0)] {
                let mut heard = Heard::default();
                heard.message(&"castle".parse().unwrap(), policies, &message);
                assert_eq!(heard.wrong.len(), wrong, "{message}");
            }
        }
    }
}
