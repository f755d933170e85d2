#!/usr/bin/python3
"""The dashboard and the alerts, asked of a live broker by a real Prometheus, both as docker-compose.yml starts them.

SESSION_BROKER and BROKERCTL name the binaries.
"""

import json
import math
import os
import re
import subprocess
import tempfile
import unittest
from contextlib import ExitStack
from pathlib import Path

import deployment
from load import Load, leave_a_lease
from polling import await_true
from processes import Broker, Prometheus

ANSWER_SECONDS_MAX = 45.0
STAYS_ZERO = re.compile(
    "ALERTS|_invariant_violations|_failures_total|_capacity_reserved|_clock_|_pending_|_lag_revisions{"
)
"""What a sound broker shows as zero, always or whenever one happens to look."""


class DashboardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="broker-dashboard-")))
            with Broker(directory) as crashing:
                lease = leave_a_lease(crashing.address)
                crashing.kill()
            cls.broker = stack.enter_context(Broker(directory))
            cls.prometheus = stack.enter_context(Prometheus(directory, cls.broker.metrics_address))
            cls.load = stack.enter_context(Load(cls.broker.address, lease))
            cls.addClassCleanup(stack.pop_all().close)

    def await_answers(self, questions, is_answered):
        """Until all of {question: what it is of} are answered; fails with those that are not."""
        left = dict(questions)

        def all_answered():
            if self.load.problem is not None:
                raise self.load.problem
            for question in list(left):
                if is_answered(question, self.prometheus.query(question)):
                    del left[question]
            return not left

        try:
            await_true(all_answered, "every query has data", ANSWER_SECONDS_MAX)
        except AssertionError:
            missing = "\n".join(f"  {of}: {question}" for question, of in left.items())
            raise AssertionError(f"after {ANSWER_SECONDS_MAX:.0f} s there is no data for\n{missing}") from None

    def test_every_query_of_the_dashboard_has_data(self):
        def is_answered(query, samples):
            numbers = [number for _, number in samples if math.isfinite(number)]
            return any(numbers) or (bool(numbers) and STAYS_ZERO.search(query) is not None)

        questions = {query: panel for panel, query in deployment.dashboard_queries()}
        # An annotation has data only where there is something to note.
        noted = {query: name for query, name in questions.items() if query.startswith("changes(")}
        for query in noted:
            self.prometheus.query(query)
            del questions[query]
        self.await_answers(questions, is_answered)

    def test_every_series_that_an_alert_names_is_there(self):
        questions = {one: rule["alert"] for rule in deployment.alerts() for one in deployment.selectors(rule["expr"])}
        self.await_answers(questions, lambda _, samples: samples)

    def test_every_alert_is_evaluated_and_no_critical_one_fires(self):
        def evaluated():
            return all(rule["health"] == "ok" for rule in self.prometheus.rules())

        await_true(evaluated, "every rule is evaluated without an error")
        self.assertEqual(len(self.prometheus.rules()), len(deployment.alerts()))
        self.assertEqual(self.prometheus.query('ALERTS{severity="critical", alertstate="firing"}'), [])

    def test_the_namespaces_can_be_chosen_from(self):
        (variable,) = deployment.dashboard()["templating"]["list"]
        series, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()
        self.await_answers({series: "namespace"}, lambda _, samples: any(label in labels for labels, _ in samples))

    def test_the_health_check_of_the_image_succeeds_while_the_broker_serves(self):
        check = deployment.argument(deployment.dockerfile()[-1], "HEALTHCHECK")
        _, *arguments = json.loads(check.partition("CMD ")[2])
        environment = {**os.environ, "BROKERCTL_ENDPOINT": self.broker.address}
        done = subprocess.run(
            [os.environ["BROKERCTL"], *arguments], env=environment, capture_output=True, text=True, check=False
        )
        self.assertEqual((done.returncode, done.stdout), (0, "SERVING\n"), done.stderr)


class DashboardFileTest(unittest.TestCase):
    board = deployment.dashboard()

    def test_it_asks_the_data_source_that_is_provisioned(self):
        source = (deployment.GRAFANA / "provisioning/datasources/prometheus.yml").read_text()
        (uid,) = re.findall(r"^ *uid: (\w+)", source, re.MULTILINE)
        asking = [panel for panel in self.board["panels"] if panel["type"] != "row"]
        for part in [*asking, *self.board["templating"]["list"], *self.board["annotations"]["list"]]:
            self.assertEqual(part["datasource"], {"type": "prometheus", "uid": uid})

    def test_its_panels_have_numbers_of_their_own_and_do_not_overlap(self):
        panels = self.board["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            self.assertTrue(taken.isdisjoint(cells), panel["title"])
            taken |= cells

    def test_every_series_that_is_documented_is_shown_or_watched(self):
        asked = " ".join(query for _, query in deployment.dashboard_queries())
        asked += " ".join(alert["expr"] for alert in deployment.alerts())
        documented = re.findall(r"^\| `((?!exposer_)\w+)`", deployment.METRICS_MD.read_text(), re.MULTILINE)
        self.assertGreater(len(documented), 50)
        self.assertEqual([name for name in documented if name not in asked], [])


if __name__ == "__main__":
    unittest.main()
