"""A fleet of real processes and a real Prometheus beside it. Each program is a process of its own, as in production: in
`storyfleet up` the agents are one process, and one that lives has them all."""

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager

import written
import yaml

BINARIES = os.path.abspath(os.environ.get("STORYFLEET_BINARIES", written.ROOT / "target/debug"))
WINDOW = "15s"
LEASE = 2
SLOTS = 8
PEOPLE = 16
SECRET = "0123456789abcdef0123456789abcdef0123456789abcdef"
PROGRAMS = ["narrator-1", "narrator-2", "dialogue-1", "moderator-1", "gateway-1", "gateway-2"]


def shortened(rules):
    """The rules as a test has time for them: every window is 15 s, and an alert fires after it has lasted 1 s. The bounds and
    all else are as they are written."""
    groups = yaml.safe_load(rules)["groups"]
    for group in groups:
        for rule in group["rules"]:
            rule["for"] = "1s"
            rule["expr"] = re.sub(r"\[\d+m\]", f"[{WINDOW}]", rule["expr"])
    return yaml.safe_dump({"groups": groups})


def eventually(what, look, seconds=30):
    """The first answer of `look` that is not nothing."""
    until = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def free_ports(count):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def ask(url, data=None, headers=None, method=None):
    """(status, body) of one request."""
    request = urllib.request.Request(url, data, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Fleet:
    def __init__(self, folder):
        self.folder = folder
        names = ["redis", "model", "prometheus", *PROGRAMS, "door-1", "door-2"]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.redis_url = f"redis://127.0.0.1:{self.ports['redis']}"
        self.model_url = f"http://127.0.0.1:{self.ports['model']}"
        self.door = f"http://127.0.0.1:{self.ports['door-1']}"
        self.processes = {}
        (folder / "tokens").write_text(SECRET)
        shutil.copytree(written.ROOT / "prompts", folder / "prompts")
        self.certify(days=3)

    def __enter__(self):
        try:
            # Slow readers are given texts that are longer than the window of a model that nothing is known of.
            (self.folder / "models.yaml").write_text("models: {mock: {window: 128000}}\n")
            self.start("redis")
            self.start("model")
            for program in PROGRAMS:
                self.start(program)
            (self.folder / "rules.yaml").write_text(shortened(written.RULES.read_text()))
            (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(self.scraping()))
            self.start("prometheus")
            eventually("the gateway answers", lambda: self.answers(f"{self.internal('gateway-1')}/readyz"))
            eventually("Prometheus is ready", lambda: self.answers(f"{self.internal('prometheus')}/-/ready"))
            up = f"count(up == 1) == {len(PROGRAMS)}"
            eventually("everything is scraped", lambda: self.query(up))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def start(self, name, **variables):
        env = os.environ | variables
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(self.command(name), stdout=log, stderr=log, cwd=self.folder, env=env)

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()

    def send(self, name, number):
        self.processes[name].send_signal(number)

    @contextmanager
    def frozen(self, name):
        """It stands still, and goes on afterwards whatever happened."""
        self.send(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(name, signal.SIGCONT)

    @contextmanager
    def without(self, *names):
        """They are dead, and others are in their place afterwards."""
        for name in names:
            self.kill(name)
        try:
            yield
        finally:
            for name in names:
                self.start(name)

    @contextmanager
    def told(self, name, **variables):
        """Another one is in its place that is told these, and afterwards one as before."""
        with self.without(name):
            self.start(name, **variables)
            try:
                yield
            finally:
                self.kill(name)

    def command(self, name):
        here = f"127.0.0.1:{self.ports[name]}"
        program = name.split("-")[0]
        if name == "redis":
            return ["redis-server", "--port", str(self.ports[name]), "--save", "", "--dir", str(self.folder)]
        if name == "model":
            return [f"{BINARIES}/mock-llm", "--listen", here]
        if name == "prometheus":
            return ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=prometheus",
                    f"--web.listen-address={here}", "--log.level=warn"]  # fmt: skip
        if program == "gateway":
            door = f"127.0.0.1:{self.ports[name.replace(program, 'door')]}"
            tls = ["--tls-cert", "tls.crt", "--tls-key", "tls.key"] if name == "gateway-2" else []
            return [f"{BINARIES}/gateway", "run", "--redis", self.redis_url, "--listen", door, "--internal-listen", here,
                    "--jwt-secrets", "tokens", *tls]  # fmt: skip
        return [f"{BINARIES}/{program}", "run", "--redis", self.redis_url, "--llm", f"{self.model_url}/v1", "--model",
                "mock", "--lease", f"{LEASE}s", "--concurrency", str(SLOTS), "--metrics-listen", here, "--prompts",
                "prompts", "--models", "models.yaml", "--llm-stall-timeout", "5s", "--log", "json"]  # fmt: skip

    def scraping(self):
        def targets(job, programs):
            pages = [f"127.0.0.1:{self.ports[program]}" for program in programs]
            labels = {"namespace": "storyfleet"}
            return {"job_name": job, "static_configs": [{"targets": pages, "labels": labels}]}

        agents = [name for name in PROGRAMS if not name.startswith("gateway")]
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        jobs = [targets("agents", agents), targets("gateways", ["gateway-1", "gateway-2"])]
        return {"global": every, "rule_files": ["rules.yaml"], "scrape_configs": jobs}

    def internal(self, name):
        return f"http://127.0.0.1:{self.ports[name]}"

    def metrics(self, name):
        return ask(f"{self.internal(name)}/metrics")[1]

    def answers(self, url):
        try:
            return ask(url)[0] == 200
        except OSError:
            return False

    def redis(self, *command):
        done = subprocess.run(["redis-cli", "-u", self.redis_url, *command], capture_output=True, text=True, timeout=10)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def storyfleet(self, *arguments):
        command = [f"{BINARIES}/storyfleet", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, cwd=self.folder, env={"REDIS_URL": self.redis_url}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def certify(self, days):
        """The gateway takes renewed files by itself."""
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                   "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", str(days), "-keyout", "new.key",
                   "-out", "new.crt"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, timeout=20)
        for kind in ["key", "crt"]:
            (self.folder / f"new.{kind}").rename(self.folder / f"tls.{kind}")

    @functools.cache
    def token(self, person):
        return self.storyfleet("token", "--sub", person, "--story", "*=owner", "--secret-file", "tokens")

    def post(self, way, body, person="p0", token=None):
        headers = {"Authorization": f"Bearer {token or self.token(person)}", "Content-Type": "application/json"}
        return ask(f"{self.door}/v1/{way}", json.dumps(body).encode(), headers)

    def tell(self, story):
        """Makes a story with somebody to speak to."""
        sibyl = {"Sibyl": {"description": "Keeps the lamp."}}
        status, words = self.post("stories", {"id": story, "title": story, "characters": sibyl})
        assert status == 201, words

    def say(self, story, text, to=None, person="p0"):
        said = {"mode": "say", "to": to} if to else {"mode": "do"}
        return self.post(f"stories/{story}/events", {**said, "text": text}, person)

    def reads(self, story, person, buffer=None):
        """The socket of somebody who reads a story as a stream; `buffer` is how much their system takes for them."""
        reader = socket.socket()
        if buffer:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        reader.connect(("127.0.0.1", self.ports["door-1"]))
        lines = [f"GET /v1/stories/{story}/stream HTTP/1.1", "Host: localhost"]
        lines += [f"Authorization: Bearer {self.token(person)}", "", ""]
        reader.sendall("\r\n".join(lines).encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        return reader

    @contextmanager
    def playing(self, scenario):
        """So the mock model behaves; afterwards it is well, and what failed is sent again."""
        status, words = ask(f"{self.model_url}/admin/scenario", scenario.encode())
        assert status == 200, words
        try:
            yield
        finally:
            ask(f"{self.model_url}/admin/scenario", method="DELETE")
            self.storyfleet("dead", "redrive", "--all")

    def prometheus(self, way, **query):
        url = f"{self.internal('prometheus')}/api/v1/{way}?{urllib.parse.urlencode(query)}"
        status, words = ask(url)
        assert status == 200, words
        return json.loads(words)["data"]

    def query(self, expression):
        return self.prometheus("query", query=expression)["result"]

    def firing(self):
        """The alerts that fire now: their name and agent, if they have one."""
        found = {}
        for alert in self.prometheus("alerts")["alerts"]:
            if alert["state"] == "firing":
                labels = alert["labels"]
                found[labels["alertname"], labels.get("agent")] = alert
        return found

    def is_quiet(self, *alerts):
        """Waits until none of these fires."""
        until = time.monotonic() + 45
        while still := {name: alert for (name, _), alert in self.firing().items() if name in alerts}:
            assert time.monotonic() < until, (still, self.storyfleet("dead", "list"))
            time.sleep(0.1)
