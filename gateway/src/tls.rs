//! The certificate that readers see, and its key, out of PEM files, which are read again when they change. TLS 1.2
//! and later, with what rustls holds to be safe.

mod files;
mod validity;

use std::fmt;
use std::future::{Ready, ready};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::app::now;
use crate::metrics::Metrics;
use crate::seldom::Seldom;
pub(crate) use files::HTTP2;
use files::{Files, Pair, Stamp};
pub(crate) use validity::Validity;

/// How often the files are looked at.
const CHECK: Duration = Duration::from_secs(10);
/// How often it is told that the certificate is good no more.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate with its key. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: Files,
    /// The files as they were at the start.
    first: Stamp,
    current: watch::Sender<Pair>,
}

/// What came of the last look at them.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Read(Stamp),
    /// In words. They are read again, since what was wrong may change and leave them as they are: who may read them, say.
    Failed(String),
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When one of them cannot be used, or they do not belong together.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, certificates::Error> {
        let files = Files { certificate, key };
        // Before they are read: what changes meanwhile is seen.
        let first = files.stamp();
        let current = watch::Sender::new(files.read()?);
        Ok(Self(Arc::new(Shared {
            files,
            first,
            current,
        })))
    }

    /// What a new connection begins with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.0.current.borrow().acceptor.clone()
    }

    /// From when to when the certificate is good.
    pub(crate) fn validity(&self) -> Validity {
        self.0.current.borrow().validity
    }

    /// Where it is.
    pub(crate) fn certificate(&self) -> &Path {
        &self.0.files.certificate
    }

    /// Looks at the files again and again, and takes what is new in them. Connections that there are keep what they have.
    /// A certificate that clients refuse, or soon will, is told of at once and each day.
    pub(crate) async fn follow(&self, metrics: &Metrics) {
        let mut seen = Seen::Read(self.0.first);
        let mut daily = Seldom::new(DAY);
        metrics.tls.certificate(self.validity().until);
        loop {
            self.tell(&daily);
            sleep(CHECK).await;
            let tls = self.clone();
            let last = seen.clone();
            // No task that the node's end waits for: a file may hang, on a mount that is gone.
            let mut look = spawn_blocking(move || tls.renewed(last));
            let mut looked = timeout(CHECK, &mut look).await;
            if looked.is_err() {
                metrics.tls.renewed(false);
                let file = self.certificate().display();
                tracing::warn!(%file, "the certificate or its key hangs as it is read: the one before stays");
            }
            let found = loop {
                match looked {
                    Ok(found) => break found.unwrap_or_else(|_| seen.clone()),
                    // Another look would hang beside it.
                    Err(_) => self.tell(&daily),
                }
                looked = timeout(CHECK, &mut look).await;
            };
            match &found {
                Seen::Read(_) if found == seen => {}
                Seen::Read(_) => {
                    metrics.tls.renewed(true);
                    metrics.tls.certificate(self.validity().until);
                    daily = Seldom::new(DAY);
                }
                Seen::Failed(_) => metrics.tls.renewed(false),
            }
            seen = found;
        }
    }

    fn tell(&self, daily: &Seldom) {
        if let Some(concern) = self.validity().concern(now().unix)
            && daily.is_due()
        {
            tracing::warn!(file = %self.certificate().display(), "the certificate: {concern}");
        }
    }

    /// Takes what is new. Files that do not do change nothing, and are told of each time that it is for another reason.
    fn renewed(&self, seen: Seen) -> Seen {
        let Shared { files, current, .. } = &*self.0;
        let now = Seen::Read(files.stamp());
        if now == seen {
            return seen;
        }
        match files.read() {
            Ok(pair) => {
                current.send_replace(pair);
                tracing::info!(file = %files.certificate.display(), "there is a new certificate");
                now
            }
            Err(error) => {
                let failed = Seen::Failed(exit::line(&error.into()));
                if let Seen::Failed(error) = &failed
                    && failed != seen
                {
                    tracing::warn!(%error, "the new certificate does not do: the one before stays");
                }
                failed
            }
        }
    }
}

impl fmt::Debug for Tls {
    /// The key is nobody's to see.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.files.fmt(formatter)
    }
}

/// A layer around all routes: browsers that were here once come in the clear no more.
pub(crate) fn strict(age: Duration) -> impl Fn(Response) -> Ready<Response> + Clone {
    let strict = HeaderValue::from_str(&format!("max-age={}", age.as_secs()))
        .unwrap_or_else(|error| unreachable!("letters and digits are a header: {error}"));
    move |mut response| {
        let headers = response.headers_mut();
        headers.insert(header::STRICT_TRANSPORT_SECURITY, strict.clone());
        ready(response)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs::File;
    use std::process::Command;

    use rcgen::{CertificateParams, CertifiedKey, KeyPair};
    use rcgen::{date_time_ymd, generate_simple_self_signed};
    use tempfile::TempDir;
    use tokio::time::advance;

    use super::*;

    /// A certificate and its key, as PEM.
    fn pair() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["game.example".to_owned()]).expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    fn load(folder: &TempDir, certificate: &str, key: &str) -> Result<Tls, certificates::Error> {
        let paths = ["certificate", "key"].map(|name| folder.path().join(name));
        for (path, text) in paths.iter().zip([certificate, key]) {
            std::fs::write(path, text).expect("written");
        }
        let [certificate, key] = paths;
        Tls::load(certificate, key)
    }

    #[test]
    fn files_that_do_not_do_are_named_with_what_is_wrong() {
        let folder = TempDir::new().expect("a folder");
        let ((certificate, key), (_, other)) = (pair(), pair());
        assert!(load(&folder, &certificate, &key).is_ok());
        // Both may be in one file.
        let both = format!("{key}{certificate}");
        assert!(load(&folder, &both, &both).is_ok());
        let half = &certificate[..certificate.len() / 2];
        let broken = certificate.replacen("MII", "AAA", 1);
        let no_key = key.replacen("MI", "AA", 1);
        for (certificate, key, words) in [
            ("", key.as_str(), "certificate has no certificate in it"),
            (&key, &key, "certificate has no certificate in it"),
            (half, &key, "certificate is no PEM"),
            (&broken, &key, "certificate cannot be used"),
            (&certificate, "", "key has no private key in it"),
            (&certificate, &certificate, "key has no private key in it"),
            (&certificate, &no_key, "key cannot be used"),
            (&certificate, &other, "is not that of the certificate in"),
        ] {
            let error = load(&folder, certificate, key).expect_err(words);
            assert!(error.to_string().contains(words), "{error}: {words}");
        }
        let missing = folder.path().join("missing");
        let error = Tls::load(missing.clone(), missing).expect_err("nothing there");
        assert!(error.to_string().ends_with("missing cannot be read"));
        assert!(error.source().is_some());
    }

    /// The errors of a chain, as whoever logs them may write them.
    fn told(error: &certificates::Error) -> String {
        let mut told = format!("{error} {error:?} {error:#?}");
        let mut source = error.source();
        while let Some(cause) = source {
            told += &format!(" {cause} {cause:?}");
            source = cause.source();
        }
        told
    }

    #[test]
    fn no_piece_of_a_key_is_in_what_is_told_of_its_file() {
        let folder = TempDir::new().expect("a folder");
        let (certificate, key) = pair();
        let lines: Vec<&str> = key.lines().collect();
        let (middle, last) = (lines.len() / 2, lines.len() - 1);
        let spoilt = [
            lines.concat(),
            lines.join(" "),
            lines.join("\\n"),
            format!("\"{}\"", lines.join("\\n")),
            key[..key.len() / 2].to_owned(),
            lines[..last].join("\n"),
            [&lines[..last], &["-----END KEY-----"]].concat().join("\n"),
            [lines[0], &lines[1..].concat()].join("\n"),
            [&lines[..1], &["*"], &lines[1..]].concat().join("\n"),
            [&lines[..middle], &lines[middle + 1..]].concat().join("\n"),
            key.replace("PRIVATE KEY-----", "PRIVATE KEY"),
            key.replace("-----BEGIN PRIVATE KEY-----\n", "-----BEGIN "),
            key.replacen("MI", "AA", 1),
            key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        ];
        let secret = lines[1..last].concat();
        let decimal: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
        let pieces: Vec<String> = (0..secret.len() - 6)
            .flat_map(|at| {
                [
                    secret[at..at + 6].to_owned(),
                    decimal[at..at + 6].join(", "),
                ]
            })
            .collect();
        for text in &spoilt {
            // The wrong way round too: a key is soon in the other's place.
            for (certificate, key) in [(certificate.as_str(), text.as_str()), (text, text)] {
                let error = load(&folder, certificate, key).expect_err(text);
                let told = told(&error);
                let piece = pieces.iter().find(|piece| told.contains(*piece));
                assert_eq!(piece, None, "{told}");
            }
        }
        // In the place of its path.
        for text in [&key, &lines.join(" "), &lines.concat()] {
            let there = folder.path().join("certificate");
            std::fs::write(&there, &certificate).expect("written");
            for certificate in [there, text.into()] {
                let error = Tls::load(certificate, text.into()).expect_err(text);
                let told = told(&error);
                let piece = pieces.iter().find(|piece| told.contains(*piece));
                assert_eq!(piece, None, "{told}");
            }
        }
    }

    #[test]
    fn what_is_broken_changes_nothing_and_is_read_until_it_is_not() {
        let folder = TempDir::new().expect("a folder");
        let ((certificate, key), (other, its)) = (pair(), pair());
        let tls = load(&folder, &certificate, &key).expect("a pair");
        let config = || Arc::as_ptr(tls.acceptor().config());
        let (first, begun) = (Seen::Read(tls.0.first), config());
        assert_eq!(tls.renewed(first.clone()), first);
        load(&folder, &other, &its).expect("another pair");
        // What is wrong may pass and leave no trace in the files' times and lengths.
        let certificate = folder.path().join("certificate");
        let aside = folder.path().join("aside");
        std::fs::rename(&certificate, &aside).expect("moved");
        std::fs::create_dir(&certificate).expect("a folder");
        let broken = tls.renewed(first);
        assert!(matches!(broken, Seen::Failed(_)) && config() == begun);
        assert_eq!(tls.renewed(broken.clone()), broken);
        std::fs::remove_dir(&certificate).expect("removed");
        std::fs::rename(&aside, &certificate).expect("moved");
        let renewed = tls.renewed(broken);
        assert_eq!(renewed, Seen::Read(tls.0.files.stamp()));
        assert!(config() != begun);
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_hangs_is_told_of_once_and_that_it_ended_each_day() {
        let folder = TempDir::new().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no name");
        params.not_after = date_time_ymd(2000, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let tls = load(&folder, &certificate.pem(), &key.serialize_pem()).expect("a pair");
        let log = folder.path().join("log");
        let writer = File::create(&log).expect("a log");
        let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
        let _until_the_end = tracing::subscriber::set_default(subscriber);
        std::fs::remove_file(tls.certificate()).expect("removed");
        let mut made = Command::new("mkfifo");
        let made = made.arg(tls.certificate()).status().expect("run");
        assert!(made.success());
        let metrics = Metrics::new();
        let days = async {
            for _hour in 0..60 {
                advance(DAY / 24).await;
            }
        };
        tokio::select! {
            () = tls.follow(&metrics) => unreachable!("it goes on"),
            () = days => {}
        }
        // What hangs goes on, and the runtime can end.
        std::fs::write(tls.certificate(), "").expect("written");
        let told = std::fs::read_to_string(log).expect("a log");
        let count = |words| told.matches(words).count();
        assert_eq!((count("hangs"), count("it ended at")), (1, 3), "{told}");
    }

    #[test]
    fn files_that_could_not_be_read_are_read_again_though_they_look_the_same() {
        let folder = TempDir::new().expect("a folder");
        let (certificate, key) = pair();
        let tls = load(&folder, &certificate, &key).expect("a pair");
        let begun = Arc::as_ptr(tls.acceptor().config());
        let failed = Seen::Failed("it was nobody's to read".to_owned());
        assert_eq!(tls.renewed(failed), Seen::Read(tls.0.first));
        assert!(Arc::as_ptr(tls.acceptor().config()) != begun);
    }
}
