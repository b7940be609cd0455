//! A redis-server of its own, stories on it, and workers with an agent that acts as it is told.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use agent::Recording;
use bus::{Bus, Commit, LeaseId, NewStory, Watch};
use futures::TryStreamExt;
use story::{Action, Author, AuthorKind, Event, LogEntry, Mode, OutputPolicy, Payload, Seq};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// No state that a test waits for takes longer, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const NARRATOR: story::Agent = story::Agent::Narrator;
/// Of each worker: few enough to be all taken.
pub(crate) const SLOTS: usize = 4;

pub(crate) struct Stage {
    folder: tempfile::TempDir,
    port: u16,
    redis: Option<Child>,
    pub(crate) bus: Bus,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let port = free_port();
        let mut stage = Self {
            folder: tempfile::tempdir().unwrap(),
            port,
            redis: None,
            bus: Bus::new(bus::Settings::new(url(port))).unwrap(),
        };
        stage.start_redis().await;
        stage
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// In the story "a" these actions were said.
    pub(crate) async fn with(ids: &[&str]) -> Self {
        let stage = Self::new().await;
        stage.story("a").await;
        for id in ids {
            stage.say("a", id).await;
        }
        stage
    }

    pub(crate) async fn start_redis(&mut self) {
        let child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
            ])
            .args(["--port", &self.port.to_string()])
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed");
        self.redis = Some(child);
        self.until("Redis", async || self.bus.ping().await.is_ok())
            .await;
    }

    pub(crate) async fn stop_redis(&mut self) {
        self.redis.take().expect("Redis runs").kill().await.unwrap();
    }

    pub(crate) async fn story(&self, id: &str) {
        self.story_of(id, OutputPolicy::Off).await;
    }

    pub(crate) async fn story_of(&self, id: &str, output: OutputPolicy) {
        let mut new = NewStory::new(id.parse().unwrap());
        new.policies.output = output;
        self.bus.create_story(&new).await.unwrap();
    }

    pub(crate) async fn say(&self, story: &str, id: &str) {
        self.bus.publish(&said(story, id)).await.unwrap();
    }

    /// An entry in the story "a" that answers as much as fits and waits for its verdict. No publisher of ours makes it.
    pub(crate) async fn overlong(&self) {
        let mut event = said("a", "overlong");
        while event.encode().len() + 70 < story::MAX_EVENT_BYTES {
            let id = format!("{:064}", event.cause.len());
            event.cause.push(id.parse().unwrap());
        }
        let event = event.encode();
        let words = [
            "XADD",
            "sf:{0}:work:narrator",
            "*",
            "story",
            "a",
            "id",
            "overlong",
            "part",
            "0",
            "held",
            "1",
            "e",
            &event,
        ];
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let reply = exchange(self.port, &request).await.unwrap();
        assert!(reply.starts_with('$'), "{reply}");
    }

    pub(crate) async fn hear(&self, story: &str) -> Watch {
        let story = story.parse().unwrap();
        self.bus.watch(&story, None).await.unwrap()
    }

    /// Takes the entries whose owners were silent for so long; gives how often each was delivered.
    pub(crate) async fn steal(&self, silent: Duration) -> Vec<u32> {
        let stolen = self.bus.reclaim(NARRATOR, "thief", silent, 16);
        let stolen = stolen.await.unwrap().into_iter();
        stolen.map(|delivery| delivery.deliveries).collect()
    }

    /// Takes all entries and lets them go; gives how often each was delivered.
    pub(crate) async fn borrow(&self) -> Vec<u32> {
        let taken = self.bus.reclaim(NARRATOR, "thief", Duration::ZERO, 16);
        let taken = taken.await.unwrap();
        let leases: Vec<_> = taken
            .iter()
            .map(|delivery| delivery.lease.clone())
            .collect();
        self.bus.release(NARRATOR, "thief", &leases).await.unwrap();
        taken.iter().map(|delivery| delivery.deliveries).collect()
    }

    /// Until a lease that was not renewed for a second is renewed.
    pub(crate) async fn until_renewed(&self) {
        let old = async || {
            let old = "XPENDING sf:{0}:work:narrator fleet IDLE 1000 - + 1";
            self.inline(old).await.trim() != "*0"
        };
        self.until("the age of a lease", &old).await;
        self.until("its renewal", async || !old().await).await;
    }

    /// An entry that no publisher makes.
    pub(crate) async fn garbage(&self) {
        let reply = self
            .inline("XADD sf:{0}:work:narrator * story a id broken e {oops")
            .await;
        assert!(reply.starts_with('$'), "{reply}");
    }

    /// Puts a text where something else belongs.
    pub(crate) async fn misplace(&self, key: &str) {
        assert_eq!(self.inline(&format!("SET {key} x")).await.trim(), "+OK");
    }

    /// As a primary whose replicas are gone: it refuses every write.
    pub(crate) async fn needs_replicas(&self, count: &str) {
        let words = format!("CONFIG SET min-replicas-to-write {count}");
        assert_eq!(self.inline(&words).await.trim(), "+OK");
    }

    /// Denies Redis's default user that, until it was tried.
    pub(crate) async fn deny(&self, command: &str) {
        let deny = format!("ACL SETUSER default -{command}");
        assert_eq!(self.inline(&deny).await.trim(), "+OK");
        self.until("a try", async || {
            self.inline("ACL LOG").await.contains(command)
        })
        .await;
    }

    /// With a limit of 1 byte Redis refuses every write; 0 is none.
    pub(crate) async fn limit_memory(&self, bytes: &str) {
        let reply = self.inline(&format!("CONFIG SET maxmemory {bytes}")).await;
        assert_eq!(reply.trim(), "+OK");
    }

    pub(crate) async fn has_refused_for_memory(&self) -> bool {
        self.inline("INFO errorstats").await.contains("OOM")
    }

    pub(crate) async fn dead(&self) -> usize {
        let reply = self.inline("XLEN sf:{0}:dead:narrator").await;
        reply.trim().trim_start_matches(':').parse().unwrap()
    }

    pub(crate) async fn backlog(&self) -> u64 {
        self.bus.backlog(NARRATOR).await.unwrap()
    }

    pub(crate) async fn log(&self, story: &str) -> Vec<LogEntry> {
        self.bus
            .log(&story.parse().unwrap(), Seq(0), 1_000)
            .await
            .unwrap()
    }

    /// How the story's turns went.
    pub(crate) async fn recorded(&self, story: &str) -> Vec<Recording<'static>> {
        let story = story.parse().unwrap();
        let recordings: Vec<_> = self.bus.all_recordings(&story).try_collect().await.unwrap();
        let read = |kept: bus::Kept| Recording::read(&Recording::unpacked(&kept.bytes)?);
        let recordings = recordings.into_iter();
        recordings.map(|kept| read(kept).unwrap()).collect()
    }

    /// What the story's answers answer, once there are `count` of them.
    pub(crate) async fn answers(&self, story: &str, count: usize) -> Vec<Vec<String>> {
        let answers = async || -> Vec<Vec<String>> {
            let log = self.log(story).await.into_iter();
            log.filter(|entry| entry.event.kind() == "narration")
                .map(|entry| causes(&entry))
                .collect()
        };
        self.until("the answers", async || answers().await.len() >= count)
            .await;
        answers().await
    }

    /// The class and the cause of each `failed`.
    pub(crate) async fn failures(&self, story: &str) -> Vec<(String, String)> {
        let log = self.log(story).await.into_iter();
        let failed = |entry: LogEntry| match entry.event.payload() {
            Payload::Failed(failed) => Some((failed.class.clone(), causes(&entry).concat())),
            _ => None,
        };
        log.filter_map(failed).collect()
    }

    pub(crate) async fn until(&self, what: &str, is: impl AsyncFn() -> bool) {
        let wait = async {
            while !is().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }

    /// A worker that died of the event that it took, unless it renews the lease.
    pub(crate) async fn deserter(&self) -> LeaseId {
        let mut taken = self.bus.reader(NARRATOR, "deserter").next(1).await.unwrap();
        assert_eq!(taken.len(), 1);
        taken.remove(0).lease
    }

    /// Whether the deserter could renew its lease.
    pub(crate) async fn renews(&self, lease: &LeaseId) -> bool {
        let leases = std::slice::from_ref(lease);
        let renewed = self.bus.renew(NARRATOR, "deserter", leases).await;
        renewed.unwrap().is_empty()
    }

    /// A worker that ended one event, and is gone.
    pub(crate) async fn ghost(&self) {
        let mut taken = self.bus.reader(NARRATOR, "ghost").next(1).await.unwrap();
        let delivery = taken.pop().unwrap();
        let nothing = Commit::default();
        self.bus.commit(&delivery, &nothing).await.unwrap();
    }

    pub(crate) async fn knows_the_ghost(&self) -> bool {
        let command = "XINFO CONSUMERS sf:{0}:work:narrator fleet";
        self.inline(command).await.contains("ghost")
    }

    async fn inline(&self, command: &str) -> String {
        exchange(self.port, &format!("{command}\r\n"))
            .await
            .expect("Redis answers")
    }
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn causes(entry: &LogEntry) -> Vec<String> {
    entry.event.cause.iter().map(ToString::to_string).collect()
}

pub(crate) async fn exchange(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut reply = [0; 512];
    let length = stream.read(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply[..length]).into_owned())
}

fn said(story: &str, id: &str) -> Event {
    let action = Action {
        mode: Mode::Do,
        text: "I wait".into(),
        to: None,
        choice: None,
        target: None,
    };
    let author = Author {
        kind: AuthorKind::User,
        id: "u1".into(),
        name: "Mira".into(),
    };
    Event::new(
        id.parse().unwrap(),
        story.parse().unwrap(),
        author,
        Payload::Action(action),
        jiff::Timestamp::UNIX_EPOCH,
    )
}
