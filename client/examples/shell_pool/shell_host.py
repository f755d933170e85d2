"""Serves one bash, one life of one key, over a Unix socket.

Requests and answers are JSON, a line each; an answer follows every request before the next one is read.

  {"op": "run", "generation": 7, "token": 12, "exclusive": false, "command": "echo hi"}
    -> {"pid": 4711, "generation": 7, "status": 0, "output": "hi", "quit_asked_at": null}
    -> {"error": "gone" | "fenced" | "died"}
  {"op": "quit", "generation": 7, "why": "displaced"}
    -> {"quit": true} | {"quit": false, "commands": 2}
"""

import json
import os
import socket
import threading
import time

from bash_process import BashProcess, ShellDied

REQUEST_BYTES_MAX = 64 * 1024
BACKLOG = 1024


class _Command:
    """A command that was accepted and not answered yet."""

    def __init__(self, connection):
        self.connection = connection
        self.quit_asked_at = None  # CLOCK_MONOTONIC seconds, the same clock in every process of a machine

    def is_wanted(self):
        """False once whoever sent it has hung up, or died: nobody is harmed then if it stops."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


class ShellHost:
    """One shell and its socket, served by threads of this process: they end with it.

    Thread-safe. It is the witness of the demo: it is told to quit only by those to whom the broker said that
    the session is over, so to be told while a command of a living client runs or waits for its turn is what
    must not happen. It then refuses, and the answer to that command says when it was asked. There is a thread
    per connection; connections are as many as the holders of the session, which the pins bound.
    """

    def __init__(self, path, key, generation, run_id, on_end):
        """Starts bash and serves it at `path` (at most 107 bytes, by the system's rule).

        `on_end(how)` is called once, when the shell is gone: with the `why` of the quit that was obeyed or
        of close(), or with "died" if bash ended by itself. Raises OSError or ShellDied, and leaves nothing.
        """
        self.key = key
        self.generation = generation
        self.endpoint = f"unix:{path}"
        self._path = path
        self._on_end = on_end
        self._shell = BashProcess(run_id, key, str(generation))
        self._turn = threading.Lock()  # held by the one command that bash runs
        self._mu = threading.Lock()  # guards what follows; taken inside _turn, never around it
        self._commands = set()
        self._connections = set()
        self._highest_exclusive_token = 0
        self._ended = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._shell.run(":")  # it is up when it has answered once
            self._listener.bind(path)
            self._listener.listen(BACKLOG)
        except (OSError, ShellDied):
            self._listener.close()
            self._shell.close()
            raise
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def shell_pid(self):
        return self._shell.pid

    def ask_to_quit(self, why):
        """Ends the shell unless somebody still uses it. Returns how many commands forbid it; 0: it is gone."""
        with self._mu:
            wanted = [command for command in self._commands if command.is_wanted()]
            for command in wanted:
                if command.quit_asked_at is None:
                    command.quit_asked_at = time.monotonic()
        if wanted:
            return len(wanted)
        # A command that arrives just now finds the shell gone, which its holder sees as clearly as a refusal.
        self.close(why)
        return 0

    def close(self, why="closed"):
        """Ends the shell whatever it does. Idempotent: the first `why` counts."""
        with self._mu:
            if self._ended:
                return
            self._ended = True
            connections = list(self._connections)
        self._shell.close()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        self._on_end(why)
        for connection in connections:
            _shut_reading(connection)  # answers that are on their way still go out

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._mu:
                self._connections.add(connection)
                ended = self._ended
            if ended:
                _shut_reading(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, connection.makefile("rb") as requests:
            try:
                while line := requests.readline(REQUEST_BYTES_MAX):
                    connection.sendall(json.dumps(self._answer(json.loads(line), connection)).encode() + b"\n")
            except (OSError, ValueError):
                pass  # the client is gone, or not one of ours
            finally:
                with self._mu:
                    self._connections.discard(connection)

    def _answer(self, request, connection):
        if request["generation"] != self.generation:
            return {"error": "gone"}
        if request["op"] == "quit":
            commands = self.ask_to_quit(request["why"])
            return {"quit": commands == 0, "commands": commands}
        return self._run(request, connection)

    def _run(self, request, connection):
        command = _Command(connection)
        with self._mu:
            self._commands.add(command)
        try:
            with self._turn:
                # Only now: whoever waited for the turn may have died, or been overtaken by a newer holder.
                if error := self._refusal(command, request["token"], request["exclusive"]):
                    return {"error": error}
                status, output = self._shell.run(request["command"])
        except ShellDied:
            ended_by_us = self._ended
            self.close("died")
            return {"error": "gone" if ended_by_us else "died"}
        finally:
            # Before the answer goes out: whoever gets it may release at once, and the quit that follows from
            # that must not find the command still listed.
            with self._mu:
                self._commands.discard(command)
        return {
            "pid": self._shell.pid,
            "generation": self.generation,
            "status": status,
            "output": output,
            "quit_asked_at": command.quit_asked_at,
        }

    def _refusal(self, command, token, exclusive):
        with self._mu:
            if self._ended or not command.is_wanted():
                return "gone"
            if token < self._highest_exclusive_token:
                return "fenced"
            if exclusive:
                self._highest_exclusive_token = token
            return None


def _shut_reading(connection):
    try:
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass
