"""Fill, verify, attach, promote, retire, roll back: on a real Postgres."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import ConfigError, PromotionRaceError, VerificationError
from mf_core.publishing import publish
from mf_core.warehouse import database_engine, tables, transaction
from mf_core.warehouse import readers as look_ups
from mf_core.warehouse import versions as life
from mf_core.warehouse.versions import Approval

from .worlds import N_ITEMS, N_USERS, World, fill_table, fit, make_world


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
    split = pipeline.split(world.config, world.place, key)
    model = fit(world, split)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)
    refitted = fit(world, split, "refit")
    fill_table(world, split, model, refitted)
    pipeline.verify(world.config, world.place, refitted)

    return split.model_version, lambda: pipeline.publish(world.config, world.place, split, report)


def rows(engine: Engine, query: str, **values: object) -> list[sa.Row]:  # type: ignore[type-arg]
    with transaction(engine) as connection:
        return list(connection.execute(sa.text(query), values))


def test_every_user_gets_a_full_list_of_unseen_items(world: World, engine: Engine) -> None:
    version = publish_one(world, "one")
    listed = rows(
        engine,
        "SELECT user_id, count(*), min(rank), max(rank), min(model_version) FROM mf.recommendations GROUP BY 1",
    )

    assert len(listed) == N_USERS
    assert {tuple(row[1:]) for row in listed} == {(5, 1, 5, version)}
    assert (
        rows(engine, "SELECT 1 FROM mf.recommendations JOIN mf.ratings USING (user_id, item_id)")
        == []
    )


def test_a_user_without_a_positive_rating_gets_the_popular_list(
    world: World, engine: Engine
) -> None:
    publish_one(world, "one")
    assert rows(
        engine, "SELECT DISTINCT source FROM mf.recommendations WHERE user_id = 'u000'"
    ) == [("popular",)]
    assert rows(
        engine, "SELECT DISTINCT source FROM mf.recommendations WHERE user_id <> 'u000'"
    ) == [("model",)]


def test_an_unknown_user_gets_the_popular_list(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    found = rows(
        engine, "SELECT rank, item_id, source FROM mf.recommendations_for('nobody''; --', 3)"
    )
    popular = rows(
        engine, "SELECT rank, item_id, 'popular' FROM mf.popular_items ORDER BY rank LIMIT 3"
    )

    assert found == popular
    assert len(found) == 3


def test_recommendations_for_is_the_view(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    viewed = rows(
        engine,
        "SELECT rank, item_id, score, predicted_rating FROM mf.recommendations WHERE user_id = 'u007' ORDER BY rank",
    )

    assert (
        rows(
            engine,
            "SELECT rank, item_id, score, predicted_rating FROM mf.recommendations_for('u007')",
        )
        == viewed
    )
    assert len(rows(engine, "SELECT * FROM mf.recommendations_for('u007', 8)")) == 8
    assert rows(engine, "SELECT * FROM mf.recommendations_for('u007', -1)") == []


def test_hiding_an_item_acts_at_once_and_lists_stay_full(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    [(first,)] = rows(
        engine, "SELECT item_id FROM mf.recommendations WHERE user_id = 'u001' AND rank = 1"
    )

    with transaction(engine) as connection:
        look_ups.hide(connection, first, reason="recalled", by="Ada")

    assert rows(engine, "SELECT 1 FROM mf.recommendations WHERE item_id = :item", item=first) == []

    listed = rows(
        engine, "SELECT array_agg(rank ORDER BY rank) FROM mf.recommendations GROUP BY user_id"
    )

    assert {tuple(row[0]) for row in listed} == {(1, 2, 3, 4, 5)}
    assert first not in {
        row.item_id for row in rows(engine, "SELECT * FROM mf.recommendations_for('nobody', 10)")
    }


def test_rollback_goes_back_and_never_shows_an_item_hidden_since(
    world: World, engine: Engine
) -> None:
    one = publish_one(world, "one")
    two = publish_one(world, "two")
    [(first,)] = rows(
        engine,
        "SELECT item_id FROM mf.recommendation_rows WHERE model_version = :v AND user_id = 'u001' AND rank = 1",
        v=one,
    )

    with transaction(engine) as connection:
        look_ups.hide(connection, first, reason="", by="Ada")

    report = pipeline.rollback(world.place)
    assert report.model_version == one
    assert report.previous_version == two
    assert rows(engine, "SELECT DISTINCT model_version FROM mf.recommendations") == [(one,)]
    assert rows(engine, "SELECT 1 FROM mf.recommendations WHERE item_id = :item", item=first) == []

    with pytest.raises(ConfigError, match="can't roll back to version 99"):
        pipeline.rollback(world.place, 99)


def test_the_last_versions_are_kept_and_older_ones_retired(world: World, engine: Engine) -> None:
    small = world.with_settings(publish__keep_versions=2)
    versions = [publish_one(small, f"run{n}") for n in range(4)]

    with transaction(engine) as connection:
        assert publish.attached_versions(connection) == set(versions[-2:])

    states = dict(rows(engine, "SELECT model_version, state FROM mf.models"))  # type: ignore[arg-type]
    assert [states[v] for v in versions] == ["retired", "retired", "published", "published"]
    assert rows(engine, "SELECT DISTINCT model_version FROM mf.popular_items ORDER BY 1") == [
        (v,) for v in versions[-2:]
    ]


def test_two_runs_that_race_promote_one_and_the_other_is_judged_again(
    world: World, engine: Engine
) -> None:
    first, publish_first = prepared(world, "first")
    second, publish_second = prepared(world, "second")
    publish_second()
    publish_first()

    assert rows(
        engine, "SELECT model_version, previous_version FROM mf.promotions ORDER BY promotion_id"
    ) == [
        (second, None),
        (first, second),
    ]

    judged = rows(
        engine,
        "SELECT champion_version FROM mf.gate_decisions WHERE model_version = :v AND stage = 'evaluated' ORDER BY decision_id",
        v=first,
    )

    assert [row[0] for row in judged] == [None, second]


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
    assert publish_it() == publish_it()
    assert len(rows(engine, "SELECT 1 FROM mf.promotions")) == 1


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("DELETE FROM mf.{table} WHERE user_id = 'u003'", "every_user_has_a_full_list"),
        ("DELETE FROM mf.{table} WHERE user_id = 'u003' AND rank > 2", "every_user_has_a_full_list"),
        ("UPDATE mf.{table} SET rank = rank + 1 WHERE user_id = 'u003'", "ranks_run_from_one"),
        ("UPDATE mf.{table} SET score = 'NaN' WHERE user_id = 'u003' AND rank = 10", "figures_are_finite"),
        ("UPDATE mf.{table} SET predicted_rating = 'Infinity' WHERE user_id = 'u003'", "figures_are_finite"),
        ("UPDATE mf.{table} SET score = score + 1000 WHERE user_id = 'u003' AND rank = 5", "scores_fall_with_rank"),
        ("UPDATE mf.{table} AS t SET item_id = (SELECT min(item_id) FROM mf.ratings AS r WHERE r.user_id = t.user_id) WHERE rank = 1", "no_seen_item"),
        ("UPDATE mf.{table} AS t SET item_id = (SELECT item_id FROM mf.{table} AS o WHERE o.user_id = t.user_id AND o.rank = 2) WHERE rank = 1", "no_item_twice"),
        ("INSERT INTO mf.hidden_items (item_id, hidden_at) SELECT min(item_id), '2020-01-01' FROM mf.{table}", "no_hidden_item"),
        ("INSERT INTO mf.{table} SELECT model_version, 'made up', rank, item_id, score, predicted_rating, NULL, source, generated_at FROM mf.{table} WHERE user_id = 'u003'", "no_unknown_user"),
        ("UPDATE mf.{table} SET item_id = 'i000' WHERE false", None),
    ],
)  # fmt: skip
def test_verify_finds_a_damaged_table(
    world: World, engine: Engine, damage: str, check: str | None
) -> None:
    split = pipeline.split(world.config, world.place, "one")
    model = fit(world, split)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)
    refitted = fit(world, split, "refit")
    fill_table(world, split, model, refitted)

    with transaction(engine) as connection:
        connection.execute(sa.text(damage.format(table=publish.table_name(split.model_version))))

    if check is None:
        assert pipeline.verify(world.config, world.place, refitted) == N_USERS * 10
        return

    with pytest.raises(VerificationError, match=check):
        pipeline.verify(world.config, world.place, refitted)

    assert rows(engine, "SELECT * FROM mf.recommendations") == []


def test_coverage_is_checked(world: World) -> None:
    with pytest.raises(VerificationError, match="enough_coverage"):
        publish_one(world.with_settings(publish__min_coverage=1.0, recommend__top_n=1), "one")


def test_an_unverified_table_is_not_attached(world: World) -> None:
    split = pipeline.split(world.config, world.place, "one")
    model = fit(world, split)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)
    pipeline.prepare(world.config, world.place, split, model, fit(world, split, "refit"))

    with pytest.raises(VerificationError, match="was not verified"):
        pipeline.publish(world.config, world.place, split, report)


def test_readers_skip_the_other_versions(world: World, engine: Engine) -> None:
    for n in range(3):
        publish_one(world, f"run{n}")

    plan = "\n".join(
        row[0]
        for row in rows(
            engine, "EXPLAIN ANALYZE SELECT * FROM mf.recommendations WHERE user_id = 'u001'"
        )
    )

    assert plan.count("never executed") >= 2
    assert "Index" in plan


class _Reader(threading.Thread):
    """Reads whole lists in a loop and keeps what was wrong with them."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__()
        self.engine = database_engine(url)
        self.stop_it = stop
        self.seconds: list[float] = []
        self.problems: list[str] = []

    def run(self) -> None:
        with self.engine.connect() as connection:
            while not self.stop_it.is_set():
                started = time.perf_counter()
                try:
                    found = connection.execute(
                        sa.text("SELECT user_id, model_version FROM mf.recommendations")
                    ).all()
                    connection.rollback()
                except sa.exc.DBAPIError as error:
                    self.problems.append(str(error))
                    return
                self.seconds.append(time.perf_counter() - started)
                if len(found) != 5 * N_USERS or len({row[1] for row in found}) != 1:
                    self.problems.append(
                        f"{len(found)} rows of versions { ({row[1] for row in found}) }"
                    )
        self.engine.dispose()


class _LockWatch(threading.Thread):
    """Looks for locks on the parent table that readers would have to wait for."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__()
        self.engine = database_engine(url)
        self.stop_it = stop
        self.found = set()
        self.looks = 0

    def run(self) -> None:
        query = sa.text(
            "SELECT mode FROM pg_locks WHERE relation = 'mf.recommendation_rows'::regclass"
        )

        with self.engine.connect() as connection:
            while not self.stop_it.is_set():
                self.found |= set(connection.scalars(query))
                connection.rollback()
                self.looks += 1

        self.engine.dispose()


@pytest.fixture
def readers(warehouse_url: str) -> Iterator[tuple[list[_Reader], _LockWatch, threading.Event]]:
    """Two readers in a loop and a watch on the locks; not started."""
    stop = threading.Event()
    threads = [_Reader(warehouse_url.replace("mf_writer", "mf_reader"), stop) for _ in range(2)]
    watch = _LockWatch(warehouse_url, stop)
    yield threads, watch, stop
    stop.set()

    for thread in (*threads, watch):
        if thread.ident:
            thread.join()


def test_ten_publications_disturb_no_reader(
    world: World,
    engine: Engine,
    warehouse_url: str,
    readers: tuple[list[_Reader], _LockWatch, threading.Event],
) -> None:
    small = world.with_settings(publish__keep_versions=2)
    first = publish_one(small, "first")
    threads, watch, stop = readers
    repeatable = database_engine(warehouse_url.replace("mf_writer", "mf_reader")).connect()
    repeatable.execution_options(isolation_level="REPEATABLE READ")
    # A snapshot is taken, but the view is not touched yet: no lock protects this reader.
    repeatable.execute(sa.text("SELECT 1 FROM pg_class LIMIT 1"))

    for thread in (*threads, watch):
        thread.start()

    quiet = _measure_quiet(threads)
    versions = [publish_one(small, f"run{n}") for n in range(10)]
    held = repeatable.execute(
        sa.text("SELECT user_id, model_version FROM mf.recommendations")
    ).all()

    assert len(held) == 5 * N_USERS
    assert {row[1] for row in held} == {first}

    repeatable.close()
    stop.set()

    for thread in (*threads, watch):
        thread.join()

    assert [thread.problems for thread in threads] == [[], []]
    assert watch.looks > 100
    assert "AccessExclusiveLock" not in watch.found

    busy = sorted(s for thread in threads for s in thread.seconds)
    # Both cores are busy with publishing meanwhile; a reader that had waited for a lock would stand out by seconds.
    assert busy[int(len(busy) * 0.99)] < max(1.0, 20 * quiet)

    last = publish_one(small, "last")
    with transaction(engine) as connection:
        assert publish.attached_versions(connection) == {versions[-1], last}


def _measure_quiet(threads: list[_Reader]) -> float:
    time.sleep(1.0)
    seconds = sorted(s for thread in threads for s in list(thread.seconds))

    return seconds[int(len(seconds) * 0.99)]


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
        assert 0.25 < time.monotonic() - started < 20
        ending.join()


def test_an_open_transaction_keeps_what_it_may_still_read(
    world: World, engine: Engine, warehouse_url: str
) -> None:
    small = world.with_settings(publish__keep_versions=1)
    first = publish_one(small, "one")
    reader = database_engine(warehouse_url.replace("mf_writer", "mf_reader"))

    with reader.execution_options(isolation_level="REPEATABLE READ").connect() as connection:
        assert (
            len(connection.execute(sa.text("SELECT 1 FROM mf.recommendations")).all())
            == 5 * N_USERS
        )
        publish_one(small, "two")
        assert {
            row[0]
            for row in connection.execute(sa.text("SELECT model_version FROM mf.recommendations"))
        } == {first}

    publish_one(small, "three")
    with transaction(engine) as connection:
        assert first not in publish.attached_versions(connection)


def test_a_detach_that_was_cut_off_is_finished(
    world: World, engine: Engine, warehouse_url: str
) -> None:
    small = world.with_settings(publish__keep_versions=2)
    first = publish_one(small, "one")
    publish_one(small, "two")
    blocker = database_engine(warehouse_url).connect()
    blocker.execute(sa.text("SELECT count(*) FROM mf.recommendation_rows"))
    detach = f"ALTER TABLE mf.recommendation_rows DETACH PARTITION mf.{publish.table_name(first)} CONCURRENTLY"

    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.text("SET lock_timeout = '200ms'"))
        with pytest.raises(sa.exc.DBAPIError):
            connection.execute(sa.text(detach))

    blocker.close()
    engine.dispose()

    assert rows(engine, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == [(1,)]

    publish_one(small, "three")
    assert rows(engine, "SELECT to_regclass(:name)", name=f"mf.{publish.table_name(first)}") == [
        (None,)
    ]


def test_a_dead_runs_table_is_removed_in_the_end(world: World, engine: Engine) -> None:
    dead, _ = prepared(world, "dead")
    publish_one(world, "one")

    assert rows(engine, "SELECT to_regclass(:name)", name=f"mf.{publish.table_name(dead)}") != [
        (None,)
    ]

    with transaction(engine) as connection:
        connection.execute(
            sa.text(
                "UPDATE mf.models SET created_at = now() - interval '3 days' WHERE model_version = :v"
            ),
            {"v": dead},
        )

    publish_one(world, "two")
    assert rows(engine, "SELECT to_regclass(:name)", name=f"mf.{publish.table_name(dead)}") == [
        (None,)
    ]


def test_similar_items_are_the_nearest_by_cosine(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    found = rows(
        engine,
        "SELECT item_id, count(*), max(score) FROM mf.similar_items WHERE item_id <> similar_item_id GROUP BY 1",
    )

    assert len(found) <= N_ITEMS
    assert {row[1] for row in found} == {3}
    assert all(row[2] <= 1 + 1e-6 for row in found)


def test_old_artifacts_are_removed(world: World, engine: Engine) -> None:
    small = world.with_settings(publish__keep_versions=1)
    old = publish_one(small, "one")

    with transaction(engine) as connection:
        connection.execute(
            sa.update(tables.models).values(
                created_at=sa.func.now() - sa.text("interval '40 days'")
            )
        )

    publish_one(small, "two")
    folder = Path(world.place.artifact_root.removeprefix("file://")) / "models"

    assert not (folder / str(old)).exists()
    assert sum(1 for _ in folder.iterdir()) == 1
