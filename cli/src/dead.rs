//! `storyfleet dead`: list, show, redrive and purge dead letters.

use std::process::ExitCode;

use anyhow::bail;
use bus::{Bus, DeadLetter};
use story::Agent;

use crate::args::DeadCommand;
use crate::output::{Output, one_line};

pub(crate) async fn run(command: DeadCommand, bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    match command {
        DeadCommand::List { agent } => list(agent, bus, out).await?,
        DeadCommand::Show { agent, id } => show(agent, &id, bus, out).await?,
        DeadCommand::Redrive { agent, id } => {
            let done = bus.redrive(agent, &id).await?;
            tell(done, &id, "is in its lane again", out)?;
        }
        DeadCommand::Purge { agent, id } => {
            let done = bus.purge(agent, &id).await?;
            tell(done, &id, "is gone", out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(agent: Option<Agent>, bus: &Bus, out: Output) -> anyhow::Result<()> {
    let agents = agent.map_or_else(|| Agent::ALL.to_vec(), |agent| vec![agent]);
    let mut none = true;
    for agent in agents {
        for letter in bus.dead(agent).await? {
            none = false;
            if out.json {
                out.value(&letter)?;
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

async fn show(agent: Agent, id: &str, bus: &Bus, out: Output) -> anyhow::Result<()> {
    let Some(letter) = bus.dead_letter(agent, id).await? else {
        bail!("{agent} has no dead letter {id}: see `storyfleet dead list`");
    };
    if out.json {
        out.value(&letter)?;
    } else {
        out.line(&headline(agent, &letter))?;
        for (name, value) in &letter.fields {
            out.line(&format!("{}: {}", one_line(name), one_line(value)))?;
        }
    }
    Ok(())
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

fn tell(done: bool, id: &str, says: &str, out: Output) -> anyhow::Result<()> {
    if out.json {
        out.value(&serde_json::json!({"id": id, "done": done}))?;
    } else if done {
        out.line(&format!("{id} {says}"))?;
    } else {
        out.line(&format!(
            "{id} is no dead letter any more, if it was one: nothing was done"
        ))?;
    }
    Ok(())
}
