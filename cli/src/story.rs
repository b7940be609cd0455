//! `storyfleet story`: create, show, list.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use ::story::{Character, ContentPolicy, InputPolicy, OutputPolicy, Phrases, Policies, StoryId};
use agent::exit;
use anyhow::anyhow;
use bus::{Bus, NewStory, Replicated, Retention, Role, Story};
use serde_json::json;

use crate::args::{CreateArgs, StoryCommand, TrimArgs};
use crate::output::{Output, Style, note, one_line, plain};
use crate::replicas::{add_replicated, note_doubt};
use crate::target::Target;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) async fn run(
    command: StoryCommand,
    target: &Target,
    out: Output,
) -> anyhow::Result<ExitCode> {
    match command {
        StoryCommand::Create(args) => {
            // What is wrong with it is told before anybody is asked anything.
            let new = new(args)?;
            create(&new, &target.bus().await?, out).await?;
        }
        StoryCommand::Show { story } => show(&story, &target.bus().await?, out).await?,
        StoryCommand::List => list(&target.bus().await?, out).await?,
        StoryCommand::Trim(args) => trim(args, &target.bus().await?, out).await?,
        StoryCommand::Renew { story } => renew(story, &target.bus().await?, out).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(new: &NewStory, bus: &Bus, out: Output) -> anyhow::Result<()> {
    // The first to write here records the number of shards.
    bus.check(Role::Author).await?;
    let replicated = bus.create_story_replicated(new).await?;
    note_doubt(replicated);
    if lists_are_idle(new) {
        note(
            "nothing of this story is judged: its lists count only with --input hold or --output hold or retract",
        );
    }
    if out.json {
        let mut told = json!({"story": new.id});
        add_replicated(&mut told, replicated);
        out.value(&told)?;
    } else {
        out.line(&format!("created {0}: storyfleet send {0} \"…\"", new.id))?;
    }
    Ok(())
}

/// Whether there are words to look for, and nobody looks.
fn lists_are_idle(new: &NewStory) -> bool {
    let lists = [&new.content.blocked, &new.content.allowed];
    let judged = new.policies.input != InputPolicy::Off || new.policies.output != OutputPolicy::Off;
    !judged && lists.iter().any(|list| !list.is_empty())
}

/// Of two with one name only the last would be kept.
fn unique(flag: &str, pairs: &[(String, String)]) -> anyhow::Result<()> {
    let mut names = BTreeSet::new();
    for (name, _) in pairs {
        if !names.insert(name) {
            let twice = anyhow!("{flag} {name} is given twice: give each name once");
            return Err(exit::configuration(twice));
        }
    }
    Ok(())
}

async fn list(bus: &Bus, out: Output) -> anyhow::Result<()> {
    let mut stories = bus.stories().await?;
    stories.sort();
    for id in stories {
        if out.json {
            out.value(&json!({"story": id}))?;
        } else {
            out.line(id.as_str())?;
        }
    }
    Ok(())
}

async fn trim(args: TrimArgs, bus: &Bus, out: Output) -> anyhow::Result<()> {
    bus.check_rights(Role::Operator).await?;
    let keep = Retention {
        events: args.keep,
        age: DAY * args.days,
    };
    let ids = named(args.story, bus).await?;
    let mut fewest = Replicated::Unasked;
    let trimmed = trim_all(ids, keep, (bus, out), &mut fewest).await;
    // Also where one failed: those before it are done.
    note_doubt(fewest);
    trimmed
}

/// `fewest` is what replicas have of them.
async fn trim_all(
    ids: Vec<StoryId>,
    keep: Retention,
    (bus, out): (&Bus, Output),
    fewest: &mut Replicated,
) -> anyhow::Result<()> {
    for id in ids {
        let (removed, replicated) = bus.trim_replicated(&id, keep).await?;
        *fewest = fewest.or_fewer(replicated);
        if out.json {
            let mut told = json!({"story": id, "removed": removed});
            add_replicated(&mut told, replicated);
            out.value(&told)?;
        } else {
            out.line(&format!("{id}: {removed} events removed"))?;
        }
    }
    Ok(())
}

async fn renew(story: Option<StoryId>, bus: &Bus, out: Output) -> anyhow::Result<()> {
    bus.check_rights(Role::Author).await?;
    let ids = named(story, bus).await?;
    let mut fewest = Replicated::Unasked;
    let renewed = renew_all(ids, bus, out, &mut fewest).await;
    // Also where one failed: those before it are done.
    note_doubt(fewest);
    renewed
}

/// `fewest` is what replicas have of them.
async fn renew_all(
    ids: Vec<StoryId>,
    bus: &Bus,
    out: Output,
    fewest: &mut Replicated,
) -> anyhow::Result<()> {
    for id in ids {
        let replicated = bus.renew_story(&id).await?;
        *fewest = fewest.or_fewer(replicated);
        if out.json {
            let mut told = json!({"story": id});
            add_replicated(&mut told, replicated);
            out.value(&told)?;
        } else {
            out.line(&format!("{id}: readers begin anew"))?;
        }
    }
    Ok(())
}

/// The one that is named, or every one.
async fn named(story: Option<StoryId>, bus: &Bus) -> anyhow::Result<Vec<StoryId>> {
    Ok(match story {
        Some(story) => vec![bus.story(&story).await?.id],
        None => bus.stories().await?,
    })
}

async fn show(id: &StoryId, bus: &Bus, out: Output) -> anyhow::Result<()> {
    let story = bus.story(id).await?;
    if out.json {
        out.value(&value(id, &story))?;
        return Ok(());
    }
    out.line(&out.styled(Style::Bold, &one_line(&story.title)))?;
    for (name, text) in [
        ("premise", &story.premise),
        ("style", &story.style),
        ("so far", &story.summary),
    ] {
        if !text.is_empty() {
            out.line(&format!("{name}: {}", plain(text)))?;
        }
    }
    let Policies {
        input,
        output,
        recording,
    } = story.policies;
    out.line(&format!(
        "events: {}, input {}, output {}, recording {}",
        story.seq,
        input.as_str(),
        output.as_str(),
        recording.as_str()
    ))?;
    let content = &story.content;
    out.line(&format!("rating: {}", content.rating.as_str()))?;
    for (name, phrases) in [("blocked", &content.blocked), ("allowed", &content.allowed)] {
        if !phrases.is_empty() {
            let list: Vec<String> = phrases.iter().map(one_line).collect();
            out.line(&format!("{name}: {}", list.join(", ")))?;
        }
    }
    for (name, character) in &story.characters {
        let name = out.styled(Style::Bold, &one_line(name));
        out.line(&format!(
            "{name}: {} {}",
            plain(&character.description),
            plain(&character.voice)
        ))?;
    }
    for (key, text) in &story.lore {
        out.line(&format!("{}: {}", one_line(key), plain(text)))?;
    }
    Ok(())
}

fn value(id: &StoryId, story: &Story) -> serde_json::Value {
    json!({
        "story": id,
        "title": story.title,
        "style": story.style,
        "premise": story.premise,
        "summary": story.summary,
        "input": story.policies.input,
        "output": story.policies.output,
        "recording": story.policies.recording,
        "content": story.content,
        "seq": story.seq,
        "epoch": story.epoch,
        "renewed": story.renewed,
        "characters": story.characters,
        "lore": story.lore,
    })
}

fn new(args: CreateArgs) -> anyhow::Result<NewStory> {
    unique("--character", &args.characters)?;
    unique("--lore", &args.lore)?;
    let characters = args.characters.into_iter().map(|(name, description)| {
        let character = Character {
            description,
            voice: String::new(),
        };
        (name, character)
    });
    Ok(NewStory {
        id: args.story,
        title: args.title,
        style: args.style,
        premise: args.premise,
        policies: Policies {
            input: args.input,
            output: args.output,
            recording: args.recording,
        },
        content: ContentPolicy {
            rating: args.rating,
            blocked: phrases("--block", args.blocked)?,
            allowed: phrases("--allow", args.allowed)?,
        },
        characters: characters.collect(),
        lore: args.lore.into_iter().collect(),
    })
}

fn phrases(flag: &str, words: Vec<String>) -> anyhow::Result<Phrases> {
    let phrases = Phrases::try_from(words);
    phrases.map_err(|error| exit::configuration(anyhow!("{flag}: {error}")))
}
