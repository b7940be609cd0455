//! What a WebSocket costs the server until it is open and known to be somebody's.

use futures::{StreamExt, TryStreamExt, stream};

use super::client::{Client, Transport, Way};
use super::report::{Group, Row};
use super::stage::{Node, Side, Stage};

const AT_ONCE: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Hs256,
    Es256,
    /// The bare server asks for none.
    None,
}

pub(super) async fn measure(stage: &Stage, count: usize) -> anyhow::Result<Vec<Group>> {
    let gateway = stage.node(Side::Gateway).await?;
    let bare = stage.node(Side::Bare).await?;
    let floor = cost(stage, (&bare, Token::None), count).await?;
    let shared = cost(stage, (&gateway, Token::Hs256), count).await?;
    let signed = cost(stage, (&gateway, Token::Es256), count).await?;
    gateway.end().await?;
    bare.end().await?;
    let rows = [
        Row::new("HS256, CPU of one, µs", shared)
            .beside(floor)
            .at_most(100.0),
        Row::new("ES256, CPU of one, µs", signed).beside(floor),
    ];
    let name = format!("{count} WebSocket handshakes with a token (bare: without one)");
    Ok(vec![Group::new(name, rows)])
}

/// CPU µs of one, after some that do not count.
async fn cost(stage: &Stage, (node, token): (&Node, Token), count: usize) -> anyhow::Result<f64> {
    let shake = async |number: usize| {
        let sub = format!("reader-{number}");
        let token = match token {
            Token::Hs256 => stage.issuer.token(&sub)?,
            Token::Es256 => stage.issuer.signed(&sub)?,
            Token::None => {
                let client = Client::read_bare(node.address, Transport::Socket, "s").await?;
                client.cut();
                return anyhow::Ok(());
            }
        };
        let way = Way {
            address: node.address,
            token: &token,
        };
        let mut client = Client::socket(way).await?;
        let welcome = client.next().await?;
        anyhow::ensure!(
            welcome.starts_with(br#"{"t":"welcome""#),
            "no welcome: {}",
            String::from_utf8_lossy(welcome)
        );
        client.cut();
        Ok(())
    };
    let all = async |count: usize| {
        let shakes = stream::iter(0..count).map(&shake);
        let shakes = shakes.buffer_unordered(AT_ONCE);
        shakes.try_collect::<()>().await
    };
    all(count / 10).await?;
    let before = node.usage()?.cpu;
    all(count).await?;
    let used = node.usage()?.cpu.saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / count as f64)
}
