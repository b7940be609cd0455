"""Every overlay renders, is made of valid objects, and keeps to every rule of policy.py."""

import copy
import subprocess

import fleet
import policy
import pytest
import schema
import yaml


def test_every_object_is_valid(overlay):
    assert len(overlay.objects) > 30
    for thing in overlay.objects:
        assert schema.faults(thing) == [], fleet.name_of(thing)


@pytest.mark.parametrize("kind", ["Deployment", "ScaledObject", "PodMonitor", "TriggerAuthentication", "NetworkPolicy"])
def test_an_unknown_field_is_refused(production, kind):
    thing = copy.deepcopy(production.of(kind)[0])
    thing["spec"]["nonsense"] = 1
    assert "nonsense" in str(schema.faults(thing))


@pytest.mark.parametrize("rule", policy.RULES, ids=lambda rule: rule.__name__)
def test_every_overlay_keeps_to(rule, overlay):
    assert list(rule(overlay)) == []


def test_every_scaled_object_can_be_simulated(overlay, tmp_path):
    (tmp_path / "load.csv").write_text("minute,events\n0,60\n1,60\n")
    for scaled in overlay.of("ScaledObject"):
        (tmp_path / "scaled.yaml").write_text(yaml.safe_dump(scaled))
        command = [fleet.binary("storyfleet"), "simulate-scale", "--load", "load.csv", "--scaled-object", "scaled.yaml"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_every_component_is_part_of_an_overlay():
    texts = [path.read_text() for path in (fleet.DEPLOY / "k8s/overlays").glob("*/kustomization.yaml")]
    for component in (fleet.DEPLOY / "k8s/components").iterdir():
        assert any(f"components/{component.name}" in text for text in texts), component.name


def test_every_agent_reads_the_models_of_the_overlay(overlay, tmp_path):
    for name in fleet.AGENTS:
        deployment = overlay.get("Deployment", name)
        container = fleet.containers(deployment)[0]
        path = overlay.environment(container)["STORYFLEET_MODELS"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in fleet.pod(deployment)["volumes"]}
        models = overlay.get("ConfigMap", volumes["models"]["configMap"]["name"])["data"]
        assert [f"{mounts['models']}/{file}" for file in models] == [path], name
        file = tmp_path / "models.yaml"
        for text, is_read in [*((text, True) for text in models.values()), ("models: none", False)]:
            file.write_text(text)
            command = [fleet.binary(name), "check", "--models", file, "--redis", "redis://127.0.0.1:1", "--llm",
                       "http://127.0.0.1:1/v1", "--model", "mock"]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            assert (str(file) not in done.stdout + done.stderr) == is_read, done


def test_whoever_talks_to_redis_reads_its_authority(production, tmp_path):
    trusting = fleet.Fleet(fleet.with_component("production", "redis-tls", tmp_path))
    for thing in trusting.objects:
        assert schema.faults(thing) == [], fleet.name_of(thing)
    for rule in policy.RULES:
        assert list(rule(trusting)) == list(rule(production)), rule.__name__
    for name in [*fleet.AGENTS, "gateway"]:
        container = fleet.containers(trusting.get("Deployment", name))[0]
        path = trusting.environment(container)["STORYFLEET_REDIS_CA"]
        mounts = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "redis-tls"]
        assert [f"{mount}/ca.crt" for mount in mounts] == [path], name
    parameters = [each["parameter"] for each in trusting.get("TriggerAuthentication", "redis")["spec"]["secretTargetRef"]]
    assert "ca" in parameters
