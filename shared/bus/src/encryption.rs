//! TLS to Redis: who is trusted there and who we are, out of files. They are read anew for each connection, so that what is
//! renewed needs no restart; a connection that there is keeps what it began with.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certificates::{Error, Pair, shown};
use redis::{ClientTlsConfig, RedisError, TlsCertificates};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Files of PEM. `Debug` shows no path that may be what is in a file.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// The authorities that vouch for Redis; `None` = those that this machine trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate with those that vouch for it, and its key, for a Redis that asks who we are.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Encryption {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What is in the files, where that does for TLS.
    pub(crate) fn read(&self) -> Result<TlsCertificates, Error> {
        let ca = self.ca.as_deref().map(authorities).transpose()?;
        let own = self
            .own
            .as_ref()
            .map(|(certificate, key)| own(certificate, key));
        Ok(TlsCertificates {
            client_tls: own.transpose()?,
            root_cert: ca,
        })
    }
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let own = self
            .own
            .as_ref()
            .map(|(certificate, key)| (shown(certificate), shown(key)));
        f.debug_struct("Encryption")
            .field("ca", &self.ca.as_deref().map(shown))
            .field("own", &own)
            .finish()
    }
}

// What is read is given to the client of Redis as it is in the file, and it reads it again: what would not do is found here,
// in words of ours.

fn authorities(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = certificates::read("CA", path)?;
    let mut roots = RootCertStore::empty();
    for authority in certificates::authorities(path, &bytes)? {
        roots.add(authority).map_err(|_| Error::unfit(path))?;
    }
    Ok(bytes)
}

fn own(certificate: &Path, key: &Path) -> Result<ClientTlsConfig, Error> {
    let client_cert = certificates::read("certificate", certificate)?;
    let client_key = certificates::read("key", key)?;
    let pair = Pair::new((certificate, &client_cert), (key, &client_key))?;
    taken(pair).map_err(|error| Error::of_pair(&error, certificate, key))?;
    Ok(ClientTlsConfig {
        client_cert,
        client_key,
    })
}

fn taken(pair: Pair) -> Result<ClientConfig, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(pair.chain, pair.key)
}

/// Why there is no connection: a file that does not do any more.
pub(crate) fn unusable(error: Error) -> RedisError {
    io::Error::other(error).into()
}

/// The error of [`unusable`], in words.
fn unusable_files(error: &RedisError) -> Option<String> {
    type Shared = Arc<dyn std::error::Error + Send + Sync>;
    let error: &io::Error = error.source()?.downcast_ref::<Shared>()?.downcast_ref()?;
    error.get_ref()?.downcast_ref().map(words)
}

/// The error with what it comes from.
pub(crate) fn words(error: &Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What the client of Redis says of a server that does not take our certificate, or misses it: why, when it hears of it
/// before it finds the connection closed.
const CUTS: [&str; 4] = [
    "broken pipe",
    "Connection reset",
    "unexpected end of file",
    "received fatal alert",
];
const CUT: &str = "it hangs up as soon as there is TLS";

/// The error of a connection under TLS that could not be used at all.
pub(crate) fn cut(error: RedisError) -> RedisError {
    let text = error.to_string();
    if CUTS.iter().any(|said| text.contains(said)) {
        return io::Error::other(format!("{CUT}: {text}")).into();
    }
    error
}

/// What is said of TLS, of which the client of a cluster keeps the words alone, and what to do.
const FAULTS: [(&str, &str); 7] = [
    (
        "UnknownIssuer",
        "nobody who is trusted here vouches for Redis's certificate: give the file of its CA (--redis-ca)",
    ),
    (
        "certificate not valid for name",
        "Redis's certificate is of another name than the one that is asked for: write it into the URL as the certificate has it, or have one made with this name",
    ),
    (
        "certificate expired",
        "Redis's certificate has expired: renew it, or see that this machine's clock is right",
    ),
    (
        "certificate not valid yet",
        "Redis's certificate is not good yet: see that this machine's clock is right",
    ),
    (
        "invalid peer certificate",
        "Redis's certificate is not taken: have another one made",
    ),
    (
        "InvalidContentType",
        "what answers there speaks no TLS: its URL begins with redis and not with rediss, or it has another port for TLS",
    ),
    (
        CUT,
        "Redis does not let in who we are: give a certificate that its CA vouches for, and its key (--redis-cert, --redis-key); its own log says why",
    ),
];

/// What is wrong with TLS, if that is why Redis was not reached.
pub(crate) fn fault(error: &RedisError) -> Option<String> {
    if let Some(words) = unusable_files(error) {
        return Some(format!("Redis is not asked, since {words}"));
    }
    let text = error.to_string();
    let mut faults = FAULTS.iter();
    let (_, mend) = faults.find(|(said, _)| text.contains(said))?;
    Some(format!("{mend}: {error}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    /// Writes a certificate and its key there.
    fn written(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["redis.example".to_owned()]).unwrap();
        let path = |end| folder.join(format!("{name}.{end}"));
        std::fs::write(path("pem"), cert.pem()).unwrap();
        std::fs::write(path("key"), signing_key.serialize_pem()).unwrap();
        (path("pem"), path("key"))
    }

    #[test]
    fn files_that_do_not_do_are_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = written(folder.path(), "own");
        let (_, other) = written(folder.path(), "other");
        let missing = folder.path().join("missing");
        let large = folder.path().join("large");
        let text = std::fs::read_to_string(&certificate).unwrap();
        std::fs::write(&large, text.repeat(1 + (1 << 20) / text.len())).unwrap();
        let read = |ca: Option<&PathBuf>, own: Option<(&PathBuf, &PathBuf)>| {
            let encryption = Encryption {
                ca: ca.cloned(),
                own: own.map(|(certificate, key)| (certificate.clone(), key.clone())),
            };
            encryption.read().map_err(|error| words(&error))
        };
        assert!(read(Some(&certificate), Some((&certificate, &key))).is_ok());
        for (ca, own, said) in [
            (Some(&missing), None, "the CA "),
            (Some(&large), None, "large has more than 1048576 bytes"),
            (Some(&key), None, "own.key has no certificate in it"),
            (None, Some((&certificate, &missing)), "No such file"),
            (None, Some((&key, &key)), "own.key has no certificate"),
            (None, Some((&certificate, &certificate)), "no private key"),
            (None, Some((&certificate, &other)), "is not that of"),
        ] {
            let error = read(ca, own).unwrap_err();
            assert!(error.contains(said), "{error}: {said}");
        }
        let no_authority = folder.path().join("ca");
        std::fs::write(&no_authority, text.replacen("MII", "AAA", 1)).unwrap();
        let error = read(Some(&no_authority), None).unwrap_err();
        assert!(error.contains("ca cannot be used"), "{error}");
    }

    #[test]
    fn a_file_that_does_not_do_any_more_is_why_redis_is_not_asked() {
        let missing = Encryption {
            ca: Some("/proc/missing".into()),
            own: None,
        };
        let error = crate::Error::from_redis(unusable(missing.read().unwrap_err()));
        assert!(error.is_away(), "{error:?}");
        let told = error.to_string();
        let words = "Redis is not asked, since the CA /proc/missing cannot be read: No such file";
        assert!(told.starts_with(words), "{told}");
    }

    #[test]
    fn no_key_in_the_place_of_a_path_is_shown() {
        let key = "-----BEGIN PRIVATE KEY-----\nMC4C";
        let encryption = Encryption {
            ca: Some(key.into()),
            own: Some((key.into(), key.into())),
        };
        let error = encryption.read().unwrap_err();
        for told in [format!("{encryption:?}"), words(&error)] {
            assert!(!told.contains("MC4C"), "{told}");
        }
    }
}
