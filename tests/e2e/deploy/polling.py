"""Waiting for something to become true, with a deadline."""

import time

POLL_SECONDS = 0.2


def await_true(condition, what, seconds=30.0):
    """Raises AssertionError, with `what`, if `condition()` is still false then."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:.0f} s it is not so that {what}")
        time.sleep(POLL_SECONDS)
