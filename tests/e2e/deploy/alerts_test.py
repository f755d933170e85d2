#!/usr/bin/python3
"""The alerts, as promtool sees them: valid, and each proved by a case in which it fires."""

import re
import subprocess
import unittest

import yaml

import deployment

CASES = deployment.PROMETHEUS / "alerts_test.yml"


class AlertsTest(unittest.TestCase):
    def promtool(self, *arguments):
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_configuration_and_the_rules_are_valid(self):
        self.promtool("check", "config", deployment.PROMETHEUS / "prometheus.yml")
        self.promtool("check", "rules", deployment.PROMETHEUS / "alerts.yml")

    def test_alerts_fire_when_they_should_and_only_then(self):
        self.promtool("test", "rules", CASES)

    def test_every_alert_has_a_case_in_which_it_fires_and_a_neighbour_that_does_not(self):
        fired = set()
        for case in yaml.safe_load(CASES.read_text())["tests"]:
            expected = case["promql_expr_test"][-1]["exp_samples"]
            fired.update(re.search(r'alertname="(\w+)", instance="bad"', one["labels"])[1] for one in expected)
            instances = {re.search(r'instance="(\w+)"', one["series"])[1] for one in case["input_series"]}
            self.assertEqual(instances, {"bad", "good"}, case["name"])
        self.assertEqual(fired, {alert["alert"] for alert in deployment.alerts()})

    def test_every_alert_says_how_bad_it_is_and_what_to_do(self):
        for alert in deployment.alerts():
            self.assertIn(alert["labels"]["severity"], {"critical", "warning"})
            self.assertEqual(alert["annotations"].keys(), {"summary", "description"}, alert["alert"])


if __name__ == "__main__":
    unittest.main()
