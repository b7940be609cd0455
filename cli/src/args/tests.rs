//! Command lines that mean nothing, and what is said of them.

use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_way_out() {
    for (line, says) in [
        ("storyfleet send Demo hello", "not a story id"),
        (
            "storyfleet story create x --input maybe",
            "use one of hold, off",
        ),
        ("storyfleet up --fault-rate 2", "0 to 1"),
        (
            "storyfleet dead list bard",
            "use moderator, narrator or dialogue",
        ),
        ("storyfleet watch demo --from 7", "a cursor is"),
        ("storyfleet story create x --lore sea", "NAME=TEXT"),
        ("storyfleet send demo ", "write some words"),
        ("storyfleet send demo hello --as \u{1b}[2J", "1 to 64"),
        ("storyfleet send demo hello --as ", "1 to 64"),
        ("storyfleet send demo hello --to \n", "1 to 64"),
        ("storyfleet dead redrive narrator", "<ID>"),
        (
            "storyfleet dead redrive narrator 0/1-0 --all",
            "cannot be used with",
        ),
        ("storyfleet story trim --keep 9 --days 1", "100"),
        ("storyfleet story trim --keep 100 --days 0", "1"),
        ("storyfleet bench --floor --events 999", "1000"),
        ("storyfleet audit --shards 0", "1..=65535"),
        ("storyfleet top --every 5", "like 500ms"),
        ("storyfleet top --metrics h:9090", "http://"),
        (
            "storyfleet simulate-scale --signal xlen",
            "work, lag, pending, cpu",
        ),
        (
            "storyfleet simulate-scale --agent bard",
            "use moderator, narrator or dialogue",
        ),
        ("storyfleet simulate-scale --call-p50 8", "like 500ms"),
        ("storyfleet bench --gateway --rounds 2", "cannot be used"),
        ("storyfleet bench --floor --gateway", "cannot be used"),
        ("storyfleet token --sub mira", "--secret-file"),
        ("storyfleet revoke", "--sub"),
        ("storyfleet revoke --sub a --jti b", "cannot be used with"),
        ("storyfleet revoke --jti b --for 60", "like 90s"),
        (
            "storyfleet token --sub mira --secret-file f --story castle",
            "STORY=ROLE",
        ),
        (
            "storyfleet token --sub mira --secret-file f --ttl 60",
            "like 90s",
        ),
    ] {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(says), "{error}");
    }
    let long = "x".repeat(65);
    let error = Cli::try_parse_from(["storyfleet", "send", "demo", "hello", "--as", &long]);
    assert_eq!(error.unwrap_err().exit_code(), 2);
}
