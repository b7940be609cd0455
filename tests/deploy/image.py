"""The image that scripts/image made of the program STORYFLEET_IMAGE, by buildah: what is in it, and that it works as shut in as the
manifests have it. For `make test-image` alone, since a release takes minutes to build."""

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from fleet import ROOT
from pods import assert_agents_answer, libraries

PROGRAM = os.environ["STORYFLEET_IMAGE"]
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
IMAGE = f"storyfleet/{PROGRAM}:{VERSION}"


def buildah(*arguments):
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture(scope="session")
def image():
    """The folder of its files."""
    container = buildah("from", "--pull-never", IMAGE)
    yield Path(buildah("mount", container))
    buildah("rm", container)


def test_there_is_the_program_and_whom_to_trust(image):
    files = [str(path.relative_to(image)) for path in image.rglob("*") if not path.is_dir()]
    assert sorted(files) == ["etc/ssl/certs/ca-certificates.crt", f"usr/local/bin/{PROGRAM}"]
    assert libraries(str(image / f"usr/local/bin/{PROGRAM}")) == []


def test_it_says_what_it_is():
    config = json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == [f"/usr/local/bin/{PROGRAM}"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["title"] == f"storyfleet/{PROGRAM}"
    assert labels["version"] == VERSION
    assert labels["licenses"] == "Apache-2.0 OR MIT"
    assert labels["revision"] and labels["description"]


def test_it_tells_its_version(pods, image):
    pods[PROGRAM].take(image)
    ran = pods[PROGRAM].run("--version")
    assert (ran.returncode, ran.stdout) == (0, f"{PROGRAM} {VERSION}\n"), ran.stderr


def test_agents_answer(redis, pods, addresses, image):
    """This program from its image, the others as they are built here."""
    pods[PROGRAM].take(image)
    assert_agents_answer(pods, addresses)
