//! From when to when a certificate is good, and what whoever looks after a node is to hear of that. Whom clients trust is
//! their affair.

use jiff::Timestamp;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor as verify;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

/// In seconds. What ends sooner is to be renewed; of one that lives for less than three times as long, in its last third.
const SOON: u64 = 14 * 24 * 60 * 60;

/// In Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    from: u64,
    pub(crate) until: u64,
}

impl Validity {
    /// `None` when it is no certificate.
    // rustls has no name for these two, and says them when it refuses one for its time, which it looks at before it asks who
    // vouches for it. A parser of our own would be more than that.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        let at = |seconds| {
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
            verify(&parsed, &RootCertStore::empty(), &[], now, &[])
        };
        let from = match at(0) {
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => not_before.as_secs(),
            _ => 0,
        };
        match at(u64::MAX) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => Some(Self {
                from,
                until: not_after.as_secs(),
            }),
            _ => None,
        }
    }

    /// What is wrong with it at that time, or soon will be.
    pub(crate) fn concern(self, now: u64) -> Option<String> {
        let (from, until) = (date(self.from), date(self.until));
        if now > self.until {
            let words = "and clients refuse it: put a new one in its place";
            Some(format!("it ended at {until}, {words}"))
        } else if now < self.from {
            let words = "and clients refuse it until then: see that this machine's clock is right";
            Some(format!("it is good only from {from} on, {words}"))
        } else if self.until - now < SOON.min((self.until - self.from) / 3) {
            Some(format!("it ends at {until}: renew it"))
        } else {
            None
        }
    }
}

/// Good until then.
impl std::fmt::Display for Validity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "good until {}", date(self.until))
    }
}

fn date(unix: u64) -> Timestamp {
    let seconds = i64::try_from(unix).unwrap_or(i64::MAX);
    // What has no end ends with the calendar.
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn of(from: i32, until: i32) -> Validity {
        let mut params = CertificateParams::new(["game.example".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Validity::of(certificate.der()).expect("its times")
    }

    #[test]
    fn the_times_are_those_in_the_certificate() {
        let is = |from, until| Validity { from, until };
        assert_eq!(of(2020, 2021), is(1_577_836_800, 1_609_459_200));
        assert_eq!(of(1970, 2049), is(0, 2_493_072_000));
        assert_eq!(of(2049, 9999).until, 253_370_764_800);
        assert_eq!(Validity::of(&CertificateDer::from(vec![0x30, 0])), None);
    }

    #[test]
    fn who_looks_after_it_hears_of_it_in_time() {
        let validity = of(2020, 2021);
        let Validity { from, until } = validity;
        let says = |now, words: &str| {
            let told = validity.concern(now).expect(words);
            assert!(told.contains(words), "{told}");
        };
        says(from - 1, "only from 2020-01-01T00:00:00Z");
        assert_eq!(validity.concern(from), None);
        assert_eq!(validity.concern(until - SOON), None);
        says(until - SOON + 1, "ends at 2021-01-01T00:00:00Z");
        says(until, "ends at");
        let day = 24 * 60 * 60;
        let short = Validity {
            from: 0,
            until: 6 * day,
        };
        assert_eq!(short.concern(4 * day), None);
        assert!(short.concern(4 * day + 1).is_some());
        says(until + 1, "ended at 2021-01-01T00:00:00Z");
    }
}
