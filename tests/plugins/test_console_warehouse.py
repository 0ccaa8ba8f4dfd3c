"""The console on a warehouse with a history, on a locked one, and on one that has stopped."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.catalogue import DEFAULT
from mf_core.errors import DatabaseError
from mf_core.warehouse import database_engine, transaction
from tests.db.histories import add_decision, add_run, add_version, go_live

Get = Callable[..., httpx.Response]
GetAll = Callable[[list[str]], list[tuple[httpx.Response, float]]]

PAGES_OPEN = 60
PLACES = 4
CHEAP = "/api/v2/dags?limit=1"


@pytest.fixture
def history(engine: Engine, warehouse: str) -> Engine:
    """Version 1 is live, and 25 newer ones were refused, each with a verdict and a run."""
    with transaction(engine) as connection:
        go_live(connection, add_version(connection, "first", state="approved"))
        add_run(connection, "first", "published")
        for number in range(25):
            version = add_version(connection, f"night {number}", state="refused")
            add_decision(connection, version, approved=False)
            add_run(connection, f"night {number}", "refused", step="gate", message="too bad")
    return engine


def test_the_live_version_is_known_however_many_are_newer(get: Get, history: Engine) -> None:
    overview = get("/mf/api/overview").json()
    live = overview["live"]
    assert live["model_version"] == 1
    assert live["rmse"] == pytest.approx(0.9)
    assert live["ndcg"] == pytest.approx(0.4)
    assert live["n_ratings"] == 100
    assert live["age_seconds"] >= 0
    assert live["went_live"] == "by the gate"
    assert live["went_live_at"] == live["published_at"]
    assert 1 not in [row["model_version"] for row in overview["versions"]["rows"]]


@pytest.mark.parametrize(("name", "total"), [("versions", 26), ("verdicts", 25), ("runs", 26)])
def test_each_table_pages_and_says_how_many_there_are(
    get: Get, history: Engine, name: str, total: int
) -> None:
    page = get("/mf/api/overview").json()[name]
    rows = page["rows"]
    while len(rows) < total:
        assert len(page["rows"]) == page["size"]
        page = get(f"/mf/api/{name}", offset=len(rows)).json()
        assert page["total"] == total
        rows = [*rows, *page["rows"]]
    assert len({tuple(map(str, row.values())) for row in rows}) == total


def test_a_figure_that_is_no_number_is_no_failure(get: Get, history: Engine) -> None:
    with transaction(history) as connection:
        connection.execute(sa.text("UPDATE mf.evaluations SET value = 'NaN' WHERE metric = 'rmse'"))
    overview = get("/mf/api/overview")
    assert overview.status_code == 200
    assert overview.json()["live"]["rmse"] is None


@contextmanager
def locked(engine: Engine, table: str) -> Iterator[None]:
    """Hold an ACCESS EXCLUSIVE lock, as an ALTER TABLE that waits in an open transaction does."""
    with transaction(engine) as connection:
        connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


def test_sixty_pages_on_a_locked_table_hold_up_nobody_else(
    get_all: GetAll, history: Engine
) -> None:
    [(_, alone)] = get_all([CHEAP])
    with locked(history, "mf.models"):
        *console, (core, core_seconds) = get_all([*["/mf/api/overview"] * PAGES_OPEN, CHEAP])
        assert (core.status_code, core_seconds < alone + 1) == (200, True), core_seconds

        # Every page is told so, and none waits longer than a statement and a queue may take.
        assert {response.status_code for response, _ in console} == {503}
        assert max(seconds for _, seconds in console) < 6
        details = [response.json()["detail"] for response, _ in console]
        assert sum("did not answer within 3 s" in detail for detail in details) == PLACES
        assert sum("Too many people" in detail for detail in details) == PAGES_OPEN - PLACES

    # The lock is gone, and so is the trouble. As many as there are places, since a busy machine may
    # be too slow for sixty in the second that each of them waits.
    answers = get_all(["/mf/api/overview"] * PLACES)
    assert {response.status_code for response, _ in answers} == {200}


def test_a_server_that_stops_answering_holds_up_nobody(
    get: Get, get_all: GetAll, history: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mf_console import warehouse

    monkeypatch.setattr(warehouse, "ANSWER_SECONDS", 2.0)
    get("/mf/api/overview")
    backends = "SELECT pid FROM pg_stat_activity WHERE application_name = 'mf console'"
    with transaction(history) as connection:
        pids = list(connection.scalars(sa.text(backends)))
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        [(console, seconds), (core, core_seconds)] = get_all(["/mf/api/overview", CHEAP])
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert console.status_code == 503
    assert "does not answer" in console.json()["detail"]
    assert seconds < 3
    assert (core.status_code, core_seconds < 2) == (200, True)


def test_whoever_gives_up_leaves_no_place_taken(
    get: Get, history: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mf_console import warehouse

    with monkeypatch.context() as patch, locked(history, "mf.runs"):
        patch.setattr(warehouse, "ANSWER_SECONDS", 0.05)
        patch.setattr(warehouse, "QUEUE_SECONDS", 0.05)
        details = [get("/mf/api/runs").json()["detail"] for _ in range(warehouse.PLACES + 1)]
    assert ["does not answer" in detail for detail in details] == [True] * warehouse.PLACES + [
        False
    ]

    # The threads come back with the lock, and each brings its place.
    assert [get("/mf/api/runs").status_code for _ in range(warehouse.PLACES + 1)] == [200] * 5


def test_the_consoles_role_reads_what_it_shows_and_nothing_else(
    history: Engine, warehouse_url: str
) -> None:
    console = database_engine(warehouse_url.replace("mf_writer", "mf_console"))
    allowed = ("SELECT * FROM mf.model_history", "SELECT item_id, title FROM mf.items")
    with transaction(console) as connection:
        for statement in allowed:
            connection.execute(sa.text(statement))
    for statement in (
        "SELECT * FROM mf.ratings",
        "SELECT attributes FROM mf.items",
        "SELECT config FROM mf.models",
        "UPDATE mf.live SET model_version = 2",
        "DELETE FROM mf.runs",
        "CREATE TABLE mf.mine (n int)",
        "CREATE TEMP TABLE mine (n int)",
    ):
        with (
            console.connect() as connection,
            pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        ):
            connection.execute(sa.text(statement))
    console.dispose()


def test_without_a_role_of_its_own_the_console_still_can_not_write(
    get: Get, history: Engine, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was set up by an older release: the pipeline's URL, which owns everything."""
    from mf_console.warehouse import _look_up, warehouse_engine

    monkeypatch.delenv("MF_CONSOLE_DATABASE_URL")
    monkeypatch.setenv("MF_DATABASE_URL", warehouse_url)
    warehouse_engine.cache_clear()
    assert get("/mf/api/overview").json()["live"]["model_version"] == 1

    def write(connection: Any) -> None:
        """Try what no page of the console does."""
        connection.execute(sa.text("UPDATE mf.live SET model_version = 2"))

    with pytest.raises((sa.exc.InternalError, DatabaseError), match="read-only transaction"):
        _look_up(DEFAULT, write)
    warehouse_engine().dispose()


def test_a_role_without_its_grants_is_told_how_to_get_them(get: Get, history: Engine) -> None:
    with transaction(history) as connection:
        connection.execute(sa.text("REVOKE SELECT ON mf.runs FROM mf_console"))
    response = get("/mf/api/overview")
    assert response.status_code == 503
    assert "mf db migrate" in response.json()["detail"]
