//! A file of TLS that hangs. Alone in its process, whose threads are counted.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bus::{Bus, Encryption, Error, Settings};
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// Each tries to read the file.
const TRIES: usize = 5;

fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("threads").count()
}

fn replace(file: &Path, by: &Path) {
    fs::rename(by, file).expect("it is replaced");
}

#[tokio::test]
async fn a_file_that_hangs_is_read_once_however_often_it_is_tried_to_connect() {
    let folder = tempfile::tempdir().expect("a folder");
    let [ca, new] = ["ca", "new"].map(|name| folder.path().join(name));
    let CertifiedKey { cert, .. } =
        generate_simple_self_signed(["redis.example".to_owned()]).expect("a certificate");
    fs::write(&ca, cert.pem()).expect("it is written");
    let bus = Bus::new(Settings {
        timeout: Duration::from_millis(100),
        encryption: Encryption {
            ca: Some(ca.clone()),
            own: None,
        },
        // Nobody listens there.
        ..Settings::new("rediss://127.0.0.1:1")
    });
    let bus = bus.expect("the settings are good");
    let refused = async || match bus.ping().await {
        Err(Error::Unreachable(error)) => error.is_connection_refusal(),
        other => panic!("{other:?}"),
    };
    assert!(refused().await);

    // Whoever opens a pipe waits for its writer.
    let made = Command::new("mkfifo").arg(&new).status();
    assert!(made.expect("mkfifo runs").success());
    replace(&ca, &new);
    let before = threads();
    for _ in 0..TRIES {
        assert!(!refused().await);
    }
    let more = threads() - before;

    // The reading that hung ends, and the next one reads what is there then.
    fs::write(&ca, cert.pem()).expect("it is written");
    fs::write(&new, cert.pem()).expect("it is written");
    replace(&ca, &new);
    assert!(refused().await);
    // Last: a test that ends waits for each of its threads.
    assert!(more <= 1, "{more} threads read it");
}
