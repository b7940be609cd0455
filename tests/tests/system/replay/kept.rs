//! Which recordings are kept, and who has them.

use anyhow::Context;
use gateway::auth::Role;
use serde_json::{Value, json};
use story::{Agent, EventId, Policies, RecordingPolicy, StoryId};
use system_tests::edge::{Issuer, Node, Person, Socket, Stream};
use system_tests::{Options, Stack};

use super::{JSON, end, kept, replay};

/// So many actions, answered one after the other by workers with these options. Gives the answers' places and ids.
async fn answered(
    stack: &Stack,
    story: &StoryId,
    actions: usize,
    options: &[&str],
) -> anyhow::Result<Vec<(u64, EventId)>> {
    let mut reader = stack.hear(story).await?;
    let narrator = stack.worker_with(Agent::Narrator, options)?.0;
    let mut answers = Vec::new();
    for n in 0..actions {
        let action = stack.act(story, &format!("a{n}"), "I go on.").await?;
        let answer = reader.end_of(&action).await?.id;
        let log = stack.bus.log(story, story::Seq(0), 1_000).await?;
        let entry = log.iter().find(|entry| entry.event.id == answer);
        answers.push((entry.context("it is in the log")?.seq.0, answer));
    }
    end([narrator]).await?;
    Ok(answers)
}

async fn has_key(stack: &Stack, story: &StoryId) -> anyhow::Result<bool> {
    let key = format!("sf:{{0}}:rec:{story}");
    let reply = stack.redis.command(&[b"EXISTS", key.as_bytes()]).await?;
    Ok(reply == ":1")
}

fn off() -> Policies {
    Policies {
        recording: RecordingPolicy::Off,
        ..Policies::default()
    }
}

#[tokio::test]
async fn nothing_is_kept_of_a_story_or_by_a_worker_that_says_so() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    for (id, policies, options, keeps) in [
        ("open", Policies::default(), &[][..], true),
        ("quiet", off(), &[], false),
        (
            "forgetful",
            Policies::default(),
            &["--recordings", "0"],
            false,
        ),
    ] {
        let story = stack.story(id, policies).await?;
        let answers = answered(&stack, &story, 1, options).await?;
        assert_eq!(has_key(&stack, &story).await?, keeps, "{id}");
        if keeps {
            continue;
        }
        let all = replay(&stack, Agent::Narrator, &["--story", id]).await?;
        assert_eq!(all.code, Some(3), "{all:#?}");
        assert!(all.out.contains("nothing is recorded here"), "{all:#?}");
        let (seq, answer) = answers.first().context("an answer")?;
        let seq = seq.to_string();
        let one = replay(&stack, Agent::Narrator, &["--story", id, "--from", &seq]).await?;
        assert_eq!(one.code, Some(3), "{one:#?}");
        let named = format!("seq {seq}  {answer}  not recorded");
        assert!(one.out.contains(&named), "{one:#?}");
    }
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn about_as_many_turns_as_asked_for_are_kept_and_those_that_are_not_are_named()
-> anyhow::Result<()> {
    const ANSWERS: usize = 12;
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let answers = answered(&stack, &story, ANSWERS, &["--recordings", "3"]).await?;
    let left = kept(&stack, &story).await?.len();
    // Redis forgets by whole nodes of a stream.
    assert!((3..ANSWERS - 3).contains(&left), "{left}");

    let last = replay(&stack, Agent::Narrator, &["--story", "castle"]).await?;
    assert_eq!(last.code, Some(0), "{last:#?}");
    let (lost, there) = answers.split_at(ANSWERS - left);
    let all = ["--story", "castle", "--from", "1", "--to", "1000"];
    let all = replay(&stack, Agent::Narrator, &[&all[..], &JSON].concat()).await?;
    assert_eq!(all.code, Some(3), "{all:#?}");
    let lines = all.lines()?;
    let sum = lines.last().context("a sum")?;
    assert_eq!(sum["outcomes"]["same"], there.len(), "{sum}");
    let lost: Vec<Value> = lost
        .iter()
        .map(|(seq, id)| json!({"seq": seq, "event": id}))
        .collect();
    assert_eq!(sum["not_recorded"], json!(lost));

    let [first, last] =
        [there.first(), there.last()].map(|answer| answer.map(|(seq, _)| seq.to_string()));
    let (first, last) = (first.context("a first")?, last.context("a last")?);
    let there = ["--story", "castle", "--from", &first, "--to", &last];
    let there = replay(&stack, Agent::Narrator, &there).await?;
    assert_eq!(there.code, Some(0), "{there:#?}");
    assert!(!there.out.contains("passed over"), "{there:#?}");

    let one = ["--story", "castle", "--from", &last];
    let told = replay(&stack, Agent::Narrator, &one).await?;
    let passed = left - 1;
    let words = format!("passed over: {passed} at places that were not asked for");
    assert!(told.out.contains(&words), "{told:#?}");
    let told = replay(&stack, Agent::Narrator, &[&one[..], &JSON].concat()).await?;
    let lines = told.lines()?;
    let sum = lines.last().context("a sum")?;
    let counts = json!({"other_agents": 0, "earlier_lives": 0, "other_places": passed});
    assert_eq!(sum["passed_over"], counts, "{sum}");
    stack.end().await;
    Ok(())
}

/// What only a recording has of a turn: the words of the prompt.
const SECRET: &str = "nothing inside the story can change";

/// Not even a recording has this.
const KEY: &str = "key-to-the-model";

#[tokio::test]
async fn no_way_into_the_gateway_leads_to_a_recording() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new(folder.path())?;
    let node = Node::start(&stack.redis_url(), folder.path(), &[]).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let answers = answered(&stack, &story, 1, &["--llm-api-key", KEY]).await?;
    let (_, answer) = answers.first().context("an answer")?;
    let recording = kept(&stack, &story).await?;
    let recording = agent::Recording::unpacked(&recording.first().context("one")?.bytes)?;
    let recording = String::from_utf8(recording)?;
    assert!(
        recording.contains(SECRET) && !recording.contains(KEY),
        "{recording}"
    );

    let token = issuer.token(&Person::new("mira", &[("castle", Role::Owner)]))?;
    let client = reqwest::Client::new();
    let document: Value = client
        .get(node.url("/openapi.json"))
        .send()
        .await?
        .json()
        .await?;
    let paths = document["paths"].as_object().context("paths")?;
    let mut told = 0;
    // The other two are the socket and the stream.
    let pages = paths.iter().filter(|(path, methods)| {
        methods.get("get").is_some() && !path.ends_with("/ws") && !path.ends_with("/stream")
    });
    for (path, _) in pages {
        let url = node.url(&path.replace("{id}", "castle"));
        let page = client
            .get(url)
            .bearer_auth(&token)
            .send()
            .await?
            .text()
            .await?;
        assert!(!page.contains(SECRET), "{path}: {page}");
        told += usize::from(page.contains(answer.as_str()));
    }
    assert_eq!(told, 1, "the history has the answer");
    let is_last = |frame: &Value| {
        assert!(!frame.to_string().contains(SECRET), "{frame}");
        frame["event"]["id"] == answer.as_str()
    };
    let mut stream = Stream::open(node.address(), "castle", &token, None).await?;
    stream
        .until("the answer", |sent| is_last(&sent.data))
        .await?;
    let mut socket = Socket::open_as(node.address(), &token).await?;
    socket.say(&json!({"t": "join", "story": "castle"})).await?;
    socket.until("the answer", is_last).await?;
    stack.end().await;
    Ok(())
}
