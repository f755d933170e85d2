"""The other end of shell_host: a connection to one shell."""

import json
import os
import socket
from dataclasses import dataclass
from typing import Optional

CONNECT_SECONDS = 2.0
ANSWER_SECONDS_MAX = 60.0
"""Longer than any command of the demo takes, its turn included: a bound, not a timeout that is met."""


class ShellGone(Exception):
    """Nobody serves the shell any more, or it says that it has ended."""


class Fenced(Exception):
    """A newer exclusive holder has used the shell: this one's pin must have been lost."""


class ShellBroke(Exception):
    """Bash ended by itself."""


@dataclass(frozen=True)
class Answer:
    pid: int
    generation: int
    status: int
    """The command's exit status."""
    output: str
    quit_asked_at: Optional[float]
    """When somebody asked the shell to quit while the command ran (CLOCK_MONOTONIC seconds), if so."""


def directory_of(endpoint):
    """The directory of the worker that serves `endpoint`; its life sign lies there."""
    return os.path.dirname(endpoint.removeprefix("unix:"))


class ShellClient:
    """One connection. Not thread-safe. A context manager."""

    def __init__(self, endpoint, generation, answer_seconds_max=ANSWER_SECONDS_MAX):
        """Raises ShellGone if nobody listens at `endpoint`."""
        self._generation = generation
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(CONNECT_SECONDS)
            self._socket.connect(endpoint.removeprefix("unix:"))
        except OSError as error:
            self._socket.close()
            raise ShellGone(f"{endpoint}: {error}") from error
        self._socket.settimeout(answer_seconds_max)
        self._answers = self._socket.makefile("rb")

    def run(self, command, token, exclusive=False):
        """Returns the Answer. `token` is the lease's fencing token. Raises ShellGone, Fenced, ShellBroke."""
        answer = self._ask(op="run", token=token, exclusive=exclusive, command=command)
        error = answer.get("error")
        if error == "fenced":
            raise Fenced(f"token {token}")
        if error == "died":
            raise ShellBroke(f"generation {self._generation}")
        if error is not None:
            raise ShellGone(error)
        return Answer(**answer)

    def quit(self, why):
        """Returns how many commands the shell will not be taken from; 0: it is gone. Raises ShellGone."""
        answer = self._ask(op="quit", why=why)
        if "error" in answer:
            raise ShellGone(answer["error"])
        return answer["commands"]

    def hang_up(self):
        """Breaks the connection; from any thread, also while run() waits, which then raises ShellGone."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._answers.close()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _ask(self, **request):
        request["generation"] = self._generation
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._answers.readline()
        except OSError as error:
            raise ShellGone(str(error)) from error
        if not line.endswith(b"\n"):
            raise ShellGone("the connection ended before the answer")
        return json.loads(line)
