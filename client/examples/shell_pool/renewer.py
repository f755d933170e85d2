"""Keeps the leases of a worker alive while their holders are busy."""

import threading
import time

import grpc

RENEWALS_PER_TTL = 3
RETRIES_PER_TTL = 10


class HeldLease:
    """A lease, and what its holder may believe about it. Thread-safe."""

    def __init__(self, lease, asked_at):
        """`lease` is the broker's Lease; `asked_at` when the request that brought it was sent (monotonic).

        Counted from before the request was sent, the broker's own clock for this lease cannot be ahead.
        """
        self.lease_id = lease.lease_id
        self.fencing_token = lease.fencing_token
        self._mu = threading.Lock()  # guards what follows
        self._ttl_seconds = lease.ttl.ToTimedelta().total_seconds()
        self._valid_until = asked_at + self._ttl_seconds
        self._renew_at = asked_at + self._ttl_seconds / RENEWALS_PER_TTL
        self._lost_as = None
        self._lost_early = False

    @property
    def renew_at(self):
        with self._mu:
            return self._renew_at

    @property
    def lost_as(self):
        """The LeaseStatus name with which the broker said that it is over; None if it has not."""
        with self._mu:
            return self._lost_as

    def was_promised_at(self, moment):
        """Whether the broker had promised at `moment` (monotonic) that the session stays."""
        with self._mu:
            return moment < self._valid_until

    def was_lost_early(self):
        """Whether the broker took it back before the time that it had granted was over."""
        with self._mu:
            return self._lost_early

    def renewed(self, ttl_seconds, asked_at):
        with self._mu:
            self._ttl_seconds = ttl_seconds
            self._valid_until = asked_at + ttl_seconds
            self._renew_at = asked_at + ttl_seconds / RENEWALS_PER_TTL

    def not_renewed(self, now):
        """The call failed; whether the lease is renewed is not known. Tried again soon."""
        with self._mu:
            self._renew_at = now + self._ttl_seconds / RETRIES_PER_TTL

    def lost(self, status_name, now):
        with self._mu:
            self._lost_as = status_name
            self._lost_early = now < self._valid_until
            self._renew_at = float("inf")


class Renewer:
    """One thread that renews every lease of the worker, all that are held in one call. Thread-safe."""

    def __init__(self, stubs, broker, holder, call_seconds):
        """`broker` is a SessionBrokerServiceStub; a Renew call may take `call_seconds`."""
        self._stubs = stubs
        self._broker = broker
        self._holder = holder
        self._call_seconds = call_seconds
        self._changed = threading.Condition()  # guards what follows
        self._leases = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, lease):
        with self._changed:
            self._leases.add(lease)
            self._changed.notify()

    def remove(self, lease):
        """To be called before the release: a renewal that crosses it is not news about the lease."""
        with self._changed:
            self._leases.discard(lease)

    def stop(self):
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self):
        while True:
            leases = self._wait_until_due()
            if leases is None:
                return
            self._renew(leases)

    def _wait_until_due(self):
        """All live leases once the first of them is due; None when it is time to stop."""
        with self._changed:
            while not self._stopping:
                alive = [lease for lease in self._leases if lease.lost_as is None]
                due_at = min((lease.renew_at for lease in alive), default=None)
                now = time.monotonic()
                if due_at is not None and due_at <= now:
                    return alive
                self._changed.wait(None if due_at is None else due_at - now)
            return None

    def _renew(self, leases):
        asked_at = time.monotonic()
        request = self._stubs.broker.RenewRequest(lease_ids=[lease.lease_id for lease in leases], holder=self._holder)
        try:
            results = self._broker.Renew(request, timeout=self._call_seconds).results
        except grpc.RpcError:
            for lease in leases:
                lease.not_renewed(time.monotonic())
            return
        now = time.monotonic()
        with self._changed:
            for lease, result in zip(leases, results):
                if lease not in self._leases:
                    continue  # released meanwhile
                if result.status == self._stubs.broker.LEASE_STATUS_HELD:
                    lease.renewed(result.ttl.ToTimedelta().total_seconds(), asked_at)
                else:
                    lease.lost(self._stubs.broker.LeaseStatus.Name(result.status), now)
