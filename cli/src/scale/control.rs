//! KEDA and the autoscaler together: KEDA starts the first worker and ends the last one, and tells the autoscaler the number;
//! the autoscaler decides in between
//! (<https://keda.sh/docs/2.16/concepts/scaling-deployments/>,
//! <https://keda.sh/docs/2.16/reference/scaledobject-spec/#pollinginterval>,
//! <https://keda.sh/docs/2.16/scalers/redis-streams/>).

use super::hpa::{Autoscaler, SYNC, by_average, by_utilisation};
use super::keda::Scaler;
use super::stream::Stream;
use crate::args::Signal;

/// Of a pod's request, in CPU seconds a second (deploy/k8s/base/agent/deployment.yaml).
const CPU_REQUEST: f64 = 0.1;
/// What a target for CPU usually is, and what a worker uses that does nothing.
const CPU_TARGET: f64 = 0.7;
const CPU_IDLE: f64 = 0.005;

pub(crate) struct Control {
    scaler: Scaler,
    signal: Signal,
    hpa: Autoscaler,
    /// When KEDA last saw work.
    active: u64,
    /// CPU since the last look, in µs.
    cpu: u64,
    /// Workers that ended: of a fleet's, the others are paid for.
    pub(crate) gone: usize,
}

impl Control {
    pub(crate) fn new(scaler: &Scaler, signal: Signal) -> Self {
        Self {
            hpa: Autoscaler::new(scaler.behaviour.clone(), scaler.min, scaler.max),
            scaler: scaler.clone(),
            signal,
            active: 0,
            cpu: 0,
            gone: 0,
        }
    }

    pub(crate) fn worked(&mut self, micros: u64) {
        self.cpu += micros;
    }

    /// Use of CPU by all that are ready since the last look, as a multiple of one pod's request.
    pub(crate) fn used(&mut self, ready: u32) -> f64 {
        let micros = std::mem::take(&mut self.cpu) as f64;
        let cores = micros / 1_000.0 / SYNC as f64 + CPU_IDLE * f64::from(ready);
        cores / CPU_REQUEST
    }

    /// What KEDA is told; nil is 0 to its client.
    fn told(&self, stream: &Stream) -> u64 {
        match self.signal {
            Signal::Work => stream.work(),
            Signal::Lag => stream.lag().unwrap_or(0),
            Signal::Pending => stream.pending(),
            // Its scaler is always active: it cannot go to none, nor come from there.
            Signal::Cpu => 1,
        }
    }

    /// KEDA looks: how many there are to be.
    pub(crate) fn poll(&mut self, now: u64, stream: &Stream, replicas: u32) -> u32 {
        let Scaler { min, cooldown, .. } = self.scaler;
        if self.told(stream) > 0 {
            self.active = now;
            return if replicas == 0 { min.max(1) } else { replicas };
        }
        let over = now.saturating_sub(self.active) >= cooldown;
        if min == 0 && over {
            0
        } else {
            replicas.max(min)
        }
    }

    /// The autoscaler looks: how many there are to be of so many that are ready and that start. It leaves none alone.
    pub(crate) fn sync(
        &mut self,
        now: u64,
        stream: &Stream,
        (ready, starting): (u32, u32),
        used: f64,
    ) -> u32 {
        let replicas = ready + starting;
        if replicas == 0 {
            return 0;
        }
        let proposal = match self.signal {
            Signal::Cpu => by_utilisation(used, CPU_TARGET, ready, starting),
            _ => by_average(self.told(stream), self.scaler.target, replicas),
        };
        self.hpa.decide(now, replicas, proposal)
    }
}
