"""What a monitoring system sees: no more than it may, the figures of `mf status`; dashboards."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import ConfigError, GateError, InputError
from mf_core.warehouse import database_engine, readers, tables, transaction
from mf_core.warehouse.embedded import EmbeddedServer

from .databases import new_database, url_of
from .test_publish import publish_one, rows
from .worlds import N_USERS, World, fit, make_ratings, make_world

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "recommendations.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "grafana" / "alerts.yaml").read_text())
VIEWS = {
    "monitoring_lists",
    "monitoring_runs",
    "monitoring_versions",
    "monitoring_ingests",
    "monitoring_sizes",
}
SECRET = "user-4711"


@pytest.fixture(scope="module")
def nights(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A warehouse after two nights that went well, one that was refused, and one that failed."""
    ratings = make_ratings()
    ratings.loc[ratings.user_id == "u001", "user_id"] = SECRET
    with new_database(server, "nights", "template_warehouse") as engine:
        world = make_world(engine, tmp_path_factory.mktemp("artifacts"), ratings)
        world = world.with_settings(gate__cutoff=10)
        for night in ("one", "two"):
            pipeline.start_run(world.place, night)
            publish_one(world, night)
            pipeline.close_run(world.place, night)
        _is_refused(world.with_settings(gate__max_rmse=0.001), "three")
        pipeline.start_run(world.place, "four")
        _end_badly(world, "four", "ingest", InputError(f"line 7: {SECRET},,"))
        engine.dispose()
        yield world


@pytest.fixture
def world(server: EmbeddedServer, nights: World) -> Iterator[World]:
    """A copy of it, as `mf_writer`."""
    template = str(nights.place.engine.url.database)
    with new_database(server, "warehouse", template) as engine:
        yield replace(nights, place=replace(nights.place, engine=engine))


@pytest.fixture
def engine(world: World) -> Engine:
    """That copy."""
    return world.place.engine


@pytest.fixture
def monitor(engine: Engine) -> Iterator[Engine]:
    """The same, as a monitoring system connects to it."""
    made = database_engine(url_of(engine).replace("mf_writer", "mf_monitor"))
    yield made
    made.dispose()


def _is_refused(world: World, night: str) -> None:
    pipeline.start_run(world.place, night)
    split = pipeline.split(world.config, world.place, night)
    report = pipeline.evaluate(world.config, world.place, split, fit(world, split))
    with pytest.raises(GateError) as refusal:
        pipeline.gate(world.config, world.place, report)
    _end_badly(world, night, "gate", refusal.value)


def _end_badly(world: World, night: str, step: str, error: Exception) -> None:
    pipeline.record_failure(world.place, night, step, error)
    pipeline.close_run(world.place, night, [step])


def test_a_monitoring_system_may_read_its_views_and_nothing_else(
    world: World, engine: Engine, monitor: Engine
) -> None:
    relations = rows(
        engine,
        "SELECT relname FROM pg_class WHERE relnamespace = 'mf'::regnamespace "
        "AND relkind IN ('r', 'p', 'v', 'm')",
    )
    assert {name for (name,) in relations} > VIEWS | {"ratings", "recommendations"}
    for (name,) in relations:
        if name in VIEWS:
            assert rows(monitor, f"SELECT * FROM mf.{name}"), name
            continue
        with pytest.raises(ConfigError, match="lacks a right: permission denied"):
            rows(monitor, f"SELECT * FROM mf.{name}")
    for call in ("mf.recommendations_for('u002')", "mf.split_bucket('u', 'i', 1)"):
        with pytest.raises(ConfigError, match="lacks a right: permission denied"):
            rows(monitor, f"SELECT {call}")
    for write in ("CREATE TABLE mf.mine (n int)", "CREATE TABLE public.mine (n int)"):
        with pytest.raises(ConfigError, match="lacks a right: permission denied"):
            rows(monitor, write)


def test_no_view_shows_whose_ratings_they_are_or_what_an_error_said(
    world: World, engine: Engine, monitor: Engine
) -> None:
    assert SECRET in str(rows(engine, "SELECT message FROM mf.runs"))
    people = {user for (user,) in rows(engine, "SELECT DISTINCT user_id FROM mf.ratings")}
    items = {item for (item,) in rows(engine, "SELECT DISTINCT item_id FROM mf.ratings")}
    for view in VIEWS:
        seen = {str(value) for row in rows(monitor, f"SELECT * FROM mf.{view}") for value in row}
        assert not seen & (people | items), view
        assert SECRET not in " ".join(seen), view


def test_the_views_tell_what_mf_status_tells(world: World, engine: Engine, monitor: Engine) -> None:
    with transaction(engine) as connection:
        status = readers.status(connection)
        history = readers.model_history(connection)
    with transaction(monitor) as connection:
        found = readers.monitored(connection)
        versions = connection.execute(sa.text("SELECT * FROM mf.monitoring_versions")).mappings()
        of_version = {row["model_version"]: dict(row) for row in versions}

    lists = found["lists"]
    assert lists["model_version"] == status["live_version"]
    assert lists["age_seconds"] == pytest.approx(status["lists_age_seconds"], abs=2)
    for name in ("published_at", "n_ratings", "rmse", "ndcg", "cutoff", "hidden_items"):
        assert lists[name] == status[name], name
    run = status["last_run"]
    for name in ("run_key", "outcome", "step", "started_at", "ended_at"):
        assert found["last_run"][name] == run[name], name
    assert found["last_batch"]["state"] == "loaded"
    for row in history:
        shown = of_version[row["model_version"]]
        assert {name: row[name] for name in shown if name in row} == {
            name: value for name, value in shown.items() if name in row
        }
        assert 0 < shown["coverage"] <= 1


def test_an_empty_warehouse_has_one_row_of_lists_without_an_age(server: EmbeddedServer) -> None:
    with new_database(server, "empty", "template_warehouse") as empty, transaction(empty) as asked:
        found = readers.monitored(asked)
    assert found["lists"]["age_seconds"] is None
    assert found["last_run"] == found["last_batch"] == {}


def test_a_run_that_is_under_way_is_not_the_last_one_that_ended(
    world: World, monitor: Engine
) -> None:
    pipeline.start_run(world.place, "five")
    with transaction(monitor) as connection:
        found = readers.monitored(connection)
    assert (found["last_run"]["run_key"], found["last_run"]["outcome"]) == ("four", "failed")


def test_sizes_count_the_lists_of_all_versions_as_one(world: World, monitor: Engine) -> None:
    sizes = {row[0]: row for row in rows(monitor, "SELECT * FROM mf.monitoring_sizes")}
    assert sizes["recommendation_rows"][1] == 2
    # 140 bytes a row or so.
    assert sizes["recommendation_rows"][2] > 2 * N_USERS * 10 * 50
    known = {name.removeprefix("mf.") for name in tables.metadata.tables}
    assert known <= set(sizes)


def _panels() -> list[Any]:
    return [
        pytest.param(panel, id=panel["title"])
        for panel in DASHBOARD["panels"]
        if panel["datasource"]["uid"] == "${warehouse}"
    ]


def _as_grafana_sends_it(sql: str) -> str:
    """Return a panel's query with Grafana's variables and macros filled in."""
    (schema,) = [one for one in DASHBOARD["templating"]["list"] if one["name"] == "schema"]
    filled = sql.replace("${schema}", schema["query"])
    since = "now() - interval '30 days'"
    filled = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {since} AND now()", filled)
    assert "$" not in filled, filled
    return filled


# What Grafana draws: a time and numbers, numbers with a name, or one value.
NUMBERS = (int, float, Decimal)


@pytest.mark.parametrize("panel", _panels())
def test_each_panel_on_the_warehouse_shows_something(
    world: World, monitor: Engine, panel: dict[str, Any]
) -> None:
    (target,) = panel["targets"]
    found = rows(monitor, _as_grafana_sends_it(target["rawSql"]))
    assert found
    if panel["type"] == "timeseries":
        assert target["format"] == "time_series"
        for time, *values in found:
            assert isinstance(time, datetime)
            assert time.tzinfo is not None
            assert all(value is None or isinstance(value, NUMBERS) for value in values)
        assert any(value is not None for _, *values in found for value in values)
        times = [row[0] for row in found]
        assert times == sorted(times)
    elif panel["type"] == "barchart":
        assert all(isinstance(name, str) and isinstance(size, NUMBERS) for name, size in found)
    elif panel["type"] == "stat":
        [(value,)] = found
        assert isinstance(value, (str, *NUMBERS))
    else:
        assert panel["type"] == "table"


def test_the_dashboard_has_no_key_that_grafanas_schema_does_not_know() -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    read = Dashboard.from_json(DASHBOARD)
    assert list(_lost(DASHBOARD, json.loads(JSONEncoder().encode(read)))) == []

    misspelt = {**DASHBOARD, "panels": [{**DASHBOARD["panels"][0], "tittle": "Age"}]}
    read = Dashboard.from_json(misspelt)
    assert list(_lost(misspelt, json.loads(JSONEncoder().encode(read)))) == [".panels[0].tittle"]


def _lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield where `after` lacks what `before` has."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{path}.{key}"
            else:
                yield from _lost(value, after[key], f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _lost(one, other, f"{path}[{number}]")
    elif before != after:
        yield path


def _alerts() -> dict[str, tuple[str, float]]:
    """Return query and limit of each of Grafana's alerts."""
    found = {}
    (group,) = ALERTS["groups"]
    for rule in group["rules"]:
        query, threshold = rule["data"]
        (condition,) = threshold["model"]["conditions"]
        assert (rule["condition"], threshold["model"]["expression"]) == ("B", "A")
        assert condition["evaluator"]["type"] == "gt"
        found[rule["uid"]] = (query["model"]["rawSql"], condition["evaluator"]["params"][0])
    return found


def _firing(monitor: Engine) -> set[str]:
    firing = set()
    for uid, (query, limit) in _alerts().items():
        [(value,)] = rows(monitor, query)
        assert value is None or isinstance(value, NUMBERS), uid
        # Nothing to compare fires, by `noDataState`.
        if value is None or value > limit:
            firing.add(uid)
    return firing


def test_alerts_fire_when_they_should(world: World, engine: Engine, monitor: Engine) -> None:
    assert _firing(monitor) == {"mf-run-failed"}

    with transaction(engine) as connection:
        connection.execute(sa.text("DELETE FROM mf.runs WHERE run_key = 'four'"))
        connection.execute(
            sa.text("UPDATE mf.ingest_batches SET rows_read = 100, rows_rejected = 1")
        )
    assert _firing(monitor) == {"mf-gate-refused", "mf-rows-rejected"}

    late = timedelta(hours=27)
    with transaction(engine) as connection:
        connection.execute(sa.text("DELETE FROM mf.runs WHERE run_key = 'three'"))
        for column, table in (("published_at", "models"), ("started_at", "runs")):
            connection.execute(
                sa.text(f"UPDATE mf.{table} SET {column} = {column} - :late"), {"late": late}
            )
        connection.execute(sa.text("UPDATE mf.ingest_batches SET rows_rejected = 0"))
        connection.execute(sa.text("UPDATE mf.runs SET outcome = 'running', ended_at = NULL"))
    assert _firing(monitor) == {"mf-lists-too-old", "mf-no-run", "mf-run-too-long"}


def test_a_run_that_was_killed_alerts_nobody_once_a_later_one_went_well(
    world: World, engine: Engine, monitor: Engine
) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("DELETE FROM mf.runs WHERE run_key IN ('three', 'four')"))
        connection.execute(
            sa.text(
                "UPDATE mf.runs SET outcome = 'running', ended_at = NULL, "
                "started_at = started_at - interval '30 days' WHERE run_key = 'one'"
            )
        )
    assert _firing(monitor) == set()

    # The newest one does not end.
    with transaction(engine) as connection:
        connection.execute(
            sa.text(
                "UPDATE mf.runs SET outcome = 'running', ended_at = NULL, "
                "started_at = started_at - interval '21 hours' WHERE run_key = 'two'"
            )
        )
    assert _firing(monitor) == {"mf-run-too-long"}


def test_nights_that_went_well_alert_nobody(world: World, engine: Engine, monitor: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("DELETE FROM mf.runs WHERE run_key IN ('three', 'four')"))
    assert _firing(monitor) == set()
