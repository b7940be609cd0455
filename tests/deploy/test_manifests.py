"""Every overlay renders, is made of valid objects, and keeps to every rule of policy.py."""

import copy

import fleet
import policy
import pytest
import schema


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


def test_every_component_is_part_of_an_overlay():
    texts = [path.read_text() for path in (fleet.DEPLOY / "k8s/overlays").glob("*/kustomization.yaml")]
    for component in (fleet.DEPLOY / "k8s/components").iterdir():
        assert any(f"components/{component.name}" in text for text in texts), component.name
