"""What a test needs and is not there is said aloud; where CI is set, it fails."""

import os
import shutil
import subprocess

import fleet
import pytest
from pods import AUTHORITIES, Pod
from test_start import free_port


def need(thing, what):
    if thing:
        return
    words = f"{what}: see to it, then try again"
    pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)


@pytest.fixture(params=fleet.OVERLAYS)
def overlay(request):
    need(fleet.kubectl(), "there is no kubectl (1.27 or later) to render overlays with")
    return fleet.Fleet(fleet.rendered(request.param))


@pytest.fixture
def production():
    need(fleet.kubectl(), "there is no kubectl (1.27 or later) to render overlays with")
    return fleet.Fleet(fleet.rendered("production"))


@pytest.fixture
def local():
    need(fleet.kubectl(), "there is no kubectl (1.27 or later) to render overlays with")
    return fleet.Fleet(fleet.rendered("local"))


@pytest.fixture
def cluster():
    need(fleet.kubectl(), "there is no kubectl (1.27 or later) to render overlays with")
    return fleet.Fleet(fleet.rendered("cluster"))


@pytest.fixture
def sentinel():
    need(fleet.kubectl(), "there is no kubectl (1.27 or later) to render overlays with")
    return fleet.Fleet(fleet.rendered("sentinel"))


@pytest.fixture
def addresses():
    """Where each finds the others: variables of the manifests that name a Service, and ports that pods share here."""
    redis, model, internal, public = free_port(), free_port(), free_port(), free_port()
    return {
        "REDIS_URL": f"redis://127.0.0.1:{redis}",
        "LLM_URL": f"http://127.0.0.1:{model}/v1",
        "MOCK_LLM_LISTEN": f"0.0.0.0:{model}",
        "STORYFLEET_LISTEN": f"127.0.0.1:{public}",
        "STORYFLEET_INTERNAL_LISTEN": f"0.0.0.0:{internal}",
    }


@pytest.fixture
def redis(addresses, tmp_path):
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    need(server, "there is no redis-server for agents to answer from")
    port = addresses["REDIS_URL"].rpartition(":")[2]
    command = [server, "--bind", "127.0.0.1", "--port", port, "--dir", str(tmp_path), "--appendonly", "yes"]
    with subprocess.Popen([*command, "--maxmemory-policy", "noeviction"], stdout=subprocess.DEVNULL) as process:
        yield process
        process.terminate()


@pytest.fixture
def pods(local, addresses, tmp_path):
    # Elsewhere root may not either, as in a container without CAP_SYS_ADMIN.
    may = subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0
    need(may and os.geteuid() == 0, "only root with namespaces of mounts may shut programs in as a node does")
    need(os.path.exists(AUTHORITIES), "there are no certificates of authorities (Debian: ca-certificates)")
    made = {}
    for program in ["mock-llm", *fleet.AGENTS, "gateway", "storyfleet"]:
        own = addresses | {"STORYFLEET_METRICS_LISTEN": f"0.0.0.0:{free_port()}"}
        made[program] = Pod(local, program, tmp_path, own)
    made["storyfleet"].environment = {"REDIS_URL": addresses["REDIS_URL"]}
    return made
