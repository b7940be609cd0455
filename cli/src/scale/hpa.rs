//! How Kubernetes's HorizontalPodAutoscaler decides, step by step as its documentation and its source have it:
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>,
//! <https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/podautoscaler/replica_calculator.go>
//! (`GetExternalPerPodMetricReplicas`, `GetResourceReplicas`) and `horizontal.go` beside it
//! (`stabilizeRecommendationWithBehaviors`, `convertDesiredReplicasWithBehaviorRate`). Pure; times in ms.

use std::collections::VecDeque;

/// How often it looks (`--horizontal-pod-autoscaler-sync-period`).
pub(crate) const SYNC: u64 = 15_000;
/// What is less than this off its target is left alone (`--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Behaviour {
    pub(crate) up: Rules,
    pub(crate) down: Rules,
}

/// Of one direction. Of its policies the one that allows most counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) window: u64,
    pub(crate) policies: Vec<Policy>,
}

/// How many may come or go within a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Policy {
    Pods { value: u32, period: u64 },
    Percent { value: u32, period: u64 },
}

#[derive(Debug)]
pub(crate) struct Autoscaler {
    behaviour: Behaviour,
    min: u32,
    max: u32,
    /// What was proposed, and when.
    proposed: VecDeque<(u64, u32)>,
    /// How many came or went, and when.
    came: VecDeque<(u64, u32)>,
    went: VecDeque<(u64, u32)>,
}

/// Of a metric whose target is an average for each pod: `ceil(total / target)`, unless that is within tolerance of what
/// there is.
pub(crate) fn by_average(total: u64, target: u32, replicas: u32) -> u32 {
    let ratio = total as f64 / (f64::from(target) * f64::from(replicas));
    if (ratio - 1.0).abs() <= TOLERANCE {
        return replicas;
    }
    count(total as f64 / f64::from(target))
}

/// Of use of CPU against its target, both as shares of what a pod requests: of pods that are ready, and those that are not
/// yet count as idle before any is added.
pub(crate) fn by_utilisation(used: f64, target: f64, ready: u32, starting: u32) -> u32 {
    let all = ready + starting;
    if ready == 0 {
        return all;
    }
    let ratio = used / (target * f64::from(ready));
    if (ratio - 1.0).abs() <= TOLERANCE {
        return all;
    }
    if ratio < 1.0 || starting == 0 {
        return count(ratio * f64::from(ready));
    }
    let damped = used / (target * f64::from(all));
    if damped < 1.0 + TOLERANCE {
        return all;
    }
    count(damped * f64::from(all))
}

/// Rounded up.
fn count(replicas: f64) -> u32 {
    // A cast of what is beyond the largest number is that number.
    replicas.ceil() as u32
}

impl Autoscaler {
    /// `min` is at least 1: to none and from none is KEDA's part.
    pub(crate) fn new(behaviour: Behaviour, min: u32, max: u32) -> Self {
        Self {
            behaviour,
            min: min.max(1),
            max,
            proposed: VecDeque::new(),
            came: VecDeque::new(),
            went: VecDeque::new(),
        }
    }

    /// How many there are to be, of so many, when so many are proposed.
    pub(crate) fn decide(&mut self, now: u64, current: u32, proposal: u32) -> u32 {
        if self.proposed.is_empty() {
            self.proposed.push_back((now, current));
        }
        let stable = self.stabilised(now, current, proposal);
        let decided = self.limited(now, current, stable);
        if decided > current {
            self.came.push_back((now, decided - current));
        } else if decided < current {
            self.went.push_back((now, current - decided));
        }
        decided
    }

    /// Up to the least that was proposed within its window, down to the most within its own.
    fn stabilised(&mut self, now: u64, current: u32, proposal: u32) -> u32 {
        let (mut up, mut down) = (proposal, proposal);
        let Behaviour {
            up: upward,
            down: downward,
        } = &self.behaviour;
        for (at, proposed) in &self.proposed {
            if at + upward.window > now {
                up = up.min(*proposed);
            }
            if at + downward.window > now {
                down = down.max(*proposed);
            }
        }
        let longest = upward.window.max(downward.window);
        self.proposed.push_back((now, proposal));
        while self
            .proposed
            .front()
            .is_some_and(|(at, _)| at + longest <= now)
            && self.proposed.len() > 1
        {
            self.proposed.pop_front();
        }
        current.max(up).min(down)
    }

    fn limited(&mut self, now: u64, current: u32, desired: u32) -> u32 {
        if desired > current {
            let policies = self.behaviour.up.policies.iter();
            let most = policies.map(|policy| self.most(now, current, policy)).max();
            let limit = most.unwrap_or(current).max(current);
            desired.min(limit).min(self.max)
        } else if desired < current {
            let policies = self.behaviour.down.policies.iter();
            let fewest = policies
                .map(|policy| self.fewest(now, current, policy))
                .min();
            let limit = fewest.unwrap_or(current).min(current);
            desired.max(limit).max(self.min)
        } else {
            current.clamp(self.min, self.max)
        }
    }

    fn most(&self, now: u64, current: u32, policy: &Policy) -> u32 {
        match policy {
            Policy::Pods { value, period } => self.at_start(now, current, *period) + value,
            Policy::Percent { value, period } => {
                let start = self.at_start(now, current, *period);
                count(f64::from(start) * (1.0 + f64::from(*value) / 100.0))
            }
        }
    }

    fn fewest(&self, now: u64, current: u32, policy: &Policy) -> u32 {
        match policy {
            Policy::Pods { value, period } => {
                self.at_start(now, current, *period).saturating_sub(*value)
            }
            Policy::Percent { value, period } => {
                let start = self.at_start(now, current, *period);
                // Rounded down, as there.
                (f64::from(start) * (1.0 - f64::from(*value) / 100.0)) as u32
            }
        }
    }

    /// How many there were when the period began.
    fn at_start(&self, now: u64, current: u32, period: u64) -> u32 {
        let within = |changes: &VecDeque<(u64, u32)>| -> u32 {
            let recent = changes.iter().rev().take_while(|(at, _)| at + period > now);
            recent.map(|(_, pods)| *pods).sum()
        };
        (current + within(&self.went)).saturating_sub(within(&self.came))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrator() -> Autoscaler {
        let behaviour = Behaviour {
            up: Rules {
                window: 0,
                policies: vec![
                    Policy::Percent {
                        value: 100,
                        period: 15_000,
                    },
                    Policy::Pods {
                        value: 4,
                        period: 15_000,
                    },
                ],
            },
            down: Rules {
                window: 300_000,
                policies: vec![Policy::Percent {
                    value: 50,
                    period: 60_000,
                }],
            },
        };
        Autoscaler::new(behaviour, 2, 20)
    }

    #[test]
    fn an_average_is_rounded_up_and_a_tenth_is_left_alone() {
        for (total, replicas, wants) in [
            (0, 2, 0),
            (96, 2, 2),
            (105, 2, 2),
            (106, 2, 3),
            (87, 2, 2),
            (86, 2, 2),
            (48, 2, 1),
            (480, 2, 10),
        ] {
            assert_eq!(
                by_average(total, 48, replicas),
                wants,
                "{total} of {replicas}"
            );
        }
    }

    #[test]
    fn use_of_cpu_is_held_against_what_is_ready() {
        assert_eq!(by_utilisation(1.4, 0.7, 2, 0), 2);
        assert_eq!(by_utilisation(2.8, 0.7, 2, 0), 4);
        // Two that start will take half of it.
        assert_eq!(by_utilisation(2.8, 0.7, 2, 2), 4);
        assert_eq!(by_utilisation(0.07, 0.7, 2, 0), 1);
    }

    #[test]
    fn it_doubles_or_adds_four_in_fifteen_seconds() {
        let mut hpa = narrator();
        assert_eq!(hpa.decide(0, 2, 20), 6);
        assert_eq!(hpa.decide(5_000, 6, 20), 6);
        assert_eq!(hpa.decide(15_000, 6, 20), 12);
        assert_eq!(hpa.decide(30_000, 12, 40), 20);
    }

    #[test]
    fn it_goes_down_after_five_quiet_minutes_by_half_a_minute() {
        let mut hpa = narrator();
        assert_eq!(hpa.decide(0, 16, 16), 16);
        for at in 1..20 {
            assert_eq!(hpa.decide(at * 15_000, 16, 2), 16, "{at}");
        }
        assert_eq!(hpa.decide(300_000, 16, 2), 8);
        assert_eq!(hpa.decide(315_000, 8, 2), 8);
        assert_eq!(hpa.decide(360_000, 8, 2), 4);
        assert_eq!(hpa.decide(420_000, 4, 2), 2);
        assert_eq!(hpa.decide(480_000, 2, 0), 2);
    }

    #[test]
    fn one_high_moment_keeps_them_for_the_window() {
        let mut hpa = narrator();
        hpa.decide(0, 10, 10);
        hpa.decide(240_000, 10, 7);
        assert_eq!(hpa.decide(300_000, 10, 2), 7);
        assert_eq!(hpa.decide(540_000, 7, 2), 3);
    }
}
