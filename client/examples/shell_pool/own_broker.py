"""A broker for the length of one run, on ports that happen to be free."""

import signal
import subprocess
import threading

READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
READY_PREFIX = "listening on "


class OwnBroker:
    """A context manager. Inside, `endpoint` is where it serves."""

    def __init__(self, binary):
        self._binary = binary
        self.endpoint = None
        self.problem = None
        """What was wrong with how it ended, if anything; known after the context is left."""

    @property
    def pid(self):
        return self._process.pid

    def __enter__(self):
        """Raises RuntimeError if it does not come up."""
        free = "127.0.0.1:0"
        command = [self._binary, "--memory", "--listen", free, "--metrics-listen", free, "--log-level", "warning"]
        try:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *command],  # stops it also if this process is killed
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # it must outlive Ctrl-C: the workers still have pins to release
            )
        except FileNotFoundError as error:
            raise RuntimeError("setpriv is missing: apt install util-linux") from error
        self._ready = threading.Event()
        # Reads to the end, so that the broker never waits for a reader.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(READY_SECONDS_MAX) or self.endpoint is None:
            self.__exit__()
            raise RuntimeError(f"cannot start the broker: {self._binary} did not say where it listens")
        return self

    def __exit__(self, *_):
        if self._process.poll() is not None:
            self.problem = f"the broker ended by itself, exit code {self._process.returncode}"
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self.problem = f"the broker did not stop within {STOP_SECONDS_MAX:.0f} s of SIGTERM"
            return
        if code != 0:
            self.problem = f"the broker ended with exit code {code}"

    def _read(self):
        for line in self._process.stdout:
            if line.startswith(READY_PREFIX):
                self.endpoint = line.removeprefix(READY_PREFIX).strip()
                self._ready.set()
        self._ready.set()  # the end of output, perhaps before it was ready
