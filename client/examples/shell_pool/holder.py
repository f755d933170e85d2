"""One thread of a worker: pins a session, uses its shell, lets go; over and over."""

import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration

import broker_errors
from bash_process import ShellDied
from judge import Judge
from renewer import HeldLease
from shell_client import ShellClient, ShellGone

CALL_SECONDS = 10.0
"""What a call may take beyond the time it waits for others."""
PAUSE_SECONDS = 0.02
"""Between two holds, at most."""
PAUSE_AFTER_REFUSAL_SECONDS = 0.1
COMMANDS_PER_HOLD_MAX = 3
ACTIVATE_ATTEMPTS = 3
DISPLACED_ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Hold:
    """A pin on a session whose shell is up."""

    session: object
    """The broker's Session: generation, endpoint, labels."""
    lease: HeldLease
    exclusive: bool


class Holder:
    """Runs until `stop` is set, and lets go of what it holds before it returns."""

    def __init__(self, stubs, broker, options, shells, renewer, records, rng, stop):
        self._stubs = stubs
        self._pb = stubs.broker
        self._broker = broker
        self._options = options
        self._shells = shells
        self._renewer = renewer
        self._records = records
        self._rng = rng
        self._stop = stop
        self._judge = Judge(records)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self):
        self._thread.join()

    def _run(self):
        index = self._choose()
        while not self._stop.is_set():
            pause = PAUSE_SECONDS * self._rng.random()
            try:
                if self._hold(index):
                    index = self._choose()
            except grpc.RpcError as call_error:
                error = broker_errors.decode(self._stubs, call_error)
                self._records.emit("refused", reason=error.reason, message=error.message)
                pause = max(PAUSE_AFTER_REFUSAL_SECONDS, error.retry_seconds)
                index = self._choose()
            self._stop.wait(pause)

    def _choose(self):
        # Some keys are wanted more than others, as in life: that is what makes them shared.
        return int(self._options.keys * self._rng.random() ** 2)

    def _hold(self, index):
        """One pin, from Acquire to Release. False if its shell turned out broken: worth another try at once."""
        exclusive = self._options.is_exclusive(index)
        with self._pinned(self._options.key(index), exclusive) as (response, lease, release):
            session = response.session
            if response.must_initialize:
                session = self._initialize(response, lease)
                if session is None:
                    return True
            hold = Hold(session, lease, exclusive)
            if self._use(hold):
                return True
            release.disposition = self._pb.DISPOSITION_DISCARD
            return False

    @contextmanager
    def _pinned(self, key, exclusive):
        """Acquires, renews in the background, and releases, whatever happens in between.

        Gives (AcquireResponse, HeldLease, the ReleaseRequest that will be sent).
        """
        asked_at = time.monotonic()
        response = self._broker.Acquire(
            self._pb.AcquireRequest(
                namespace=self._options.namespace,
                key=key,
                holder=self._options.name,
                mode=self._pb.PIN_MODE_EXCLUSIVE if exclusive else self._pb.PIN_MODE_SHARED,
                lease_ttl=_duration(self._options.lease_ttl_seconds),
                wait_timeout=_duration(self._options.wait_seconds),
                request_id=str(uuid.uuid4()),
                labels={"app": "shell-pool"},
                full_session=True,  # the shell's process id is a label
            ),
            timeout=self._options.wait_seconds + CALL_SECONDS,
        )
        lease = HeldLease(response.lease, asked_at)
        release = self._pb.ReleaseRequest(lease_id=lease.lease_id)
        self._renewer.add(lease)
        try:
            yield response, lease, release
        finally:
            self._renewer.remove(lease)
            answer = self._broker.Release(release, timeout=CALL_SECONDS)
            if release.disposition == self._pb.DISPOSITION_DISCARD and answer.released:
                self._records.emit("discarded", key=key, generation=response.session.generation)

    def _initialize(self, response, lease):
        """Starts the shell and names its endpoint. Returns the active Session, or None if there is none."""
        generation, key = response.session.generation, response.session.key
        self._records.emit("must_initialize", key=key, generation=generation, reset=response.reset)
        if response.displaced.key:
            self._shut_down(response.displaced)
        if self._rng.random() < self._options.init_failure_share:
            failure = self._pb.InitFailure(message=f"{key} would not start, on purpose", retry_after=_duration(0.05))
            self._broker.Activate(
                self._pb.ActivateRequest(lease_id=lease.lease_id, failure=failure), timeout=CALL_SECONDS
            )
            self._records.emit("init_failed")
            return None
        try:
            host = self._shells.start(key, generation)
        except (OSError, ShellDied) as error:
            self._records.emit("wrong", text=f"{key}: no shell: {error}")
            return None  # the release without a verdict ends this generation
        try:
            session = self._activate(host, lease)
        except grpc.RpcError:
            host.close("not activated")
            raise
        self._shells.activated(host)
        return session

    def _activate(self, host, lease):
        activated = self._pb.Activated(endpoint=host.endpoint, labels={"shell_pid": str(host.shell_pid)})
        request = self._pb.ActivateRequest(lease_id=lease.lease_id, activated=activated)
        for attempt in range(1, ACTIVATE_ATTEMPTS + 1):
            try:
                return self._broker.Activate(request, timeout=CALL_SECONDS).session
            except grpc.RpcError as error:
                # Lost answers may be asked for again: activating twice changes nothing.
                if error.code() != grpc.StatusCode.UNAVAILABLE or attempt == ACTIVATE_ATTEMPTS:
                    raise

    def _shut_down(self, displaced):
        """Tells the shell whose place we take to quit. Its slot is ours already; this is about the process."""
        try:
            with ShellClient(displaced.endpoint, displaced.generation, DISPLACED_ANSWER_SECONDS) as shell:
                refused = shell.quit("displaced") > 0
        except ShellGone:
            refused = False  # its worker died, or its host found out first
        self._records.emit("displaced", key=displaced.key, generation=displaced.generation)
        if refused:
            self._records.emit("quit_refused", key=displaced.key, generation=displaced.generation)

    def _use(self, hold):
        """Runs a few commands and has each judged. False if the shell is of no use any more."""
        try:
            shell = ShellClient(hold.session.endpoint, hold.session.generation)
        except ShellGone as error:
            return self._judge.failure(hold, error)
        last_number = None
        with shell:
            for _ in range(self._rng.randint(1, COMMANDS_PER_HOLD_MAX)):
                if hold.lease.lost_as is not None or not hold.lease.was_promised_at(time.monotonic()):
                    break
                slow = self._rng.random() < self._options.slow_share
                sleep = f"sleep {self._options.slow_seconds}; " if slow else ""
                try:
                    answer = shell.run(f'{sleep}n=$((n+1)); echo "$n"', hold.lease.fencing_token, hold.exclusive)
                except self._judge.FAILURES as error:
                    return self._judge.failure(hold, error)
                number = self._judge.answer(hold, answer, last_number)
                if number is None:
                    return False
                self._records.emit(
                    "command", key=hold.session.key, generation=hold.session.generation, n=number, slow=slow
                )
                last_number = number
        return self._judge.end_of_use(hold)


def _duration(seconds):
    return Duration(nanos=int(seconds % 1 * 1e9), seconds=int(seconds))
