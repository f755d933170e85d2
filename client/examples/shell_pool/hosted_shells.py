"""The shells that live in one worker, and the sweep that finds those which the broker has given up."""

import threading

import grpc

from shell_host import ShellHost

SWEEP_SECONDS = 0.5


class HostedShells:
    """Thread-safe.

    Whoever takes a shell's place tells it to quit, but may be killed before it does, and a session that was
    idle too long has no successor. So the host asks the broker now and then whether its generations are
    still there. A generation that is gone never comes back, which makes the answer safe to act on however
    late it is.
    """

    def __init__(self, stubs, broker, options, records):
        self._stubs = stubs
        self._broker = broker
        self._options = options
        self._records = records
        self._mu = threading.Lock()  # guards what follows
        self._started = 0
        self._hosts = set()
        self._activated = set()
        self._stop = threading.Event()
        threading.Thread(target=self._sweep_until_stopped, daemon=True).start()

    def start(self, key, generation):
        """A new shell for this life of the key. Raises OSError or ShellDied."""
        with self._mu:
            self._started += 1
            path = f"{self._options.directory}/{self._started}.sock"

        def on_end(how):
            with self._mu:
                self._hosts.discard(host)
                self._activated.discard(host)
            self._records.emit("ended", key=key, generation=generation, how=how)

        host = ShellHost(path, key, generation, self._options.run_id, on_end)
        with self._mu:
            self._hosts.add(host)
        self._records.emit("started", key=key, generation=generation)
        return host

    def activated(self, host):
        """The broker knows it from now on: the sweep may miss it there."""
        with self._mu:
            self._activated.add(host)

    def sweep(self):
        """One look at every activated shell."""
        with self._mu:
            hosts = list(self._activated)
        for host in hosts:
            if self._broker_has_given_up(host) and host.ask_to_quit("swept") > 0:
                self._records.emit("quit_refused", key=host.key, generation=host.generation)

    def close(self):
        """Ends every shell, whatever it does."""
        self._stop.set()
        with self._mu:
            hosts = list(self._hosts)
        for host in hosts:
            host.close("closed")

    def _sweep_until_stopped(self):
        while not self._stop.wait(SWEEP_SECONDS):
            self.sweep()

    def _broker_has_given_up(self, host):
        request = self._stubs.broker.GetSessionRequest(namespace=self._options.namespace, key=host.key)
        try:
            session = self._broker.GetSession(request, timeout=self._options.wait_seconds).session
        except grpc.RpcError as error:
            return error.code() == grpc.StatusCode.NOT_FOUND
        return session.generation != host.generation or session.state == self._stubs.broker.SESSION_STATE_SUSPENDED
