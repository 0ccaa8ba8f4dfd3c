"""A publication that is hit at each of its statements: readers see whole lists, nothing is lost.

The process is killed before and after every statement and commit that `publish` and the retirement
send, and the server's side of the connection at each of them. Readers read all the time. Then the
step, or the whole night, runs again and must end as if nothing had happened.
"""

import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.errors import DatabaseError
from mf_core.warehouse.embedded import EmbeddedServer

from .nights import (
    Blow,
    Moment,
    Night,
    artifacts_of,
    child,
    kill_self,
    make_night,
    publish,
    publish_under,
    readers_beside,
    run_again,
    statements_of,
)
from .test_publish import rows
from .worlds import make_world


@pytest.fixture
def night(server: EmbeddedServer, engine: Engine, tmp_path: Path) -> Night:
    """A night that is about to publish and to retire a version."""
    world = make_world(engine, tmp_path, log=[])
    small = world.with_settings(publish__keep_versions=2, publish__keep_weeks=0)
    return make_night(server, world, small.config)


def finish_and_check(night: Night, *, whole_night: bool, what: str) -> None:
    """Run the step or the night again, and look at everything that it should have done."""
    went_live = night.live_version() == night.tonight.split.model_version
    if whole_night and not went_live:
        version = run_again(night.world, night.tonight.key)
    else:
        version = publish(night.world, night.tonight)
    assert version == night.tonight.split.model_version, what
    assert night.live_version() == version, what
    expected = {night.live, version, night.tomorrow.split.model_version}
    assert night.tables() == {f"recommendation_rows_v{number}" for number in expected}, what
    assert rows(night.engine, "SELECT 1 FROM pg_inherits WHERE inhdetachpending") == [], what
    popular = rows(night.engine, "SELECT DISTINCT model_version FROM mf.popular_items")
    assert {number for (number,) in popular} == expected, what
    states = dict(rows(night.engine, "SELECT model_version, state FROM mf.models"))
    assert states[night.old] == "retired", what
    assert states[version] == "published", what
    assert len(rows(night.engine, "SELECT 1 FROM mf.promotions")) == 3, what
    assert not artifacts_of(night.world, night.old).exists(), what
    assert (artifacts_of(night.world, version) / "published").exists(), what


def check_tomorrow(night: Night, what: str) -> None:
    """The next night goes as any other."""
    version = publish(night.world, night.tomorrow)
    assert night.live_version() == version, what
    left = {night.tonight.split.model_version, version}
    assert night.tables() == {f"recommendation_rows_v{number}" for number in left}, what


def leaves_a_trace(statement: str) -> bool:
    """Say whether a statement changes or locks anything, or makes changes last."""
    only_reads = statement.lstrip().startswith(("SELECT", "SET", "WITH"))
    return not only_reads or " FOR " in statement


def test_a_process_killed_at_any_statement_loses_nothing(night: Night) -> None:
    statements = statements_of(night)
    aims: list[tuple[int, Moment]] = []
    for at, statement in enumerate(statements, start=1):
        aims.append((at, "before"))
        # After a statement that only reads, all is as it is before the next one.
        if leaves_a_trace(statement):
            aims.append((at, "after"))
    assert len(aims) >= 100

    rounds = 0
    for number, (at, moment) in enumerate(aims):
        what = f"killed {moment} statement {at}: {statements[at - 1]}"
        blow = Blow(at, moment, kill_self)
        with night.begun() as tonight:
            with (
                child(partial(publish_under, tonight, blow)) as let_work,
                readers_beside(tonight) as readers,
            ):
                assert let_work() == -signal.SIGKILL, what
                finish_and_check(tonight, whole_night=number % 3 == 1, what=what)
            rounds += sum(reader.rounds for reader in readers)
            if number % 8 == 0:
                check_tomorrow(tonight, what)
    assert rounds > len(aims)


def test_a_connection_cut_at_any_statement_loses_nothing(night: Night) -> None:
    statements = statements_of(night)
    admin = sa.create_engine(
        night.server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )

    def cut(connection: Any) -> None:
        with admin.connect() as by_admin:
            pid = connection.dbapi_connection.info.backend_pid
            end = sa.text("SELECT pg_terminate_backend(:pid)")
            assert by_admin.scalar(end, {"pid": pid})

    for at, statement in enumerate(statements, start=1):
        what = f"cut off before statement {at}: {statement}"
        with night.begun() as tonight, readers_beside(tonight):
            # Once the version is live, nothing that happens to its clean-up fails the step.
            live_before = tonight.live_version()
            try:
                publish_under(tonight, Blow(at, "before", cut))
            except DatabaseError:
                assert tonight.live_version() == live_before, what
            else:
                assert tonight.live_version() == tonight.tonight.split.model_version, what
            finish_and_check(tonight, whole_night=at % 3 == 0, what=what)
