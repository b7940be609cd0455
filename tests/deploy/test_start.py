"""The programs start with just what the manifests give them: variables, prompts, keys. Redis and the model are not there, so
they live and are not ready; a wrong value or prompt ends them with exit code 2 and one line."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import fleet
import pytest

KEYS = {"url": "redis://127.0.0.1:1", "key": "none", "secrets": "0123456789abcdef0123456789abcdef"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def lay(manifests, workload, folder):
    """Writes what the volumes of a pod hold under `folder`."""
    volumes = {each["name"]: each for each in fleet.pod(workload).get("volumes", [])}
    for mount in fleet.containers(workload)[0].get("volumeMounts", []):
        place = folder / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True)
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            files = manifests.get("ConfigMap", volume["configMap"]["name"])["data"]
        else:
            files = {item["path"]: KEYS[item["key"]] for item in volume["secret"]["items"]}
        for name, text in files.items():
            (place / name).write_text(text)


def start(manifests, program, folder):
    """Starts a program as its Deployment says, but on ports and in a folder of its own; its internal page, and its process."""
    workload = manifests.get("Deployment", program)
    lay(manifests, workload, folder)
    container = fleet.containers(workload)[0]
    page = f"127.0.0.1:{free_port()}"
    said = {"PATH": os.environ["PATH"]}
    for name, value in manifests.environment(container).items():
        value = KEYS["url"] if value is None else value
        value = value.replace("/etc/storyfleet", f"{folder}/etc/storyfleet")
        said[name] = page if value == "0.0.0.0:9090" else value.replace("0.0.0.0:8080", "127.0.0.1:0")
    command = [fleet.binary(program), *container["args"]]
    return page, subprocess.Popen(command, env=said, stderr=subprocess.PIPE, text=True)


def status(page, way, process):
    """The status of an internal page, once there is one."""
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        try:
            return urllib.request.urlopen(f"http://{page}{way}", timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.05)
    process.kill()
    pytest.fail(f"{way} never answered: {process.communicate()[1]}")


@pytest.mark.parametrize("program", [*fleet.AGENTS, "gateway"])
def test_lives_and_is_not_ready_without_redis(overlay, program, tmp_path):
    page, process = start(overlay, program, tmp_path)
    container = fleet.containers(overlay.get("Deployment", program))[0]
    assert status(page, container["livenessProbe"]["httpGet"]["path"], process) == 200
    assert status(page, container["readinessProbe"]["httpGet"]["path"], process) == 503
    process.terminate()
    _, logs = process.communicate(timeout=30)
    assert process.returncode == 0, logs
    assert all(line.startswith("{") for line in logs.splitlines()), logs


@pytest.mark.parametrize(
    "program, config, key, value",
    [
        ("narrator", "agents", "STORYFLEET_LEASE", "soon"),
        ("narrator", "agents", "LLM_URL", "llm.example"),
        ("dialogue", "fleet", "STORYFLEET_SHARDS", "0"),
        ("moderator", "prompts-moderator", "judge.md", "no front matter"),
        ("gateway", "fleet", "STORYFLEET_PREFIX", "s f"),
        ("gateway", "gateway", "STORYFLEET_TRUSTED_PROXIES", "10.0.0.0/99"),
    ],
)
def test_a_wrong_value_ends_it_with_a_word(production, program, config, key, value, tmp_path):
    production.config(config)[key] = value
    _, process = start(production, program, tmp_path)
    _, logs = process.communicate(timeout=20)
    assert process.returncode == 2, logs
    assert logs.strip()
