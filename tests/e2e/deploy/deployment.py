"""What the tests of the deployment read: the files as the tools that use them understand them."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "cmake/deploy"
PROMETHEUS = DEPLOY / "prometheus"
GRAFANA = DEPLOY / "grafana"
METRICS_MD = ROOT / "docs/METRICS.md"

TARGET = "broker:7401"
"""What is replaced in prometheus.yml to scrape a broker elsewhere; the file says so."""


def compose():
    """docker-compose.yml as docker-compose understands it. Needs no daemon."""
    command = ["docker-compose", "--file", ROOT / "docker-compose.yml", "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"docker-compose config: {done.stderr}")
    return yaml.safe_load(done.stdout)


def dockerfile():
    """The stages of the Dockerfile: for each a list of (instruction, argument)."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        instruction, argument = line.split(maxsplit=1)
        if instruction == "FROM":
            stages.append([])
        stages[-1].append((instruction, argument.strip()))
    return stages


def argument(stage, instruction):
    """Of the only such instruction of the stage."""
    (found,) = [text for name, text in stage if name == instruction]
    return found


def installed_packages(stage):
    """Those that apt-get installs in the stage."""
    for name, text in stage:
        if name == "RUN" and "apt-get install" in text:
            (install,) = [part for part in text.split("&&") if "apt-get install" in part]
            words = shlex.split(install)
            return {word for word in words[words.index("install") + 1 :] if not word.startswith("-")}
    raise AssertionError("nothing is installed")


def dashboard():
    return json.loads((GRAFANA / "dashboards/session-broker.json").read_text())


def dashboard_queries():
    """(panel's title, expression) of everything the dashboard asks, with what Grafana puts in for its variables."""
    board = dashboard()
    for panel in [*board["panels"], *board["annotations"]["list"]]:
        for target in panel.get("targets", [panel] if "expr" in panel else []):
            query = target["expr"].replace("$namespace", ".+").replace("$__rate_interval", "15s")
            yield panel.get("title") or panel["name"], query


def alerts():
    return yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]


def selectors(expression):
    """Each series that a PromQL expression names, one selector for each alternative of its labels."""
    for name, labels in re.findall(r"\b((?:sessionbroker|grpc_server|process)_\w+|up\b)({[^}]*})?", expression):
        choices = [""]
        for label, operator, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', labels):
            if operator != "!=":
                choices = [f'{choice}{label}="{one}",' for choice in choices for one in value.split("|")]
        yield from (f"{name}{{{choice}}}" for choice in choices)
