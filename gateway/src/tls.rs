//! The certificate that readers see, and its key, out of PEM files, which are read again when they change. TLS 1.2 and later, with what rustls holds to be safe.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::{HeaderValue, header};
use axum::response::Response;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// How often the files are looked at.
const CHECK: Duration = Duration::from_secs(10);
/// More than any chain has, in bytes.
const MAX_BYTES: u64 = 1_024 * 1_024;
/// What is spoken inside, the first before the second.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
pub(crate) const HTTP2: &[u8] = b"h2";
/// Of what is PEM and does not do.
const NO_CERTIFICATE: &str = "the first certificate in it is none (X.509, version 3): get it anew";
const NO_KEY: &str = "the key in it is none that the gateway knows (RSA, ECDSA on P-256, P-384 or P-521, or Ed25519): make another";
/// For a year browsers come by https only.
const STRICT: &str = "max-age=31536000";

/// Why there is no TLS with these files. In words of ours alone: those of the libraries may repeat what is in the files, and
/// that may be a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} is no PEM: {}", .0.display(), .1)]
    Pem(PathBuf, &'static str),
    #[error("{} has no certificate in it: PEM is wanted, the gateway's own first, then those that vouch for it", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} has no private key in it: PEM is wanted, without a password", .0.display())]
    NoKey(PathBuf),
    #[error("the key in {} is not that of the certificate in {}", .key.display(), .certificate.display())]
    OtherKey { certificate: PathBuf, key: PathBuf },
    #[error("{} cannot be used: {}", .0.display(), .1)]
    Unfit(PathBuf, &'static str),
}

/// A certificate with its key. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: Files,
    /// The files as they were at the start.
    first: Stamp,
    current: watch::Sender<TlsAcceptor>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// By which a file that changed is known: its time and its length, of the certificate and of the key.
type Stamp = [Option<(SystemTime, u64)>; 2];

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
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
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
        self.0.current.borrow().clone()
    }

    /// Looks at the files again and again, and takes what is new in them. Connections that there are keep what they have.
    pub(crate) async fn follow(&self) {
        let mut seen = Seen::Read(self.0.first);
        loop {
            sleep(CHECK).await;
            let tls = self.clone();
            let last = seen.clone();
            // No task that the node's end waits for: a file may hang, on a mount that is gone.
            let looked = spawn_blocking(move || tls.renewed(last)).await;
            seen = looked.unwrap_or(seen);
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
            Ok(acceptor) => {
                current.send_replace(acceptor);
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

impl Files {
    fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let file = path.metadata().ok()?;
            Some((file.modified().ok()?, file.len()))
        })
    }

    fn read(&self) -> Result<TlsAcceptor, TlsError> {
        let (certificate, key) = (&self.certificate, &self.key);
        let chain = CertificateDer::pem_slice_iter(&bytes(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::Pem(certificate.clone(), fault(&error)))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(certificate.clone()));
        }
        let secret = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey(key.clone()),
            error => TlsError::Pem(key.clone(), fault(&error)),
        })?;
        let config = config(chain, secret).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::OtherKey {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            rustls::Error::InvalidCertificate(_) => {
                TlsError::Unfit(certificate.clone(), NO_CERTIFICATE)
            }
            _ => TlsError::Unfit(key.clone(), NO_KEY),
        })?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// What kind of fault it is, and what to do.
fn fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a BEGIN line has no END line to it: the file was cut off, or its line breaks were lost; write it anew as it was made"
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a BEGIN line is not as it must be: it is a line of its own with five dashes at both ends; write the file anew as it was made"
        }
        pem::Error::Base64Decode(_) => {
            "what is between a BEGIN and its END line is not base64: write the file anew as it was made"
        }
        _ => "it cannot be read as PEM: write it anew as it was made",
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|error| TlsError::Read(path.to_owned(), error))?;
    Ok(bytes)
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// A layer around all routes where TLS is on: browsers that were here once come in the clear no more.
pub(crate) async fn strict(mut response: Response) -> Response {
    let strict = HeaderValue::from_static(STRICT);
    let headers = response.headers_mut();
    headers.insert(header::STRICT_TRANSPORT_SECURITY, strict);
    response
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    /// A certificate and its key, as PEM.
    fn pair() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["game.example".to_owned()]).expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    fn load(folder: &TempDir, certificate: &str, key: &str) -> Result<Tls, TlsError> {
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
    fn told(error: &TlsError) -> String {
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
