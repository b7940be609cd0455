"""What stands in deploy/, as data: rendered overlays, the compose file, the units of systemd, and what README.md says."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
OVERLAYS = sorted(path.name for path in (DEPLOY / "k8s/overlays").iterdir())
AGENTS = ["narrator", "dialogue", "moderator"]
# Each test reads an overlay anew; libyaml's parser is ten times as fast as that in Python.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def kubectl():
    """The path of kubectl, from PATH or from where scripts/need-deploy puts one; None where there is none."""
    return shutil.which("kubectl") or shutil.which("kubectl", path=str(ROOT / ".venv/bin"))


@functools.cache
def rendered(overlay):
    """The YAML of an overlay, as it would be applied."""
    return built(DEPLOY / "k8s/overlays" / overlay)


def built(folder):
    command = [kubectl(), "kustomize", str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def with_component(overlay, component, folder):
    """The YAML of an overlay in `folder`, which is empty, that has one component more."""
    overlay, component = (os.path.relpath(DEPLOY / "k8s" / path, folder) for path in (f"overlays/{overlay}", f"components/{component}"))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [overlay], "components": [component]}))
    return built(folder)


class Fleet:
    """The objects of one overlay. `objects` may be changed: each `Fleet` has its own."""

    def __init__(self, text):
        self.objects = [each for each in yaml.load_all(text, LOADER) if each]

    def of(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def get(self, kind, name):
        return next((each for each in self.of(kind) if each["metadata"]["name"] == name), None)

    def workloads(self):
        return self.of("Deployment") + self.of("StatefulSet")

    def config(self, name):
        """The data of the ConfigMap whose name, but for kustomize's hash, is this."""
        maps = self.of("ConfigMap")
        return next(each["data"] for each in maps if re.fullmatch(rf"{name}-\w{{10}}", each["metadata"]["name"]))


    def environment(self, container):
        """The variables of a container, those of its ConfigMaps too; None is the value of what is elsewhere."""
        found = {}
        for source in container.get("envFrom", []):
            config = self.get("ConfigMap", source["configMapRef"]["name"])
            found |= config["data"] if config else {}
        return found | {each["name"]: each.get("value") for each in container.get("env", [])}


def name_of(thing):
    return f"{thing['kind']} {thing['metadata']['name']}"


def pod(workload):
    return workload["spec"]["template"]["spec"]


def containers(workload):
    return pod(workload)["containers"] + pod(workload).get("initContainers", [])


def labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def selects(selector, labels):
    """Whether a label selector of Kubernetes (`In` alone of its expressions) selects a pod with these labels."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions)
    return wanted and all(labels.get(each["key"]) in each["values"] for each in expressions)


def program_of(image):
    """Which of our programs an image runs; None where it is not ours."""
    match = re.match(r"(?:.+/)?storyfleet/([\w-]+)", image)
    return match and match[1]


def values_of(thing):
    """Every string in a tree of YAML."""
    if isinstance(thing, dict):
        thing = list(thing.values())
    if isinstance(thing, list):
        return [value for each in thing for value in values_of(each)]
    return [thing] if isinstance(thing, str) else []


def binary(program):
    return Path(os.environ.get("STORYFLEET_BINARIES", ROOT / "target/debug")).resolve() / program


@functools.cache
def help_of(program):
    """What a program says of how it is run, on one line."""
    command = [binary(program)] + ([] if program == "mock-llm" else ["run"]) + ["--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
    return " ".join(text.split())


def options(program):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", help_of(program)))


def variables(program):
    return set(re.findall(r"\[env: ([A-Z0-9_]+)", help_of(program)))


def seconds(duration):
    match = re.fullmatch(r"(\d+)s", duration)
    assert match, f"write {duration} in seconds"
    return int(match[1])


def drain_of(program, environment):
    """How long a program drains, in seconds: as it is told, or else as it does by itself."""
    if program == "mock-llm":
        return 0
    default = re.search(r"--drain .*?\[default: (\w+)\]", help_of(program))[1]
    return seconds(environment.get("STORYFLEET_DRAIN", default))


def readme():
    return (DEPLOY / "README.md").read_text()


def documented_secrets():
    """(name, key) of the Secrets that README.md asks for."""
    return set(re.findall(r"^\| `([\w-]+)` \| `([\w.-]+)` \|", readme(), re.MULTILINE))


def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def units():
    """The units of systemd by file name: of each its settings in order, a name as often as it stands there."""
    found = {}
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
        found[path.name] = [tuple(line.split("=", 1)) for line in lines]
    return found
