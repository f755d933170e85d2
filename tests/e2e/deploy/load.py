"""A little of everything that a broker can be asked for, by brokerctl, until it is told to stop."""

import json
import os
import queue
import signal
import subprocess
import threading

import grpc

STEADY = "steady"  # Suspends what is idle.
ENDING = "ending"  # Ends what is idle.
SHORT = "short"  # No session lives long, and none is suspended, because none makes checkpoints.
DRAINED = "drained"
RESTORED = "restored"  # Has a session, and a lease on it, from before a crash.

NAMESPACES = {
    STEADY: "--max-sessions 4 --max-sessions-per-owner 2 --idle-policy suspend --idle-ttl 1s",
    ENDING: "--max-sessions 2 --idle-policy end --idle-ttl 300ms",
    SHORT: "--max-lifetime 400ms --idle-policy suspend --idle-ttl 100ms --require-checkpoint yes",
    DRAINED: "--max-sessions 1",
    RESTORED: "--max-sessions 2",
}


class Caller:
    """Runs brokerctl against one broker."""

    def __init__(self, address):
        self._start = [os.environ["BROKERCTL"], "--endpoint", address, "--output", "json"]

    def call(self, *arguments, text=""):
        """What it prints, parsed; None if the broker refused, which is what some calls are made for."""
        done = subprocess.run([*self._start, *arguments], input=text, capture_output=True, text=True, check=False)
        if done.returncode == 2:
            raise AssertionError(f"brokerctl {arguments}: {done.stderr}")
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.startswith("{") else None

    def open(self, *arguments):
        """One that goes on by itself."""
        command = ["setpriv", "--pdeathsig", "KILL", "--", *self._start, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def acquire(self, namespace, key, *more):
        """The lease; None if it was refused. Activates the session if told to."""
        answer = self.call("acquire", "-n", namespace, key, *more)
        if answer is None:
            return None
        lease = answer["lease"]["lease_id"]
        if answer["must_initialize"]:
            self.call("activate", lease, "address", "--checkpoint", "-", text="state")
        return lease

    def start(self, namespace, key, *more):
        """The lease of who is told to initialize a new session, and has not yet."""
        return self.call("acquire", "-n", namespace, key, *more)["lease"]["lease_id"]

    def make_idle(self, namespace, key):
        self.call("release", self.acquire(namespace, key))


def leave_a_lease(address):
    """To be adopted when the broker comes back from a crash. Returns the lease."""
    return Caller(address).acquire(RESTORED, "k", "--ttl", "60s")


class Pipeline:
    """A stream of calls, which stays open. They are of no kind that the broker knows, so that nothing has to be encoded."""

    NO_CALL = b"\x0a\x02\x08\x01"  # A message with one call, whose id is 1.

    def __init__(self, address):
        self._channel = grpc.insecure_channel(address)
        self._calls = queue.Queue()
        open_stream = self._channel.stream_stream("/sessionbroker.v1.SessionBrokerService/Pipeline")
        self._results = open_stream(iter(self._calls.get, None))

    def call(self):
        self._calls.put(self.NO_CALL)
        next(self._results)

    def close(self):
        self._calls.put(None)
        self._results.cancel()
        self._channel.close()


class Load:
    """A context manager. `problem` is the exception that ended it early, if any."""

    def __init__(self, address, adopted):
        self._address = address
        self._caller = Caller(address)
        self._adopted = adopted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.problem = None

    def __enter__(self):
        for name, settings in NAMESPACES.items():
            self._caller.call("namespace", "set", name, *settings.split())
        self._caller.call("drain", DRAINED)
        self._pipeline = Pipeline(self._address)
        self._open = [
            self._caller.open("watch", "-n", STEADY, *(f"--type={kind}" for kind in ("acquired", "released"))),
            self._caller.open("watch", "-n", STEADY, "--initial"),
        ]
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        for process in self._open:
            end(process)
        self._pipeline.close()

    def _run(self):
        rounds = [
            self._share, self._hold_exclusively, self._wait_in_turn, self._fail, self._suspend, self._take_away,
            self._outlive, self._lose_leases, self._exhaust, self._watch, self._look_around, self._pipeline.call,
        ]
        try:
            while not self._stop.is_set():
                for make_calls in rounds:
                    make_calls()
        except Exception as error:  # Whatever it is, the test fails with it.
            self.problem = error

    def _share(self):
        first = self._caller.acquire(STEADY, "shared", "--owner", "me", "--label", "a=b")
        second = self._caller.acquire(STEADY, "shared")
        self._caller.call("renew", first, second, self._adopted)
        self._caller.call("checkpoint", first, text="newer state")
        for lease in (first, second, second):  # The last one is held no more.
            self._caller.call("release", lease)

    def _hold_exclusively(self):
        lease = self._caller.acquire(STEADY, "alone", "--exclusive")
        self._caller.call("acquire", "-n", STEADY, "alone", "--exclusive", "--wait", "0")
        self._caller.call("acquire", "-n", STEADY, "alone", "--wait", "100ms")
        self._caller.call("release", lease, "--discard")

    def _wait_in_turn(self):
        lease = self._caller.acquire(STEADY, "queue", "--exclusive")
        waiting = self._caller.open("acquire", "-n", STEADY, "queue", "--exclusive", "--wait", "30s")
        # It is there for a few scrapes.
        self._stop.wait(1.5)
        self._caller.call("release", lease)
        answer = json.loads(waiting.communicate()[0])
        self._caller.call("release", answer["lease"]["lease_id"])

    def _fail(self):
        lease = self._caller.start(ENDING, "broken")
        self._caller.call("acquire", "-n", ENDING, "broken", "--wait", "0")
        self._caller.call("activate", lease, "--fail", "no such image")
        self._caller.call("acquire", "-n", ENDING, "nobody", "--existing")

    def _suspend(self):
        self._caller.make_idle(STEADY, "sleeper")
        self._caller.call("suspend", "-n", STEADY, "sleeper")
        self._caller.call("activate", self._caller.start(STEADY, "sleeper"), "--fail", "cannot be restored")
        self._caller.make_idle(STEADY, "sleeper")

    def _take_away(self):
        """More keys than slots, in turn."""
        for namespace in (STEADY, ENDING):
            for number in range(5):
                self._caller.make_idle(namespace, f"idle-{number}")
        self._caller.call("end", "-n", ENDING, "idle-4", "--reason", "load")

    def _outlive(self):
        """Sessions that the reaper ends while nobody looks."""
        lease = self._caller.start(SHORT, "mayfly")
        self._caller.call("activate", lease, "address")
        self._caller.call("release", lease)
        self._caller.make_idle(ENDING, "forgotten")

    def _lose_leases(self):
        self._caller.acquire(ENDING, "lapsed", "--ttl", "100ms")
        self._caller.acquire(ENDING, "revoked")
        self._caller.call("revoke", "-n", ENDING, "--key", "revoked", "--reason", "load")

    def _exhaust(self):
        leases = [self._caller.acquire(STEADY, f"mine-{number}", "--owner", "greedy") for number in range(2)]
        self._caller.call("acquire", "-n", STEADY, "mine-2", "--owner", "greedy", "--wait", "0")
        leases += [self._caller.acquire(STEADY, f"full-{number}") for number in range(2)]
        self._caller.call("acquire", "-n", STEADY, "full-2", "--wait", "0")
        for lease in leases:
            self._caller.call("release", lease)

    def _watch(self):
        """A stream that resumes, and ends with its session."""
        session = self._caller.call("get", "-n", STEADY, "shared")
        if session is not None:
            end(self._caller.open("watch", "-n", STEADY, "--after", session["session"]["revision"]), after_line=True)

    def _look_around(self):
        for command in ("list", "leases"):
            self._caller.call(command, "-n", STEADY)
        self._caller.call("explain", "-n", STEADY, "shared")
        self._caller.call("get", "-n", STEADY, "nobody")
        self._caller.call("namespace", "list")
        self._caller.call("health", "store")


def end(process, after_line=False):
    if after_line:
        process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate()
