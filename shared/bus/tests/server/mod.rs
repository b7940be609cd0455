//! A Redis of one's own for a test, and the few events that tests need.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary takes what it needs"
)]

pub mod network;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bus::{Burial, Bus, Commit, Delivery, Draft, Emit, NewStory, Seen, Settings};
use redis::Commands;
use story::{
    Action, Author, AuthorKind, Event, EventId, Failed, Mode, Narration, Payload, Policies, Route,
    Status, StoryId,
};

/// Ends with the test.
pub struct Server {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
    how: How,
}

/// What it is started with.
type How = &'static [&'static str];
const PLAIN: How = &["--appendonly", "no", "--appendfsync", "no"];
const DURABLE: How = &["--appendonly", "yes", "--appendfsync", "always"];
/// No node of it ever counts as dead.
const CLUSTER: How = &[
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "600000",
];

impl Server {
    pub fn start() -> Self {
        Self::find(PLAIN)
    }

    /// One that keeps everything that it confirmed, through `kill` and `restart`.
    pub fn durable() -> Self {
        Self::find(DURABLE)
    }

    /// A node for a cluster.
    pub fn node() -> Self {
        Self::find(CLUSTER)
    }

    fn find(how: How) -> Self {
        // Another process may take the free port first, or a node has no second one 10,000 above; then this server ends, and
        // the next one gets another port.
        (0..20)
            .find_map(|_| Self::try_start(how))
            .expect("redis-server starts")
    }

    fn try_start(how: How) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .ok()?
            .local_addr()
            .ok()?
            .port();
        let dir = tempfile::tempdir().ok()?;
        let process = process(port, dir.path(), how);
        let mut server = Self {
            process,
            port,
            dir,
            how,
        };
        server.is_ready().then_some(server)
    }

    pub fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }

    /// After `kill`, on the same port.
    pub fn restart(&mut self) {
        self.process = process(self.port, self.dir.path(), self.how);
        assert!(self.is_ready(), "redis-server starts again");
    }

    fn is_ready(&mut self) -> bool {
        let log = self.process.stdout.take().expect("its log");
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let is_ready = lines.any(|line| line.contains("Ready to accept connections"));
        // Whoever goes on writing to a closed pipe is in trouble.
        std::thread::spawn(move || lines.for_each(drop));
        is_ready
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn bus(&self) -> Bus {
        Bus::new(Settings::new(self.url())).expect("the settings are good")
    }

    /// Has a script that does not end: whoever asks for anything is refused (BUSY).
    pub fn busy(&self) -> Busy {
        let (mut spins, mut asks) = (self.raw(), self.raw());
        let threshold = ["SET", "busy-reply-threshold", "1"];
        let set = redis::cmd("CONFIG").arg(&threshold).exec(&mut asks);
        set.expect("a setting");
        let script = std::thread::spawn(move || {
            let mut spin = redis::cmd("EVAL");
            spin.arg("while true do end")
                .arg(0)
                .exec(&mut spins)
                .expect_err("it is killed")
        });
        while redis::cmd("PING").exec(&mut asks).is_ok() {}
        Busy { asks, script }
    }

    /// A connection that sees everything, for assertions about what is stored.
    pub fn raw(&self) -> redis::Connection {
        redis::Client::open(self.url())
            .and_then(|client| client.get_connection())
            .expect("the server answers")
    }

    /// Takes the folder away in which it saves, and lets it find out: from then on it refuses every change, until `save`
    /// is set to nothing.
    pub fn lose_disk(&self) {
        std::fs::remove_dir_all(self.dir.path()).expect("its folder");
        let mut raw = self.raw();
        let run = |raw: &mut redis::Connection, words: &[&str]| {
            let mut cmd = redis::cmd(words[0]);
            cmd.arg(&words[1..])
                .exec(raw)
                .expect("it takes the command");
        };
        run(&mut raw, &["CONFIG", "SET", "save", "3600 1"]);
        run(&mut raw, &["BGSAVE"]);
        let status = |raw: &mut redis::Connection| {
            let info: redis::InfoDict = redis::cmd("INFO")
                .arg("persistence")
                .query(raw)
                .expect("INFO");
            info.get::<String>("rdb_last_bgsave_status")
                .expect("a status")
        };
        while status(&mut raw) == "ok" {
            std::thread::yield_now();
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

fn process(port: u16, dir: &Path, how: How) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", ""])
        .args(how)
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server is installed")
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Every key with its value: equal before and after means that nothing was written.
pub fn everything(raw: &mut redis::Connection) -> Vec<(String, Vec<u8>)> {
    let mut keys: Vec<String> = raw.keys("*").expect("KEYS");
    keys.sort();
    keys.into_iter()
        .map(|key| {
            let dump = redis::cmd("DUMP").arg(&key).query(raw).expect("DUMP");
            (key, dump)
        })
        .collect()
}

pub fn story(id: &str) -> StoryId {
    id.parse().expect("a story id")
}

pub async fn create(bus: &Bus, id: &str, policies: Policies) {
    let mut new = NewStory::new(story(id));
    new.policies = policies;
    bus.create_story(&new).await.expect("the story is new");
}

/// The action "a" in "castle", where it waits for the moderator.
pub async fn held_castle() -> (Server, Bus) {
    let server = Server::start();
    let bus = server.bus();
    let policies = Policies {
        input: story::InputPolicy::Hold,
        ..Policies::default()
    };
    create(&bus, "castle", policies).await;
    bus.publish(&action("castle", "a"))
        .await
        .expect("published");
    (server, bus)
}

/// The story "castle" on a server of its own, where these actions were published.
pub async fn castle(ids: &[&str]) -> (Server, Bus) {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    for id in ids {
        let published = bus.publish(&action("castle", id)).await;
        published.expect("the action is new");
    }
    (server, bus)
}

/// A person's action, which the narrator answers.
pub fn action(story_id: &str, id: &str) -> Event {
    let action = Action {
        mode: Mode::Do,
        text: format!("text of {id}"),
        to: None,
        choice: None,
        target: None,
    };
    event(story_id, id, AuthorKind::User, Payload::Action(action))
}

/// The narrator's answer to a delivered event.
pub fn answer(delivery: &Delivery) -> Event {
    let work = delivery.work.as_ref().expect("a readable entry");
    answer_to(&work.event)
}

pub fn answer_to(cause: &Event) -> Event {
    let narration = Narration {
        text: format!("answer to {}", cause.id),
        choices: Vec::new(),
        speak: Vec::new(),
        status: Status::Complete,
        llm: None,
    };
    let id = format!("re-{}", cause.id);
    let payload = Payload::Narration(narration);
    let mut answer = event(cause.story.as_str(), &id, AuthorKind::Agent, payload);
    answer.cause = vec![cause.id.clone()];
    answer.hop = cause.hop + 1;
    answer
}

pub fn event(story_id: &str, id: &str, kind: AuthorKind, payload: Payload) -> Event {
    let author = Author {
        kind,
        id: "mira".into(),
        name: String::new(),
    };
    let id = id.parse().expect("an event id");
    Event::new(
        id,
        story(story_id),
        author,
        payload,
        jiff::Timestamp::UNIX_EPOCH,
    )
}

/// The narrator's failure to answer it.
pub fn failure(story_id: &str, id: &str, cause: &str) -> Event {
    let failed = Failed {
        agent: "narrator".into(),
        class: "crash".into(),
        tries: 3,
        notice: "The narrator lost the thread.".into(),
    };
    let mut failure = event(story_id, id, AuthorKind::Agent, Payload::Failed(failed));
    failure.cause = vec![cause.parse().expect("an event id")];
    failure
}

/// Why something is given up; readers are told `failed`.
pub fn given_up(failed: Option<Event>) -> Burial {
    Burial {
        reason: "it always fails".into(),
        class: "crash".into(),
        tries: 3,
        failed,
        answers: None,
        recording: None,
    }
}

/// A draft of the response `re` to a delivered event.
pub fn draft(delivery: &Delivery, re: EventId) -> Draft {
    let work = delivery.work.as_ref().expect("a readable entry");
    Draft {
        story: work.story.clone(),
        agent: delivery.agent,
        consumer: delivery.consumer.clone(),
        lease: delivery.lease.clone(),
        re,
        answers: None,
    }
}

/// The place and the id of an event that was seen.
pub fn place(seen: &Seen) -> (u64, &str) {
    match seen {
        Seen::Event(entry) => (entry.seq.0, entry.event.id.as_str()),
        other => panic!("{other:?} is not an event"),
    }
}

/// What a narrator commits: one answer.
pub fn answered(delivery: &Delivery) -> Commit {
    Commit {
        emit: vec![Emit {
            event: answer(delivery),
            route: Route::Logged(Vec::new()),
        }],
        ..Commit::default()
    }
}

pub fn ids(deliveries: &[Delivery]) -> Vec<String> {
    let works = deliveries
        .iter()
        .map(|d| d.work.as_ref().expect("a readable entry"));
    works.map(|work| work.id.to_string()).collect()
}

pub fn one(mut deliveries: Vec<Delivery>) -> Delivery {
    assert_eq!(deliveries.len(), 1);
    deliveries.remove(0)
}

/// Of whatever waits in this test, this much time passes at once.
pub async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The commands that the server ran.
pub fn commands(server: &Server) -> u64 {
    let mut info = redis::cmd("INFO");
    let info: redis::InfoDict = info
        .arg("stats")
        .query(&mut server.raw())
        .expect("the server answers");
    info.get("total_commands_processed")
        .expect("it counts them")
}

/// Redis as a user sees it who has these rights.
pub fn user(server: &Server, rules: &[&str]) -> Bus {
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER").arg("mira");
    set.arg(&["reset", "on", ">word", "~*", "&*"]).arg(rules);
    set.exec(&mut server.raw()).expect("the rules are good");
    let url = server.url().replace("redis://", "redis://mira:word@");
    Bus::new(Settings::new(url)).expect("the settings are good")
}

/// A server whose script does not end by itself.
pub struct Busy {
    asks: redis::Connection,
    script: std::thread::JoinHandle<redis::RedisError>,
}

impl Busy {
    pub fn end(mut self) {
        let killed = redis::cmd("SCRIPT").arg("KILL").exec(&mut self.asks);
        killed.expect("a script to kill");
        self.script.join().expect("it ends");
    }
}
