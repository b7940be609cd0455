//! `replay`: turns that were recorded, gone through again by the code that answers live, and held against how they went.
//!
//! A turn is made anew from its recording: the event, the context, the clock. The model's part is played from the
//! recording, or comes from a model. What comes of it is recorded again, and the two recordings are compared level by
//! level. Nothing is written to the story.

mod accept;
mod args;
mod compare;
mod judge;
mod places;
mod play;
mod publish;
mod report;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod words;

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bus::Bus;
use clap::Args;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use llm::Client;
use mock_llm::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use accept::Accepted;
use args::Llm;
pub(crate) use args::Replay;
use compare::{Difference, Level, differences, nearest};
use judge::Judge;
use places::Places;
use play::{Means, Player};
use publish::Publication;
use report::{Outcome, Report, Tally, Verdict, Went};
use source::{Found, PassedOver, Source};
use table::Side;

use crate::recording::Recording;
use crate::{Agent, Emitted, archive, exit};

/// How long a person is told nothing.
const SILENCE: Duration = Duration::from_secs(5);

/// It went otherwise than recorded.
const DIFFERS: u8 = 1;
/// There is no recording of what was asked for.
const MISSING: u8 = 3;
/// Gone through twice, it went in two ways.
const UNSTABLE: u8 = 4;
/// It would cost more than it may.
const REFUSED: u8 = 5;

impl<O: Args + Serialize + DeserializeOwned> Replay<O> {
    /// `given`: the agent's own options that the command line names.
    pub(crate) async fn run<A: Agent>(
        &self,
        agent: story::Agent,
        build: impl Fn(&O) -> A,
        given: &[String],
    ) -> anyhow::Result<ExitCode> {
        let code = self.replayed(agent, build, given).await;
        code.map_err(sorted)
    }

    async fn replayed<A: Agent>(
        &self,
        agent: story::Agent,
        build: impl Fn(&O) -> A,
        given: &[String],
    ) -> anyhow::Result<ExitCode> {
        self.checked()?;
        let prompts = build(&self.own).prompts(self.prompts.as_deref());
        prompts.map_err(exit::configuration)?;
        if self.accept && self.llm != Llm::Recorded {
            return Err(exit::configuration(anyhow::anyhow!(
                "--accept takes what came of the recorded answers: leave out --llm"
            )));
        }
        let source = self.source().await?;
        let places = Places::of(&source, agent, self.places()).await?;
        if self.url()?.is_some() {
            let turns = PassedOver::default();
            let cost = cost(source.turns(&places, &turns), self.judge).await?;
            if cost > self.budget {
                let what = format!(
                    "these turns cost {cost} tokens when they were recorded, and --budget allows {}: raise it, or choose fewer with --from and --to",
                    self.budget
                );
                exit::tell(&what);
                return Ok(ExitCode::from(REFUSED));
            }
        }
        let mock = CancellationToken::new();
        let live = self.client(&mock).await?;
        let means = Means {
            judge: self.judging(live.as_ref())?,
            live,
            model: self.model.clone(),
            prompts: self.prompts.clone(),
            changed: self.changed(given)?,
            speed: self.speed,
        };
        let player = Player::new(build, means);
        let code = self.all(&player, &source, places).await;
        mock.cancel();
        code
    }

    async fn all<A: Agent, B: Fn(&O) -> A>(
        &self,
        player: &Player<A, B>,
        source: &Source,
        places: Places,
    ) -> anyhow::Result<ExitCode> {
        let report = Report::new(self.diff, self.out.clone())?;
        let mut published = match &self.publish_to {
            Some(id) => {
                let bus = Bus::new(self.redis.settings())?;
                Some(Publication::begin(&bus, id, source.known().await?, places.agent()).await?)
            }
            None => None,
        };
        let (mut tally, mut accepted) = (Tally::default(), Accepted::default());
        let passed_over = PassedOver::default();
        let verdicts = source.turns(&places, &passed_over);
        let verdicts = verdicts.map_ok(|found| async move { Ok(verdict(player, found).await) });
        let mut verdicts = verdicts.try_buffered(usize::try_from(self.concurrency)?);
        while let Some(verdict) = watched(verdicts.try_next(), &tally).await? {
            tally.add(&verdict);
            if self.accept && accepted.add(&verdict)? {
                tally.accept();
            }
            published.iter_mut().for_each(|story| story.add(&verdict));
            report.verdict(&verdict)?;
        }
        drop(verdicts);
        if let (Some(published), Some(id)) = (published, &self.publish_to) {
            let events = published.end(source).await?;
            report.published(id, events)?;
        }
        let asked = places.are_chosen();
        let lost = places.lost(&tally.answers);
        if let (true, Some(file)) = (self.accept, &self.from_file) {
            let accepted = accepted.write(file);
            let as_it_was = || format!("{} stays as it was", file.display());
            report.accepted(accepted.with_context(as_it_was)?)?;
        }
        let others = match tally.is_empty() {
            true => others(&source.census().await?, asked),
            false => String::new(),
        };
        report.end(&tally, &lost, (&others, &passed_over), player.is_live())?;
        Ok(ExitCode::from(tally.code(!lost.is_empty())))
    }

    fn judging(&self, live: Option<&Client>) -> anyhow::Result<Option<Judge>> {
        let model = self.judge_model.as_ref().or(self.model.as_ref());
        match (self.judge, live) {
            (false, _) => Ok(None),
            (true, Some(live)) => Ok(Some(Judge::new(live.clone(), model.cloned())?)),
            (true, None) => Err(exit::configuration(anyhow::anyhow!(
                "--judge compares with another answer: say whose with --llm mock, live or a URL"
            ))),
        }
    }

    async fn source(&self) -> anyhow::Result<Source> {
        match (&self.story, &self.from_file) {
            (Some(story), _) => {
                Source::story(Bus::new(self.redis.settings())?, story.clone()).await
            }
            (None, Some(file)) => Source::file(file.clone()),
            (None, None) => unreachable!("the command line asks for one of them"),
        }
    }

    /// The model that answers, where the recording does not. The mock lives until `end`.
    async fn client(&self, end: &CancellationToken) -> anyhow::Result<Option<Client>> {
        let url = match (&self.llm, self.url()?) {
            (Llm::Recorded, _) => return Ok(None),
            (_, Some(url)) => url,
            (_, None) => mock(end.clone()).await?,
        };
        let settings = self.provider.settings(&url, llm::Observer::default())?;
        Ok(Some(Client::new(settings).map_err(exit::configuration)?))
    }
}

/// Waits; whoever sits before it is told that it goes on.
async fn watched<T>(awaited: impl Future<Output = T>, so_far: &Tally) -> T {
    let mut awaited = pin!(awaited);
    while io::stderr().is_terminal() {
        match timeout(SILENCE, awaited.as_mut()).await {
            Ok(it) => return it,
            Err(_) => exit::note(&format!(
                "{} turns so far, waiting for the next",
                so_far.turns()
            )),
        }
    }
    awaited.await
}

/// The tokens that the turns cost when they were recorded. A judge reads what was asked and both answers: as many again.
async fn cost(turns: BoxStream<'_, anyhow::Result<Found>>, judged: bool) -> anyhow::Result<u64> {
    let costs = turns.try_fold(0_u64, async |sum, found| {
        // What cannot be read is not gone through.
        let recorded = found.json.and_then(|json| Recording::read(&json));
        Ok(sum.saturating_add(recorded.map_or(0, |recorded| recorded.cost())))
    });
    let times = if judged { 2 } else { 1 };
    Ok(costs.await?.saturating_mul(times))
}

/// The error, marked where a file that is given cannot be used: it will be no better the next time.
fn sorted(error: anyhow::Error) -> anyhow::Error {
    if error.is::<archive::Error>() {
        exit::configuration(error)
    } else {
        error
    }
}

/// A mock model of this process; gives its address.
async fn mock(end: CancellationToken) -> anyhow::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.context("the mock model cannot listen")?;
    let address = listener.local_addr()?;
    tokio_util::task::TaskTracker::new().spawn(async move {
        if let Err(error) = mock_llm::serve(listener, Options::default(), end).await {
            tracing::error!(%error, "the mock model died");
        }
    });
    Ok(format!("http://{address}/v1"))
}

async fn verdict<A, B, O>(player: &Player<A, B>, found: Found) -> Verdict
where
    A: Agent,
    B: Fn(&O) -> A,
    O: Args + Serialize + DeserializeOwned,
{
    let went = match found.json {
        Ok(json) => went(player, &json).await,
        Err(error) => Err(error.into()),
    };
    Verdict {
        seq: found.seq,
        place: found.place,
        agent: found.agent,
        id: found.id,
        went: went.map_err(|error| exit::line(&error)),
    }
}

async fn went<A, B, O>(player: &Player<A, B>, json: &[u8]) -> anyhow::Result<Went>
where
    A: Agent,
    B: Fn(&O) -> A,
    O: Args + Serialize + DeserializeOwned,
{
    let recorded = Recording::read(json)?;
    let played = player.play(&recorded).await?;
    let [first, second] = played.twice;
    let mut again = first;
    let unstable = differences(&again, &second, false);
    let (outcome, differences) = if !unstable.is_empty() {
        (Outcome::Unstable, unstable)
    } else if let (false, Some(request)) = (player.is_live(), played.unanswered.first()) {
        let near = nearest(&recorded.calls, request);
        (Outcome::Missing, near.unwrap_or_default())
    } else {
        if let Some(live) = player.live(&recorded).await? {
            again = live;
        }
        let found = differences(&recorded, &again, player.is_live());
        let outcome = if found.is_empty() {
            Outcome::Same
        } else {
            Outcome::Differs
        };
        (outcome, found)
    };
    // A failure has no words that could be better.
    let both = recorded.failed.is_none() && again.failed.is_none();
    let is_another = |found: &Difference| found.level == Level::Response;
    let another = outcome == Outcome::Differs && both && differences.iter().any(is_another);
    let judged = match player.judge() {
        Some(judge) if another => {
            let judged = judge.judge(&recorded, &again).await;
            Some(judged.map_err(|error| exit::line(&error)))
        }
        _ => None,
    };
    let effects = recorded.effects.iter();
    let answers = effects
        .flat_map(|effects| &effects.emit)
        .map(|emitted| match emitted {
            Emitted::New(event) | Emitted::Passed(event) => event.id.clone(),
        });
    Ok(Went {
        outcome,
        differences,
        answers: answers.collect(),
        sides: [Side::of(&recorded), Side::of(&again)],
        again,
        judged,
    })
}

/// What there is, for whoever found nothing.
fn others(census: &[(String, bool, u64)], asked: bool) -> String {
    if census.is_empty() {
        return "nothing is recorded here (it is off for the story, older than what is kept, or was never answered)".to_owned();
    }
    let there = census.iter().map(|(agent, is_of_now, count)| {
        let life = if *is_of_now {
            ""
        } else {
            " of an earlier life of the log, whose places mean other events"
        };
        format!("{count} of the {}{life}", exit::one_line(agent))
    });
    let here = if asked { "none at these places; " } else { "" };
    format!("{here}there are {}", there.collect::<Vec<_>>().join(", "))
}
