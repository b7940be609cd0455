//! `storyfleet dead`: list, show, redrive and purge dead letters.

use std::process::ExitCode;

use agent::exit;
use anyhow::anyhow;
use bus::{Bus, DeadLetter, Error, Replicated, Role};
use serde::Serialize;
use serde_json::json;
use story::Agent;

use crate::args::{DeadCommand, Letter, RedriveArgs};
use crate::output::{Output, note, one_line};
use crate::replicas::{add_replicated, note_doubt};

/// A dead letter as programs are given it.
#[derive(Serialize)]
struct Listed<'a> {
    agent: &'a str,
    #[serde(flatten)]
    letter: &'a DeadLetter,
}

pub(crate) async fn run(command: DeadCommand, bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    match command {
        DeadCommand::List { agent } => list(agent, bus, out).await?,
        DeadCommand::Show(letter) => show(&letter, bus, out).await?,
        DeadCommand::Redrive(args) => return redrive(args, bus, out).await,
        DeadCommand::Purge(Letter { agent, id }) => {
            let done = bus.purge(agent, &id).await?;
            let done = done.then_some(Replicated::Unasked);
            tell(done, (agent, &id), "is gone", out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One agent, or each.
fn of(agent: Option<Agent>) -> Vec<Agent> {
    agent.map_or_else(|| Agent::ALL.to_vec(), |agent| vec![agent])
}

async fn list(agent: Option<Agent>, bus: &Bus, out: Output) -> anyhow::Result<()> {
    let mut none = true;
    for agent in of(agent) {
        for letter in bus.dead(agent).await? {
            none = false;
            if out.json {
                out.value(&listed(agent, &letter))?;
            } else {
                out.line(&headline(agent, &letter))?;
            }
        }
    }
    if none && !out.json {
        out.line("no dead letters")?;
    }
    Ok(())
}

async fn show(Letter { agent, id }: &Letter, bus: &Bus, out: Output) -> anyhow::Result<()> {
    let letter = bus.dead_letter(*agent, id).await?;
    let letter = letter.ok_or_else(|| absent(*agent, id))?;
    if out.json {
        out.value(&listed(*agent, &letter))?;
    } else {
        out.line(&headline(*agent, &letter))?;
        for (name, value) in &letter.fields {
            out.line(&format!("{}: {}", one_line(name), one_line(value)))?;
        }
    }
    Ok(())
}

async fn redrive(args: RedriveArgs, bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    bus.check_rights(Role::Operator).await?;
    let (Some(agent), Some(id)) = (args.agent, &args.id) else {
        return redrive_all(&args, bus, out).await;
    };
    let done = bus.redrive_replicated(agent, id).await?;
    tell(done, (agent, id), "is in its lane again", out)?;
    Ok(ExitCode::SUCCESS)
}

/// All that are there when it begins: what dies again meanwhile is not sent again and again.
async fn redrive_all(args: &RedriveArgs, bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    let mut sent = Sent::default();
    let done = send_all(args, bus, &mut sent).await;
    // Also where one failed: those before it are done.
    note_doubt(sent.fewest);
    done?;
    let Sent {
        redriven,
        left,
        fewest,
    } = sent;
    if out.json {
        let mut told = json!({"redriven": redriven, "left": left});
        add_replicated(&mut told, fewest);
        out.value(&told)?;
    } else {
        out.line(&format!("in their lanes again: {redriven}"))?;
    }
    Ok(if left == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What became of many letters.
struct Sent {
    redriven: u64,
    left: u64,
    /// What replicas have of them.
    fewest: Replicated,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            redriven: 0,
            left: 0,
            fewest: Replicated::Unasked,
        }
    }
}

async fn send_all(args: &RedriveArgs, bus: &Bus, sent: &mut Sent) -> anyhow::Result<()> {
    for agent in of(args.agent) {
        let letters = bus.dead(agent).await?.into_iter();
        let meant = |letter: &DeadLetter| args.class.as_ref().is_none_or(|it| *it == letter.class);
        for letter in letters.filter(meant) {
            match bus.redrive_replicated(agent, &letter.id).await {
                Ok(None) => {}
                Ok(Some(replicated)) => {
                    sent.redriven += 1;
                    sent.fewest = sent.fewest.or_fewer(replicated);
                }
                Err(Error::Data(why)) => {
                    sent.left += 1;
                    note(&format!(
                        "{} of {agent} stays: {}",
                        letter.id,
                        one_line(&why)
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn listed(agent: Agent, letter: &DeadLetter) -> Listed<'_> {
    let agent = agent.as_str();
    Listed { agent, letter }
}

fn headline(agent: Agent, letter: &DeadLetter) -> String {
    let story = letter.story.as_ref().map_or("?", |story| story.as_str());
    format!(
        "{} {agent} {story} {} after {} tries: {}",
        letter.id,
        one_line(&letter.class),
        letter.tries,
        one_line(&letter.reason)
    )
}

fn absent(agent: Agent, id: &str) -> anyhow::Error {
    exit::configuration(anyhow!(
        "{agent} has no dead letter {id}, or has it no more: see `storyfleet dead list`"
    ))
}

/// `done`: what replicas have of it, where it was done.
fn tell(
    done: Option<Replicated>,
    (agent, id): (Agent, &str),
    says: &str,
    out: Output,
) -> anyhow::Result<()> {
    let replicated = done.ok_or_else(|| absent(agent, id))?;
    note_doubt(replicated);
    if out.json {
        let mut told = json!({"id": id, "done": true});
        add_replicated(&mut told, replicated);
        out.value(&told)?;
    } else {
        out.line(&format!("{id} {says}"))?;
    }
    Ok(())
}
