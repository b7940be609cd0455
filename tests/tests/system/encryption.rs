//! Redis under TLS: who is trusted, who is asked who they are, and what each program says when it may not talk.

use std::path::Path;

use anyhow::Context;
use bus::{Bus, Encryption, NewStory, Settings};
use serde_json::Value;
use story::{Agent, StoryId};
use system_tests::edge::{Issuer, Node};
use system_tests::{Authority, Model, Output, Process, Redis, Servers, Vouched};
use system_tests::{action, eventually, free_address, program};
use tokio::process::Command;

use crate::command::{run, says};
use crate::page::{is_ready, page_says, serving};

/// Who asks Redis, and whom they take for it.
struct Asker {
    ca: String,
    own: Vouched,
}

impl Asker {
    fn new(authority: &Authority) -> anyhow::Result<Self> {
        Ok(Self {
            ca: authority.ca(),
            own: authority.vouch("asker", "storyfleet")?,
        })
    }

    fn options(&self) -> [&str; 6] {
        let Vouched { certificate, key } = &self.own;
        let [ca, cert] = ["--redis-ca", "--redis-cert"];
        [ca, &self.ca, cert, certificate, "--redis-key", key]
    }

    fn settings(&self, url: String) -> Settings {
        let own = (self.own.certificate.clone(), self.own.key.clone());
        let (certificate, key) = own;
        Settings {
            encryption: Encryption {
                ca: Some(self.ca.clone().into()),
                own: Some((certificate.into(), key.into())),
            },
            ..Settings::new(url)
        }
    }
}

/// A worker on that Redis, what it logs, and the address of its pages.
async fn worker(
    redis: &str,
    model: &Model,
    options: &[&str],
) -> anyhow::Result<(Process, Output, String)> {
    let mut narrator = system_tests::worker(Agent::Narrator, redis, model.url())?;
    serving(narrator.args(["--lease", "2s"]).args(options)).await
}

/// A node on that Redis, and the address of its page.
async fn node(redis: &str, folder: &Path, options: &[&str]) -> anyhow::Result<(Node, String)> {
    Issuer::new(folder)?;
    let page = free_address()?.to_string();
    let options = [options, &["--internal-listen", &page]].concat();
    let node = Node::start(redis, folder, &options).await?;
    Ok((node, format!("http://{page}/readyz")))
}

/// A story is told, and looked after, by programs that find that Redis with these options.
async fn told(redis: &str, options: &[&str]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path();
    let storyfleet = [&["--redis", redis], options].concat();
    let with = |words: &[&'static str]| [&storyfleet[..], words].concat();
    says(data, &with(&["story", "create", "castle"])).await?;
    let model = Model::start("", &[]).await?;
    let (worker, _log, page) = worker(redis, &model, options).await?;
    is_ready(&page).await?;
    let (node, page) = node(redis, data, options).await?;
    is_ready(&page).await?;
    let send = ["send", "castle", "I open the door", "--wait", "--json"];
    let answer: Value = serde_json::from_str(&says(data, &with(&send)).await?)?;
    assert_eq!(answer["type"], "narration");
    for (words, said) in [
        (&["watch", "castle", "--until-idle"][..], "I open the door"),
        (&["audit"], "clean"),
        (&["doctor"], "nothing is wrong"),
    ] {
        let out = says(data, &with(words)).await?;
        assert!(out.contains(said), "{words:?}: {out}");
    }
    let llm = ["check", "--llm", model.url(), "--model", "mock"];
    let secrets = data.join("secrets").display().to_string();
    let keys = ["check", "--jwt-secrets", &secrets];
    for (name, words) in [("narrator", &llm[..]), ("gateway", &keys)] {
        let mut check = Command::new(program(name)?);
        let check = check.args(words).args(&storyfleet).output().await?;
        let out = String::from_utf8(check.stdout)?;
        assert!(check.status.success(), "{name}: {out}");
    }
    assert!(worker.end().await?.success());
    assert!(node.end().await?.success());
    model.end().await
}

#[tokio::test]
async fn a_story_is_told_over_a_redis_that_speaks_tls_and_asks_who_we_are() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(folder.path())?;
    let redis = Redis::start_encrypted(&authority, &[]).await?;
    let asker = Asker::new(&authority)?;
    told(&redis.url(), &asker.options()).await
}

#[tokio::test]
async fn a_story_is_told_over_a_redis_that_asks_nobody_who_they_are() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(folder.path())?;
    let settings = ["--tls-auth-clients", "no", "--requirepass", "word"];
    let redis = Redis::start_encrypted(&authority, &settings).await?;
    let options = ["--redis-ca", &authority.ca()];
    told(&redis.url_of(":word@"), &options).await
}

/// All slots are found by what nodes tell of each other: every one of them is talked to under TLS.
#[tokio::test]
async fn a_story_is_told_over_a_cluster_under_tls() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(folder.path())?;
    let cluster = Servers::encrypted_cluster(folder.path(), &authority).await?;
    let asker = Asker::new(&authority)?;
    told(&cluster.url(), &asker.options()).await
}

#[tokio::test]
async fn a_story_is_told_over_sentinels_under_tls() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(folder.path())?;
    let servers = Servers::encrypted_sentinel(folder.path(), &authority).await?;
    let asker = Asker::new(&authority)?;
    told(&servers.url(), &asker.options()).await
}

/// The line that `audit` ends with, and its exit code.
async fn refused(redis: &str, options: &[&str]) -> anyhow::Result<(i32, String)> {
    let folder = tempfile::tempdir()?;
    let words = [&["audit", "--redis", redis], options].concat();
    let output = run(folder.path(), &words).await?;
    let told = String::from_utf8(output.stderr)?;
    assert_eq!(told.lines().count(), 1, "{words:?}: {told}");
    let code = output.status.code().context("no signal")?;
    Ok((code, told))
}

#[tokio::test]
async fn whoever_may_not_talk_to_redis_is_told_why_in_one_line() -> anyhow::Result<()> {
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let authority = Authority::new(ours.path())?;
    let stranger = Asker::new(&Authority::new(theirs.path())?)?;
    let redis = Redis::start_encrypted(&authority, &[]).await?;
    let plain = Redis::start(&[]).await?;
    let url = redis.url();
    let named = url.replace("127.0.0.1", "localhost");
    let in_clear = url.replace("rediss", "redis");
    let under_tls = plain.url().replace("redis", "rediss");
    let unchecked = format!("{url}/#insecure");
    let asker = Asker::new(&authority)?;
    let [ca, ours, cert, own, key, its] = asker.options();
    let [.., other, _, others] = stranger.options();
    let wrong = [
        (&url, vec![ca, ours], 1, "Redis does not let in who we are"),
        (
            &url,
            vec![cert, own, key, its],
            1,
            "nobody who is trusted here",
        ),
        (
            &url,
            vec![ca, &stranger.ca, cert, own, key, its],
            1,
            "nobody who is trusted here",
        ),
        (
            &url,
            vec![ca, ours, cert, other, key, others],
            1,
            "Redis does not let in who we are",
        ),
        (
            &url,
            vec![ca, ours, cert, own, key, others],
            2,
            "is not that of the certificate",
        ),
        (&url, vec![ca, ours, cert, own], 2, "--redis-key"),
        (
            &url,
            vec![ca, "/proc/missing"],
            2,
            "/proc/missing cannot be read: No such file",
        ),
        (&url, vec![ca, its], 2, "has no certificate in it"),
        (&named, asker.options().to_vec(), 1, "of another name than"),
        (&unchecked, asker.options().to_vec(), 2, "#insecure"),
        (&in_clear, vec![], 1, "with rediss:// for TLS"),
        (&in_clear, vec![ca, ours], 2, "it starts with rediss://"),
        (&under_tls, vec![ca, ours], 1, "where Redis speaks no TLS"),
    ];
    for (url, options, code, words) in wrong {
        let (ended, told) = refused(url, &options).await?;
        assert_eq!(ended, code, "{options:?}: {told}");
        assert!(told.contains(words), "{options:?}: {words:?}: {told}");
    }
    Ok(())
}

/// Has somebody trust another authority, which vouches for them, by other files in the place of theirs.
fn adopt(asker: &Asker, authority: &Authority) -> anyhow::Result<()> {
    let new = Asker::new(authority)?;
    std::fs::copy(new.ca, &asker.ca)?;
    std::fs::copy(new.own.certificate, &asker.own.certificate)?;
    std::fs::copy(new.own.key, &asker.own.key)?;
    Ok(())
}

#[tokio::test]
async fn a_fleet_waits_for_a_redis_that_it_trusts_and_takes_new_files_without_a_restart()
-> anyhow::Result<()> {
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let authority = Authority::new(theirs.path())?;
    let mut redis = Redis::start_encrypted(&authority, &[]).await?;
    let asker = Asker::new(&Authority::new(ours.path())?)?;
    let model = Model::start("", &[]).await?;
    let (worker, mut log, worker_page) = worker(&redis.url(), &model, &asker.options()).await?;
    let (node, node_page) = node(&redis.url(), ours.path(), &asker.options()).await?;
    let words = "nobody who is trusted here vouches for Redis's certificate";
    for page in [&worker_page, &node_page] {
        page_says(page, words).await?;
    }
    log.line(words).await?;
    assert!(node.log()?.contains(words), "{}", node.log()?);
    adopt(&asker, &authority)?;
    for page in [&worker_page, &node_page] {
        is_ready(page).await?;
    }
    // What Redis shows is renewed, by another authority even, and once it has expired.
    let authority = Authority::new(theirs.path())?;
    adopt(&asker, &authority)?;
    authority.vouch_until("redis", "127.0.0.1", -1)?;
    redis.restart().await?;
    for page in [&worker_page, &node_page] {
        page_says(page, "Redis's certificate has expired").await?;
    }
    authority.vouch("redis", "127.0.0.1")?;
    redis.restart().await?;
    for page in [&worker_page, &node_page] {
        is_ready(page).await?;
    }
    let story = NewStory::new("castle".parse::<StoryId>()?);
    let bus = Bus::new(asker.settings(redis.url()))?;
    bus.create_story(&story).await?;
    bus.publish(&action(&story.id, "a1", "I go on.", None)?)
        .await?;
    eventually("it is answered", async || {
        Ok((bus.audit().await?.answered == 1).then_some(()))
    })
    .await?;
    // A file that is gone is told of, and looked for again.
    std::fs::rename(&asker.ca, ours.path().join("aside"))?;
    redis.restart().await?;
    for page in [&worker_page, &node_page] {
        page_says(page, "Redis is not asked, since the CA").await?;
    }
    std::fs::rename(ours.path().join("aside"), &asker.ca)?;
    for page in [&worker_page, &node_page] {
        is_ready(page).await?;
    }
    assert!(worker.end().await?.success());
    assert!(node.end().await?.success());
    model.end().await
}
