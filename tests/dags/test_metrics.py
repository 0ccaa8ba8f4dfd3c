"""The metrics: what is sent, by the real clients, and that they never harm a night."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from mf_core.catalogue import DEFAULT
from mf_core.records import Progress
from tests.db.conftest import engine, server, warehouse_url  # noqa: F401
from tests.db.test_cli import SMALL
from tests.db.worlds import make_ratings
from tests.metrics_servers import Received, otlp_server

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs" / "howto" / "monitoring.md"
NIGHT = Path(__file__).parent / "night.py"
STEPS = (
    *("start", "ingest", "check", "split", "has_news", "train", "evaluate", "gate", "is_for_real"),
    *("refit", "prepare", "recommend", "verify", "publish", "close"),
)


def test_the_page_lists_every_metric_as_it_is_defined() -> None:
    from mf_dags.metrics import METRICS

    rows = re.findall(r"^\| `(mf\.\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.M)
    defined = [
        (metric.name, ", ".join(f"`{tag}`" for tag in metric.tags), metric.unit, metric.help)
        for metric in METRICS
    ]
    assert rows == defined


NAMES = re.compile(r"\b(airflow_mf_\w+)(?:\{([^}]*)\})?")


@pytest.mark.parametrize(
    "file", ["prometheus/recommendations.rules.yml", "grafana/recommendations.json"]
)
def test_alerts_and_panels_ask_for_metrics_and_tags_that_are_sent(file: str) -> None:
    from mf_dags.metrics import METRICS

    sent = {metric.in_prometheus: {*metric.tags, "schema"} for metric in METRICS}
    asked = NAMES.findall((DEPLOY / file).read_text())
    assert len(asked) >= 4
    for name, labels in asked:
        assert name in sent
        assert set(re.findall(r"(\w+)=", labels)) <= sent[name]


def test_while_metrics_are_off_nothing_is_asked_or_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    from mf_dags import metrics

    def no_client() -> Any:
        raise AssertionError("the client was asked for")

    monkeypatch.setattr(metrics, "_client", no_client)
    metrics.send(metrics.RMSE, 0.9)
    # It has no engine to ask.
    metrics.send_state(SimpleNamespace())  # type: ignore[arg-type]


@pytest.fixture
def metrics_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics go to a StatsD server."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")


@pytest.mark.usefixtures("metrics_on")
def test_whatever_is_wrong_with_metrics_is_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mf_dags import metrics
    from mf_dags.sites import Site

    class Broken:
        def gauge(self, *_: Any, **__: Any) -> None:
            raise OSError("no buffer space")

    monkeypatch.setattr(metrics, "_client", Broken)
    monkeypatch.setattr(metrics, "current_site", lambda: Site(DEFAULT))
    nowhere = sa.create_engine("postgresql+psycopg2://127.0.0.1:9/warehouse")
    metrics.send_progress(Progress("rating", "sweep", 1, 2, 0.9, None, 1.0, 1.0, 1.0))
    metrics.send_state(SimpleNamespace(engine=nowhere))  # type: ignore[arg-type]
    nowhere.dispose()

    first, second = (record.getMessage() for record in caplog.records)
    assert first == "The metric mf.iteration_seconds was not sent: OSError: no buffer space"
    assert second.startswith("The warehouse's metrics were not sent: DatabaseError: ")


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
@pytest.mark.usefixtures("metrics_on")
def test_what_was_not_measured_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, value: float | None
) -> None:
    from mf_dags import metrics
    from mf_dags.sites import Site

    sent: list[Any] = []
    gauge = SimpleNamespace(gauge=lambda *what, **tags: sent.append((what, tags)))
    monkeypatch.setattr(metrics, "_client", lambda: gauge)
    monkeypatch.setattr(metrics, "current_site", lambda: Site(DEFAULT))
    metrics.send(metrics.RMSE, value)
    assert sent == []
    metrics.send(metrics.RMSE, 0.9)
    assert sent == [(("mf.rmse", 0.9), {"tags": {"schema": "mf"}})]


def test_a_step_that_fails_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from mf_dags import metrics, tasks

    sent: list[Any] = []
    monkeypatch.setattr(metrics, "send", lambda metric, value, **tags: sent.append((metric, tags)))

    def gate() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tasks.step(gate)()
    assert sent == [(metrics.STEP_SECONDS, {"step": "gate"})]


@pytest.fixture
def night(warehouse_url: str, tmp_path: Path) -> dict[str, Any]:  # noqa: F811
    """What `subprocess.run` takes to run a small night whose metrics go to OpenTelemetry."""
    source = tmp_path / "ratings.csv"
    make_ratings().rename(columns={"rated_at": "timestamp"}).to_csv(source, index=False)
    settings = tmp_path / "settings.toml"
    small = [setting.removeprefix("--set=") for setting in SMALL]
    named = ["source.name=planted", f"sources.planted.uri={source}"]
    settings.write_text("\n".join(map(_toml_line, [*named, *small])))
    ours = {
        "MF_CONFIG": str(settings),
        "MF_DATABASE_URL": warehouse_url,
        "MF_ARTIFACT_ROOT": (tmp_path / "artifacts").as_uri(),
        "MF_GPU_LOCK": str(tmp_path / "lock"),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__METRICS__OTEL_ON": "True",
    }
    environ = {name: value for name, value in os.environ.items() if name != "AIRFLOW_HOME"}
    return {
        "args": [sys.executable, str(NIGHT)],
        "env": {**environ, **ours},
        "capture_output": True,
        "text": True,
        "check": False,
    }


def _toml_line(setting: str) -> str:
    """Return NAME=VALUE as TOML."""
    name, _, value = setting.partition("=")
    bare = re.fullmatch(r"true|false|[0-9.]+", value)
    return f"{name} = {value if bare else json.dumps(value)}"


def test_every_metric_of_a_night_reaches_an_opentelemetry_server(
    night: dict[str, Any],
    engine: sa.Engine,  # noqa: F811
) -> None:
    from mf_dags.metrics import METRICS

    with otlp_server() as received:
        night["env"]["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{received.port}"
        done = subprocess.run(**night)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]

    wanted = {metric.name: {*metric.tags, "schema"} for metric in METRICS}
    assert received.tags() == wanted
    assert {tags["schema"] for _, tags, _ in received.ours()} == {"mf"}
    for step in STEPS:
        assert received.values("mf.step_seconds", step=step), step
    _holds_what_the_warehouse_says(received, engine)


def _holds_what_the_warehouse_says(received: Received, engine: sa.Engine) -> None:  # noqa: F811
    """The last value of each figure is the one that stands in the warehouse."""
    lists = "SELECT rmse, ndcg, cutoff, extract(epoch FROM published_at) FROM mf.monitoring_lists"
    with engine.connect() as connection:
        rmse, ndcg, cutoff, published = connection.execute(sa.text(lists)).one()
        coverage = connection.scalar(sa.text("SELECT coverage FROM mf.monitoring_versions"))
    assert received.values("mf.rmse")[-1] == rmse
    assert received.values("mf.ndcg", cutoff=f"{cutoff}")[-1] == ndcg
    assert received.values("mf.coverage", cutoff=f"{cutoff}")[-1] == coverage
    assert received.values("mf.lists_published_time")[-1] == int(published)
    assert received.values("mf.rows_read")[-1] == len(make_ratings())
    assert received.values("mf.rows_rejected")[-1] == 0
    assert received.values("mf.batch_refused")[-1] == 0
    assert received.values("mf.list_users")[-1] == 60
    assert received.values("mf.last_run", outcome="published")[-1] == 1
    assert received.values("mf.last_run", outcome="failed")[-1] == 0
    # A trainer with TensorFlow in it holds more than 100 MiB, and less than this machine has.
    assert 1e8 < received.values("mf.training_peak_bytes", stage="refit")[-1] < 1e11


def test_a_server_that_is_down_holds_a_process_up_for_seconds_and_no_more(tmp_path: Path) -> None:
    """What Airflow's client does when the task ends: it tries to send what it has."""
    script = (
        "from airflow.sdk.observability import stats\n"
        "from airflow.sdk.observability.metrics import stats_utils\n"
        "from mf_dags import metrics\n"
        "from mf_core.catalogue import DEFAULT\n"
        "from mf_dags.sites import Site\n"
        "metrics.current_site = lambda: Site(DEFAULT)\n"
        "factory = stats_utils.get_stats_factory()\n"
        "stats.initialize(factory=factory, export_legacy_names=False)\n"
        "for metric in metrics.METRICS: metrics.send(metric, 1.0)\n"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AIRFLOW__METRICS__OTEL_ON": "True",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Failed to export metrics batch" in done.stdout + done.stderr
    assert time.monotonic() - begun < 20
