//! What Redis refuses in the middle of a script leaves nothing half done.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{
    Bus, Commit, Committed, DraftChunk, Drafted, Error, Person, Published, Revoked, Role, Settings,
};
use redis::Commands;
use server::{
    Server, action, answered, castle, draft, everything, failure, given_up, ids, one, user,
};
use story::{Agent, Route, Seq, Step};

const NARRATOR: Agent = Agent::Narrator;

#[tokio::test]
async fn an_event_that_the_log_refuses_can_be_sent_again() {
    let (server, bus) = castle(&[]).await;
    // A log that is ahead of the story's count, as after a partial restore.
    let mut ahead = redis::cmd("XADD");
    ahead.arg("sf:{0}:log:castle").arg("1-0").arg("e").arg("{}");
    ahead.exec(&mut server.raw()).unwrap();
    let event = action("castle", "a");
    assert!(matches!(bus.publish(&event).await, Err(Error::Refused(_))));
    let again = bus.publish(&event).await.unwrap();
    assert_eq!(again, Published::Logged(Seq(2)));
}

#[tokio::test]
async fn what_joined_a_beat_that_the_log_refuses_still_waits() {
    let (server, bus) = castle(&["a", "b", "c"]).await;
    let first = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    let mut ahead = redis::cmd("XADD");
    ahead.arg("sf:{0}:log:castle").arg("4-0").arg("e").arg("{}");
    ahead.exec(&mut server.raw()).unwrap();
    let beat = Commit {
        consume: vec!["b".parse().unwrap()],
        ..answered(&first)
    };
    let refused = bus.commit(&first, &beat).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let burial = given_up(Some(failure("castle", "f", "a")));
    let buried = bus.bury(&first, &burial).await.unwrap();
    assert_eq!(buried, Committed::Done(vec![Seq(5)]));

    let mut reader = bus.reader(NARRATOR, "w1");
    for id in ["b", "c"] {
        let next = one(reader.next(5).await.unwrap());
        assert_eq!(ids(std::slice::from_ref(&next)), [id]);
        let done = bus.commit(&next, &answered(&next)).await.unwrap();
        assert!(matches!(done, Committed::Done(_)), "{done:?}");
    }
    assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 0);
}

#[tokio::test]
async fn an_entry_whose_end_the_log_refuses_is_not_lost() {
    for buried in [false, true] {
        let (server, bus) = castle(&["a", "b"]).await;
        let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
        let end = async || match buried {
            true => {
                let failed = failure("castle", "f", "a");
                bus.bury(&delivery, &given_up(Some(failed))).await
            }
            false => bus.commit(&delivery, &answered(&delivery)).await,
        };
        let log = "sf:{0}:log:castle";
        server.raw().rename::<_, _, ()>(log, "away").unwrap();
        server.raw().set::<_, _, ()>(log, "another's").unwrap();
        assert!(matches!(end().await, Err(Error::Refused(_))), "{buried}");
        assert_eq!(bus.dead(NARRATOR).await.unwrap(), []);

        server.raw().rename::<_, _, ()>("away", log).unwrap();
        assert!(matches!(end().await, Ok(Committed::Done(_))), "{buried}");
        let next = one(bus.reader(NARRATOR, "w1").next(5).await.unwrap());
        assert_eq!(ids(&[next]), ["b"]);
        assert_eq!(bus.dead(NARRATOR).await.unwrap().len(), usize::from(buried));
    }
}

/// Puts another program's value where `key` is meanwhile: `refused` is not done, and changes nothing.
async fn is_refused_whole(
    server: &Server,
    key: &str,
    refused: impl AsyncFn() -> Result<(), Error>,
) {
    let (mut raw, key) = (server.raw(), format!("sf:{{0}}:{key}"));
    let was_there: bool = raw.exists(&key).unwrap();
    if was_there {
        raw.rename::<_, _, ()>(&key, "away").unwrap();
    }
    // None of those keys is a set.
    raw.sadd::<_, _, ()>(&key, "another's").unwrap();
    let before = everything(&mut raw);
    let error = refused().await.expect_err(&key);
    assert!(error.to_string().contains("WRONGTYPE"), "{key}: {error}");
    assert_eq!(everything(&mut raw), before, "{key}");
    raw.del::<_, ()>(&key).unwrap();
    if was_there {
        raw.rename::<_, _, ()>("away", &key).unwrap();
    }
}

const ENDS: [&str; 5] = [
    "log:castle",
    "drafts:castle",
    "work:narrator",
    "turn:narrator:castle",
    "parked:narrator:castle",
];

#[tokio::test]
async fn a_commit_that_meets_a_key_of_another_program_writes_nothing() {
    let (server, bus) = castle(&["a", "b"]).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    let first = one(reader.next(1).await.unwrap());
    bus.commit(&first, &answered(&first)).await.unwrap();
    let delivery = one(reader.next(1).await.unwrap());
    let mut effects = answered(&delivery);
    let dialogue = Step {
        agent: Agent::Dialogue,
        part: 0,
    };
    effects.emit[0].route = Route::Logged(vec![dialogue]);
    effects.fields = vec![("summary".to_owned(), "dark".to_owned())];
    effects.retract = Some("re-a".parse().unwrap());
    let commit = async || bus.commit(&delivery, &effects).await.map(drop);
    let lane = ["work", "turn", "parked"].map(|part| match part {
        "work" => "work:dialogue".to_owned(),
        _ => format!("{part}:dialogue:castle"),
    });
    let written = ["ctx:castle", "seen:castle", "gone:castle"].map(str::to_owned);
    for key in ENDS.map(str::to_owned).iter().chain(&lane).chain(&written) {
        is_refused_whole(&server, key, &commit).await;
    }
    commit().await.unwrap();
    assert_eq!(bus.backlog(Agent::Dialogue).await.unwrap(), 1);
}

#[tokio::test]
async fn a_burial_that_meets_a_key_of_another_program_writes_nothing() {
    let (server, bus) = castle(&["a"]).await;
    let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    let burial = given_up(Some(failure("castle", "f", "a")));
    let bury = async || bus.bury(&delivery, &burial).await.map(drop);
    for key in ENDS.into_iter().chain(["dead:narrator", "ctx:castle"]) {
        is_refused_whole(&server, key, &bury).await;
    }
    bury().await.unwrap();
    assert_eq!(bus.dead_count(NARRATOR).await.unwrap(), 1);
}

#[tokio::test]
async fn what_meets_a_key_of_another_program_is_not_published() {
    let (server, bus) = castle(&[]).await;
    let event = action("castle", "a");
    let publish = async || bus.publish(&event).await.map(drop);
    let lane = &[
        "work:narrator",
        "turn:narrator:castle",
        "parked:narrator:castle",
    ];
    for key in lane
        .iter()
        .chain(&["ctx:castle", "seen:castle", "log:castle"])
    {
        is_refused_whole(&server, key, &publish).await;
    }
    let published = bus.publish(&event).await.unwrap();
    assert_eq!(published, Published::Logged(Seq(1)));
    assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 1);
}

/// A bus of a user whom Redis allows this.
/// All that a worker runs, and then what only a producer's script does.
const COMMANDS: [&str; 34] = [
    "DEL",
    "EXISTS",
    "GETDEL",
    "HDEL",
    "HGET",
    "HINCRBY",
    "HMGET",
    "HSET",
    "LINDEX",
    "LPOP",
    "LRANGE",
    "PEXPIRE",
    "RPUSH",
    "SET",
    "TIME",
    "XACK",
    "XADD",
    "XCLAIM",
    "XDEL",
    "XINFO",
    "XPENDING",
    "XRANGE",
    "ZADD",
    "HGETALL",
    "XGROUP",
    "XLEN",
    "XREADGROUP",
    "XREVRANGE",
    "EVAL",
    "EVALSHA",
    "TYPE",
    "LLEN",
    "ZREMRANGEBYSCORE",
    "ZSCORE",
];

/// A gateway's own, and what its scripts run.
const GATEWAY: [&str; 19] = [
    "GETDEL",
    "SET",
    "HSCAN",
    "LRANGE",
    "XRANGE",
    "HGETALL",
    "SPUBLISH",
    "SSUBSCRIBE",
    "SUNSUBSCRIBE",
    "XADD",
    "SADD",
    "HMGET",
    "HDEL",
    "HSET",
    "PEXPIREAT",
    "TIME",
    "ZRANGEBYSCORE",
    "ZREM",
    "ZREVRANGE",
];

#[tokio::test]
async fn a_user_who_may_not_run_a_script_to_its_end_is_told_so_before() {
    let (server, _) = castle(&[]).await;
    let keys = || {
        redis::cmd("DBSIZE")
            .query::<u64>(&mut server.raw())
            .unwrap()
    };
    let before = keys();
    for role in [
        Role::Worker,
        Role::Producer,
        Role::Gateway,
        Role::Author,
        Role::Operator,
    ] {
        user(&server, &["+@all"]).check_rights(role).await.unwrap();
    }
    let (worker, producer) = (&COMMANDS[..31], &COMMANDS[28..]);
    let (author, operator) = (
        ["SADD", "SISMEMBER", "DEL", "HSET"],
        ["HINCRBY", "XADD", "XDEL", "XTRIM"],
    );
    for (role, commands) in [
        (Role::Worker, worker),
        (Role::Producer, producer),
        (Role::Gateway, &GATEWAY),
        (Role::Author, &author),
        (Role::Operator, &operator),
    ] {
        for command in commands {
            // A script is run by its hash, and by its text only when that is not known.
            redis::cmd("SCRIPT")
                .arg("FLUSH")
                .exec(&mut server.raw())
                .unwrap();
            let without = format!("-{}", command.to_lowercase());
            let user = user(&server, &["+@all", &without]);
            let refused = user.check_rights(role).await.unwrap_err();
            assert!(refused.is_configuration(), "{refused}");
            let told = refused.to_string().to_uppercase();
            assert!(told.contains(command), "{command}: {told}");
        }
    }
    let deaf = user(&server, &["+@all", "resetchannels"]);
    for role in [Role::Gateway, Role::Worker] {
        let refused = deaf.check_rights(role).await.unwrap_err();
        assert!(refused.to_string().contains("SPUBLISH"), "{refused}");
    }
    let forgetful = user(&server, &["+@all", "-xgroup", "+xgroup|create"]);
    let refused = forgetful.check_rights(Role::Worker).await.unwrap_err();
    assert!(
        refused.to_string().contains("XGROUP|DELCONSUMER"),
        "{refused}"
    );
    assert_eq!(keys(), before);
}

#[tokio::test]
async fn a_channel_that_is_denied_costs_readers_time_and_no_text() {
    let (server, _) = castle(&[]).await;
    let deaf = user(&server, &["+@all", "resetchannels"]);

    deaf.publish(&action("castle", "a")).await.unwrap();
    let delivery = deaf.reader(NARRATOR, "w1").next(1).await.unwrap().remove(0);
    let work = delivery.work.as_ref().unwrap();
    let draft = draft(&delivery, work.response(NARRATOR));
    let attempt = deaf.reset_draft(&draft).await.unwrap().unwrap();
    let chunk = DraftChunk {
        draft: &draft,
        attempt,
        i: 0,
        n: 1,
        text: "Once",
    };
    assert_eq!(deaf.draft(&chunk).await.unwrap(), Drafted::Ok);
}

#[tokio::test]
async fn a_redis_too_busy_to_open_its_database_is_away_and_then_back() {
    let (server, _) = castle(&[]).await;
    let bus = Bus::new(Settings::new(format!("{}/1", server.url()))).unwrap();
    let busy = server.busy();
    let refused = bus.ping().await.unwrap_err();
    // Valkey opens it all the same from version 9 on, and refuses what is asked then.
    let is_busy = matches!(&refused, Error::Refused(error) if error.code() == Some("BUSY"));
    assert!(refused.is_away() || is_busy, "{refused:?}");
    assert!(refused.is_passing(), "{refused:?}");
    busy.end();
    bus.ping().await.unwrap();
}

#[tokio::test]
async fn what_is_revoked_and_who_is_here_stands_where_channels_are_denied() {
    let (server, bus) = castle(&[]).await;
    let deaf = user(&server, &["+@all", "resetchannels"]);
    let mira = Revoked::User("mira".into());
    let revoked = deaf.revoke(&mira, 10, 1 << 40).await.unwrap();
    assert_eq!(bus.revocations().await.unwrap(), [revoked]);
    let person = Person {
        sub: "mira".into(),
        name: "Mira".into(),
        connections: 1,
    };
    let (castle, lives) = (server::story("castle"), Duration::from_secs(60));
    let here = std::slice::from_ref(&person);
    deaf.be_here(&castle, "n1", here, lives).await.unwrap();
    assert_eq!(bus.who_is_here(&castle).await.unwrap().people, here);
    for refused in [
        deaf.feeds().revocations().next().await.map(drop),
        deaf.feeds().room(&castle).next().await.map(drop),
        deaf.hint(&castle, b"{}").await,
    ] {
        assert!(matches!(refused, Err(Error::Denied(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn who_may_not_wait_is_told_so_at_the_start() {
    let server = Server::start();
    let denied = user(&server, &["+@all", "-wait"]);
    denied.check_rights(Role::Worker).await.unwrap();
    let settings = Settings::new(denied.url());
    let bus = Bus::new(Settings {
        wait_replicas: 1,
        ..settings
    })
    .unwrap();
    let Err(Error::Server(told)) = bus.check_rights(Role::Worker).await else {
        panic!("it may not wait");
    };
    assert!(told.contains("WAIT"), "{told}");
}
