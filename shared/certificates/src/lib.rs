//! Certificates and keys out of files (PEM), and what is wrong with a file: in words of ours alone, since those of the
//! libraries may repeat what is in it, and that may be a key. What is done with them is told elsewhere.

mod shown;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use shown::shown;

/// More than any chain has, in bytes.
const MAX_BYTES: u64 = 1_024 * 1_024;
/// Of what is PEM and does not do.
const NO_KEY: &str = "the key in it is none that is known here (RSA, ECDSA on P-256, P-384 or P-521, or Ed25519): make another";

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Which of them, and its path as it may be shown.
    #[error("the {0} {1} cannot be read")]
    Read(&'static str, String, #[source] io::Error),
    #[error("the {0} {1} has more than {max} bytes: it is another file than was meant", max = MAX_BYTES)]
    TooLarge(&'static str, String),
    #[error("{} is no PEM: {}", .0.display(), .1)]
    Pem(PathBuf, &'static str),
    #[error("{} has no certificate in it: PEM is wanted, {}", .0.display(), .1)]
    NoCertificate(PathBuf, &'static str),
    #[error("{} has no private key in it: PEM is wanted, without a password", .0.display())]
    NoKey(PathBuf),
    #[error("the key in {} is not that of the certificate in {}", .key.display(), .certificate.display())]
    OtherKey { certificate: PathBuf, key: PathBuf },
    #[error("{} cannot be used: {}", .0.display(), .1)]
    Unfit(PathBuf, &'static str),
}

/// Who somebody is to those they talk with.
#[derive(Debug)]
pub struct Pair {
    /// Their own certificate first, then those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// All that is in a file, whose name is for errors.
///
/// # Errors
/// When it cannot be read, or is too large.
pub fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::Read(name, shown(path), error))?;
    match u64::try_from(bytes.len()) {
        Ok(..=MAX_BYTES) => Ok(bytes),
        _ => Err(Error::TooLarge(name, shown(path))),
    }
}

/// The certificates of authorities in `bytes`, which are those of the file `path`: one at least.
///
/// # Errors
/// When there are none.
pub fn authorities(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wanted = "of those that vouch for others";
    chain(path, bytes, wanted)
}

impl Pair {
    /// What the files of a certificate and of its key have in them.
    ///
    /// # Errors
    /// When one of them has not what it should.
    pub fn new(
        (certificate, chained): (&Path, &[u8]),
        (key, secret): (&Path, &[u8]),
    ) -> Result<Self, Error> {
        let wanted = "the own one first, then those that vouch for it";
        let chain = chain(certificate, chained, wanted)?;
        let key = PrivateKeyDer::from_pem_slice(secret).map_err(|error| match error {
            pem::Error::NoItemsFound => Error::NoKey(key.to_owned()),
            error => Error::Pem(key.to_owned(), fault(&error)),
        })?;
        Ok(Self { chain, key })
    }
}

impl Error {
    /// Why rustls takes no such certificate with such a key.
    #[must_use]
    pub fn of_pair(error: &rustls::Error, certificate: &Path, key: &Path) -> Self {
        match error {
            rustls::Error::InconsistentKeys(_) => Self::OtherKey {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            },
            rustls::Error::InvalidCertificate(_) => Self::unfit(certificate),
            _ => Self::Unfit(key.to_owned(), NO_KEY),
        }
    }

    /// What is between its lines is no certificate.
    #[must_use]
    pub fn unfit(certificate: &Path) -> Self {
        let words = "the first certificate in it is none (X.509, version 3): get it anew";
        Self::Unfit(certificate.to_owned(), words)
    }
}

fn chain(
    path: &Path,
    bytes: &[u8],
    wanted: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Pem(path.to_owned(), fault(&error)))?;
    if chain.is_empty() {
        return Err(Error::NoCertificate(path.to_owned(), wanted));
    }
    Ok(chain)
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
