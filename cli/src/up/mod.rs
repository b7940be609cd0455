//! `storyfleet up`: Redis, a mock model, the three agents and the gateway, until Ctrl-C. It ends in the reverse of the order in which
//! it began: the agents drain while the model and Redis still answer.

mod demo;
mod door;
mod fleet;
mod model;
mod orphan;
mod place;
pub(crate) mod redis;
mod scrape;
mod typed;

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use agent::spans::Exporting;
use agent::telemetry::{self, Format};
use agent::{Shutdown, exit};
use anyhow::anyhow;
use bus::{Bus, Error};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use self::door::{Door, Listen};
use self::fleet::Fleet;
use self::model::Model;
use self::place::Place;
use self::redis::{Folder, Server};
use self::scrape::Scrape;
use crate::args::UpArgs;
use crate::output::{Output, note};
use crate::target::{State, Target, without_password};

/// How often a Redis that is not there is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// How long the end may take without a word.
const PATIENCE: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: UpArgs, target: Target, out: Output) -> anyhow::Result<ExitCode> {
    let _traces = logs(&args, &out).map_err(exit::configuration)?;
    place::check(&args).map_err(exit::configuration)?;
    let tasks = TaskTracker::new();
    let shutdown = Shutdown::on_signals(&tasks)?;
    // Another's server may have to end first: that can be given up.
    let claim = Folder::claim(&target.data);
    let Some(folder) = shutdown.drain.run_until_cancelled(claim).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let folder = folder?;
    let model = Model::start(&args, &tasks).await?;
    let fleet = Fleet::new(&args, &model).map_err(exit::configuration)?;
    let (url, mut server) = match &target.redis {
        Some(url) => (url.clone(), None),
        None => {
            let server = Server::start(&folder)?;
            (server.url.clone(), Some(server))
        }
    };
    let settings = target.settings(url.clone());
    let bus = Bus::new(settings.clone())?;
    let state = State {
        redis: url,
        redis_pid: server.as_ref().and_then(Server::pid),
        pid: Some(std::process::id()),
        prefix: settings.prefix.clone(),
        shards: settings.shards,
        encryption: settings.encryption.clone(),
    };
    state.write(folder.path())?;
    let redis = without_password(&state.redis);
    let up = Up {
        program: typed::program(&target.data),
        bus,
        settings,
        args,
        redis,
        own_redis: server.is_some(),
        model,
        shutdown,
        out,
        folder,
    };
    let served = match &mut server {
        None => Box::pin(up.serve(fleet)).await,
        Some(server) => Box::pin(up.serve_on(server, fleet)).await,
    };
    let tidied = State::remove(up.folder.path());
    up.shutdown.now.cancel();
    up.model.stop();
    let stopped = stop(server).await;
    tasks.close();
    tasks.wait().await;
    served.and(tidied).and(stopped).map(|()| ExitCode::SUCCESS)
}

fn logs(args: &UpArgs, out: &Output) -> anyhow::Result<Exporting> {
    let format = if out.json {
        Format::Json
    } else {
        Format::Pretty
    };
    telemetry::start_traced((format, &args.log_filter), &args.traces, "storyfleet")
}

async fn stop(server: Option<Server>) -> anyhow::Result<()> {
    match server {
        None => Ok(()),
        Some(server) => server.stop().await,
    }
}

struct Up {
    args: UpArgs,
    bus: Bus,
    settings: bus::Settings,
    /// Its address as it may be shown.
    redis: String,
    own_redis: bool,
    /// This program, as it can be typed.
    program: String,
    model: Model,
    shutdown: Shutdown,
    out: Output,
    folder: Folder,
}

impl Up {
    /// Until the fleet has ended, or the server. Without it nothing can be finished: the fleet lets go at once, and what
    /// was in flight is in the data folder for the next time.
    async fn serve_on(&self, server: &mut Server, fleet: Fleet) -> anyhow::Result<()> {
        let mut served = std::pin::pin!(self.serve(fleet));
        tokio::select! {
            served = &mut served => served,
            error = server.ended() => {
                self.shutdown.drain.cancel();
                self.shutdown.now.cancel();
                served.await.and(Err(error))
            }
        }
    }

    async fn serve(&self, fleet: Fleet) -> anyhow::Result<()> {
        let Some(ready) = self
            .shutdown
            .drain
            .run_until_cancelled(self.redis_ready())
            .await
        else {
            return Ok(());
        };
        ready?;
        for doubt in self.model.doubts(fleet.models()).await? {
            note(&doubt);
        }
        let bus = (self.settings.clone(), &self.shutdown);
        let listen = Listen {
            at: self.args.listen,
            not: Place::of(self.model.base_url()),
            internal: self.args.internal_listen,
        };
        let door = Door::open(self.folder.path(), listen, bus).await?;
        let scrape =
            Scrape::open(self.folder.path(), fleet.metrics.clone(), &door.internal).await?;
        self.say_ready(&door, &scrape)?;
        let all = async {
            let (ran, (), ()) = tokio::join!(
                fleet.run(self.settings.clone(), &self.shutdown),
                door.run(&self.shutdown),
                scrape.run(&self.shutdown),
            );
            ran
        };
        tokio::select! {
            ran = all => ran,
            never = self.tells_what_it_waits_for() => match never {},
        }
    }

    /// Who asks it to end sees nothing of that while a model is slow.
    async fn tells_what_it_waits_for(&self) -> Infallible {
        self.shutdown.drain.cancelled().await;
        sleep(PATIENCE).await;
        note(
            "ending: what is being answered is finished first; Ctrl-C again lets go of it, for the next time",
        );
        std::future::pending().await
    }

    /// Waits for Redis as long as it takes, and sees that it is fit and has a story.
    async fn redis_ready(&self) -> anyhow::Result<()> {
        let mut told = false;
        loop {
            match self.prepare().await {
                Ok(()) => return Ok(()),
                Err(error @ Error::Unreachable(_)) => {
                    // Our own server needs a moment, and says itself when it cannot start.
                    if !told && !self.own_redis {
                        let error = exit::line(&anyhow!(error));
                        note(&format!("{}: {error}: waiting for it", self.redis));
                        told = true;
                    }
                    sleep(LOOK).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn prepare(&self) -> Result<(), Error> {
        let server = self.bus.check_server().await?;
        for warning in server.warnings {
            tracing::warn!("{warning}");
        }
        demo::create(&self.args.demo, &self.bus).await
    }

    fn say_ready(&self, door: &Door, scrape: &Scrape) -> anyhow::Result<()> {
        let (redis, llm, story) = (&self.redis, self.model.base_url(), &self.args.demo);
        let data = self.folder.path().display().to_string();
        if self.out.json {
            self.out.value(&json!({
                "ready": true, "redis": redis, "llm": llm, "data": data, "story": story,
                "gateway": door.url, "internal": door.internal, "agents": scrape.url, "page": door.page(story.as_str()),
            }))?;
        } else {
            self.out.line(&format!(
                "ready: redis {redis}, llm {llm}, data {data}. Try: {} send {story} \"I open the door\"",
                self.program
            ))?;
            let internal = &door.internal;
            self.out.line(&format!(
                "what the gateway counts: {internal}/metrics (/livez, /readyz); the agents: {}/metrics",
                scrape.url
            ))?;
            let page = door.page(story.as_str());
            self.out
                .line(&format!("read and write it in a browser: {page}"))?;
        }
        Ok(())
    }
}
