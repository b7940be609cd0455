//! The two files, and what is wrong with them: in words of ours alone, since those of the libraries may repeat what is in
//! the files, and that may be a key.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use super::validity::Validity;
use crate::shown::shown;

/// More than any chain has, in bytes.
const MAX_BYTES: u64 = 1_024 * 1_024;
/// What is spoken inside, the first before the second.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
pub(crate) const HTTP2: &[u8] = b"h2";
/// Of what is PEM and does not do.
const NO_CERTIFICATE: &str = "the first certificate in it is none (X.509, version 3): get it anew";
const NO_KEY: &str = "the key in it is none that the gateway knows (RSA, ECDSA on P-256, P-384 or P-521, or Ed25519): make another";

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Which of them, and its path as it may be shown.
    #[error("the {0} {1} cannot be read")]
    Read(&'static str, String, #[source] io::Error),
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

#[derive(Debug)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// By which a file that changed is known: its time and its length, of the certificate and of the key.
pub(super) type Stamp = [Option<(SystemTime, u64)>; 2];

/// What is served with.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) acceptor: TlsAcceptor,
    pub(super) validity: Validity,
}

impl Files {
    pub(super) fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let file = path.metadata().ok()?;
            Some((file.modified().ok()?, file.len()))
        })
    }

    pub(super) fn read(&self) -> Result<Pair, TlsError> {
        let (certificate, key) = (&self.certificate, &self.key);
        let chain = CertificateDer::pem_slice_iter(&bytes("certificate", certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::Pem(certificate.clone(), fault(&error)))?;
        let Some(own) = chain.first() else {
            return Err(TlsError::NoCertificate(certificate.clone()));
        };
        let unfit = || TlsError::Unfit(certificate.clone(), NO_CERTIFICATE);
        let validity = Validity::of(own).ok_or_else(unfit)?;
        let secret =
            PrivateKeyDer::from_pem_slice(&bytes("key", key)?).map_err(|error| match error {
                pem::Error::NoItemsFound => TlsError::NoKey(key.clone()),
                error => TlsError::Pem(key.clone(), fault(&error)),
            })?;
        let config = config(chain, secret).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::OtherKey {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            rustls::Error::InvalidCertificate(_) => unfit(),
            _ => TlsError::Unfit(key.clone(), NO_KEY),
        })?;
        Ok(Pair {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            validity,
        })
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

fn bytes(name: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|error| TlsError::Read(name, shown(path), error))?;
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
