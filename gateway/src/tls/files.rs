//! The two files, and what is served with what is in them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use certificates::{Error, Pair as Chained};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{self, ServerConfig};

use super::validity::Validity;

/// What is spoken inside, the first before the second.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
pub(crate) const HTTP2: &[u8] = b"h2";

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

    pub(super) fn read(&self) -> Result<Pair, Error> {
        let (certificate, key) = (&self.certificate, &self.key);
        let chain = certificates::read("certificate", certificate)?;
        let secret = certificates::read("key", key)?;
        let pair = Chained::new((certificate, &chain), (key, &secret))?;
        let own = pair.chain.first().and_then(Validity::of);
        let validity = own.ok_or_else(|| Error::unfit(certificate))?;
        let config = config(pair).map_err(|error| Error::of_pair(&error, certificate, key))?;
        Ok(Pair {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            validity,
        })
    }
}

fn config(pair: Chained) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(pair.chain, pair.key)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}
