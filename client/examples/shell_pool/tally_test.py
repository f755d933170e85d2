#!/usr/bin/python3
"""That a run which went wrong is not called right: each fault by itself, in an otherwise good run."""

import unittest

from report import Outcome, table, verdict
from tally import Tally

CAPACITY = 2
KEYS = 4


def good_run():
    """A tally of three shells, one of each end, and commands enough for eviction to be expected."""
    tally = Tally()
    for generation in (1, 2, 3):
        tally.add("w1", {"what": "must_initialize", "key": "a", "generation": generation, "reset": generation == 3})
        tally.add("w1", {"what": "started", "key": "a", "generation": generation})
    for number in range(1, 101):
        tally.add("w2", command(number))
    tally.add("w2", {"what": "displaced", "key": "a", "generation": 1})
    tally.add("w1", {"what": "ended", "key": "a", "generation": 1, "how": "displaced"})
    tally.add("w2", {"what": "discarded", "key": "a", "generation": 2})
    tally.add("w1", {"what": "ended", "key": "a", "generation": 3, "how": "swept"})
    tally.worker_is_gone("w1", killed=True)
    return tally


def command(number):
    return {"what": "command", "key": "a", "generation": 1, "n": number, "slow": False}


def outcome(sessions_max=CAPACITY, problems=()):
    return Outcome(CAPACITY, KEYS, sessions_max, shells_max=3, problems=list(problems))


class VerdictTest(unittest.TestCase):
    def assert_wrong(self, tally, words, **known):
        tally.check_resets()
        self.assertIn(words, "; ".join(verdict(tally, outcome(**known))))

    def test_a_good_run_is_right_and_its_numbers_are_shown(self):
        tally = good_run()
        tally.check_resets()

        self.assertEqual(verdict(tally, outcome()), [])
        self.assertRegex(table(tally, outcome()), r"(?m)^commands run +100 ")
        self.assertRegex(table(tally, outcome()), r"(?m)^  ended with a dead worker +1 ")

    def test_a_taken_session(self):
        tally = good_run()
        tally.add("w2", {"what": "taken", "text": "a generation 3: gone"})
        self.assert_wrong(tally, "TAKEN: a generation 3: gone")

    def test_more_sessions_than_fit(self):
        self.assert_wrong(good_run(), "counted 3 sessions", sessions_max=3)

    def test_no_command(self):
        self.assert_wrong(Tally(), "no command")

    def test_no_eviction_in_a_long_run(self):
        tally = good_run()
        tally.displaced = 0
        self.assert_wrong(tally, "nothing was evicted")

    def test_a_shell_whose_end_nobody_saw(self):
        tally = good_run()
        tally.add("w3", {"what": "started", "key": "b", "generation": 4})
        self.assert_wrong(tally, "4 shells started, but 3 ended")

    def test_two_commands_that_counted_to_the_same_number(self):
        tally = good_run()
        tally.add("w3", command(100))
        self.assert_wrong(tally, "two commands printed 100")

    def test_two_initializers_of_one_generation(self):
        tally = good_run()
        tally.add("w3", {"what": "must_initialize", "key": "a", "generation": 3, "reset": True})
        self.assert_wrong(tally, "two were told to initialize")

    def test_no_reset_after_a_discard(self):
        tally = good_run()
        tally.add("w3", {"what": "discarded", "key": "a", "generation": 3})
        tally.add("w3", {"what": "must_initialize", "key": "a", "generation": 9, "reset": False})
        self.assert_wrong(tally, "generation 9 follows a discarded one without reset")

    def test_a_refusal_that_honest_callers_do_not_get(self):
        tally = good_run()
        tally.add("w3", {"what": "refused", "reason": "CAPACITY_EXHAUSTED", "message": "full"})
        self.assertEqual(verdict(tally, outcome()), [])
        tally.add("w3", {"what": "refused", "reason": "INTERNAL", "message": "oops"})
        self.assert_wrong(tally, "unexpected INTERNAL: oops")

    def test_whatever_went_wrong_on_the_way(self):
        self.assert_wrong(good_run(), "the worker stumbled", problems=["the worker stumbled"])


if __name__ == "__main__":
    unittest.main()
