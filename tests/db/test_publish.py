"""Fill, verify, attach, promote, retire, roll back: on a real Postgres."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import ConfigError, PromotionRaceError, VerificationError
from mf_core.publishing import publish
from mf_core.records import ModelRef, SplitRef
from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse import readers as look_ups
from mf_core.warehouse import versions as life
from mf_core.warehouse.versions import Approval

from .worlds import N_ITEMS, N_USERS, World, artifact_folder, fill_table, fit, make_world


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path)


def publish_one(world: World, key: str) -> int:
    """Run every step but the training itself, and return the version that went live."""
    version, publish_it = prepared(world, key)
    publish_it()

    return version


def prepared(world: World, key: str) -> tuple[int, Callable[[], object]]:
    """Bring a version to the point of publication, and return it with the call that publishes."""
    config = world.config
    place = world.place
    split = pipeline.split(config, place, key)
    model = fit(world, split)
    report = pipeline.evaluate(config, place, split, model)
    pipeline.gate(config, place, report)

    refitted = fit(world, split, "refit")
    fill_table(world, split, model, refitted)
    pipeline.verify(config, place, refitted)

    def publish_it() -> object:
        return pipeline.publish(config, place, split, report)

    return split.model_version, publish_it


def rows(engine: Engine, query: str, **values: object) -> list[sa.Row[*tuple[Any, ...]]]:
    """Return what a query finds; `values` are bound to its parameters."""
    with transaction(engine) as connection:
        found = connection.execute(sa.text(query), values)
        return list(found)


def as_reader(url: str) -> Engine:
    """Return an engine on the same warehouse as `mf_reader`."""
    return database_engine(url.replace("mf_writer", "mf_reader"))


def table_of(engine: Engine, version: int) -> str | None:
    """Return the name of a version's own table, or None where it is not there."""
    name = f"mf.{publish.table_name(version)}"
    [(found,)] = rows(engine, "SELECT to_regclass(:name)::text", name=name)

    return found


def test_every_user_gets_a_full_list_of_unseen_items(world: World, engine: Engine) -> None:
    version = publish_one(world, "one")
    lists = """
        SELECT user_id, count(*), min(rank), max(rank), min(model_version)
        FROM mf.recommendations
        GROUP BY 1
    """
    seen = """
        SELECT 1
        FROM mf.recommendations
        JOIN mf.ratings USING (user_id, item_id)
    """

    listed = rows(engine, lists)

    assert len(listed) == N_USERS
    assert {tuple(row[1:]) for row in listed} == {(5, 1, 5, version)}
    assert rows(engine, seen) == []


def test_a_user_without_a_positive_rating_gets_the_popular_list(
    world: World, engine: Engine
) -> None:
    publish_one(world, "one")
    sources = "SELECT DISTINCT source FROM mf.recommendations"

    assert rows(engine, f"{sources} WHERE user_id = 'u000'") == [("popular",)]
    assert rows(engine, f"{sources} WHERE user_id <> 'u000'") == [("model",)]


def test_an_unknown_user_gets_the_popular_list(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    for_nobody = """
        SELECT rank, item_id, source
        FROM mf.recommendations_for('nobody''; --', 3)
    """
    most_popular = """
        SELECT rank, item_id, 'popular'
        FROM mf.popular_items
        WHERE days = 0
        ORDER BY rank
        LIMIT 3
    """

    found = rows(engine, for_nobody)

    assert found == rows(engine, most_popular)
    assert len(found) == 3


def test_recommendations_for_is_the_view(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    viewed = """
        SELECT rank, item_id, score, predicted_rating
        FROM mf.recommendations
        WHERE user_id = 'u007'
        ORDER BY rank
    """
    returned = """
        SELECT rank, item_id, score, predicted_rating
        FROM mf.recommendations_for('u007')
    """
    eight = rows(engine, "SELECT * FROM mf.recommendations_for('u007', 8)")
    fewer_than_none = rows(engine, "SELECT * FROM mf.recommendations_for('u007', -1)")

    assert rows(engine, returned) == rows(engine, viewed)
    assert len(eight) == 8
    assert fewer_than_none == []


def test_hiding_an_item_acts_at_once_and_lists_stay_full(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    top = "SELECT item_id FROM mf.recommendations WHERE user_id = 'u001' AND rank = 1"
    [(first,)] = rows(engine, top)

    with transaction(engine) as connection:
        look_ups.hide(connection, first, reason="recalled", by="Ada")

    with_it = "SELECT 1 FROM mf.recommendations WHERE item_id = :item"

    assert rows(engine, with_it, item=first) == []

    all_ranks = """
        SELECT array_agg(rank ORDER BY rank)
        FROM mf.recommendations
        GROUP BY user_id
    """
    listed = rows(engine, all_ranks)

    assert {tuple(row[0]) for row in listed} == {(1, 2, 3, 4, 5)}

    popular = rows(engine, "SELECT * FROM mf.recommendations_for('nobody', 10)")
    assert first not in {row.item_id for row in popular}


def test_rollback_goes_back_and_never_shows_an_item_hidden_since(
    world: World, engine: Engine
) -> None:
    one = publish_one(world, "one")
    two = publish_one(world, "two")
    top = """
        SELECT item_id
        FROM mf.recommendation_rows
        WHERE model_version = :v AND user_id = 'u001' AND rank = 1
    """
    [(first,)] = rows(engine, top, v=one)

    with transaction(engine) as connection:
        look_ups.hide(connection, first, reason="", by="Ada")

    report = pipeline.rollback(world.place)

    assert report.model_version == one
    assert report.previous_version == two

    with_it = "SELECT 1 FROM mf.recommendations WHERE item_id = :item"
    assert rows(engine, "SELECT DISTINCT model_version FROM mf.recommendations") == [(one,)]
    assert rows(engine, with_it, item=first) == []

    with pytest.raises(ConfigError, match="can't roll back to version 99"):
        pipeline.rollback(world.place, 99)


def test_the_last_versions_are_kept_and_older_ones_retired(world: World, engine: Engine) -> None:
    small = world.with_settings(publish__keep_versions=2)
    versions = [publish_one(small, f"run{n}") for n in range(4)]
    kept = versions[-2:]

    with transaction(engine) as connection:
        assert publish.attached_versions(connection) == set(kept)

    in_order = "SELECT model_version, state FROM mf.models"
    states = {row.model_version: row.state for row in rows(engine, in_order)}
    expected = ["retired", "retired", "published", "published"]

    assert [states[version] for version in versions] == expected

    popular = "SELECT DISTINCT model_version FROM mf.popular_items ORDER BY 1"
    assert [row[0] for row in rows(engine, popular)] == kept


def test_two_runs_that_race_promote_one_and_the_other_is_judged_again(
    world: World, engine: Engine
) -> None:
    first, publish_first = prepared(world, "first")
    second, publish_second = prepared(world, "second")
    publish_second()
    publish_first()

    promotions = """
        SELECT model_version, previous_version
        FROM mf.promotions
        ORDER BY promotion_id
    """

    assert rows(engine, promotions) == [(second, None), (first, second)]

    decisions = """
        SELECT champion_version
        FROM mf.gate_decisions
        WHERE model_version = :v AND stage = 'evaluated'
        ORDER BY decision_id
    """
    judged_against = [row[0] for row in rows(engine, decisions, v=first)]

    assert judged_against == [None, second]


def test_promotion_is_a_compare_and_swap(world: World, engine: Engine) -> None:
    one = publish_one(world, "one")
    two = publish_one(world, "two")

    with (
        pytest.raises(PromotionRaceError, match=f"version {two} is live now"),
        transaction(engine) as connection,
    ):
        life.promote(connection, one, champion_judged=None, by="Ada", approval=Approval())

    assert rows(engine, "SELECT model_version FROM mf.live") == [(two,)]


def test_publishing_twice_changes_nothing(world: World, engine: Engine) -> None:
    _, publish_it = prepared(world, "one")
    first = publish_it()
    second = publish_it()

    assert first == second
    assert len(rows(engine, "SELECT 1 FROM mf.promotions")) == 1


def ready_to_verify(world: World) -> tuple[SplitRef, ModelRef]:
    """Bring a version to the point of verification."""
    split = pipeline.split(world.config, world.place, "one")
    model = fit(world, split)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)

    refitted = fit(world, split, "refit")
    fill_table(world, split, model, refitted)

    return split, refitted


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        (
            "DELETE FROM mf.{table} WHERE user_id = 'u003'",
            "every_user_has_a_full_list",
        ),
        (
            "DELETE FROM mf.{table} WHERE user_id = 'u003' AND rank > 2",
            "every_user_has_a_full_list",
        ),
        (
            "UPDATE mf.{table} SET rank = rank + 1 WHERE user_id = 'u003'",
            "ranks_run_from_one",
        ),
        (
            "UPDATE mf.{table} SET score = 'NaN' WHERE user_id = 'u003' AND rank = 10",
            "figures_are_finite",
        ),
        (
            "UPDATE mf.{table} SET predicted_rating = 'Infinity' WHERE user_id = 'u003'",
            "figures_are_finite",
        ),
        (
            "UPDATE mf.{table} SET score = score + 1000 WHERE user_id = 'u003' AND rank = 5",
            "scores_fall_with_rank",
        ),
        (
            (
                "UPDATE mf.{table} AS t SET item_id = "
                "(SELECT min(item_id) FROM mf.ratings AS r WHERE r.user_id = t.user_id) "
                "WHERE rank = 1"
            ),
            "no_seen_item",
        ),
        (
            (
                "UPDATE mf.{table} AS t SET item_id = "
                "(SELECT item_id FROM mf.{table} AS o WHERE o.user_id = t.user_id AND o.rank = 2) "
                "WHERE rank = 1"
            ),
            "no_item_twice",
        ),
        (
            (
                "INSERT INTO mf.hidden_items (item_id, hidden_at) "
                "SELECT min(item_id), '2020-01-01' FROM mf.{table}"
            ),
            "no_hidden_item",
        ),
        (
            (
                "INSERT INTO mf.{table} "
                "SELECT model_version, 'made up', rank, item_id, score, predicted_rating, "
                "NULL, source, generated_at FROM mf.{table} WHERE user_id = 'u003'"
            ),
            "no_unknown_user",
        ),
        (
            "UPDATE mf.{table} SET item_id = 'i000' WHERE false",
            None,
        ),
    ],
)
def test_verify_finds_a_damaged_table(
    world: World, engine: Engine, damage: str, check: str | None
) -> None:
    split, refitted = ready_to_verify(world)
    statement = damage.format(table=publish.table_name(split.model_version))

    with transaction(engine) as connection:
        connection.execute(sa.text(statement))

    if check is None:
        assert pipeline.verify(world.config, world.place, refitted) == N_USERS * 10
        return

    with pytest.raises(VerificationError, match=check):
        pipeline.verify(world.config, world.place, refitted)

    assert rows(engine, "SELECT * FROM mf.recommendations") == []


def test_coverage_is_checked(world: World) -> None:
    strict = world.with_settings(publish__min_coverage=1.0, recommend__top_n=1)

    with pytest.raises(VerificationError, match="enough_coverage"):
        publish_one(strict, "one")


def test_an_unverified_table_is_not_attached(world: World) -> None:
    split = pipeline.split(world.config, world.place, "one")
    model = fit(world, split)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)

    refitted = fit(world, split, "refit")
    pipeline.prepare(world.config, world.place, split, model, refitted)

    with pytest.raises(VerificationError, match="was not verified"):
        pipeline.publish(world.config, world.place, split, report)


def test_readers_skip_the_other_versions(world: World, engine: Engine) -> None:
    for n in range(3):
        publish_one(world, f"run{n}")

    query = "EXPLAIN ANALYZE SELECT * FROM mf.recommendations WHERE user_id = 'u001'"
    plan = "\n".join(row[0] for row in rows(engine, query))

    assert plan.count("never executed") >= 2
    assert "Index" in plan


class _Reader(threading.Thread):
    """Reads whole lists in a loop and keeps what was wrong with them."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__()
        self.engine = as_reader(url)
        self.stop_it = stop
        self.seconds: list[float] = []
        self.problems: list[str] = []

    def run(self) -> None:
        with self.engine.connect() as connection:
            while not self.stop_it.is_set():
                try:
                    self.read_once(connection)
                except sa.exc.DBAPIError as error:
                    self.problems.append(str(error))
                    return

        self.engine.dispose()

    def read_once(self, connection: sa.Connection) -> None:
        """Read all lists in one statement, and time it."""
        query = sa.text("SELECT user_id, model_version FROM mf.recommendations")
        started = time.perf_counter()
        found = connection.execute(query).all()
        connection.rollback()
        self.seconds.append(time.perf_counter() - started)

        versions = {row.model_version for row in found}
        if len(found) != 5 * N_USERS or len(versions) != 1:
            self.problems.append(f"{len(found)} rows of versions {versions}")


class _LockWatch(threading.Thread):
    """Looks for locks on the parent table that readers would have to wait for."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__()
        self.engine = database_engine(url)
        self.stop_it = stop
        self.found: set[str] = set()
        self.looks = 0

    def run(self) -> None:
        query = sa.text("""
            SELECT mode
            FROM pg_locks
            WHERE relation = 'mf.recommendation_rows'::regclass
        """)

        with self.engine.connect() as connection:
            while not self.stop_it.is_set():
                self.found |= set(connection.scalars(query))
                connection.rollback()
                self.looks += 1

        self.engine.dispose()


@dataclass(frozen=True)
class _Traffic:
    """Readers in a loop and a watch on the locks."""

    readers: list[_Reader]
    watch: _LockWatch
    stop: threading.Event

    def start(self) -> None:
        """Let everybody begin."""
        for thread in (*self.readers, self.watch):
            thread.start()

    def end(self) -> None:
        """Stop and wait for those who have begun."""
        self.stop.set()
        for thread in (*self.readers, self.watch):
            if thread.ident:
                thread.join()

    def slowest_percent(self) -> float:
        """Return the seconds that only one read in a hundred takes longer than."""
        seconds = [taken for reader in self.readers for taken in list(reader.seconds)]
        return sorted(seconds)[int(len(seconds) * 0.99)]


@pytest.fixture
def readers(warehouse_url: str) -> Iterator[_Traffic]:
    """Two readers in a loop and a watch on the locks; not started."""
    stop = threading.Event()
    traffic = _Traffic(
        readers=[_Reader(warehouse_url, stop) for _ in range(2)],
        watch=_LockWatch(warehouse_url, stop),
        stop=stop,
    )
    yield traffic
    traffic.end()


def test_ten_publications_disturb_no_reader(
    world: World,
    engine: Engine,
    warehouse_url: str,
    readers: _Traffic,
) -> None:
    small = world.with_settings(publish__keep_versions=2)
    first = publish_one(small, "first")

    # A snapshot is taken, but the view is not touched yet: no lock protects this reader.
    repeatable = as_reader(warehouse_url).connect()
    repeatable.execution_options(isolation_level="REPEATABLE READ")
    repeatable.execute(sa.text("SELECT 1 FROM pg_class LIMIT 1"))

    readers.start()
    time.sleep(1.0)
    quiet = readers.slowest_percent()
    versions = [publish_one(small, f"run{n}") for n in range(10)]

    # The old reader still finds what was live when it began, whole.
    lists = sa.text("SELECT user_id, model_version FROM mf.recommendations")
    held = repeatable.execute(lists).all()

    assert len(held) == 5 * N_USERS
    assert {row.model_version for row in held} == {first}

    repeatable.close()
    readers.end()

    assert [reader.problems for reader in readers.readers] == [[], []]
    assert readers.watch.looks > 100
    assert "AccessExclusiveLock" not in readers.watch.found

    # Both cores are busy with publishing meanwhile; a reader that had waited for a lock would
    # stand out by seconds.
    assert readers.slowest_percent() < max(1.0, 20 * quiet)

    last = publish_one(small, "last")
    with transaction(engine) as connection:
        assert publish.attached_versions(connection) == {versions[-1], last}


def test_going_live_waits_for_statements_that_were_planned_before_but_not_for_ever(
    world: World, engine: Engine
) -> None:
    publish_one(world, "one")
    assert publish.wait_for_planned_readers(engine)

    with engine.connect() as reader:
        reader.execute(sa.text("SELECT count(*) FROM mf.recommendation_rows"))
        assert not publish.wait_for_planned_readers(engine, at_most_seconds=0.2)

        ending = threading.Timer(0.3, reader.rollback)
        started = time.monotonic()
        ending.start()
        assert publish.wait_for_planned_readers(engine, at_most_seconds=30)

        waited = time.monotonic() - started
        assert 0.25 < waited < 20
        ending.join()


def test_an_open_transaction_keeps_what_it_may_still_read(
    world: World, engine: Engine, warehouse_url: str
) -> None:
    small = world.with_settings(publish__keep_versions=1)
    first = publish_one(small, "one")
    versions = sa.text("SELECT model_version FROM mf.recommendations")

    reader = as_reader(warehouse_url).execution_options(isolation_level="REPEATABLE READ")

    with reader.connect() as connection:
        before = connection.scalars(versions).all()
        assert len(before) == 5 * N_USERS

        publish_one(small, "two")
        after = connection.scalars(versions).all()
        assert set(after) == {first}

    publish_one(small, "three")
    with transaction(engine) as connection:
        assert first not in publish.attached_versions(connection)


def test_a_detach_that_was_cut_off_is_finished(
    world: World, engine: Engine, warehouse_url: str
) -> None:
    small = world.with_settings(publish__keep_versions=2)
    first = publish_one(small, "one")
    publish_one(small, "two")

    # A detach that waits for somebody's transaction and is cut off is half done.
    blocker = database_engine(warehouse_url).connect()
    blocker.execute(sa.text("SELECT count(*) FROM mf.recommendation_rows"))
    detach = f"""
        ALTER TABLE mf.recommendation_rows
        DETACH PARTITION mf.{publish.table_name(first)} CONCURRENTLY
    """

    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.text("SET lock_timeout = '200ms'"))
        with pytest.raises(sa.exc.DBAPIError):
            connection.execute(sa.text(detach))

    blocker.close()
    engine.dispose()

    pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"

    assert rows(engine, pending) == [(1,)]

    publish_one(small, "three")
    assert table_of(engine, first) is None


def test_a_dead_runs_table_is_removed_in_the_end(world: World, engine: Engine) -> None:
    dead, _ = prepared(world, "dead")
    publish_one(world, "one")

    assert table_of(engine, dead) is not None

    begun = """
        UPDATE mf.models
        SET created_at = now() - interval '3 days'
        WHERE model_version = :v
    """
    judged = """
        UPDATE mf.gate_decisions
        SET decided_at = now() - interval '3 days'
        WHERE model_version = :v
    """

    # A person may have overridden the gate's refusal just now.
    with transaction(engine) as connection:
        connection.execute(sa.text(begun), {"v": dead})

    publish_one(world, "two")
    assert table_of(engine, dead) is not None

    with transaction(engine) as connection:
        connection.execute(sa.text(judged), {"v": dead})

    publish_one(world, "three")
    assert table_of(engine, dead) is None


def test_similar_items_are_the_nearest_by_cosine(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    per_item = """
        SELECT item_id, count(*) AS n, max(score) AS highest
        FROM mf.similar_items
        WHERE item_id <> similar_item_id
        GROUP BY 1
    """
    found = rows(engine, per_item)

    assert len(found) <= N_ITEMS
    assert {row.n for row in found} == {3}
    assert all(row.highest <= 1 + 1e-6 for row in found)


def test_old_artifacts_are_removed(world: World, engine: Engine) -> None:
    small = world.with_settings(publish__keep_versions=1)
    old = publish_one(small, "one")
    # As a run leaves them that was killed in its training, and never came back.
    killed = pipeline.split(small.config, small.place, "killed").model_version
    store = artifact_folder(world)
    for uri in (f"models/{killed}/evaluated/rating", f"checkpoints/{killed}-evaluated/rating-0"):
        (store / uri).mkdir(parents=True)
    make_old = "UPDATE mf.models SET created_at = now() - interval '40 days'"

    with transaction(engine) as connection:
        connection.execute(sa.text(make_old))

    publish_one(small, "two")
    folder = store / "models"
    left = list(folder.iterdir())

    assert not (folder / str(old)).exists()
    assert not (folder / str(killed)).exists()
    assert len(left) == 1
    assert list((store / "checkpoints").iterdir()) == []
