"""Whether the worker behind an endpoint lives, told by a file lock that the kernel drops with the process."""

import fcntl
import os
import time

FILE_NAME = "alive"
POLL_SECONDS = 0.01


class LifeSign:
    """Held by a worker from before it serves its first shell until after the last, or until it is killed.

    A process id would do until it is used again, and a connection that breaks proves nothing about the
    process behind it; the lock is neither guessed nor late.
    """

    def __init__(self, directory):
        """`directory` is the worker's own: every socket that it serves lies in it."""
        self._file = open(os.path.join(directory, FILE_NAME), "w", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self):
        """What the end of the process does as well."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def is_dead(directory, patience_seconds):
    """True as soon as nobody holds the life sign in `directory`; False after `patience_seconds` otherwise.

    Patience is needed where a broken connection brought the news: a process that is being killed closes its
    files one after the other.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            with open(os.path.join(directory, FILE_NAME), encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
        except FileNotFoundError:
            return True  # the worker was buried, directory and all
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(POLL_SECONDS)
