//! Two gateways and the readers who read along.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::bench::edge::client::{Client, Transport, Way};
use crate::bench::edge::token::Issuer;
use crate::bench::load::Load;
use crate::bench::process::Process;
use crate::bench::stage::{LOOK, Stage};

/// How long a gateway may take to listen.
const START: Duration = Duration::from_secs(10);

pub(super) struct Crowd {
    gateways: Vec<Process>,
    readers: JoinSet<std::io::Error>,
    frames: Arc<AtomicU64>,
}

impl Crowd {
    /// So many readers at each gateway, one a story.
    pub(super) async fn gather(
        stage: &Stage,
        load: &Load,
        gateways: usize,
        readers: usize,
    ) -> anyhow::Result<Self> {
        let mut crowd = Self {
            gateways: Vec::new(),
            readers: JoinSet::new(),
            frames: Arc::default(),
        };
        let issuer = Issuer::new(stage.folder.path())?;
        let mut stories = load.stories.iter().cycle();
        for _ in 0..gateways {
            let address = crowd.gateway(stage, &issuer).await?;
            for number in 0..readers {
                // One person may have so many connections and no more.
                let token = issuer.token(&format!("reader-{number}"))?;
                let story = stories.next().context("there are stories")?;
                let way = Way {
                    address,
                    token: &token,
                };
                let transport = Transport::Socket;
                let mut client = Client::read(way, transport, story.as_str(), None).await?;
                let frames = Arc::clone(&crowd.frames);
                crowd.readers.spawn(async move {
                    loop {
                        match client.next().await {
                            Ok(_) => frames.fetch_add(1, Relaxed),
                            Err(error) => return error,
                        };
                    }
                });
            }
        }
        Ok(crowd)
    }

    async fn gateway(&mut self, stage: &Stage, issuer: &Issuer) -> anyhow::Result<SocketAddr> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(std::env::current_exe()?);
        // Nothing of the environment changes what is measured.
        command.env_clear().args(["--redis", &stage.redis.url]);
        command.args(["node", "gateway", "--listen", &address.to_string()]);
        command.arg("--jwt-secrets").arg(issuer.secrets());
        command.arg("--jwks-file").arg(issuer.jwks());
        let log = format!("gateway-{}.log", address.port());
        let mut process = Process::start(&mut command, stage.folder.path().join(log))?;
        let listens = async {
            let mut looks = interval(LOOK);
            while TcpStream::connect(address).await.is_err() {
                process.must_live()?;
                looks.tick().await;
            }
            anyhow::Ok(())
        };
        timeout(START, listens)
            .await
            .context("no gateway listens")??;
        self.gateways.push(process);
        Ok(address)
    }

    /// What the gateways used so far.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        let used = self.gateways.iter().map(|gateway| gateway.usage());
        used.map(|used| Ok(used?.cpu)).sum()
    }

    /// Gives how many frames all readers were given.
    pub(super) async fn end(mut self) -> anyhow::Result<u64> {
        if let Some(ended) = self.readers.try_join_next() {
            anyhow::bail!("a reader was sent away: {}", ended?);
        }
        self.readers.shutdown().await;
        for gateway in self.gateways {
            gateway.end().await?;
        }
        Ok(self.frames.load(Relaxed))
    }
}
