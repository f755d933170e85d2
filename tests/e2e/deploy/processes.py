"""The broker and Prometheus, as docker-compose.yml starts them but for addresses, directories and intervals."""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import deployment
from polling import await_true

STOP_SECONDS_MAX = 20.0


class Process:
    """A context manager: stops the process when it is left. Its stdout and stderr go to `log`."""

    def __init__(self, command, log):
        self.log = log
        with log.open("ab") as output:
            # setpriv stops it also if this process is killed.
            command = ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def is_alive(self):
        return self._process.poll() is None


class Broker(Process):
    """With the command of docker-compose.yml, on free ports, in `directory`."""

    def __init__(self, directory):
        command = list(deployment.compose()["services"]["broker"]["command"])
        for flag, value in {
            "--listen": "127.0.0.1:0",
            "--metrics-listen": "127.0.0.1:0",
            "--data-dir": directory / "data",
            "--config": deployment.DEPLOY / "session-broker.json",
        }.items():
            command[command.index(flag) + 1] = value
        log = directory / "broker.log"
        log.write_text("")
        super().__init__([os.environ["SESSION_BROKER"], *command], log)
        await_true(lambda: not self.is_alive() or "metrics on" in log.read_text(), "the broker serves")
        self.address = self._printed("listening on")
        self.metrics_address = self._printed("metrics on")

    def _printed(self, words):
        found = re.search(rf"^{words} (\S+)$", self.log.read_text(), re.MULTILINE)
        if found is None:
            raise AssertionError(f"the broker does not say what it is {words}: {self.log.read_text()}")
        return found[1]


class Prometheus(Process):
    """With the configuration of docker-compose.yml, scraping `target` twice a second."""

    def __init__(self, directory, target):
        for name in ("prometheus.yml", "alerts.yml"):
            text = (deployment.PROMETHEUS / name).read_text()
            if name == "prometheus.yml":
                text = text.replace(f'"{deployment.TARGET}"', f'"{target}"').replace("interval: 15s", "interval: 500ms")
            (directory / name).write_text(text)
        self.address = free_address()
        command = [
            "prometheus",
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address={self.address}",
        ]
        super().__init__(command, directory / "prometheus.log")
        await_true(lambda: not self.is_alive() or self._is_ready(), "Prometheus is ready")
        if not self.is_alive():
            raise AssertionError(f"Prometheus does not start: {self.log.read_text()}")

    def query(self, expression):
        """The samples that answer an instant query: [({label: value}, number)]."""
        answer = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        return [(sample["metric"], float(sample["value"][1])) for sample in answer["result"]]

    def rules(self):
        (group,) = self._get("/api/v1/rules")["groups"]
        return group["rules"]

    def _get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"Prometheus refuses {path}: {error.read().decode()}") from error

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=10):
                return True
        except OSError:
            return False


def free_address():
    """Free a moment ago. Prometheus cannot say which port it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
