"""Adds up what the workers tell, and checks what no single worker can see."""

from collections import Counter, defaultdict

EXPECTED_REFUSALS = frozenset(
    {
        "CAPACITY_EXHAUSTED",
        "QUEUE_FULL",
        "WAIT_TIMEOUT",
        "INIT_FAILED",
        "INIT_IN_PROGRESS",
        "PIN_CONFLICT",
        "SESSION_ENDED",
        "LEASE_LOST",
    }
)
"""Reasons that a crowded pool gives to honest callers. Any other is a fault of the demo or of the broker."""

TEXTS_MAX = 20
"""How many descriptions of faults are kept for the report; all are counted."""
GENERATIONS_KEPT = 8
"""Of how many lives of a key the numbers are remembered; records of older ones no longer come in."""


class Tally:
    """Not thread-safe."""

    def __init__(self):
        self.commands = 0
        self.slow_commands = 0
        self.interrupted = 0
        """Commands that failed because the worker that hosted their shell was killed."""
        self.lease_lost = 0
        """Commands that failed because their own holder renewed too late."""
        self.taken = 0
        self.wrong = 0
        self.faults = []
        """What `taken` and `wrong` counted, in words, each once; at most TEXTS_MAX."""
        self.shells_started = 0
        self.shells_ended = Counter()
        """By how: displaced, swept, closed, not activated, died."""
        self.shells_ended_with_worker = 0
        self.displaced = 0
        """Sessions that the broker evicted to make room, as their successors were told."""
        self.quits_refused = 0
        self.inits_failed = 0
        """On purpose."""
        self.discarded = 0
        self.resets = 0
        self.refusals = Counter()
        """Refused calls by reason."""
        self.workers_killed = 0
        self._living = defaultdict(set)  # by worker: the (key, generation) of its shells
        self._inits = defaultdict(dict)  # by key, by generation: reset
        self._discards = set()  # (key, generation)
        self._numbers = defaultdict(dict)  # by key, by generation: what its commands printed

    @property
    def shells_living(self):
        return sum(len(shells) for shells in self._living.values())

    @property
    def shells_ended_at_all(self):
        return self.shells_ended.total() + self.shells_ended_with_worker

    def add(self, worker, record):
        """Takes one record (records.py) of the worker of that name."""
        handler = getattr(self, f"_on_{record.pop('what')}", None)
        if handler is not None:
            handler(worker, **record)

    def worker_is_gone(self, worker, killed):
        """Its shells are gone with it. To be called after its last record."""
        self.shells_ended_with_worker += len(self._living.pop(worker, ()))
        self.workers_killed += killed

    def check_resets(self):
        """Whether who came after a discarded shell was told so (`reset`). To be called after the last record."""
        for key, generation in self._discards:
            later = [number for number in self._inits[key] if number > generation]
            if later and not self._inits[key][min(later)]:
                self._fault(f"{key} generation {min(later)} follows a discarded one without reset")

    def _on_command(self, _, key, generation, n, slow):
        self.commands += 1
        self.slow_commands += slow
        numbers = self._numbers[key].setdefault(generation, set())
        if n in numbers:
            self._fault(f"{key} generation {generation}: two commands printed {n}")
        numbers.add(n)
        if len(self._numbers[key]) > GENERATIONS_KEPT:
            del self._numbers[key][min(self._numbers[key])]

    def _on_must_initialize(self, _, key, generation, reset):
        self.resets += reset
        if generation in self._inits[key]:
            self._fault(f"{key} generation {generation}: two were told to initialize it")
        self._inits[key][generation] = reset

    def _on_started(self, worker, key, generation):
        self.shells_started += 1
        self._living[worker].add((key, generation))

    def _on_ended(self, worker, key, generation, how):
        self.shells_ended[how] += 1
        self._living[worker].discard((key, generation))

    def _on_displaced(self, _, **__):
        self.displaced += 1

    def _on_quit_refused(self, _, **__):
        self.quits_refused += 1

    def _on_init_failed(self, _):
        self.inits_failed += 1

    def _on_discarded(self, _, key, generation):
        self.discarded += 1
        self._discards.add((key, generation))

    def _on_interrupted(self, _):
        self.interrupted += 1

    def _on_lease_lost(self, _):
        self.lease_lost += 1

    def _on_refused(self, _, reason, message):
        self.refusals[reason] += 1
        if reason not in EXPECTED_REFUSALS:
            self._fault(f"unexpected {reason}: {message}")

    def _on_taken(self, _, text):
        self.taken += 1
        self._keep(f"TAKEN: {text}")

    def _on_wrong(self, _, text):
        self._fault(text)

    def _fault(self, text):
        self.wrong += 1
        self._keep(text)

    def _keep(self, text):
        if text not in self.faults and len(self.faults) < TEXTS_MAX:
            self.faults.append(text)
