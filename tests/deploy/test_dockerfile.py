"""deploy/Dockerfile: hadolint finds nothing, each program has its image, and it is as the manifests take it to be. That it builds
is shown by `make test-image`, which takes minutes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import fleet
import pytest

PROGRAMS = [*fleet.AGENTS, "gateway", "mock-llm", "storyfleet"]


def text():
    return (fleet.DEPLOY / "Dockerfile").read_text()


def stages(dockerfile):
    """Of each stage by name, what it is made from and its instructions."""
    lines = re.sub(r"\\\n\s*", "", dockerfile).splitlines()
    found, name = {}, None
    for line in [line for line in lines if line and not line.startswith("#")]:
        if line.startswith("FROM "):
            _, base, *rest = line.split()
            name = rest[1] if rest else "last"
            found[name] = (base, [])
        elif name:
            found[name][1].append(line)
    return found


def faults(dockerfile):
    """What is wrong with a Dockerfile, in words."""
    made = stages(dockerfile)
    toolchain = tomllib.loads((fleet.ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    if f"\nARG RUST=docker.io/library/rust:{toolchain}-slim-" not in dockerfile:
        yield f"programs are built by another toolchain than {toolchain}"
    base, instructions = made["program"]
    if base != "scratch":
        yield "there is more in the image than the program"
    if "USER 65532:65532" not in instructions:
        yield "it is another user than the manifests'"
    if not any("/etc/ssl/certs/ca-certificates.crt" in each for each in instructions):
        yield "no server can be trusted"
    for program in PROGRAMS:
        if made.get(program) != ("program", [f'ENTRYPOINT ["/usr/local/bin/{program}"]']):
            yield f"{program} has no image"
    if made["last"] != ("${BIN}", []):
        yield "BIN does not choose the program"


def test_each_program_has_its_image():
    assert list(faults(text())) == []


@pytest.mark.parametrize(
    "before, after",
    [
        ("rust:1.", "rust:0."),
        ("FROM scratch", "FROM debian:12"),
        ("USER 65532:65532", "USER root"),
        ("ca-certificates", "other"),
        ('["/usr/local/bin/mock-llm"]', "/usr/local/bin/mock-llm"),
        ("AS dialogue", "AS speaker"),
        ("FROM ${BIN}", "FROM narrator"),
    ],
)
def test_is_refused(before, after):
    assert before in text()
    assert list(faults(text().replace(before, after))) != []


def hadolint(dockerfile):
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([program, "-"], input=dockerfile, capture_output=True, text=True, timeout=60)


def test_hadolint_finds_nothing():
    said = hadolint(text())
    assert (said.returncode, said.stdout) == (0, "")


def test_hadolint_finds_what_is_wrong():
    said = hadolint(text().replace("WORKDIR /src", "WORKDIR src"))
    assert said.returncode != 0 and "DL3000" in said.stdout


def test_nothing_secret_is_sent_to_who_builds():
    """Everything is left out but what is named."""
    lines = (fleet.ROOT / ".dockerignore").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[0] == "*"
    named = {line.removeprefix("!").split("/")[0] for line in lines if line.startswith("!")}
    assert named.isdisjoint({"deploy", ".git", ".venv", "target", ".storyfleet", "."})
