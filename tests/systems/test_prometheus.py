"""Prometheus itself reads the alerts, and each fires when it should."""

import subprocess
from pathlib import Path

import yaml

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "recommendations.rules.yml"
TESTS = Path(__file__).parent / "recommendations.rules.test.yml"


def promtool(*arguments: str) -> None:
    """Run Prometheus' tool; it says what is wrong."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_are_valid() -> None:
    promtool("check", "rules", str(RULES))


def test_each_alert_fires_when_it_should() -> None:
    promtool("test", "rules", str(TESTS))


def test_each_alert_is_tested_firing_and_silent() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    cases = [
        (case["alertname"], bool(case.get("exp_alerts")))
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert set(cases) == {
        (rule["alert"], fires) for rule in group["rules"] for fires in (True, False)
    }
