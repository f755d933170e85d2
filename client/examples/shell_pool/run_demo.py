#!/usr/bin/python3
"""Several worker processes share real shells through the session broker. See README.md."""

import argparse
import random
import secrets
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from demo import Demo, Settings
from own_broker import OwnBroker

SOCKET_PATH_BYTES_MAX = 107
SOCKET_NAME_BYTES_MAX = 24
"""Room for a worker's directory and a socket's number under the run's directory."""


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--endpoint", default="127.0.0.1:7400", help="where the broker serves")
    add("--broker", metavar="BINARY", help="start this session-broker for the run, on a free port, instead")
    add("--workers", type=_at_least(int, 1), default=6, help="worker processes")
    add("--threads", type=_at_least(int, 1), default=2, help="sessions that a worker holds at once")
    add("--keys", type=_at_least(int, 1), default=24, help="different shells that are wanted")
    add("--capacity", type=_at_least(int, 1), default=8, help="sessions that may be alive at once (max_sessions)")
    add("--seconds", type=_at_least(float, 0), default=20.0, help="end after this time")
    add("--commands", type=_at_least(int, 1), help="end after so many commands, if that is sooner")
    add("--kill-every", type=_at_least(float, 0), default=2.5, metavar="SECONDS", help="kill a worker; 0: never")
    add("--lease-ttl", type=_at_least(float, 0.1), default=1.5, metavar="SECONDS", help="of a pin, unless renewed")
    add("--idle-ttl", type=_at_least(float, 0.1), default=2.0, metavar="SECONDS", help="of a session without pins")
    add("--exclusive-every", type=_at_least(int, 0), default=3, metavar="N", help="pin every n-th key alone; 0: none")
    add("--seed", type=int, help="of the choices that are made; what comes first also depends on the machine")
    add("--namespace", help="to work in; it is deleted at the end (default: a new one)")
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    run_id = f"shell-pool-{secrets.token_hex(4)}"
    directory = Path(tempfile.mkdtemp(prefix=f"{run_id}-"))
    stopping = _StopOnSignal()
    try:
        if len(str(directory)) + SOCKET_NAME_BYTES_MAX > SOCKET_PATH_BYTES_MAX:
            raise RuntimeError(f"{directory} is too long for sockets; set TMPDIR to a shorter one")
        with ExitStack() as stack:
            broker = stack.enter_context(OwnBroker(options.broker)) if options.broker else None
            settings = Settings(
                endpoint=broker.endpoint if broker else options.endpoint,
                broker_pid=broker.pid if broker else None,
                namespace=options.namespace or run_id,
                run_id=run_id,
                directory=directory,
                workers=options.workers,
                threads=options.threads,
                keys=options.keys,
                capacity=options.capacity,
                seconds=options.seconds,
                commands=options.commands,
                kill_every_seconds=options.kill_every,
                lease_ttl_seconds=options.lease_ttl,
                idle_ttl_seconds=options.idle_ttl,
                exclusive_every=options.exclusive_every,
                seed=random.randrange(10**6) if options.seed is None else options.seed,
            )
            wrong = Demo(settings, stopping.is_asked).run()
        if broker and broker.problem:
            wrong.append(broker.problem)
    except RuntimeError as error:
        wrong = [str(error)]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for text in wrong:
        print(f"WRONG: {text}")
    print("FAILED" if wrong else "OK: no session was taken from under its holder")
    return 1 if wrong else 0


class _StopOnSignal:
    """The first Ctrl-C or SIGTERM ends the run in order, the second one at once."""

    def __init__(self):
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def is_asked(self):
        return self._asked

    def _on_signal(self, *_):
        if self._asked:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # or a third one would break off the cleaning up
            raise RuntimeError("stopped at once")
        self._asked = True


def _at_least(kind, least):
    def convert(text):
        value = kind(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    convert.__name__ = kind.__name__  # what argparse calls it in its message
    return convert


if __name__ == "__main__":
    sys.exit(main())
