"""What run_demo tells a worker."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class WorkerOptions:
    name: str
    """Unique among all workers that a run ever starts; the holder's name for operators."""
    endpoint: str
    """The broker's, HOST:PORT."""
    namespace: str
    run_id: str
    """A word in the command line of every process of the run, by which the census finds them."""
    directory: str
    """The worker's own, for its sockets and its life sign."""
    stubs_dir: str
    seed: str
    threads: int
    """How many sessions the worker holds at once at most."""
    keys: int
    exclusive_every: int
    """Every n-th key is pinned exclusively, the others shared; 0: none."""
    lease_ttl_seconds: float
    wait_seconds: float
    """How long an Acquire may wait for others."""
    slow_share: float
    """Which share of the commands takes longer than a lease lasts unrenewed; 0..1."""
    slow_seconds: float
    init_failure_share: float
    """Which share of the initializations fails on purpose; 0..1."""

    def key(self, index):
        return f"shell-{index:03d}"

    def is_exclusive(self, index):
        return self.exclusive_every > 0 and index % self.exclusive_every == 0

    def to_json(self):
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text):
        return WorkerOptions(**json.loads(text))
