#!/usr/bin/python3
"""Which failures of a command are the broker's, its holder's, or a dead worker's."""

import tempfile
import time
import unittest
from types import SimpleNamespace

from google.protobuf.duration_pb2 import Duration

from holder import Hold
from judge import Judge
from life_sign import LifeSign
from renewer import HeldLease
from shell_client import Answer, Fenced, ShellBroke, ShellGone

TTL_SECONDS = 1000


class Heard:
    """Records of one kind after the other, as a worker would tell them."""

    def __init__(self):
        self.kinds = []

    def emit(self, what, **_):
        self.kinds.append(what)


class JudgeTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="judge-test-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.life_sign = LifeSign(self.directory)  # the worker lives
        self.addCleanup(self.life_sign.close)
        self.heard = Heard()
        self.judge = Judge(self.heard, patience_seconds=0)

    def hold(self, asked_seconds_ago=0, exclusive=False):
        session = SimpleNamespace(
            key="a", generation=7, endpoint=f"unix:{self.directory}/1.sock", labels={"shell_pid": "42"}
        )
        lease = SimpleNamespace(lease_id="x", fencing_token=1, ttl=Duration(seconds=TTL_SECONDS))
        return Hold(session, HeldLease(lease, time.monotonic() - asked_seconds_ago), exclusive)

    def late(self):
        return self.hold(asked_seconds_ago=TTL_SECONDS)

    def answer(self, output="5", generation=7, pid=42, quit_asked_at=None):
        return Answer(pid=pid, generation=generation, status=0, output=output, quit_asked_at=quit_asked_at)

    def kill_the_worker(self):
        self.life_sign.close()

    def test_gone_while_the_worker_lives_and_the_lease_is_promised_is_taken(self):
        self.judge.failure(self.hold(), ShellGone())
        self.assertEqual(self.heard.kinds, ["taken"])

    def test_gone_with_its_worker_is_nobodys_fault(self):
        self.kill_the_worker()
        self.assertFalse(self.judge.failure(self.hold(), ShellGone()))
        self.assertEqual(self.heard.kinds, ["interrupted"])

    def test_gone_after_a_late_renewal_is_the_holders_fault(self):
        self.judge.failure(self.late(), ShellGone())
        self.assertEqual(self.heard.kinds, ["lease_lost"])

    def test_a_lease_that_the_broker_took_back_early_is_no_excuse_later(self):
        hold = self.hold()
        hold.lease.lost("LEASE_STATUS_EXPIRED", time.monotonic())
        self.assertFalse(self.judge.end_of_use(hold))
        self.assertEqual(self.heard.kinds, ["taken"])

    def test_an_early_end_after_the_worker_died_is_a_discard(self):
        hold = self.hold()
        hold.lease.lost("LEASE_STATUS_SESSION_ENDED", time.monotonic())
        self.kill_the_worker()
        self.assertFalse(self.judge.end_of_use(hold))
        self.assertEqual(self.heard.kinds, [])

    def test_a_quit_during_a_promised_command_is_taken(self):
        self.assertIsNone(self.judge.answer(self.hold(), self.answer(quit_asked_at=time.monotonic()), None))
        self.assertEqual(self.heard.kinds, ["taken"])

    def test_a_quit_after_the_promise_was_over_is_the_holders_fault(self):
        self.assertIsNone(self.judge.answer(self.late(), self.answer(quit_asked_at=time.monotonic()), None))
        self.assertEqual(self.heard.kinds, ["lease_lost"])

    def test_an_answer_of_another_shell_is_taken(self):
        self.assertIsNone(self.judge.answer(self.hold(), self.answer(pid=43), None))
        self.assertIsNone(self.judge.answer(self.hold(), self.answer(generation=8), None))
        self.assertEqual(self.heard.kinds, ["taken", "taken"])

    def test_a_promised_holder_is_never_fenced(self):
        self.judge.failure(self.hold(), Fenced())
        self.judge.failure(self.late(), Fenced())
        self.assertEqual(self.heard.kinds, ["taken", "lease_lost"])

    def test_a_bash_that_ended_by_itself_is_wrong(self):
        self.judge.failure(self.hold(), ShellBroke())
        self.assertEqual(self.heard.kinds, ["wrong"])

    def test_shared_numbers_grow_and_exclusive_ones_have_no_gap(self):
        self.assertEqual(self.judge.answer(self.hold(), self.answer("5"), 3), 5)
        self.assertEqual(self.judge.answer(self.hold(exclusive=True), self.answer("5"), 4), 5)
        self.assertIsNone(self.judge.answer(self.hold(exclusive=True), self.answer("5"), 3))
        self.assertIsNone(self.judge.answer(self.hold(), self.answer("5"), 5))
        self.assertEqual(self.heard.kinds, ["wrong", "wrong"])


if __name__ == "__main__":
    unittest.main()
