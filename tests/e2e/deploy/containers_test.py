#!/usr/bin/python3
"""What the image and docker-compose.yml promise, as far as that shows without a container engine.

SESSION_BROKER and BROKERCTL name the binaries.
"""

import json
import os
import re
import subprocess
import unittest
from pathlib import Path

import deployment

BINARIES = [os.environ["SESSION_BROKER"], os.environ["BROKERCTL"]]
BASE = {"libc6", "libgcc-s1", "libstdc++6"}
"""In every image of Debian."""


class DockerfileTest(unittest.TestCase):
    build, runtime = deployment.dockerfile()

    def test_everything_that_is_copied_is_there_and_not_ignored(self):
        ignored, *kept = [
            line for line in (deployment.ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
        ]
        self.assertEqual(ignored, "*")
        for instruction, text in self.build + self.runtime:
            if instruction == "COPY" and "--from" not in text:
                for source in text.split()[:-1]:
                    self.assertTrue((deployment.ROOT / source).exists(), source)
                    self.assertIn("!" + Path(source).parts[0], kept)

    def test_the_runtime_stage_installs_the_libraries_that_the_binaries_name_and_no_others(self):
        named = {library for binary in BINARIES for library in named_libraries(binary)}
        files = {path for binary in BINARIES for name, path in loaded_libraries(binary) if name in named}
        self.assertEqual(deployment.installed_packages(self.runtime), owners_of(files) - BASE)

    def test_every_library_that_is_loaded_comes_along_with_those(self):
        files = {path for binary in BINARIES for _, path in loaded_libraries(binary)}
        self.assertLessEqual(owners_of(files), with_dependencies(deployment.installed_packages(self.runtime) | BASE))

    def test_it_runs_as_a_fixed_user_who_is_not_root(self):
        self.assertRegex(deployment.argument(self.runtime, "USER"), r"^[1-9]\d*:[1-9]\d*$")

    def test_it_is_started_and_stopped_without_a_shell(self):
        self.assertEqual(deployment.argument(self.runtime, "STOPSIGNAL"), "SIGTERM")
        self.assertEqual(json.loads(deployment.argument(self.runtime, "ENTRYPOINT")), ["session-broker"])
        self.assertIsInstance(json.loads(deployment.argument(self.runtime, "CMD")), list)

    def test_the_ports_and_the_directory_it_serves_are_those_it_declares(self):
        command = json.loads(deployment.argument(self.runtime, "CMD"))
        ports = [value_of(flag, command).rpartition(":")[2] for flag in ("--listen", "--metrics-listen")]
        self.assertEqual(deployment.argument(self.runtime, "EXPOSE").split(), ports)
        self.assertEqual(deployment.argument(self.runtime, "VOLUME"), value_of("--data-dir", command))


class ComposeTest(unittest.TestCase):
    compose = deployment.compose()
    services = compose["services"]

    def test_nothing_is_published_beyond_loopback(self):
        for name, service in self.services.items():
            self.assertNotIn("network_mode", service)
            for port in service["ports"]:
                self.assertTrue(str(port).startswith("127.0.0.1:"), f"{name}: {port}")

    def test_what_is_not_built_here_is_pinned_to_a_version(self):
        for service in self.services.values():
            if "build" not in service:
                self.assertRegex(service["image"], r"^[\w-]+/[\w-]+:v?\d+\.\d+\.\d+$")

    def test_what_dies_is_started_again(self):
        for service in self.services.values():
            self.assertEqual(service["restart"], "unless-stopped")

    def test_every_volume_and_every_file_that_is_mounted_is_there(self):
        for service in self.services.values():
            for mount in service["volumes"]:
                source = mount.split(":")[0]
                self.assertTrue(Path(source).exists() if "/" in source else source in self.compose["volumes"], mount)

    def test_the_broker_is_started_as_the_image_starts_it(self):
        command = json.loads(deployment.argument(DockerfileTest.runtime, "CMD"))
        self.assertEqual(self.services["broker"]["command"], command)

    def test_the_broker_has_longer_to_stop_than_it_takes(self):
        settings = json.loads((deployment.DEPLOY / "session-broker.json").read_text())
        self.assertGreater(seconds(self.services["broker"]["stop_grace_period"]), seconds(settings["shutdownGrace"]))

    def test_the_brokers_settings_are_valid(self):
        config = deployment.DEPLOY / "session-broker.json"
        done = subprocess.run([BINARIES[0], "--config", config, "--check-config"], capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_prometheus_and_grafana_look_where_the_others_listen(self):
        port = value_of("--metrics-listen", self.services["broker"]["command"]).rpartition(":")[2]
        self.assertEqual(deployment.TARGET, f"broker:{port}")
        self.assertIn(f'["{deployment.TARGET}"]', (deployment.PROMETHEUS / "prometheus.yml").read_text())
        source = (deployment.GRAFANA / "provisioning/datasources/prometheus.yml").read_text()
        self.assertIn("url: http://prometheus:9090\n", source)
        self.assertIn("127.0.0.1:9090:9090/tcp", self.services["prometheus"]["ports"])


def value_of(flag, command):
    return command[command.index(flag) + 1]


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def named_libraries(binary):
    """Those that the binary itself asks for, not those that they ask for in turn."""
    return re.findall(r"\(NEEDED\).*\[(.*)\]", output_of("readelf", "--dynamic", "--wide", binary))


def loaded_libraries(binary):
    return re.findall(r"(\S+) => (\S+) ", output_of("ldd", binary))


def owners_of(paths):
    """The packages that the files are of. What dpkg knows below /usr/lib may be loaded from /lib, and the reverse."""
    names = {path: {path, os.path.realpath(path), "/usr" + path, path.removeprefix("/usr")} for path in paths}
    command = ["dpkg-query", "--search", *set.union(*names.values())]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    owners = {path: package.split(":")[0] for package, path in re.findall("(.*): (.*)", found)}
    for path, candidates in names.items():
        if not candidates & owners.keys():
            raise AssertionError(f"no package has {path}")
    return set(owners.values())


def with_dependencies(packages):
    depends = {}
    fields = "${Package}\t${Pre-Depends}, ${Depends}\n"
    for line in output_of("dpkg-query", "--show", "--showformat", fields).splitlines():
        package, _, needed = line.partition("\t")
        depends.setdefault(package, set()).update(re.findall(r"(?:^|, *)([a-z0-9][a-z0-9+.-]+)", needed))
    found, todo = set(), set(packages)
    while todo:
        package = todo.pop()
        found.add(package)
        todo |= depends.get(package, set()) - found
    return found


if __name__ == "__main__":
    unittest.main()
