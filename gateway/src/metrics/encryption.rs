//! What operators see of TLS.

use agent::register;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::counter;

/// Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Encryption {
    /// Without labels: where there is no certificate it is not there.
    certificate: IntGaugeVec,
    renewals: IntCounterVec,
    handshakes: IntCounterVec,
}

impl Encryption {
    pub(super) fn new(registry: &Registry) -> Self {
        let certificate = Opts::new(
            "storyfleet_gateway_tls_certificate_not_after_timestamp_seconds",
            "When the certificate that readers see ends.",
        );
        let renewals = Opts::new(
            "storyfleet_gateway_tls_renewals_total",
            "Times that files of a certificate that changed were read: ok, or failed, and the one before stays.",
        );
        let handshakes = Opts::new(
            "storyfleet_gateway_tls_handshakes_total",
            "TLS handshakes by how they ended: ok, failed, or late, after 10 s.",
        );
        Self {
            certificate: register(registry, IntGaugeVec::new(certificate, &[])),
            renewals: counter(registry, renewals, "result", &["ok", "failed"]),
            handshakes: counter(registry, handshakes, "result", &["ok", "failed", "late"]),
        }
    }

    /// The one that readers see from now on ends then, in Unix seconds.
    pub(crate) fn certificate(&self, until: u64) {
        let until = i64::try_from(until).unwrap_or(i64::MAX);
        self.certificate.with_label_values::<&str>(&[]).set(until);
    }

    pub(crate) fn renewed(&self, is_good: bool) {
        let result = if is_good { "ok" } else { "failed" };
        self.renewals.with_label_values(&[result]).inc();
    }

    /// `result`: `ok`, `failed`, `late`.
    pub(crate) fn handshake(&self, result: &str) {
        self.handshakes.with_label_values(&[result]).inc();
    }
}
