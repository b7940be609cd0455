//! Keys from files that change while they are in use.

use std::process::Command;
use std::time::Duration;

use gateway::auth::{Grants, NewToken, Secrets, SettingsError, Verifier, mint};
use secrecy::ExposeSecret;
use tokio::time::{self, Instant};

use crate::signer::{Signer, claims, jwks, now};
use crate::{Folder, class, settings, verifier};

#[tokio::test(start_paused = true)]
async fn a_jwks_file_that_changed_is_read_again() {
    let (old, new) = (Signer::new("EdDSA", "old"), Signer::new("EdDSA", "new"));
    let folder = Folder::new();
    let mut settings = settings();
    settings.jwks_file = Some(folder.write("jwks.json", &jwks(&[&old])));
    let verifier = verifier(settings);
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    assert_eq!(class(&verifier, &new.token(&claims())).await, "key");

    folder.write("jwks.json", &jwks(&[&new]));
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    time::advance(Duration::from_millis(100)).await;
    assert_eq!(class(&verifier, &new.token(&claims())).await, "good");
    assert_eq!(class(&verifier, &old.token(&claims())).await, "key");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_breaks_leaves_its_last_keys_in_use() {
    let (old, new) = (Signer::new("EdDSA", "old"), Signer::new("EdDSA", "new"));
    let folder = Folder::new();
    let mut settings = settings();
    settings.jwks_file = Some(folder.write("jwks.json", &jwks(&[&old])));
    let path = settings.jwks_file.clone().unwrap();
    let verifier = verifier(settings);
    for broken in [Some("{"), Some(&*" ".repeat(256 * 1024 + 1)), None] {
        match broken {
            Some(text) => drop(folder.write("jwks.json", text)),
            None => std::fs::remove_file(&path).unwrap(),
        }
        time::advance(Duration::from_secs(1)).await;
        assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
        time::advance(Duration::from_secs(1)).await;
        assert_eq!(class(&verifier, &new.token(&claims())).await, "unavailable");
    }
    folder.write("jwks.json", &jwks(&[&new]));
    time::advance(Duration::from_secs(1)).await;
    assert_eq!(class(&verifier, &new.token(&claims())).await, "good");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_hangs_lets_nobody_wait_for_long() {
    let (old, new) = (Signer::new("EdDSA", "old"), Signer::new("EdDSA", "new"));
    let folder = Folder::new();
    let mut settings = settings();
    let path = folder.write("jwks.json", &jwks(&[&old]));
    settings.jwks_file = Some(path.clone());
    let verifier = verifier(settings.clone());
    std::fs::remove_file(&path).unwrap();
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(
            passing(class(&verifier, &new.token(&claims()))).await,
            "unavailable"
        );
        assert_eq!(
            passing(class(&verifier, &old.token(&claims()))).await,
            "good"
        );
    }
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    // The one read goes on; whatever looks beside it hangs as long.
    let looked = passing(settings.look()).await.unwrap();
    assert!(looked[0].keys.is_err());
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    folder.write("jwks.json", &jwks(&[&new]));
    // Who opens it to write wakes both, also one that found it before it was moved and opens it only now.
    std::thread::spawn(move || while std::fs::write(&aside, "").is_ok() {});
    while class(&verifier, &new.token(&claims())).await != "good" {
        time::advance(Duration::from_millis(100)).await;
    }
}

/// Time passes until it is there: it does not by itself while a file hangs.
async fn passing<T>(awaited: impl Future<Output = T>) -> T {
    let passes = async {
        loop {
            time::advance(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        it = awaited => it,
        () = passes => unreachable!("it passes on"),
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_are_changed_without_a_restart() {
    let (old, new) = (Signer::new("HS256", "old"), Signer::new("HS256", "new"));
    let lines =
        |signers: &[&Signer]| -> String { signers.iter().filter_map(|s| s.line()).collect() };
    let folder = Folder::new();
    let mut settings = settings();
    settings.secrets = Some(folder.write("secrets", &lines(&[&old])));
    let verifier = verifier(settings);
    for (signers, old_is, new_is) in [
        (&[&old][..], "good", "key"),
        (&[&new, &old], "good", "good"),
        (&[&new], "key", "good"),
    ] {
        folder.write("secrets", &lines(signers));
        time::advance(Duration::from_secs(1)).await;
        assert_eq!(class(&verifier, &old.token(&claims())).await, old_is);
        assert_eq!(class(&verifier, &new.token(&claims())).await, new_is);
    }
}

#[tokio::test]
async fn a_minted_token_is_taken_for_what_it_says() {
    let folder = Folder::new();
    let path = folder.write(
        "secrets",
        &format!("new {}\n{}\n", "n".repeat(40), "o".repeat(40)),
    );
    let granted = [("castle".parse().unwrap(), "author".parse().unwrap())];
    let new = NewToken {
        sub: "u42".to_owned(),
        name: Some("Mira".to_owned()),
        jti: Some("t1".to_owned()),
        stories: Grants::from_iter(granted),
        audience: "storyfleet".to_owned(),
        issuer: "issuer".to_owned(),
        issued_at: now(),
        expires_at: now() + 60,
    };
    let secrets = Secrets::read(&path).unwrap();
    let token = mint(&secrets, &new).unwrap();
    let mut settings = settings();
    settings.secrets = Some(path);
    let found = verifier(settings)
        .verify(token.expose_secret())
        .await
        .unwrap();
    assert_eq!(
        (found.sub, found.name, found.jti),
        (new.sub.clone(), "Mira".to_owned(), new.jti.clone())
    );
    assert_eq!(
        (found.issued_at, found.expires_at),
        (Some(new.issued_at), new.expires_at)
    );
    assert_eq!(found.stories, new.stories);
    for bad in [
        NewToken {
            sub: String::new(),
            ..new.clone()
        },
        NewToken {
            name: Some("a\u{202e}b".to_owned()),
            ..new.clone()
        },
        NewToken {
            expires_at: new.issued_at - 60,
            ..new.clone()
        },
        NewToken {
            audience: "a".repeat(8 * 1024),
            ..new.clone()
        },
    ] {
        assert!(mint(&secrets, &bad).is_err(), "{bad:?}");
    }
}

#[test]
fn settings_that_let_nobody_in_are_refused_at_the_start() {
    let folder = Folder::new();
    let mut given = settings();
    assert!(matches!(
        Verifier::new(given.clone()),
        Err(SettingsError::NoKeys)
    ));
    given.jwks_file = Some("/nowhere/jwks.json".into());
    assert!(matches!(
        Verifier::new(given.clone()),
        Err(SettingsError::Read { .. })
    ));
    for text in [
        "",
        r#"{"keys": []}"#,
        r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#,
    ] {
        given.jwks_file = Some(folder.write("jwks.json", text));
        assert!(matches!(
            Verifier::new(given.clone()),
            Err(SettingsError::Keys { .. })
        ));
    }
    given.jwks_file = Some(folder.write("jwks.json", &jwks(&[&Signer::new("ES256", "a")])));
    assert!(Verifier::new(given.clone()).is_ok());
    given.secrets = Some(folder.write("secrets", "short"));
    assert!(matches!(
        Verifier::new(given.clone()),
        Err(SettingsError::Keys { .. })
    ));
    given.secrets = None;
    given.issuer = String::new();
    assert!(matches!(
        Verifier::new(given),
        Err(SettingsError::Empty("issuer"))
    ));
}
