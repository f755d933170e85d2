"""What `compare` and `growth` have in common: the programs they run, and the machine they run on."""

import json
import os
import pathlib
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time

BIN = pathlib.Path(__file__).resolve().parents[2] / "build/release/bin"


def begin(*programs):
    """Ends with what to do about it where one of the programs has not been built. From here on SIGTERM
    ends the servers, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not all((BIN / program).exists() for program in programs):
        raise SystemExit("build first:\n  cmake/build\n  cmake --build build/release --target "
                         + " ".join(programs))


class Process:
    """Killed at the end of the `with`."""

    process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server(Process):
    """A server of our own on a free port."""

    def __init__(self, program, *flags):
        self.process = subprocess.Popen([BIN / program, *flags], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.endpoint = None
        while self.endpoint is None:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"{program} did not come up")
            if line.startswith("listening on "):
                self.endpoint = line.split()[-1]


class Broker(Server):
    def __init__(self, *flags):
        super().__init__("session-broker", "--memory", "--listen", "127.0.0.1:0",
                         "--metrics-listen", "127.0.0.1:0", "--log-level", "error", *flags)


class Redis(Process):
    """A redis-server of our own that keeps nothing, on loopback as the broker is."""

    def __init__(self):
        # It takes no port 0. If somebody else takes this one meanwhile, it does not come up.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
             "--appendonly", "no"], stdout=subprocess.DEVNULL)
        self._await()

    def _await(self):
        for _ in range(100):
            answer = subprocess.run(["redis-cli", "-p", str(self.port), "ping"],
                                    capture_output=True, text=True)
            if answer.stdout.strip() == "PONG":
                return
            time.sleep(0.05)
        raise SystemExit("redis-server did not come up")


class CpuMeter:
    """CPU time of a server and of the programs that are run meanwhile, which have to have ended."""

    def __init__(self, server):
        self.server = server
        self.begin = self._now()

    def _now(self):
        clients = resource.getrusage(resource.RUSAGE_CHILDREN)
        return self.server.cpu_seconds(), clients.ru_utime + clients.ru_stime

    def micros_each(self, calls):
        return [(end - begin) * 1e6 / calls for begin, end in zip(self.begin, self._now())]


def run_json(program, *flags):
    """The JSON that one of our programs prints. Ends everything if it failed."""
    done = subprocess.run([str(BIN / program), *map(str, flags)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{program} {' '.join(map(str, flags))} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def bench(endpoint, *flags):
    return run_json("broker_bench", "--endpoint", endpoint, "-o", "json", *flags)


def median(values):
    return statistics.median(values)


def version_of(package):
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package],
                           capture_output=True, text=True)
    return shown.stdout or "?"


def describe_machine():
    """One paragraph: what the figures below it were measured on."""
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    system = re.search(r'PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())
    return (f"{os.cpu_count()} cores of {cpu.group(1) if cpu else 'an unknown CPU'}, "
            f"{int(memory.group(1)) / 2**20:.0f} GiB, Linux {os.uname().release}, "
            f"{system.group(1) if system else '?'}, gRPC {version_of('libgrpc++1.51')}, "
            f"Protobuf {version_of('libprotobuf32')}, Redis {version_of('redis-server')}")
