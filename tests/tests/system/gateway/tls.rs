//! The gateway under TLS: what it speaks there, and files that do not do.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use futures::{SinkExt, StreamExt};
use gateway::auth::Role;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use system_tests::edge::Node;
use system_tests::{Signal, eventually, program};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, rustls};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::{Edge, join, publish, says};

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// The files of a certificate for this machine.
pub(super) struct Files {
    certificate: String,
    key: String,
}

impl Files {
    fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let path = |end| folder.join(format!("{name}.{end}")).display().to_string();
        let files = Self {
            certificate: path("certificate"),
            key: path("key"),
        };
        files.write()?;
        Ok(files)
    }

    /// A new one each time.
    fn write(&self) -> anyhow::Result<()> {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
        std::fs::write(&self.certificate, cert.pem())?;
        Ok(std::fs::write(&self.key, signing_key.serialize_pem())?)
    }

    fn options(&self) -> [&str; 4] {
        ["--tls-cert", &self.certificate, "--tls-key", &self.key]
    }

    /// By whoever takes this certificate and no other.
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        protocols: &[&str],
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.certificate)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        let tcp = TcpStream::connect(address).await?;
        let connected = TlsConnector::from(Arc::new(config));
        let connected = connected.connect(ServerName::from(address.ip()), tcp);
        Ok(timeout(DEADLINE, connected).await??)
    }
}

/// A stack, and a node of it under TLS.
pub(super) async fn start(options: &[&str]) -> anyhow::Result<(Edge, Node, Files)> {
    let edge = Edge::start(&[]).await?;
    let files = Files::new(edge.folder.path(), "own")?;
    let options = [&files.options(), options].concat();
    let node = edge.another_with(&options).await?;
    Ok((edge, node, files))
}

#[tokio::test]
async fn a_socket_talks_under_tls_and_plain_http_there_harms_nobody() -> anyhow::Result<()> {
    let (edge, node, files) = start(&["--hsts", "365d"]).await?;
    let stream = files.connect(node.address(), &["http/1.1"]).await?;
    let mut request = format!("wss://{}/v1/ws", node.address()).into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", "storyfleet.v1".parse()?);
    let bearer = format!("Bearer {}", edge.token("mira", Role::Author)?);
    headers.insert("authorization", bearer.parse()?);
    headers.insert("origin", format!("https://{}", node.address()).parse()?);
    let (mut socket, response) = client_async(request, stream).await?;
    assert!(response.headers().contains_key("strict-transport-security"));
    // Whoever comes in the clear is sent away, in the midst of it.
    let plain = edge.client.get(node.url("/")).send().await;
    assert!(plain.is_err(), "{plain:?}");
    socket.send(Message::text(join(None).to_string())).await?;
    socket
        .send(Message::text(publish("Hello?").to_string()))
        .await?;
    let heard = async {
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else {
                continue;
            };
            let frames = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
            for frame in frames {
                if says(&frame?, "Hello?") {
                    return Ok(());
                }
            }
        }
        anyhow::bail!("the socket ended")
    };
    timeout(DEADLINE, heard).await??;
    socket.close(None).await?;
    let gone = node.end().await?;
    ensure!(gone.success(), "{gone}");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn browsers_come_by_https_only_where_an_operator_says_so() -> anyhow::Result<()> {
    let (edge, node, files) = start(&[]).await?;
    let another = async |age| {
        let options = [&files.options()[..], &["--hsts", age]].concat();
        edge.another_with(&options).await
    };
    let (year, none) = (another("365d").await?, another("0s").await?);
    let trusts = reqwest::Certificate::from_pem(&std::fs::read(&files.certificate)?)?;
    let client = reqwest::Client::builder()
        .tls_certs_only([trusts])
        .build()?;
    for (node, told) in [
        (&node, None),
        (&year, Some("max-age=31536000")),
        (&none, Some("max-age=0")),
    ] {
        for path in ["/", "/nothing", "/v1/stories/castle"] {
            let answer = client
                .get(format!("https://{}{path}", node.address()))
                .send()
                .await?;
            let strict = answer.headers().get("strict-transport-security");
            assert_eq!(
                strict.map(|value| value.to_str()).transpose()?,
                told,
                "{path}"
            );
        }
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn files_that_do_not_do_are_a_matter_of_configuration() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (own, other) = (
        Files::new(folder.path(), "own")?,
        Files::new(folder.path(), "other")?,
    );
    let missing = folder.path().join("missing").display().to_string();
    for (certificate, key, words) in [
        (&own.certificate, None, "--tls-key"),
        (&missing, Some(&own.key), "missing cannot be read"),
        (&own.key, Some(&own.key), "own.key has no certificate in it"),
        (
            &own.certificate,
            Some(&own.certificate),
            "own.certificate has no private key in it",
        ),
        (
            &own.certificate,
            Some(&other.key),
            "other.key is not that of the certificate in",
        ),
    ] {
        let mut command = Command::new(program("gateway")?);
        command.args(["run", "--jwt-secrets", "secrets", "--tls-cert", certificate]);
        if let Some(key) = key {
            command.args(["--tls-key", key]);
        }
        let output = timeout(DEADLINE, command.output()).await??;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(words), "{told}: {words}");
    }
    Ok(())
}

#[tokio::test]
async fn a_renewed_certificate_is_for_new_connections_and_a_broken_one_for_none()
-> anyhow::Result<()> {
    let (edge, node, files) = start(&[]).await?;
    let key = std::fs::read(&files.key)?;
    std::fs::write(&files.key, "no key")?;
    eventually("it is told of", async || {
        Ok(node.log()?.contains("has no private key").then_some(()))
    })
    .await?;
    files.connect(node.address(), &[]).await?;
    std::fs::write(&files.key, key)?;
    // Trusts what is in the file, and nothing else.
    files.write()?;
    eventually("the new one is there", async || {
        Ok(files.connect(node.address(), &[]).await.ok().map(drop))
    })
    .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_node_ends_in_its_time_though_its_certificate_hangs() -> anyhow::Result<()> {
    let (edge, node, files) = start(&["--drain", "2s"]).await?;
    let held = hang(Path::new(&files.certificate), async || Ok(())).await?;
    ends(node).await?;
    drop(held);
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_node_ends_in_its_time_though_its_secrets_hang() -> anyhow::Result<()> {
    let edge = Edge::start(&["--drain", "2s"]).await?;
    let secrets = edge.folder.path().join("secrets");
    // They are read when somebody shows a token.
    let asks = async || edge.page("mira", "").await.map(drop);
    let held = hang(&secrets, asks).await?;
    ends(edge.node).await?;
    drop(held);
    edge.stack.end().await;
    Ok(())
}

/// Puts what gives nothing in the place of a file, and waits until the node reads it.
async fn hang(
    path: &Path,
    asks: impl AsyncFn() -> anyhow::Result<()>,
) -> anyhow::Result<pipe::Sender> {
    std::fs::remove_file(path)?;
    let made = Command::new("mkfifo").arg(path).status().await?;
    ensure!(made.success(), "{made}");
    eventually("it is read", async || {
        asks().await?;
        Ok(pipe::OpenOptions::new().open_sender(path).ok())
    })
    .await
}

async fn ends(mut node: Node) -> anyhow::Result<()> {
    node.signal(Signal::TERM)?;
    let begun = Instant::now();
    let gone = eventually("the node ends", async || node.ended()).await?;
    ensure!(gone.success(), "{gone}");
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(10), "{took:?}");
    Ok(())
}
