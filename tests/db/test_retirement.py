"""How versions leave: what readers may still see stays, whatever happens at the same moment."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import ConfigError, StateError, VerificationError
from mf_core.publishing import publish, retire
from mf_core.warehouse import database_engine, states, transaction
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import EmbeddedServer, start_embedded

from .nights import LISTED, make_ready, run_again
from .nights import publish as publish_ready
from .test_publish import as_reader, publish_one, rows, table_of
from .worlds import World, fit, make_world

VERSIONS_READ = sa.text("SELECT model_version FROM mf.recommendations")


@pytest.fixture
def log() -> list[str]:
    """What was said."""
    return []


@pytest.fixture
def world(engine: Engine, tmp_path: Path, log: list[str]) -> World:
    """Ratings in the warehouse, and two versions kept."""
    made = make_world(engine, tmp_path, log=log)
    return made.with_settings(publish__keep_versions=2, publish__keep_weeks=0)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a publication wait for readers for a fraction of a second only."""
    monkeypatch.setattr(retire, "_LOCK_TIMEOUT", timedelta(milliseconds=300))
    soon = partial(publish.wait_for_planned_readers, at_most_seconds=0.1)
    monkeypatch.setattr(publish, "wait_for_planned_readers", soon)


def pending(engine: Engine) -> int:
    """Return how many detachments are half done."""
    [(number,)] = rows(engine, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending")
    return int(number)


def state_of(engine: Engine, version: int) -> str:
    with transaction(engine) as connection:
        return states.state_of(connection, version)


@contextmanager
def reading(engine: Engine) -> Iterator[sa.Connection]:
    """Hold a transaction open that has read the lists."""
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT count(*) FROM mf.recommendations"))
        yield connection


@contextmanager
def paused_at(engine: Engine, words: str) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Stop whoever sends a statement with these words; gives `reached` and `go_on`."""
    reached = threading.Event()
    go_on = threading.Event()

    def pause(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if words in statement and not reached.is_set():
            reached.set()
            assert go_on.wait(30)

    sa.event.listen(engine, "before_cursor_execute", pause)
    try:
        yield reached, go_on
    finally:
        go_on.set()
        sa.event.remove(engine, "before_cursor_execute", pause)


class Beside(threading.Thread):
    """Does something beside the test, and keeps what comes of it."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self.work = work
        self.result: object = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.work()
        except Exception as error:
            self.result = error

    def outcome(self) -> object:
        """Wait for the end, and return the result or the error."""
        self.join(30)
        assert not self.is_alive()
        return self.result


def waits_for_a_lock(engine: Engine) -> None:
    """Return as soon as some session of this warehouse waits for a lock."""
    waiting = sa.text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for _ in range(1000):
            if connection.scalar(waiting):
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


# A run that was cut off between attaching and going live.


def attached_only(world: World, key: str) -> int:
    """Leave a version as a kill after its attachment does."""
    ready = make_ready(world, key)
    with transaction(world.place.engine) as connection:
        publish.attach(connection, ready.split.model_version)
    return ready.split.model_version


def test_what_is_attached_goes_live_when_the_run_is_started_over(
    world: World, engine: Engine, log: list[str]
) -> None:
    version = attached_only(world, "one")
    made = rows(engine, "SELECT DISTINCT generated_at FROM mf.recommendation_rows")
    assert run_again(world, "one") == version
    assert rows(engine, "SELECT DISTINCT generated_at FROM mf.recommendations") == made
    assert any("were finished before; they go live as is" in line for line in log)


def test_attached_lists_of_other_data_never_go_live(world: World, engine: Engine) -> None:
    version = attached_only(world, "one")
    change = "DELETE FROM mf.ratings WHERE user_id = 'u001' AND item_id < 'i010'"
    with transaction(engine) as connection:
        connection.execute(sa.text(change))
    again = run_again(world, "one")
    assert again != version
    assert set(rows(engine, "SELECT model_version FROM mf.recommendations")) == {(again,)}
    keys = dict(rows(engine, "SELECT model_version, run_key FROM mf.models"))
    assert keys == {version: "one", again: "one#2"}


def test_attached_lists_of_another_fit_are_given_up_and_the_next_start_goes_live(
    world: World, engine: Engine
) -> None:
    version = attached_only(world, "one")
    split = pipeline.split(world.config, world.place, "one")
    assert split.model_version == version
    model = fit(world, split)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)
    other = fit(world, split, "refit", factors=2)
    with pytest.raises(StateError, match=r"trained again since.*it gets a new version"):
        pipeline.prepare(world.config, world.place, split, model, other)
    for step in (
        lambda: pipeline.prepare(world.config, world.place, split, model, other),
        lambda: pipeline.publish(world.config, world.place, split, report),
    ):
        with pytest.raises(StateError, match=r"is retired.*start a new run"):
            step()
    again = run_again(world, "one")
    assert again != version
    assert table_of(engine, version) is None
    assert rows(engine, "SELECT model_version FROM mf.live") == [(again,)]


def test_a_cleared_recommend_leaves_attached_lists_alone(world: World, engine: Engine) -> None:
    ready = make_ready(world, "one")
    version = ready.split.model_version
    refitted = fit(world, ready.split, "refit")
    with transaction(engine) as connection:
        publish.attach(connection, version)
    written = [pipeline.recommend_shard(world.config, world.place, refitted, n) for n in (0, 1)]
    assert sum(written) == pipeline.verify(world.config, world.place, refitted) == 2 * LISTED
    assert publish_ready(world, ready) == version


def test_two_processes_that_publish_one_version_publish_it_once(
    world: World, engine: Engine
) -> None:
    ready = make_ready(world, "one")
    with paused_at(engine, "UPDATE mf.live") as (reached, go_on):
        first = Beside(lambda: publish_ready(world, ready))
        assert reached.wait(30)
        second = Beside(lambda: publish_ready(world, ready))
        waits_for_a_lock(engine)
        go_on.set()
        assert first.outcome() == second.outcome() == ready.split.model_version
    assert len(rows(engine, "SELECT 1 FROM mf.promotions")) == 1


def test_a_table_that_is_dropped_before_it_goes_live_is_missed(
    world: World, engine: Engine
) -> None:
    publish_one(world, "one")
    ready = make_ready(world, "two")
    with paused_at(engine, "SELECT virtualtransaction") as (reached, go_on):
        publishing = Beside(lambda: publish_ready(world, ready))
        assert reached.wait(30)
        with transaction(database_engine(engine.url.render_as_string(False))) as connection:
            name = publish.table_name(ready.split.model_version)
            connection.execute(sa.text(f"DROP TABLE mf.{name}"))
        go_on.set()
        assert isinstance(publishing.outcome(), VerificationError)
    assert len(rows(engine, "SELECT 1 FROM mf.recommendations")) == LISTED


# Rollback at the very moment of retirement, in every order.


def test_a_rollback_after_the_mark_is_refused(world: World, engine: Engine) -> None:
    one, two = publish_one(world, "one"), publish_one(world, "two")
    ready = make_ready(world, "three")
    with paused_at(engine, "DETACH PARTITION") as (reached, go_on):
        publishing = Beside(lambda: publish_ready(world, ready))
        assert reached.wait(30)
        with pytest.raises(ConfigError, match=f"can't roll back to version {one}"):
            pipeline.rollback(world.place, one)
        assert pipeline.rollback(world.place).model_version == two
        go_on.set()
        assert publishing.outcome() == ready.split.model_version
    assert table_of(engine, one) is None
    assert set(rows(engine, "SELECT model_version FROM mf.recommendations")) == {(two,)}


def test_a_rollback_that_comes_first_keeps_its_version(world: World, engine: Engine) -> None:
    one, _two = publish_one(world, "one"), publish_one(world, "two")
    ready = make_ready(world, "three")
    only_one = world.with_settings(publish__keep_versions=1)
    publish_ready(world.with_settings(publish__keep_versions=5), ready)
    with paused_at(engine, "UPDATE mf.live") as (reached, go_on):
        back = Beside(lambda: pipeline.rollback(world.place, one))
        assert reached.wait(30)
        retiring = Beside(lambda: retire.retire(engine, only_one.config.publish, world.place.log))
        waits_for_a_lock(engine)
        go_on.set()
        assert back.outcome() is not None
        assert one not in retiring.outcome()  # type: ignore[operator]
    assert rows(engine, "SELECT model_version FROM mf.live") == [(one,)]
    assert len(rows(engine, "SELECT 1 FROM mf.recommendations")) == LISTED


def test_a_rollback_that_waits_for_the_mark_looks_again(world: World, engine: Engine) -> None:
    one, _two = publish_one(world, "one"), publish_one(world, "two")
    publish_one(world.with_settings(publish__keep_versions=5), "three")
    with paused_at(engine, "SET state=%(state)s, stopped_in=mf.models.state") as (reached, go_on):
        retiring = Beside(lambda: retire.retire(engine, world.config.publish, world.place.log))
        assert reached.wait(30)
        back = Beside(lambda: pipeline.rollback(world.place, one))
        waits_for_a_lock(engine)
        go_on.set()
        assert isinstance(back.outcome(), ConfigError)
        assert retiring.outcome() == [one]
    assert len(rows(engine, "SELECT 1 FROM mf.recommendations")) == LISTED


# What readers may still see.


def test_a_reader_who_began_before_the_commit_of_a_promotion_keeps_its_lists(
    world: World, engine: Engine, warehouse_url: str, log: list[str]
) -> None:
    only_one = world.with_settings(publish__keep_versions=1)
    one = publish_one(only_one, "one")
    ready = make_ready(only_one, "two")
    reader = as_reader(warehouse_url).execution_options(isolation_level="REPEATABLE READ")
    commit = engine.dialect.do_commit
    delayed: list[sa.Connection] = []

    def commit_late(connection: Any) -> None:
        # The promotion is written, and a reader takes its snapshot before it is committed.
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM mf.promotions WHERE model_version <> 1")
            [written] = cursor.fetchone()
        if written and not delayed:
            delayed.append(reader.connect())
            delayed[0].execute(sa.text("SELECT 1 FROM pg_class LIMIT 1"))
        commit(connection)

    engine.dialect.do_commit = commit_late  # type: ignore[method-assign,assignment]
    publish_ready(only_one, ready)
    engine.dialect.do_commit = commit  # type: ignore[method-assign]
    [held] = delayed
    found = list(held.scalars(VERSIONS_READ))
    assert (len(found), set(found)) == (LISTED, {one})
    assert any("an open transaction may still read it" in line for line in log)
    assert state_of(engine, one) == "published"

    held.close()
    publish_one(only_one, "three")
    assert table_of(engine, one) is None


def test_a_transaction_that_began_after_the_promotion_holds_nothing_back(
    world: World, engine: Engine, warehouse_url: str
) -> None:
    one = publish_one(world, "one")
    publish_one(world, "two")
    reader = as_reader(warehouse_url).execution_options(isolation_level="REPEATABLE READ")
    with reader.connect() as connection:
        connection.execute(sa.text("SELECT 1 FROM pg_class LIMIT 1"))
        publish_one(world, "three")
        assert table_of(engine, one) is None


# Whatever is in the way is left for the next time, and never fails a night that went live.


def test_two_versions_to_go_and_a_reader_who_stays_fail_no_night(
    world: World, engine: Engine, warehouse_url: str, log: list[str], short_waits: None
) -> None:
    many = world.with_settings(publish__keep_versions=9)
    first, second, *_ = [publish_one(many, f"run{n}") for n in range(4)]
    with reading(as_reader(warehouse_url)):
        for key in ("a", "b", "c"):
            live = publish_one(world, key)
            assert rows(engine, "SELECT model_version FROM mf.live") == [(live,)]
    assert any("is locked by another session" in line for line in log)
    assert {state_of(engine, first), state_of(engine, second)} == {"retired"}
    with pytest.raises(ConfigError, match="can't roll back"):
        pipeline.rollback(world.place, second)

    last = publish_one(world, "after")
    assert pending(engine) == 0
    with transaction(engine) as connection:
        left = publish.versions_with_lists(connection)
    assert len(left) == 2
    assert last in left


def test_a_half_detached_table_is_never_dropped_under_the_readers(
    world: World, engine: Engine, warehouse_url: str, short_waits: None
) -> None:
    one = publish_one(world, "one")
    publish_one(world, "two")
    with reading(as_reader(warehouse_url)):
        publish_one(world, "three")
        assert pending(engine) == 1
        publish_one(world, "four")
        assert table_of(engine, one) is not None
    publish_one(world, "five")
    assert table_of(engine, one) is None
    assert pending(engine) == 0


def test_what_fails_after_going_live_is_said_and_left_for_the_next_time(
    world: World,
    engine: Engine,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = publish_one(world, "old")
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE mf.models SET created_at = now() - interval '40 days'"))
    publish_one(world, "two")
    folder = Path(world.place.artifact_root.removeprefix("file://")) / "models"

    def away(*_: object) -> None:
        raise PermissionError("the store is away")

    with monkeypatch.context() as broken:
        broken.setattr("mf_core.pipeline.live.seal", away)
        broken.setattr("mf_core.pipeline.pruning.remove_artifact", away)
        three = publish_one(world, "three")
    assert rows(engine, "SELECT model_version FROM mf.live") == [(three,)]
    assert not (folder / str(three) / "published").exists()
    assert (folder / str(old)).exists()
    assert sum("the store is away" in line for line in log) == 2

    publish_one(world, "four")
    assert (folder / str(three) / "published").exists()
    assert not (folder / str(old)).exists()


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server that a test may restart."""
    with tempfile.TemporaryDirectory(prefix="mf-postgres-") as folder:
        running = start_embedded(Path(folder) / "data")
        bootstrap_warehouse(running.admin_url)
        migrate(running.url("warehouse", "mf_writer"))
        yield running
        running.stop()


def test_postgres_is_restarted_while_a_version_is_retired(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    log: list[str] = []
    engine = database_engine(own_server.url("warehouse", "mf_writer"))
    world = make_world(engine, tmp_path, log=log)
    world = world.with_settings(publish__keep_versions=2, publish__keep_weeks=0)
    one = publish_one(world, "one")
    publish_one(world, "two")
    ready = make_ready(world, "three")
    reader = as_reader(own_server.url("warehouse", "mf_writer"))

    # The detachment waits for the reader when the server goes: it stays half done.
    with reading(reader) as connection:
        publishing = Beside(lambda: publish_ready(world, ready))
        watch = database_engine(own_server.url("warehouse", "mf_writer"))
        waits_for_a_lock(watch)
        watch.dispose()
        own_server.restart()
        assert publishing.outcome() == ready.split.model_version
        connection.invalidate()
    reader.dispose()
    assert any(f"version {one} is kept for now" in line for line in log)
    assert pending(engine) == 1

    four = publish_one(world, "four")
    assert pending(engine) == 0
    assert table_of(engine, one) is None
    assert rows(engine, "SELECT model_version FROM mf.live") == [(four,)]
    engine.dispose()


# What a person, or an older release, has left.


def test_a_partition_that_somebody_dropped_disturbs_nobody(world: World, engine: Engine) -> None:
    one, two = publish_one(world, "one"), publish_one(world, "two")
    with transaction(engine) as connection:
        connection.execute(sa.text(f"DROP TABLE mf.{publish.table_name(two)}"))
    assert pipeline.rollback(world.place).model_version == one
    publish_one(world, "three")
    assert state_of(engine, two) == "retired"
    assert table_of(engine, one) is not None
    popular = rows(engine, "SELECT DISTINCT model_version FROM mf.popular_items")
    assert (two,) not in popular


def test_a_view_with_the_name_of_a_versions_table_is_said(world: World, engine: Engine) -> None:
    split = pipeline.split(world.config, world.place, "one")
    name = publish.table_name(split.model_version)
    with transaction(engine) as connection:
        connection.execute(sa.text(f"CREATE VIEW mf.{name} AS SELECT 1"))
    with pytest.raises(VerificationError, match=f"mf.{name} is a view, expected a table"):
        make_ready(world, "one")
    publish_one(world, "two")
    with transaction(engine) as connection:
        connection.execute(sa.text(f"DROP VIEW mf.{name}"))
    assert run_again(world, "one") == split.model_version


def test_attached_lists_of_a_dead_run_go_in_the_end(world: World, engine: Engine) -> None:
    dead = attached_only(world, "dead")
    with transaction(engine) as connection:
        for statement in (
            "UPDATE mf.models SET created_at = now() - interval '3 days'",
            "UPDATE mf.gate_decisions SET decided_at = now() - interval '3 days'",
        ):
            connection.execute(sa.text(statement))
    publish_one(world, "one")
    assert table_of(engine, dead) is None
    assert run_again(world, "dead") > dead


# One version a week.


def test_one_version_of_each_of_the_past_weeks_is_kept(world: World, engine: Engine) -> None:
    wide = world.with_settings(publish__keep_versions=100)
    nights = [publish_one(wide, f"night{n}") for n in range(8)]
    monday = "date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
    # Hours before the end of last week, oldest first: five weeks ago, four (twice), three,
    # none two weeks ago, and last week twice; the rest is of this week.
    hours = [40 * 24, 27 * 24, 22 * 24, 16 * 24, 3, 1]
    with transaction(engine) as connection:
        for version, before in zip(nights, hours, strict=False):
            connection.execute(
                sa.text(
                    f"UPDATE mf.promotions SET promoted_at = {monday} - :hours * interval '1 hour' "
                    "WHERE model_version = :version"
                ),
                {"hours": before, "version": version},
            )
    keeping = world.with_settings(publish__keep_versions=2, publish__keep_weeks=4)
    last = publish_one(keeping, "last")
    with transaction(engine) as connection:
        kept = publish.kept_versions(connection)
    # At the end of the week four weeks ago it was the third; three weeks ago the fourth, and still
    # two weeks ago; last week the sixth.
    assert kept == {nights[2], nights[3], nights[5], nights[-1], last}
    assert pipeline.rollback(world.place, nights[2]).model_version == nights[2]
    folder = Path(world.place.artifact_root.removeprefix("file://")) / "models"
    assert (folder / str(nights[2])).exists()
