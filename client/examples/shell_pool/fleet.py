"""The worker processes: started, listened to, killed now and then, replaced, buried."""

import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
READ_BYTES = 64 * 1024
EXIT_SECONDS = 10.0
"""How long a worker that was asked to leave may take before it is killed."""


def adopt_orphans():
    """Makes this process the parent of what its dead workers leave behind, so that it sees to their end."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass(eq=False)
class Worker:
    name: str
    directory: Path
    process: subprocess.Popen
    unread: bytes = b""
    state: str = "starting"
    """starting, ready or drained: what it said last."""
    killed: bool = False
    asked_to_leave: bool = False


@dataclass
class Fleet:
    """Not thread-safe."""

    options: object
    """Given a worker's name and directory, its WorkerOptions."""
    directory: Path
    tally: object
    other_children: frozenset = frozenset()
    """Process ids of children of this process that are not the fleet's to collect."""
    workers: list = field(default_factory=list)
    crashes: list = field(default_factory=list)
    """Workers that ended though nobody asked them to, in words. They are not replaced."""
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _started: int = 0

    def start_one(self):
        self._started += 1
        name = f"w{self._started}"
        directory = self.directory / name
        directory.mkdir()
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), self.options(name, str(directory)).to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for run_demo, which then asks the workers
        )
        worker = Worker(name, directory, process)
        self.workers.append(worker)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)

    def kill_one(self, rng):
        """SIGKILL for one that works, and a new one in its place. False if none does."""
        ready = [worker for worker in self.workers if worker.state == "ready" and not worker.killed]
        if not ready:
            return False
        victim = rng.choice(ready)
        victim.killed = True
        victim.process.kill()
        self.start_one()
        return True

    def listen(self, seconds):
        """Hands what the workers say to the tally, for at most `seconds`, or until nothing more is due now."""
        for key, _ in self._selector.select(seconds):
            data = os.read(key.fd, READ_BYTES)
            if data:
                self._take(key.data, data)
            else:
                self._bury(key.data)
        self._reap_orphans()

    def listen_until(self, done, seconds):
        """Listens until `done()`, for at most `seconds`. Returns whether it was done in time."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() >= deadline:
                return False
            self.listen(0.05)
        return True

    def drain(self):
        """Asks all to start nothing new and let go of what they hold; their shells stay."""
        for worker in self.workers:
            _tell(worker, b"drain\n")

    def is_drained(self):
        return all(worker.state == "drained" for worker in self.workers)

    def close(self):
        """Has all leave, and kills those that do not. Idempotent."""
        for worker in self.workers:
            worker.asked_to_leave = True
            _end_orders(worker)
        if not self.listen_until(lambda: not self.workers, EXIT_SECONDS):
            self.kill_all()

    def kill_all(self):
        """The way out when asking does not help. Idempotent."""
        for worker in self.workers:
            self.crashes.append(f"worker {worker.name} did not leave when asked")
            worker.asked_to_leave = True
            worker.process.kill()
        self.listen_until(lambda: not self.workers, EXIT_SECONDS)

    def _take(self, worker, data):
        *lines, worker.unread = (worker.unread + data).split(b"\n")
        for line in lines:
            record = json.loads(line)
            if record["what"] in ("ready", "drained"):
                worker.state = record["what"]
            else:
                self.tally.add(worker.name, record)

    def _bury(self, worker):
        """Its pipe has ended, so it has: nobody else holds the other end."""
        self._selector.unregister(worker.process.stdout)
        worker.process.stdout.close()
        _end_orders(worker)
        code = worker.process.wait()
        self.workers.remove(worker)
        self.tally.worker_is_gone(worker.name, worker.killed)
        if not worker.killed and not (worker.asked_to_leave and code in (0, -signal.SIGKILL)):
            self.crashes.append(f"worker {worker.name} ended by itself, exit code {code}")
        shutil.rmtree(worker.directory, ignore_errors=True)

    def _reap_orphans(self):
        """Collects what dead workers left and what has ended since; the workers are collected in _bury()."""
        others = self.other_children | {worker.process.pid for worker in self.workers}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in others:
                return
            os.waitpid(ended.si_pid, 0)


def _end_orders(worker):
    try:
        worker.process.stdin.close()
    except BrokenPipeError:
        pass  # it was killed before it took the last one


def _tell(worker, order):
    try:
        worker.process.stdin.write(order)
        worker.process.stdin.flush()
    except (BrokenPipeError, ValueError):
        pass  # it is gone, or was asked to leave; listen() sees to the rest
