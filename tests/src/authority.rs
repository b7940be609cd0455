//! An authority of a test's own, the certificates that it vouches for, and how Redis's own programs are told of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

const DAY: i64 = 24 * 60 * 60;

pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Vouched {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// Its certificate is in this folder, in the place of another's, with all that it vouches for.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let name = format!("authority {}", rand::random::<u32>());
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let authority = Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params.clone(), key),
        };
        let pem = params.self_signed(authority.issuer.key())?.pem();
        std::fs::write(authority.ca(), pem)?;
        Ok(authority)
    }

    /// The file of its certificate.
    #[must_use]
    pub fn ca(&self) -> String {
        self.path("ca.pem")
    }

    /// A certificate for this name or address, in the place of the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn vouch(&self, file: &str, name: &str) -> anyhow::Result<Vouched> {
        self.vouch_until(file, name, 1)
    }

    /// The same, good until so many days from now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn vouch_until(&self, file: &str, name: &str, days: i64) -> anyhow::Result<Vouched> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        let until = Timestamp::now().as_second() + days * DAY;
        let until = Duration::from_secs(u64::try_from(until)?);
        params.not_after = date_time_ymd(1970, 1, 1) + until;
        let key = KeyPair::generate()?;
        let vouched = Vouched {
            certificate: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        let certificate = params.signed_by(&key, &self.issuer)?;
        std::fs::write(&vouched.certificate, certificate.pem())?;
        std::fs::write(&vouched.key, key.serialize_pem())?;
        Ok(vouched)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// How a server of Redis speaks TLS and nothing else, with whoever its authority vouches for.
#[derive(Debug, Clone)]
pub(crate) struct Encrypted {
    ca: String,
    own: Vouched,
}

impl Encrypted {
    /// A server at 127.0.0.1.
    pub(crate) fn by(authority: &Authority) -> anyhow::Result<Self> {
        Ok(Self {
            ca: authority.ca(),
            own: authority.vouch("redis", "127.0.0.1")?,
        })
    }

    fn server(&self, port: &str) -> Vec<String> {
        let Vouched { certificate, key } = &self.own;
        let words = ["--port", "0", "--tls-port", port, "--tls-ca-cert-file"];
        let files = [
            &self.ca,
            "--tls-cert-file",
            certificate,
            "--tls-key-file",
            key,
        ];
        let others = ["--tls-replication", "yes", "--tls-cluster", "yes"];
        owned(&[&words[..], &files, &others].concat())
    }

    fn client(&self) -> Vec<String> {
        let Vouched { certificate, key } = &self.own;
        owned(&[
            "--tls",
            "--cacert",
            &self.ca,
            "--cert",
            certificate,
            "--key",
            key,
        ])
    }
}

/// Where a server or a sentinel listens, and how: its settings.
pub(crate) fn listening(tls: Option<&Encrypted>, port: u16) -> Vec<String> {
    let port = port.to_string();
    match tls {
        Some(tls) => tls.server(&port),
        None => owned(&["--port", &port]),
    }
}

/// How redis-cli talks to one: its options.
pub(crate) fn asking(tls: Option<&Encrypted>) -> Vec<String> {
    tls.map(Encrypted::client).unwrap_or_default()
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
