"""What a worker tells run_demo: JSON lines through a pipe, so that what was told survives the teller."""

import json
import os
import threading

TEXT_CHARS_MAX = 256
"""Keeps every line below PIPE_BUF (4096 bytes): then it is written whole or not at all, also by a worker
that is being killed."""


class Records:
    """Thread-safe."""

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self._mu = threading.Lock()

    def emit(self, what, **fields):
        texts = {name: value[:TEXT_CHARS_MAX] for name, value in fields.items() if isinstance(value, str)}
        line = json.dumps({"what": what, **fields, **texts}).encode() + b"\n"
        try:
            with self._mu:
                os.write(self._descriptor, line)
        except BrokenPipeError:
            pass  # nobody counts any more; the end of standard input stops the worker
