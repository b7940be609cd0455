"""deploy/compose.yaml is valid, and each service is as shut in as the pods are; each rule is shown to refuse."""

import re
import subprocess
import sys

import fleet
import pytest
import yaml


def faults(compose):
    """What is wrong with a compose file, in words."""
    for name, service in compose["services"].items():
        image = re.sub(r"\$\{\w+:-([\w.]+)\}", r"\1", service["image"])
        program = fleet.program_of(image)
        said = service.get("environment", {})
        if program and service.get("user") != "65532:65532" or service.get("user", "0").split(":")[0] in ("0", "root"):
            yield f"{name} is the wrong user"
        if not service.get("read_only"):
            yield f"{name} can write its root"
        if service.get("cap_drop") != ["ALL"] or service.get("cap_add") or service.get("privileged"):
            yield f"{name} has capabilities"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name} may gain privileges"
        for limit in {"cpus", "mem_limit", "pids_limit"} - service.keys():
            yield f"{name} has no {limit}"
        if image.partition(":")[2] in ("", "latest"):
            yield f"{name}: its image may be another one tomorrow"
        if any("/var/run" in str(volume) for volume in service.get("volumes", [])):
            yield f"{name} has the machine in its hands"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name} is open to the network without TLS"
        for secret in service.get("secrets", []):
            if secret not in compose["secrets"]:
                yield f"{name}: nobody gives the secret {secret}"
        asked = service.get("healthcheck", {}).get("test", [])
        if asked != (["CMD", f"/usr/local/bin/{program}", "check", "--health"] if program else ["CMD", "redis-cli", "ping"]):
            yield f"{name} is not asked whether it is well"
        for other, how in service.get("depends_on", {}).items():
            if how.get("condition") != "service_healthy":
                yield f"{name} does not wait until {other} is well"
        if not program:
            continue
        if not said.keys() & {"STORYFLEET_METRICS_LISTEN", "STORYFLEET_INTERNAL_LISTEN", "MOCK_LLM_LISTEN"}:
            yield f"{name} has no page that could be asked"
        given = {arg for arg in service["command"] if arg.startswith("--")}
        for unknown in sorted(given - fleet.options(program)) + sorted(said.keys() - fleet.variables(program)):
            yield f"{name}: {program} knows no {unknown}"
        if fleet.drain_of(program, said) + 5 > fleet.seconds(service.get("stop_grace_period", "10s")):
            yield f"{name} is killed while it drains"
        for file in [value for value in said.values() if value.startswith("/run/secrets/")]:
            if file.removeprefix("/run/secrets/") not in service.get("secrets", []):
                yield f"{name} has no {file}"
    command = compose["services"]["redis"]["command"]
    for option in ["--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"]:
        if option not in " ".join(command):
            yield f"redis is run without {option}"


def test_every_service_is_shut_in():
    compose = fleet.compose()
    assert {"redis", "mock-llm", "gateway", *fleet.AGENTS} == compose["services"].keys()
    assert list(faults(compose)) == []


SPOILT = [
    ("narrator", "user", "0:0"),
    ("narrator", "user", "1000:1000"),
    ("redis", "user", "root"),
    ("narrator", "read_only", False),
    ("gateway", "cap_add", ["NET_ADMIN"]),
    ("gateway", "cap_drop", []),
    ("gateway", "security_opt", []),
    ("mock-llm", "mem_limit", None),
    ("narrator", "image", "storyfleet/narrator"),
    ("redis", "image", "redis:latest"),
    ("narrator", "volumes", ["/var/run/docker.sock:/var/run/docker.sock"]),
    ("gateway", "ports", ["8080:8080"]),
    ("gateway", "secrets", []),
    ("narrator", "secrets", ["llm-key", "other"]),
    ("narrator", "environment", {"STORYFLEET_COURAGE": "1"}),
    ("mock-llm", "command", ["--courage=1"]),
    ("dialogue", "stop_grace_period", "30s"),
    ("redis", "command", ["redis-server", "--appendonly", "yes"]),
    ("redis", "healthcheck", None),
    ("narrator", "healthcheck", {"test": ["CMD", "/usr/local/bin/dialogue", "check", "--health"]}),
    ("gateway", "healthcheck", {"test": ["CMD-SHELL", "/usr/local/bin/gateway check --health"]}),
    ("gateway", "depends_on", {"redis": {"condition": "service_started"}}),
    ("mock-llm", "environment", {}),
]


@pytest.mark.parametrize("name, key, value", SPOILT)
def test_is_refused(name, key, value):
    compose = fleet.compose()
    service = compose["services"][name]
    if value is None:
        del service[key]
    else:
        service[key] = value
    assert list(faults(compose)) != []


def valid(path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_file_is_one_of_compose():
    checked = valid(fleet.DEPLOY / "compose.yaml")
    assert checked.returncode == 0, checked.stdout


def test_an_unknown_field_is_refused(tmp_path):
    compose = fleet.compose()
    compose["services"]["narrator"]["nonsense"] = 1
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(compose))
    checked = valid(tmp_path / "compose.yaml")
    assert checked.returncode == 1 and "nonsense" in checked.stdout
