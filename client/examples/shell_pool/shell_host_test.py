#!/usr/bin/python3
"""The shells by themselves, without a broker."""

import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from census import shells_alive
from life_sign import LifeSign, is_dead
from shell_client import Fenced, ShellBroke, ShellClient, ShellGone
from shell_host import ShellHost

DEADLINE_SECONDS = 20.0


class ShellHostTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="shell-host-test-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.run_id = os.path.basename(self.directory)
        self.ends = []
        self.host = self.start(7)

    def start(self, generation):
        path = f"{self.directory}/{generation}.sock"
        host = ShellHost(path, "a key", generation, self.run_id, self.ends.append)
        self.addCleanup(host.close)
        return host

    def connect(self, generation=7):
        client = ShellClient(self.host.endpoint, generation, DEADLINE_SECONDS)
        self.addCleanup(client.close)
        return client

    def run_in_background(self, client, command, results):
        """Starts `command` and returns once the shell is running it; appends the Answer, or what was raised."""
        started = f"{self.directory}/started-{len(results)}-{time.monotonic_ns()}"
        os.mkfifo(started)

        def run():
            try:
                results.append(client.run(f"echo > {started}; {command}", token=1))
            except ShellGone as error:
                results.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        with open(started, encoding="utf-8") as fifo:
            fifo.read()  # returns when the command has opened and closed its end
        return thread

    def hold_up(self):
        """A command that runs until the returned function is called."""
        path = f"{self.directory}/go"
        os.mkfifo(path)

        def let_go():
            with open(path, "w", encoding="utf-8"):
                pass

        return f"read -r _ < {path}; echo done", let_go

    def test_variables_live_from_command_to_command_and_are_shared(self):
        first, second = self.connect(), self.connect()

        numbers = [client.run('n=$((n+1)); echo "$n"', token=1).output for client in (first, second, first)]

        self.assertEqual(numbers, ["1", "2", "3"])

    def test_an_answer_names_the_shell_and_carries_status_and_output(self):
        answer = self.connect().run("printf 'two\\nlines'; false", token=1)

        self.assertEqual((answer.pid, answer.generation), (self.host.shell_pid, 7))
        self.assertEqual((answer.status, answer.output), (1, "two\nlines"))
        self.assertIsNone(answer.quit_asked_at)

    def test_a_syntax_error_ends_the_command_and_not_the_shell(self):
        client = self.connect()

        self.assertNotEqual(client.run("if (", token=1).status, 0)
        self.assertEqual(client.run("echo fine", token=1).output, "fine")

    def test_a_command_that_reads_does_not_swallow_the_next_one(self):
        client = self.connect()

        self.assertEqual(client.run("cat", token=1).output, "")
        self.assertEqual(client.run("echo fine", token=1).output, "fine")

    def test_another_generation_is_gone(self):
        with self.assertRaises(ShellGone):
            self.connect(generation=6).run("echo", token=1)

    def test_a_token_below_the_highest_exclusive_one_is_fenced(self):
        client = self.connect()
        client.run("true", token=9)  # shared: checked, not remembered
        client.run("true", token=8, exclusive=True)

        with self.assertRaises(Fenced):
            client.run("true", token=7)
        self.assertEqual(client.run("echo fine", token=8).output, "fine")

    def test_an_unused_shell_quits_when_asked(self):
        self.assertEqual(self.connect().quit("displaced"), 0)

        self.assertEqual(self.ends, ["displaced"])
        self.assertEqual(shells_alive(self.run_id), [])
        with self.assertRaises(ShellGone):
            self.connect()

    def test_a_shell_in_use_refuses_to_quit_and_the_command_learns_of_it(self):
        results = []
        command, let_go = self.hold_up()
        thread = self.run_in_background(self.connect(), command, results)

        before = time.monotonic()
        refused = self.connect().quit("displaced")
        let_go()
        thread.join(DEADLINE_SECONDS)

        self.assertEqual(refused, 1)
        self.assertEqual(results[0].output, "done")
        self.assertGreaterEqual(results[0].quit_asked_at, before)
        self.assertEqual(self.ends, [])

    def test_a_command_whose_client_has_gone_holds_up_no_quit(self):
        client = ShellClient(self.host.endpoint, 7, DEADLINE_SECONDS)
        command, _ = self.hold_up()
        self.run_in_background(client, command, [])

        client.hang_up()  # as the end of its process would

        self.assertEqual(self.connect().quit("displaced"), 0)
        self.assertEqual(self.ends, ["displaced"])

    def test_closing_ends_the_running_command_and_its_children(self):
        results = []
        thread = self.run_in_background(self.connect(), "sleep 1000", results)

        self.host.close()
        thread.join(DEADLINE_SECONDS)

        self.assertIsInstance(results[0], ShellGone)
        self.assertEqual(self.ends, ["closed"])

    def test_a_shell_that_ends_by_itself_is_broken_and_not_gone(self):
        with self.assertRaises(ShellBroke):
            self.connect().run("exit 3", token=1)

        self.assertEqual(self.ends, ["died"])

    def test_the_census_counts_shells_and_not_what_they_run(self):
        self.start(8)
        command, let_go = self.hold_up()
        thread = self.run_in_background(self.connect(), f"({command})", [])

        self.assertEqual(len(shells_alive(self.run_id)), 2)
        let_go()
        thread.join(DEADLINE_SECONDS)


class LifeSignTest(unittest.TestCase):
    def test_it_ends_with_the_process_however_that_ends(self):
        with tempfile.TemporaryDirectory(prefix="life-sign-test-") as directory:
            script = "import sys; from life_sign import LifeSign; s = LifeSign(sys.argv[1]); print(); sys.stdin.read()"
            with subprocess.Popen(
                [sys.executable, "-c", script, directory],
                cwd=os.path.dirname(os.path.abspath(__file__)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            ) as process:
                process.stdout.readline()

                self.assertFalse(is_dead(directory, patience_seconds=0))
                process.kill()
                self.assertTrue(is_dead(directory, patience_seconds=DEADLINE_SECONDS))

    def test_its_own_holder_counts_as_alive(self):
        with tempfile.TemporaryDirectory(prefix="life-sign-test-") as directory:
            with LifeSign(directory):
                self.assertFalse(is_dead(directory, patience_seconds=0))

    def test_a_directory_that_was_removed_is_dead(self):
        self.assertTrue(is_dead("/nonexistent", patience_seconds=0))


if __name__ == "__main__":
    unittest.main()
