"""One run from its first call to its last process."""

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import grpc
from google.protobuf.duration_pb2 import Duration

import broker_errors
import report
import stubs as broker_stubs
from census import Census, shells_alive
from fleet import Fleet, adopt_orphans
from tally import Tally
from worker_options import WorkerOptions

CALL_SECONDS = 10.0
BROKER_SILENT_SECONDS_MAX = 10.0
PROGRESS_SECONDS = 5.0
WAIT_SECONDS = 2.0
"""How long an Acquire waits for others."""
INIT_TIMEOUT_SECONDS = 10
SLOW_SHARE = 0.02
SLOW_LEASES = 1.4
"""How long a slow command takes, in leases."""
INIT_FAILURE_SHARE = 0.03
DRAIN_SECONDS_MAX = 60.0
SLACK_SECONDS = 10.0
"""For what should be over in well under a second, on a machine that is busy with something else."""


@dataclass(frozen=True)
class Settings:
    endpoint: str
    broker_pid: Optional[int]
    """Of the broker, if it is a child of this process."""
    namespace: str
    run_id: str
    directory: Path
    workers: int
    threads: int
    keys: int
    capacity: int
    seconds: float
    commands: Optional[int]
    kill_every_seconds: float
    lease_ttl_seconds: float
    idle_ttl_seconds: float
    exclusive_every: int
    seed: int


class Demo:
    def __init__(self, settings, is_stop_asked):
        """`is_stop_asked()` is asked often; once it is true, the run ends in order."""
        self._settings = settings
        self._is_stop_asked = is_stop_asked
        self._tally = Tally()
        self._problems = []
        self._is_broker_lost = False
        self._rng = random.Random(settings.seed)

    def run(self):
        """Prints as it goes, and returns all that is wrong, in words. Raises RuntimeError if it cannot begin."""
        settings = self._settings
        stubs_dir = settings.directory / "stubs"
        stubs_dir.mkdir()
        broker_stubs.generate(stubs_dir)
        stubs = self._stubs = broker_stubs.load(stubs_dir)
        adopt_orphans()
        fleet = Fleet(
            options=lambda name, directory: self._worker_options(name, directory, str(stubs_dir)),
            directory=settings.directory,
            tally=self._tally,
            other_children=frozenset({settings.broker_pid} - {None}),
        )
        with grpc.insecure_channel(settings.endpoint) as channel:
            self._admin = stubs.broker_grpc.AdminServiceStub(channel)
            self._broker = stubs.broker_grpc.SessionBrokerServiceStub(channel)
            self._configure()
            census = Census(stubs, self._admin, settings.namespace, settings.run_id)
            try:
                self._work(fleet, census)
                self._wind_down(fleet, census)
            except BaseException:
                fleet.kill_all()
                raise
            finally:
                self._sweep_up(fleet)
                census.stop()
            if not self._is_broker_lost:
                self._delete_namespace()
        self._problems += fleet.crashes
        self._tally.check_resets()
        outcome = report.Outcome(
            settings.capacity, settings.keys, census.sessions_max, census.shells_max, self._problems
        )
        print(report.table(self._tally, outcome))
        return report.verdict(self._tally, outcome)

    def _worker_options(self, name, directory, stubs_dir):
        settings = self._settings
        return WorkerOptions(
            name=f"{settings.run_id}/{name}",
            endpoint=settings.endpoint,
            namespace=settings.namespace,
            run_id=settings.run_id,
            directory=directory,
            stubs_dir=stubs_dir,
            seed=f"{settings.seed}/{name}",
            threads=settings.threads,
            keys=settings.keys,
            exclusive_every=settings.exclusive_every,
            lease_ttl_seconds=settings.lease_ttl_seconds,
            wait_seconds=WAIT_SECONDS,
            slow_share=SLOW_SHARE,
            slow_seconds=SLOW_LEASES * settings.lease_ttl_seconds,
            init_failure_share=INIT_FAILURE_SHARE,
        )

    def _configure(self):
        settings = self._settings
        config = self._stubs.broker.NamespaceConfig(
            max_sessions=settings.capacity,
            idle_ttl=_duration(settings.idle_ttl_seconds),
            idle_policy=self._stubs.broker.IDLE_POLICY_END,
            default_lease_ttl=_duration(settings.lease_ttl_seconds),
            max_lease_ttl=_duration(settings.lease_ttl_seconds),
            init_timeout=_duration(INIT_TIMEOUT_SECONDS),
        )
        request = self._stubs.broker.UpdateNamespaceRequest(name=settings.namespace, config=config)
        try:
            self._admin.UpdateNamespace(request, timeout=CALL_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            raise RuntimeError(f"no broker at {settings.endpoint}: {error.details()}") from error

    def _work(self, fleet, census):
        """Until the time is over, the commands are run, or something stops it."""
        settings = self._settings
        print(
            f"{settings.workers} workers of {settings.threads} threads, {settings.keys} keys, capacity "
            f"{settings.capacity}, namespace {settings.namespace}, seed {settings.seed}",
            flush=True,
        )
        begin = time.monotonic()
        kill_at = begin + self._until_next_kill()
        progress_at = begin + PROGRESS_SECONDS
        for _ in range(settings.workers):
            fleet.start_one()
        while True:
            fleet.listen(0.05)
            now = time.monotonic()
            if self._is_over(fleet, census, now - begin):
                return
            if now >= kill_at:
                fleet.kill_one(self._rng)
                kill_at = now + self._until_next_kill()
            if now >= progress_at:
                self._print_progress(now - begin, census)
                progress_at += PROGRESS_SECONDS

    def _is_over(self, fleet, census, elapsed_seconds):
        settings = self._settings
        if self._is_stop_asked():
            self._problems.append("interrupted")
            return True
        if census.silent_seconds > BROKER_SILENT_SECONDS_MAX:
            self._problems.append(f"no answer from the broker for {BROKER_SILENT_SECONDS_MAX:.0f} s")
            self._is_broker_lost = True
            return True
        enough = settings.commands is not None and self._tally.commands >= settings.commands
        return enough or elapsed_seconds >= settings.seconds or not fleet.workers

    def _until_next_kill(self):
        mean = self._settings.kill_every_seconds
        return mean * self._rng.uniform(0.5, 1.5) if mean > 0 else float("inf")

    def _print_progress(self, elapsed_seconds, census):
        tally = self._tally
        print(
            f"{elapsed_seconds:4.0f} s: {tally.commands} commands, {tally.shells_started} shells, "
            f"{tally.displaced} evicted, {tally.workers_killed} workers killed; alive now: "
            f"{census.sessions} by the broker, {census.shells} by the system",
            flush=True,
        )

    def _wind_down(self, fleet, census):
        """Everything must go by itself now: pins with their holders, idle sessions in time, shells with them."""
        settings = self._settings
        fleet.drain()
        if not fleet.listen_until(fleet.is_drained, DRAIN_SECONDS_MAX):
            self._problems.append(f"workers did not let go within {DRAIN_SECONDS_MAX:.0f} s")
        if self._is_stop_asked() or self._is_broker_lost:
            return  # no time for the rest, or no point in it
        bound = settings.lease_ttl_seconds + settings.idle_ttl_seconds + SLACK_SECONDS
        if not fleet.listen_until(lambda: census.sessions == 0, bound):
            self._problems.append(f"the broker still counts {census.sessions} sessions, {bound:.1f} s after the end")
        if not fleet.listen_until(lambda: not shells_alive(settings.run_id), SLACK_SECONDS):
            left = len(shells_alive(settings.run_id))
            self._problems.append(f"{left} shells are still there although their sessions are over")

    def _sweep_up(self, fleet):
        """Leaves no process of ours behind, whatever happened."""
        fleet.close()
        gone = fleet.listen_until(lambda: not shells_alive(self._settings.run_id), SLACK_SECONDS)
        if not gone:
            for pid in shells_alive(self._settings.run_id):
                os.kill(pid, signal.SIGKILL)
                self._problems.append(f"shell {pid} had to be killed")

    def _delete_namespace(self):
        """Discarded sessions that nobody wanted again are still remembered there: they are ended first."""
        pb, name = self._stubs.broker, self._settings.namespace
        try:
            token = None
            while token != "":
                request = pb.ListSessionsRequest(namespace=name, page_token=token or "")
                page = self._broker.ListSessions(request, timeout=CALL_SECONDS)
                for session in page.sessions:
                    self._broker.End(pb.EndRequest(namespace=name, key=session.key), timeout=CALL_SECONDS)
                token = page.next_page_token
            self._admin.DeleteNamespace(pb.DeleteNamespaceRequest(name=name), timeout=CALL_SECONDS)
        except grpc.RpcError as call_error:
            error = broker_errors.decode(self._stubs, call_error)
            self._problems.append(f"namespace {name} is left behind: {error.reason}: {error.message}")


def _duration(seconds):
    return Duration(nanos=int(seconds % 1 * 1e9), seconds=int(seconds))
