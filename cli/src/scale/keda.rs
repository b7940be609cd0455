//! What a ScaledObject says, read from its YAML: those of deploy/k8s/components/keda are the ones here. Defaults are KEDA's and
//! Kubernetes's own:
//! <https://keda.sh/docs/2.16/reference/scaledobject-spec/>,
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#default-behavior>.

use std::fs;
use std::path::Path;

use ::story::Agent;
use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;

use super::hpa::{Behaviour, Policy, Rules};

/// How many workers there may be, and how that is decided. Times in ms.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scaler {
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) poll: u64,
    pub(crate) cooldown: u64,
    /// Entries for each worker.
    pub(crate) target: u32,
    pub(crate) behaviour: Behaviour,
}

#[derive(Deserialize)]
struct ScaledObject {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    min_replica_count: u32,
    #[serde(default = "hundred")]
    max_replica_count: u32,
    #[serde(default = "thirty")]
    polling_interval: u32,
    #[serde(default = "three_hundred")]
    cooldown_period: u32,
    #[serde(default)]
    advanced: Advanced,
    triggers: Vec<Trigger>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Advanced {
    horizontal_pod_autoscaler_config: HpaConfig,
    scaling_modifiers: Option<Modifiers>,
}

/// What several triggers come to.
#[derive(Deserialize)]
struct Modifiers {
    formula: String,
    target: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HpaConfig {
    behavior: Behavior,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Behavior {
    scale_up: Direction,
    scale_down: Direction,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Direction {
    stabilization_window_seconds: Option<u32>,
    select_policy: Option<String>,
    policies: Option<Vec<Policed>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policed {
    #[serde(rename = "type")]
    kind: String,
    value: u32,
    period_seconds: u32,
}

#[derive(Deserialize)]
struct Trigger {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    stream_length: Option<String>,
}

fn hundred() -> u32 {
    100
}

fn thirty() -> u32 {
    30
}

fn three_hundred() -> u32 {
    300
}

impl Scaler {
    /// The one in the tree.
    pub(super) fn of(agent: Agent) -> anyhow::Result<Self> {
        Self::read(match agent {
            Agent::Moderator => include_str!("../../../deploy/k8s/components/keda/moderator.yaml"),
            Agent::Narrator => include_str!("../../../deploy/k8s/components/keda/narrator.yaml"),
            Agent::Dialogue => include_str!("../../../deploy/k8s/components/keda/dialogue.yaml"),
        })
    }

    pub(super) fn of_file(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
        Self::read(&text).with_context(|| format!("{shown} is no ScaledObject of ours"))
    }

    fn read(yaml: &str) -> anyhow::Result<Self> {
        // Not the error: it shows what is there, and that may be the wrong file.
        let object: ScaledObject = serde_saphyr::from_str(yaml).map_err(|error| {
            let place = error.location().map(|place| place.line());
            anyhow!(
                "line {} does not fit: see deploy/k8s/components/keda",
                place.unwrap_or(1)
            )
        })?;
        let Spec {
            min_replica_count: min,
            max_replica_count: max,
            polling_interval,
            cooldown_period,
            advanced,
            triggers,
        } = object.spec;
        ensure!(
            (1..=10_000).contains(&max) && min <= max,
            "workers are {min} to {max}"
        );
        ensure!(polling_interval > 0, "pollingInterval is 0");
        let target = target(&triggers, advanced.scaling_modifiers.as_ref())?;
        let Behavior {
            scale_up,
            scale_down,
        } = advanced.horizontal_pod_autoscaler_config.behavior;
        let doubled = || {
            vec![
                Policy::Percent {
                    value: 100,
                    period: 15_000,
                },
                Policy::Pods {
                    value: 4,
                    period: 15_000,
                },
            ]
        };
        let all = || {
            vec![Policy::Percent {
                value: 100,
                period: 15_000,
            }]
        };
        Ok(Self {
            min,
            max,
            poll: u64::from(polling_interval) * 1_000,
            cooldown: u64::from(cooldown_period) * 1_000,
            target,
            behaviour: Behaviour {
                up: rules(scale_up, 0, doubled)?,
                down: rules(scale_down, 300, all)?,
            },
        })
    }
}

/// KEDA's client of one Redis, of a cluster and of Sentinel's. What they ask is the same.
const KINDS: [&str; 3] = [
    "redis-streams",
    "redis-cluster-streams",
    "redis-sentinel-streams",
];

fn target(triggers: &[Trigger], modifiers: Option<&Modifiers>) -> anyhow::Result<u32> {
    let lengths = triggers.iter().map(|trigger| {
        let length = trigger.metadata.stream_length.as_deref();
        let length = length.filter(|_| KINDS.contains(&trigger.kind.as_str()));
        length.with_context(|| {
            let kinds = KINDS.join(", ");
            format!("a trigger is not of {kinds} with a streamLength")
        })
    });
    let mut lengths = lengths.collect::<Result<Vec<_>, _>>()?;
    lengths.extend(modifiers.map(|modifiers| modifiers.target.as_str()));
    lengths.dedup();
    let [length] = lengths[..] else {
        bail!("it needs one streamLength, the same in each trigger and the modifiers' target");
    };
    let is_sum = match modifiers {
        Some(modifiers) => {
            let names = triggers.iter().map(|trigger| trigger.name.as_str());
            modifiers.formula.split('+').map(str::trim).eq(names)
        }
        None => triggers.len() == 1,
    };
    ensure!(
        is_sum,
        "its triggers are not added up: scalingModifiers has no formula `name + name`, else the longest stream counts for all"
    );
    let target = length.parse().ok().filter(|target| *target > 0);
    target.context("a streamLength is no number above 0")
}

fn rules(
    direction: Direction,
    window: u32,
    default: impl FnOnce() -> Vec<Policy>,
) -> anyhow::Result<Rules> {
    if let Some(select) = direction.select_policy.filter(|select| select != "Max") {
        bail!("selectPolicy {select} is not known here, only Max");
    }
    let policies = match direction.policies {
        Some(policies) => policies.iter().map(policy).collect::<Result<_, _>>()?,
        None => default(),
    };
    ensure!(!policies.is_empty(), "a behavior has no policies");
    let window = direction.stabilization_window_seconds.unwrap_or(window);
    Ok(Rules {
        window: u64::from(window) * 1_000,
        policies,
    })
}

fn policy(policed: &Policed) -> anyhow::Result<Policy> {
    let (value, period) = (policed.value, u64::from(policed.period_seconds) * 1_000);
    match policed.kind.as_str() {
        "Pods" => Ok(Policy::Pods { value, period }),
        "Percent" => Ok(Policy::Percent { value, period }),
        other => bail!("a policy is Pods or Percent, not {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_in_the_tree_are_read_as_deploy_has_them() {
        let narrator = Scaler::of(Agent::Narrator).unwrap();
        assert_eq!((narrator.min, narrator.max, narrator.target), (2, 20, 48));
        assert_eq!(narrator.poll, 10_000);
        assert_eq!(narrator.behaviour.down.window, 300_000);
        assert_eq!(
            narrator.behaviour.down.policies,
            [Policy::Percent {
                value: 50,
                period: 60_000
            }]
        );
        for agent in [Agent::Dialogue, Agent::Moderator] {
            let scaler = Scaler::of(agent).unwrap();
            assert_eq!(
                (scaler.min, scaler.cooldown, scaler.poll),
                (0, 600_000, 5_000)
            );
        }
    }

    #[test]
    fn what_is_not_said_is_as_keda_and_kubernetes_have_it() {
        let trigger = "triggers: [{type: redis-streams, metadata: {streamLength: \"5\"}}]";
        let scaler = Scaler::read(&format!("spec: {{{trigger}}}")).unwrap();
        assert_eq!(
            (scaler.min, scaler.max, scaler.poll, scaler.cooldown),
            (0, 100, 30_000, 300_000)
        );
        assert_eq!(
            (scaler.behaviour.up.window, scaler.behaviour.down.window),
            (0, 300_000)
        );
        for secret in [
            "hunter2",
            "spec: hunter2",
            "spec: {hunter2: [",
            "hunter2: {}",
        ] {
            let error = format!("{:#}", Scaler::read(secret).unwrap_err());
            assert!(error.contains("line 1 does not fit"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for (bad, says) in [
            ("spec: {triggers: []}", "one streamLength"),
            (
                "spec: {triggers: [{type: cpu, metadata: {}}]}",
                "not of redis-streams, redis-cluster-streams, redis-sentinel-streams",
            ),
            (
                &format!("spec: {{minReplicaCount: 7, maxReplicaCount: 3, {trigger}}}"),
                "workers are 7 to 3",
            ),
        ] {
            let error = Scaler::read(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    /// Two shards, on whichever Redis.
    fn two(kind: &str, lengths: [u32; 2], modifiers: &str) -> anyhow::Result<Scaler> {
        let [first, second] = lengths;
        Scaler::read(&format!(
            "spec:
  advanced: {{{modifiers}}}
  triggers:
    - {{type: {kind}, name: shard0, metadata: {{stream: 's0', streamLength: '{first}'}}}}
    - {{type: {kind}, name: shard1, metadata: {{stream: 's1', streamLength: '{second}'}}}}"
        ))
    }

    #[test]
    fn shards_are_added_up_on_one_redis_a_cluster_and_under_sentinel() {
        let modifiers = "scalingModifiers: {formula: shard0 + shard1, target: '5'}";
        for kind in KINDS {
            assert_eq!(two(kind, [5, 5], modifiers).unwrap().target, 5, "{kind}");
        }
        for (kind, lengths, modifiers, says) in [
            ("redis-cluster", [5, 5], modifiers, "not of redis-streams"),
            (KINDS[1], [5, 6], modifiers, "the same in each trigger"),
            (KINDS[1], [6, 6], modifiers, "the modifiers' target"),
            (KINDS[1], [5, 5], "", "not added up"),
            (
                KINDS[1],
                [5, 5],
                "scalingModifiers: {formula: shard0, target: '5'}",
                "not added up",
            ),
        ] {
            let error = two(kind, lengths, modifiers).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
