//! Where the figures come from: Redis by the bus, and pages of metrics over HTTP. Everything is bounded in time and size.

use std::time::Duration;

use anyhow::{Context, ensure};
use bus::Bus;
use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::metrics::Scrape;
use super::model::{Failure, Look, Page};
use crate::output::one_line;
use crate::target::{Target, without_password};

/// Of one page.
const PATIENCE: Duration = Duration::from_millis(1_500);
const LARGEST_PAGE: usize = 4 << 20;

pub(super) struct Source<'a> {
    target: &'a Target,
    bus: Bus,
    http: reqwest::Client,
    pages: Vec<String>,
}

impl<'a> Source<'a> {
    /// # Errors
    /// When there is no Redis to look at: a URL that is wrong is told at once.
    pub(super) async fn new(target: &'a Target, pages: Vec<String>) -> anyhow::Result<Self> {
        let redirect = reqwest::redirect::Policy::none();
        Ok(Self {
            target,
            bus: target.bus().await?,
            http: reqwest::Client::builder().redirect(redirect).build()?,
            pages,
        })
    }

    /// As it may be shown.
    pub(super) fn redis(&self) -> String {
        one_line(&without_password(self.bus.url()))
    }

    pub(super) async fn look(&mut self) -> Look {
        let pages = join_all(self.pages.iter().map(|url| self.page(url)));
        let (fleet, pages) = futures::join!(self.bus.fleet(), pages);
        if let Err(error) = &fleet {
            tracing::debug!(%error, "Redis was not looked at");
            self.follow().await;
        }
        Look {
            at: Instant::now(),
            time: jiff::Timestamp::now(),
            fleet: fleet.map_err(|error| Failure {
                is_away: error.is_away(),
                is_configuration: error.is_configuration(),
                why: one_line(&error.to_string()),
            }),
            pages,
        }
    }

    /// Goes on at another Redis when `storyfleet up` was started anew: its port is another one.
    async fn follow(&mut self) {
        if !matches!(self.target.has_moved(&self.bus), Ok(true)) {
            return;
        }
        // Where that one is not there yet the next look tries again.
        if let Ok(bus) = self.target.bus().await {
            self.bus = bus;
        }
    }

    async fn page(&self, url: &str) -> Page {
        let scrape = match timeout(PATIENCE, self.scrape(url)).await {
            Ok(scrape) => scrape.map_err(|error| one_line(&format!("{error:#}"))),
            Err(_) => Err(format!("no answer within {} ms", PATIENCE.as_millis())),
        };
        Page {
            url: one_line(&without_password(url)),
            scrape,
        }
    }

    async fn scrape(&self, url: &str) -> anyhow::Result<Scrape> {
        // The client's error names the URL, and whoever is asked for a password has it in there.
        let send = self.http.get(url).send().await;
        let mut answer = send.map_err(reqwest::Error::without_url)?;
        ensure!(answer.status().is_success(), "status {}", answer.status());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            ensure!(
                body.len() + chunk.len() <= LARGEST_PAGE,
                "the page has more than {} MiB",
                LARGEST_PAGE >> 20
            );
            body.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(body).context("the page is no text")?;
        Ok(Scrape::read(&text)?)
    }
}
