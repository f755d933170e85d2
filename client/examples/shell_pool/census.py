"""Counts what is alive: sessions, as the broker counts them, and shells, as the operating system does."""

import os
import threading
import time

import grpc

SAMPLE_SECONDS = 0.05
PROCESS_SAMPLE_SECONDS = 0.25
CALL_SECONDS = 2.0


def shells_alive(run_id):
    """The process ids of the bash processes that carry `run_id` in their command line."""
    parents = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if words[0] != b"bash" or run_id.encode() not in words:
                continue
            with open(f"/proc/{name}/stat", "rb") as file:
                # The parent's id is the second field after the name, which may hold anything but ends with ")".
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
    # A command that bash is about to start still looks like bash for an instant; it is no shell of ours.
    return [pid for pid, parent in parents.items() if parent not in parents]


class Census:
    """Samples in a thread of its own from construction to stop(). Thread-safe."""

    def __init__(self, stubs, admin, namespace, run_id):
        """`admin` is an AdminServiceStub."""
        self._admin = admin
        self._request = stubs.broker.GetNamespaceRequest(name=namespace)
        self._run_id = run_id
        self._mu = threading.Lock()  # guards what follows
        self._sessions = 0
        self._sessions_max = 0
        self._shells = 0
        self._shells_max = 0
        self._answered_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def sessions(self):
        """Initializing and active ones, at the last sample."""
        with self._mu:
            return self._sessions

    @property
    def sessions_max(self):
        with self._mu:
            return self._sessions_max

    @property
    def shells(self):
        with self._mu:
            return self._shells

    @property
    def shells_max(self):
        with self._mu:
            return self._shells_max

    @property
    def silent_seconds(self):
        """How long the broker has not answered."""
        with self._mu:
            return time.monotonic() - self._answered_at

    def stop(self):
        self._stop.set()
        self._thread.join()

    def _run(self):
        count_shells_at = 0.0
        while not self._stop.wait(SAMPLE_SECONDS):
            self._count_sessions()
            if time.monotonic() >= count_shells_at:
                self._count_shells()
                count_shells_at = time.monotonic() + PROCESS_SAMPLE_SECONDS

    def _count_sessions(self):
        try:
            usage = self._admin.GetNamespace(self._request, timeout=CALL_SECONDS).namespace.usage
        except grpc.RpcError:
            return  # silent_seconds grows
        with self._mu:
            self._sessions = usage.initializing + usage.active
            self._sessions_max = max(self._sessions_max, self._sessions)
            self._answered_at = time.monotonic()

    def _count_shells(self):
        shells = len(shells_alive(self._run_id))
        with self._mu:
            self._shells = shells
            self._shells_max = max(self._shells_max, shells)
