"""What an operator watches and does beside the nights, on a stack that runs."""

import json
import os
import time
import urllib.request
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from demo.run import DAG_ID
from demo.settings import component_environment
from mf_core.records import Progress
from mf_core.warehouse.bootstrap import create_database
from mf_dags.metrics import METRICS
from tests.metrics_servers import Received
from tests.pages import commands, run

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


def _environment(retrain: Retrain, **more: str) -> dict[str, str]:
    """Return the environment of the stack's components, and what a page's commands name."""
    layout = retrain.stack.layout
    admin = sa.make_url(retrain.stack.state.admin_url)
    return {
        **component_environment(
            layout,
            int(retrain.stack.state.address.rpartition(":")[2]),
            metadata_url=_url(admin, "airflow", "airflow"),
            warehouse_url=retrain.stack.state.warehouse_url,
            console_url=_url(admin, "mf_console", "warehouse"),
            inherited=os.environ,
        ),
        "ADMIN_URL": _url(admin, "postgres", "postgres"),
        **more,
    }


def _url(server: sa.URL, user: str, database: str) -> str:
    return server.set(username=user, database=database).render_as_string(hide_password=False)


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


LISTS = "SELECT * FROM mf.recommendations ORDER BY user_id, rank"
METADATA = (
    "SELECT dag_id, run_id, state FROM dag_run ORDER BY 1, 2",
    "SELECT count(*), sum(length(value::text)) FROM xcom",
    "SELECT version_num FROM alembic_version",
)


@pytest.mark.usefixtures("published")
def test_a_backup_of_the_running_stack_comes_back_elsewhere(
    retrain: Retrain, tmp_path: Path
) -> None:
    admin = sa.make_url(retrain.stack.state.admin_url)
    new_metadata = _url(admin, "airflow", "new_airflow")
    new_warehouse = _url(admin, "mf_writer", "new_warehouse")
    create_database(retrain.stack.state.admin_url, "new_airflow", "airflow")
    root = tmp_path / "new artifacts"
    environ = _environment(
        retrain,
        BACKUP=str(tmp_path / "backup"),
        METADATA_URL=_url(admin, "airflow", "airflow"),
        NEW_DATABASE="new_warehouse",
        NEW_DATABASE_URL=new_warehouse,
        NEW_METADATA_URL=new_metadata,
        NEW_ARTIFACT_ROOT=f"file://{root}",
    )
    for heading in ("Back up", "Restore"):
        for block in commands("howto/backup.md", heading):
            said = run(block, tmp_path, environ)
    assert "live            version 1, since" in said

    old = retrain.stack.state.warehouse_url
    assert _rows(new_warehouse, LISTS) == _rows(old, LISTS)
    for query in METADATA:
        assert _rows(new_metadata, query) == _rows(environ["METADATA_URL"], query)
    uris = [uri for (uri,) in _rows(new_warehouse, "SELECT uri FROM mf.model_artifacts")]
    assert uris
    assert all(uri.startswith(f"file://{root}/") for uri in uris)


@pytest.mark.usefixtures("published")
def test_everything_works_after_airflows_metadata_were_cleaned(
    retrain: Retrain, tmp_path: Path, ml100k: Path
) -> None:
    history = f"/dags/{DAG_ID}/dagRuns"
    assert retrain.stack.api.call("GET", history)["total_entries"] > 0
    form = retrain.stack.api.call("GET", "/dags/mf_rollback/details")["params"]
    # The nights of this stack are older then, and its DAG files were read since.
    time.sleep(65)
    before = datetime.now(UTC) - timedelta(seconds=60)
    for block in commands("howto/clean-airflow.md", "Clean"):
        run(block, tmp_path, _environment(retrain, BEFORE=before.isoformat()))

    left = retrain.stack.api.call("GET", history)["total_entries"]
    form_then = retrain.stack.api.call("GET", "/dags/mf_rollback/details")["params"]
    console = _console(retrain)
    run_id = retrain.trigger({"source.uri": str(ml100k)})
    assert retrain.wait_for_end(run_id, 180).state == "success"
    # Airflow keeps the last run of each DAG.
    assert left <= 1
    assert form_then == form
    assert console["live"]["model_version"] == 1
    assert console["last_run"]["outcome"] in ("published", "nothing_new", "refused", "failed")
    assert retrain.states(run_id)["split"] == "success"


def _console(retrain: Retrain) -> dict[str, Any]:
    """Return what the console's page shows, to somebody who has logged in."""
    api = retrain.stack.api
    api.call("GET", "/version")
    request = urllib.request.Request(
        f"{retrain.stack.state.address}/mf/api/overview",
        headers={"Authorization": f"Bearer {api._token}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
