//! A Redis that the fleet must not use, or cannot.

use std::net::Ipv4Addr;
use std::process::Stdio;

use system_tests::{Process, Redis, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{CONFIGURATION, FAILED, NOWHERE, refused, run, says, worker_refused};

#[tokio::test]
async fn a_wrong_or_missing_password_ends_a_program_at_once() -> anyhow::Result<()> {
    let redis = Redis::start(&["--requirepass", "hunter2"]).await?;
    for login in ["", ":hunter22@", "mira:hunter2@"] {
        let url = redis.url_of(login);
        let says = "check the user and the password";
        worker_refused(&url, &[], says).await?;
        for command in ["audit", "up"] {
            let arguments = ["--redis", &url, command];
            refused("storyfleet", &arguments, CONFIGURATION, says).await?;
        }
    }
    says(
        "storyfleet",
        &["--redis", &redis.url_of(":hunter2@"), "audit"],
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_user_without_rights_ends_a_program_at_once() -> anyhow::Result<()> {
    let redis = Redis::start(&[
        "--user", "mira", "on", ">hunter2", "~*", "&*", "+@all", "-info",
    ])
    .await?;
    let url = redis.url_of("mira:hunter2@");
    worker_refused(&url, &[], "the user's ACL rules").await
}

#[tokio::test]
async fn a_redis_that_may_drop_keys_is_refused_until_the_doctor_mends_it() -> anyhow::Result<()> {
    let redis = Redis::start(&["--maxmemory-policy", "allkeys-lru"]).await?;
    let url = redis.url();
    let says_so = "maxmemory-policy is allkeys-lru): set maxmemory-policy noeviction";
    worker_refused(&url, &[], says_so).await?;
    for command in [&["up"][..], &["story", "create", "castle"]] {
        let arguments = [&["--redis", &url], command].concat();
        refused("storyfleet", &arguments, CONFIGURATION, says_so).await?;
    }
    let doctor = run("storyfleet", &["--redis", &url, "doctor"]).await?;
    assert_eq!(doctor.code, Some(FAILED), "{doctor:?}");
    assert!(doctor.out.contains("set noeviction"), "{doctor:?}");
    let fixed = says("storyfleet", &["--redis", &url, "doctor", "--fix"]).await?;
    assert!(fixed.contains("fixed: maxmemory-policy"), "{fixed}");
    says(
        "storyfleet",
        &["--redis", &url, "story", "create", "castle"],
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn another_number_of_shards_is_refused_and_nothing_is_written() -> anyhow::Result<()> {
    let redis = Redis::start(&[]).await?;
    let url = redis.url();
    says(
        "storyfleet",
        &["--redis", &url, "story", "create", "castle"],
    )
    .await?;
    let before = redis.command(&[b"DBSIZE"]).await?;
    let says_so = "the number of shards here is 1, not 4: start with --shards 1";
    worker_refused(&url, &["--shards", "4"], says_so).await?;
    for command in [
        &["up"][..],
        &["audit"],
        &["doctor", "--fix"],
        &["story", "create", "forest"],
        &["send", "castle", "I wait"],
        &["watch", "castle"],
    ] {
        let arguments = [&["--redis", &url, "--shards", "4"], command].concat();
        refused("storyfleet", &arguments, CONFIGURATION, says_so).await?;
    }
    assert_eq!(redis.command(&[b"DBSIZE"]).await?, before);
    Ok(())
}

#[tokio::test]
async fn a_replica_is_told_from_a_redis_that_is_not_there() -> anyhow::Result<()> {
    let redis = Redis::start(&[]).await?;
    let url = redis.url();
    let create = ["--redis", &url, "story", "create", "castle"];
    says("storyfleet", &create).await?;
    redis.command(&[b"REPLICAOF", b"127.0.0.1", b"1"]).await?;
    let send = ["--redis", &url, "send", "castle", "I wait"];
    let says_so = "a replica and takes no writes: give the URL of its master";
    refused("storyfleet", &send, FAILED, says_so).await
}

#[tokio::test]
async fn a_url_that_does_not_fit_what_answers_there_is_a_wrong_setting() -> anyhow::Result<()> {
    let redis = Redis::start(&[]).await?;
    let host = redis.url().trim_start_matches("redis://").to_owned();
    let node = Redis::start(&["--cluster-enabled", "yes"]).await?;
    for (url, says_so) in [
        (format!("{}/1", node.url()), "this Redis is a cluster"),
        (
            format!("redis://{host}/99"),
            "a database that this Redis does not have, use /0",
        ),
        (
            format!("redis+cluster://{host}"),
            "this Redis is no cluster",
        ),
        (
            format!("redis+sentinel://{host}/mymaster"),
            "for a Redis without sentinels it begins with",
        ),
    ] {
        let audit = ["--redis", &url, "audit"];
        refused("storyfleet", &audit, CONFIGURATION, says_so).await?;
        worker_refused(&url, &[], says_so).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_not_given_for_a_while_or_to_this_user_is_told_from_one_that_is_not_there()
-> anyhow::Result<()> {
    let redis = Redis::start(&[]).await?;
    let url = redis.url();
    let host = url.trim_start_matches("redis://").to_owned();
    redis
        .command(&[
            b"ACL", b"SETUSER", b"poor", b"on", b">x", b"~*", b"&*", b"+@all", b"-select",
        ])
        .await?;
    let poor = format!("redis://poor:x@{host}/1");
    let denied = "Redis denies access";
    refused(
        "storyfleet",
        &["--redis", &poor, "audit"],
        CONFIGURATION,
        denied,
    )
    .await?;
    let database = format!("{url}/1");
    redis
        .command(&[b"CONFIG", b"SET", b"requirepass", b"x"])
        .await?;
    refused(
        "storyfleet",
        &["--redis", &database, "audit"],
        CONFIGURATION,
        denied,
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_redis_with_no_connection_left_is_away_whatever_the_database() -> anyhow::Result<()> {
    let redis = Redis::start(&[]).await?;
    let mut last =
        tokio::net::TcpStream::connect(redis.url().trim_start_matches("redis://")).await?;
    last.write_all(b"CONFIG SET maxclients 1\r\n").await?;
    let mut reply = [0; 5];
    last.read_exact(&mut reply).await?;
    assert_eq!(&reply, b"+OK\r\n");
    for url in [redis.url(), format!("{}/1", redis.url())] {
        let audit = ["--redis", &url, "audit"];
        refused("storyfleet", &audit, FAILED, "Redis is not reachable").await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_another_program_keeps_under_our_keys_is_named() -> anyhow::Result<()> {
    for key in ["sf:{0}:meta", "sf:{0}:stories"] {
        let redis = Redis::start(&[]).await?;
        let url = redis.url();
        redis
            .command(&[b"SET", key.as_bytes(), b"another's"])
            .await?;
        let says_so = format!("the key {key} is a string, not a ");
        let create = ["--redis", &url, "story", "create", "castle"];
        for command in [
            &["--redis", &url, "audit"][..],
            &create,
            &["--redis", &url, "up"],
        ] {
            refused("storyfleet", command, FAILED, &says_so).await?;
        }
        let doctor = run("storyfleet", &["--redis", &url, "doctor"]).await?;
        assert_eq!(doctor.code, Some(FAILED), "{doctor:?}");
        assert!(doctor.out.contains(&says_so), "{doctor:?}");
        redis.command(&[b"RENAME", key.as_bytes(), b"away"]).await?;
        says("storyfleet", &create).await?;
        let listed = says("storyfleet", &["--redis", &url, "story", "list"]).await?;
        assert!(listed.contains("castle"), "{key}: {listed}");
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_that_may_not_write_is_a_finding_of_the_doctor() -> anyhow::Result<()> {
    let redis = Redis::start(&[]).await?;
    let url = redis.url();
    says(
        "storyfleet",
        &["--redis", &url, "story", "create", "castle"],
    )
    .await?;
    let doctor = ["--redis", &url, "doctor"];
    for (words, says_so) in [
        (
            &[&b"CONFIG"[..], b"SET", b"min-replicas-to-write", b"1"][..],
            "bring them back, or lower that",
        ),
        (
            &[&b"REPLICAOF"[..], b"127.0.0.1", b"1"],
            "a replica and takes no writes",
        ),
    ] {
        redis.command(words).await?;
        let doctor = run("storyfleet", &doctor).await?;
        assert_eq!(doctor.code, Some(FAILED), "{doctor:?}");
        assert!(doctor.out.contains(says_so), "{doctor:?}");
    }
    Ok(())
}

/// Answers as a Redis of that version does that knows of no fleet. No server so old can be had.
async fn old_redis(version: &'static str) -> anyhow::Result<(u16, AbortOnDropHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let task = TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut request).await {
                let request = String::from_utf8_lossy(&request[..length]);
                let mut replies = String::new();
                for command in request.split('*').skip(1) {
                    let info = format!("redis_version:{version}\r\n");
                    if command.contains("INFO\r\n") {
                        replies.push_str(&format!("${}\r\n{info}\r\n", info.len()));
                    } else {
                        replies.push_str("$-1\r\n");
                    }
                }
                if stream.write_all(replies.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    Ok((port, AbortOnDropHandle::new(task)))
}

#[tokio::test]
async fn a_redis_that_is_too_old_is_refused() -> anyhow::Result<()> {
    let (port, _server) = old_redis("6.2.14").await?;
    let url = format!("redis://127.0.0.1:{port}");
    let says = "Redis 6.2.14 is too old: use Redis 7.0 or Valkey 7.2 or later";
    worker_refused(&url, &[], says).await?;
    for command in [&["up"][..], &["doctor"], &["story", "create", "castle"]] {
        let arguments = [&["--redis", &url], command].concat();
        refused("storyfleet", &arguments, CONFIGURATION, says).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_that_is_not_there_fails_a_command_and_is_waited_for_by_a_worker()
-> anyhow::Result<()> {
    let closed = "redis://:hunter2@127.0.0.1:1";
    let audit = ["--redis", closed, "audit"];
    refused(
        "storyfleet",
        &audit,
        FAILED,
        "is its URL right, with rediss:// for TLS, and is it up?",
    )
    .await?;

    let mut command = Command::new(program("narrator")?);
    command
        .args(["run", "--redis", closed, "--llm", NOWHERE, "--model", "m"])
        .stderr(Stdio::piped());
    let mut worker = Process::start(&mut command)?;
    let mut log = worker.errors()?;
    let line = log.line("trying until it does").await?;
    assert!(!line.contains("hunter2"), "{line}");
    assert!(worker.end().await?.success());
    Ok(())
}
