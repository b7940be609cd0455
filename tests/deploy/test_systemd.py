"""The units of deploy/systemd are known to systemd, shut in, and give a program the time that it needs to end."""

import shutil
import subprocess

import fleet
import pytest
from conftest import need

INSTANCES = [("storyfleet-agent@.service", agent) for agent in fleet.AGENTS] + [("storyfleet-gateway.service", "gateway")]


def faults(settings, program):
    """What is wrong with a unit of a program, in words."""
    one = dict(settings)
    said = dict(value.split("=", 1) for key, value in settings if key == "Environment")
    if one.get("ExecStart", "").replace("%i", program) != f"/usr/local/bin/{program} run":
        yield "it runs another program"
    for unknown in sorted(said.keys() - fleet.variables(program)):
        yield f"{program} knows no {unknown}"
    if fleet.drain_of(program, said) + 5 > int(one.get("TimeoutStopSec", 0)):
        yield "it is killed while it drains"
    if one.get("RestartPreventExitStatus") != "2" or one.get("Restart") != "on-failure":
        yield "a wrong configuration is tried again and again, or a failure is not"
    credentials = {value.split(":")[0] for key, value in settings if key == "LoadCredential"}
    for value in said.values():
        if value.startswith("%d/") and value.removeprefix("%d/") not in credentials:
            yield f"nobody gives it {value}"
    for bound in ["MemoryMax", "TasksMax"]:
        if bound not in one:
            yield f"it has no {bound}"


@pytest.mark.parametrize("file, program", INSTANCES)
def test_a_unit_keeps_to_the_rules(file, program):
    assert list(faults(fleet.units()[file], program)) == []


@pytest.mark.parametrize(
    "before, after",
    [
        (("ExecStart", "/usr/local/bin/%i run"), ("ExecStart", "/usr/local/bin/%i check")),
        (("Environment", "STORYFLEET_DRAIN=45s"), ("Environment", "STORYFLEET_COURAGE=1")),
        (("Environment", "STORYFLEET_DRAIN=45s"), ("Environment", "STORYFLEET_DRAIN=90s")),
        (("TimeoutStopSec", "60"), ("TimeoutStopSec", "45")),
        (("RestartPreventExitStatus", "2"), ("RestartPreventExitStatus", "1")),
        (("LoadCredential", "llm-key:/etc/storyfleet/llm-key"), ("LoadCredential", "key:/etc/storyfleet/llm-key")),
        (("MemoryMax", "256M"), ("TasksMax", "256")),
    ],
)
def test_is_refused(before, after):
    settings = fleet.units()["storyfleet-agent@.service"]
    assert before in settings
    spoilt = [after if each == before else each for each in settings]
    assert list(faults(spoilt, "narrator")) != []


def systemd(tmp_path, program, text, *arguments):
    """What systemd-analyze says of a unit, whose program is where it was built."""
    need(shutil.which("systemd-analyze"), "there is no systemd-analyze to check units with")
    unit = tmp_path / f"storyfleet-{program}.service"
    unit.write_text(text.replace("%i", program).replace("/usr/local/bin", str(fleet.binary(program).parent)))
    command = ["systemd-analyze", *arguments, str(unit)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def text_of(file):
    return (fleet.DEPLOY / "systemd" / file).read_text()


@pytest.mark.parametrize("file, program", INSTANCES)
def test_systemd_knows_every_setting(file, program, tmp_path):
    said = systemd(tmp_path, program, text_of(file), "verify")
    assert (said.returncode, said.stderr) == (0, "")


def test_a_misspelt_setting_is_told(tmp_path):
    text = text_of("storyfleet-gateway.service").replace("TimeoutStopSec", "TimeoutStopSecs")
    assert "TimeoutStopSecs" in systemd(tmp_path, "gateway", text, "verify").stderr


# Of 100, which is bare; it was 12 when this was written.
EXPOSURE = "--threshold=20"


@pytest.mark.parametrize("file, program", INSTANCES)
def test_a_unit_is_shut_in(file, program, tmp_path):
    said = systemd(tmp_path, program, text_of(file), "security", "--offline=true", EXPOSURE)
    assert said.returncode == 0, said.stdout


def test_a_unit_that_is_open_is_refused(tmp_path):
    lines = text_of("storyfleet-gateway.service").splitlines()
    text = "\n".join(line for line in lines if not line.startswith(("DynamicUser", "Protect", "Capability", "SystemCall")))
    assert systemd(tmp_path, "gateway", text, "security", "--offline=true", EXPOSURE).returncode != 0
