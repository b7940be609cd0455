//! Who is let in: real keys, real files, a real server of keys.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod files;
mod issuer;
mod jwks;
mod signer;
mod table;

use std::path::PathBuf;

use gateway::auth::{Settings, Verifier};

/// A folder that a test's key files are in.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn settings() -> Settings {
    Settings::new("storyfleet", "issuer")
}

fn verifier(settings: Settings) -> Verifier {
    Verifier::new(settings).unwrap()
}

/// What became of a token: the class of its refusal, or `good`.
async fn class(verifier: &Verifier, token: &str) -> &'static str {
    match verifier.verify(token).await {
        Ok(_) => "good",
        Err(refusal) => refusal.as_str(),
    }
}
