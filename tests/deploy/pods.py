"""The fleet's programs on this machine, each as shut in as the manifests have it (shut_in.py): in a root where there is nothing but
itself, the libraries that it is linked with, the certificates that the image has, and what the manifests mount."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import fleet
import pytest
from test_start import KEYS, lay

USER = 65532
DEADLINE = 30
# Without it no client of HTTP can be made.
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class Pod:
    """A program in a root of its own, with the environment of its Deployment; addresses alone are others."""

    def __init__(self, manifests, program, folder, addresses):
        self.program = program
        self.root = folder / program
        self.root.mkdir()
        self.log = folder / f"{program}.log"
        workload = manifests.get("Deployment", program)
        self.environment, self.arguments = {}, []
        if workload:
            container = fleet.containers(workload)[0]
            assert all(each.get("readOnly") for each in container.get("volumeMounts", [])), "what may be written is tried here too"
            lay(manifests, workload, self.root)
            given = manifests.environment(container)
            self.environment = {name: addresses.get(name, value) for name, value in given.items()}
            self.arguments = container["args"]
        for path in self.root.rglob("*"):
            # As fsGroup and defaultMode have it.
            os.chown(path, 0, USER)
            path.chmod(0o550 if path.is_dir() else 0o440)
        self.place = f"/usr/local/bin/{program}"
        binary = str(fleet.binary(program))
        self.seen = [f"{self.place}={binary}"]
        self.seen += [f"{file}={os.path.realpath(file)}" for file in [*libraries(binary), AUTHORITIES]]

    def take(self, image):
        """All of an image in the place of what was built on this machine."""
        shutil.copytree(image, self.root, dirs_exist_ok=True)
        self.seen = []

    def command(self, arguments):
        wrapper = str(Path(__file__).with_name("shut_in.py"))
        return [sys.executable, "-B", wrapper, str(self.root), *self.seen, "--", self.place, *arguments]

    def start(self):
        said = {"PATH": os.environ["PATH"], **self.environment}
        with open(self.log, "w") as log:
            return subprocess.Popen(self.command(self.arguments), env=said, stderr=log)

    def run(self, *arguments):
        said = {"PATH": os.environ["PATH"], **self.environment}
        return subprocess.run(self.command(arguments), env=said, capture_output=True, text=True, timeout=DEADLINE)

    def says(self, *arguments):
        """The JSON that it writes where it succeeds."""
        ran = self.run(*arguments, "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def libraries(binary):
    """Files that a program is linked with, as the loader finds them; none for a static one."""
    told = subprocess.run(["ldd", binary], capture_output=True, text=True, timeout=20).stdout
    return [word for word in told.split() if word.startswith("/")]


def until(what, ask):
    """Asks until it gives True; what it gives else is why it is not so yet."""
    end = time.monotonic() + DEADLINE
    while (told := ask()) is not True:
        assert time.monotonic() < end, f"not in time: {what}: {told}"
        time.sleep(0.05)


def is_well(pod, process):
    if process.poll() is not None:
        pytest.fail(f"{pod.program} ended with {process.returncode}: {pod.log.read_text()}")
    ran = pod.run("check", "--health")
    return ran.returncode == 0 or ran.stderr


def status(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def assert_shut_in(name, process):
    told = status(process)
    assert told["Uid"].split() == told["Gid"].split() == [str(USER)] * 4, name
    assert told["Groups"].split() == [], name
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]:
        assert int(told[capabilities], 16) == 0, f"{name}: {capabilities}"
    assert told["NoNewPrivs"] == "1", name
    # Even root cannot write there: it is mounted so.
    for place in ["", "/usr/local/bin", "/etc/storyfleet"]:
        folder = Path(f"/proc/{process.pid}/root{place}")
        if folder.is_dir():
            with pytest.raises(OSError, match="Read-only file system"):
                (folder / "new").touch()


def assert_agents_answer(pods, addresses):
    """While Redis is there at its address."""
    running = {name: pod.start() for name, pod in pods.items() if name != "storyfleet"}
    try:
        for name, process in running.items():
            until(f"{name} is well", lambda: is_well(pods[name], process))
            assert_shut_in(name, process)
        told = pods["storyfleet"]
        told.run("story", "create", "castle", "--input", "hold", "--character", "Sibyl=Keeps the lamp.")
        # Held back until the moderator allowed it.
        assert told.says("send", "castle", "I open the door", "--wait")["type"] == "narration"
        assert told.says("send", "castle", "Who are you?", "--to", "Sibyl", "--wait")["type"] == "dialogue"
        assert_answered_through_the_gateway(told, addresses)
    finally:
        end(running.values())
    for name, process in running.items():
        assert process.returncode == 0, f"{name}: {pods[name].log.read_text()}"


def end(processes):
    """Asks them to end, and kills who does not in time."""
    for process in processes:
        process.terminate()
    late = time.monotonic() + DEADLINE
    for process in processes:
        try:
            process.wait(max(0, late - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def assert_answered_through_the_gateway(told, addresses):
    (told.root / "secrets").write_text(KEYS["secrets"])
    token = told.says("token", "--sub", "mira", "--story", "castle=author", "--secret-file", "/secrets")["token"]
    page = f"http://{addresses['STORYFLEET_LISTEN']}/v1/stories/castle/events"

    def ask(body=None):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(page, body and json.dumps(body).encode(), headers)
        return json.load(urllib.request.urlopen(request, timeout=DEADLINE))

    action = ask({"mode": "do", "text": "I light the lamp"})["id"]
    until("an answer", lambda: [action] in [each["event"].get("cause") for each in ask()["events"]])
