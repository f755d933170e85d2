"""What happened to a command: did the broker keep its promise?

While a lease is promised (renewed in time, by the holder's own clock) its session must stay as it was
acquired. A command that does not get through has been taken from under its holder, unless

  - the worker that hosted the shell is dead, which no broker can prevent, or
  - the promise was over: the holder renewed too late.

There is no third excuse. In particular a discarded session is none: only the death of a host is discarded.
"""

import time

from life_sign import is_dead
from shell_client import Fenced, ShellBroke, ShellGone, directory_of

PATIENCE_SECONDS = 2.0
"""How long after a connection broke the kernel may still be busy with the death of its process."""


class Judge:
    FAILURES = (ShellGone, Fenced, ShellBroke)

    def __init__(self, records, patience_seconds=PATIENCE_SECONDS):
        self._records = records
        self._patience_seconds = patience_seconds

    def failure(self, hold, error):
        """A command, or the connection for it, failed with one of FAILURES. True: the shell itself is fine."""
        now = time.monotonic()
        if isinstance(error, ShellBroke):
            self._records.emit("wrong", text=f"{_name(hold)}: bash ended by itself")
            return False
        if isinstance(error, ShellGone) and is_dead(directory_of(hold.session.endpoint), self._patience_seconds):
            self._records.emit("interrupted")
            return False
        if hold.lease.was_promised_at(now) or hold.lease.was_lost_early():
            self._taken(hold, f"{type(error).__name__}: {error}")
            return isinstance(error, Fenced)
        self._records.emit("lease_lost")
        return True

    def answer(self, hold, answer, last_number):
        """A command was answered. Returns the number that it printed, or None if the answer is no good.

        `last_number` is what the command before it printed, in the same hold; None at first.
        """
        session = hold.session
        asked_at = answer.quit_asked_at
        if asked_at is not None:
            if hold.lease.was_promised_at(asked_at) or hold.lease.was_lost_early():
                self._taken(hold, "the shell was told to quit while a command ran")
            else:
                self._records.emit("lease_lost")
            return None
        if answer.generation != session.generation or str(answer.pid) != session.labels["shell_pid"]:
            self._taken(hold, f"another shell answered: generation {answer.generation}, process {answer.pid}")
            return None
        if answer.status != 0 or not answer.output.isdigit():
            self._records.emit("wrong", text=f"{_name(hold)}: exit {answer.status}: {answer.output[:200]}")
            return None
        number = int(answer.output)
        if last_number is not None and not _follows(number, last_number, hold.exclusive):
            self._records.emit("wrong", text=f"{_name(hold)}: {number} after {last_number}")
            return None
        return number

    def end_of_use(self, hold):
        """The holder is about to let go, with every command answered. True: the shell itself is fine."""
        if not hold.lease.was_lost_early():
            return True
        # Its host may have died since, and another holder have found out and discarded it.
        if is_dead(directory_of(hold.session.endpoint), 0):
            return False
        self._taken(hold, f"lease over before its time: {hold.lease.lost_as}")
        return False

    def _taken(self, hold, why):
        self._records.emit("taken", text=f"{_name(hold)}: {why}")


def _follows(number, last_number, exclusive):
    """Alone, one counts without gaps; with others, they count in between."""
    return number == last_number + 1 if exclusive else number > last_number


def _name(hold):
    return f"{hold.session.key} generation {hold.session.generation}"
