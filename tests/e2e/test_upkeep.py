"""What an operator watches and does beside the nights, on a stack that runs."""

import json
from dataclasses import fields

from mf_core.records import Progress
from mf_dags.metrics import METRICS
from tests.metrics_servers import Received

from .conftest import Outcome, Retrain


def test_every_metric_of_a_night_reaches_a_statsd_server(
    retrain: Retrain, published: Outcome, statsd: Received
) -> None:
    report = published[2]
    assert statsd.tags() == {metric.name: {*metric.tags, "schema"} for metric in METRICS}
    for step in retrain.states(report["run_id"]):
        assert statsd.values("mf.step_seconds", step=step), step
    assert report["test_rmse"] in statsd.values("mf.rmse")
    assert report["ndcg"] in statsd.values("mf.ndcg", cutoff="10")
    assert report["users"] in statsd.values("mf.list_users")
    assert 100_000 in statsd.values("mf.rows_read")
    assert 1 in statsd.values("mf.last_run", outcome="published")


def test_progress_stands_in_the_log_as_fields(retrain: Retrain, published: Outcome) -> None:
    log = retrain.log(published[2]["run_id"], "train")
    entries = [json.loads(line) for line in log.splitlines()]
    reports = [entry["progress"] for entry in entries if "progress" in entry]
    assert {report["head"] for report in reports} == {"rating", "ranking"}
    for report in reports:
        assert report.keys() == {field.name for field in fields(Progress)}
        assert 1 <= report["iteration"] <= report["iterations"]
        assert report["iteration_seconds"] > 0
