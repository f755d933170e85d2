"""One real bash, driven through its pipes: the resource that the workers share."""

import os
import secrets
import shlex
import signal
import subprocess
import threading

OUTPUT_BYTES_MAX = 64 * 1024
"""What one command may print; a shell that prints more is closed, because nobody would read the rest."""


LAST_WORDS_SECONDS = 1.0
"""How long close() waits for a command to notice that its bash is gone."""


class ShellDied(Exception):
    """The bash process is gone, or was closed while the command ran."""


class BashProcess:
    """A bash that runs one command at a time and keeps its variables from one to the next.

    Thread-safe. It needs no watchdog: when the process that started it dies, its
    standard input ends, and bash leaves as soon as the command that runs is done.
    """

    def __init__(self, *tags):
        """Starts bash. `tags` are words that show in its command line, by which others can find it."""
        self._conversation = threading.Lock()  # held by the one command that runs; guards both pipes
        self._marker = f"end-of-command-{secrets.token_hex(8)}"
        # A session of its own, so that Ctrl-C in a terminal does not reach it and close() gets its children too.
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-s", *tags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self):
        return self._process.pid

    def run(self, command):
        """Returns (exit status, output without the last newline). Raises ShellDied."""
        # eval, so that a syntax error ends this command and not the conversation; no input, so that a command
        # which reads cannot swallow the next one. The newline before the marker ends output that has none.
        script = f"eval {shlex.quote(command)} </dev/null; printf '\\n%s %d\\n' {self._marker} $?\n"
        try:
            with self._conversation:
                self._process.stdin.write(script.encode())
                self._process.stdin.flush()
                return self._read_until_marker()
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile
            raise ShellDied(str(error)) from error

    def close(self):
        """Kills bash and what it runs, and waits for it. Idempotent."""
        self._kill()
        # A process that broke away from bash may hold the pipe open; then the last reader closes it, not we.
        if self._conversation.acquire(timeout=LAST_WORDS_SECONDS):
            try:
                self._process.stdout.close()
                self._process.stdin.close()
            except BrokenPipeError:
                pass  # what was written last did not reach it
            finally:
                self._conversation.release()

    def _kill(self):
        if self._process.poll() is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._process.wait()

    def _read_until_marker(self):
        lines = []
        size = 0
        while size <= OUTPUT_BYTES_MAX:
            line = self._process.stdout.readline(OUTPUT_BYTES_MAX + 1)
            if not line:
                raise ShellDied("bash ended")
            if line.startswith(self._marker.encode()):
                output = b"".join(lines)[:-1]  # the newline that was put before the marker
                return int(line.split()[1]), output.decode(errors="replace").rstrip("\n")
            lines.append(line)
            size += len(line)
        self._kill()
        raise ShellDied(f"more than {OUTPUT_BYTES_MAX} bytes of output")
