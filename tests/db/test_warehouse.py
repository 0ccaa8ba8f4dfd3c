"""Migrations, roles, comments, and the split's hash in SQL."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Engine

from mf_core.config import SplitConfig
from mf_core.data.ratings import UNDATED
from mf_core.data.snapshot import Snapshot, content_hash
from mf_core.data.split import split_bucket, split_id, take_snapshot
from mf_core.errors import ConfigError, DatabaseError, QualityError
from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.bootstrap import (
    alembic_config,
    bootstrap_warehouse,
    create_database,
    migrate,
)
from mf_core.warehouse.embedded import EmbeddedServer

from .test_publish import publish_one
from .worlds import load, make_ratings, make_world

GOLDEN = {
    ("1", "1", 0): 4142,
    ("u", "i", 0): 3230,
    ("ü", "", 7): 8629,
    ("12", "3", 0): None,
    ("1", "23", 0): None,
}


def column_of(engine: Engine, query: str) -> set[Any]:
    """Return the different values of a query's only column."""
    with transaction(engine) as connection:
        found = connection.scalars(sa.text(query))
        return set(found)


def test_migrations_run_up_from_empty_and_down_again(engine: Engine, warehouse_url: str) -> None:
    migrate(warehouse_url, "base")
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'mf'::regnamespace"
    left = column_of(engine, query)

    assert left <= {"alembic_version", "alembic_version_pkc"}

    migrate(warehouse_url)
    with transaction(engine) as connection:
        lists = connection.execute(sa.text("SELECT * FROM mf.recommendations"))
        assert lists.all() == []


def test_models_and_migrations_agree_also_with_partitions_about(
    engine: Engine, tmp_path: Path
) -> None:
    world = make_world(engine, tmp_path)
    publish_one(world, "one")

    with transaction(engine) as connection:
        command.check(alembic_config(connection))


def test_migrating_a_server_without_the_roles_says_how_to_make_them(server: EmbeddedServer) -> None:
    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text("ALTER ROLE mf_reader RENAME TO mf_reader_away"))

    try:
        with pytest.raises(ConfigError, match=r"lacks the role\(s\) mf_reader; .*mf db bootstrap"):
            migrate(server.url("template_warehouse", "mf_writer"))
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text("ALTER ROLE mf_reader_away RENAME TO mf_reader"))


def test_bootstrapping_twice_changes_nothing(server: EmbeddedServer) -> None:
    bootstrap_warehouse(server.admin_url, database="template_warehouse")


def test_every_table_and_column_has_a_comment(engine: Engine) -> None:
    bare = sa.text("""
        SELECT c.relname, a.attname
        FROM pg_class c
        LEFT JOIN pg_attribute a
          ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'mf'::regnamespace
          AND c.relkind IN ('r', 'p', 'v')
          AND c.relname <> 'alembic_version'
          AND (obj_description(c.oid) IS NULL OR col_description(c.oid, a.attnum) IS NULL)
    """)

    with transaction(engine) as connection:
        assert connection.execute(bare).all() == []


def refuse_permission(reader: Engine, statement: str) -> None:
    """Check that a reader may not execute a statement."""
    with (
        pytest.raises(ConfigError, match=r"permission denied .* connect as mf_writer"),
        transaction(reader) as connection,
    ):
        connection.execute(sa.text(statement))


def test_a_reader_sees_the_views_and_nothing_else(
    engine: Engine, warehouse_url: str, server: EmbeddedServer, tmp_path: Path
) -> None:
    world = make_world(engine, tmp_path)
    publish_one(world, "one")
    reader = database_engine(warehouse_url.replace("mf_writer", "mf_reader"))

    for query in (
        "SELECT * FROM mf.recommendations",
        "SELECT * FROM mf.recommendations_for('u001', 3)",
        "SELECT * FROM mf.model_history",
    ):
        with transaction(reader) as connection:
            assert connection.execute(sa.text(query)).all()

    relations = """
        SELECT relname
        FROM pg_class
        WHERE relnamespace = 'mf'::regnamespace AND relkind IN ('r', 'p', 'v')
    """
    names = column_of(engine, relations)

    assert {"ratings", "live", "recommendation_rows"} < names

    for name in sorted(names - {"recommendations", "model_history"}):
        refuse_permission(reader, f"SELECT 1 FROM mf.{name}")

    for statement in (
        "DELETE FROM mf.ratings",
        "CREATE TABLE mf.mine (n int)",
        "CREATE TABLE mine (n int)",
        "SELECT mf.split_bucket('a', 'b', 1)",
    ):
        refuse_permission(reader, statement)

    reader.dispose()


def test_no_role_enters_a_database_that_is_not_its_own(server: EmbeddedServer) -> None:
    create_database(server.admin_url, "metadata", "airflow_like")
    for database, user in (
        ("metadata", "mf_reader"),
        ("metadata", "mf_writer"),
        ("template_warehouse", "airflow_like"),
    ):
        outsider = database_engine(server.url(database, user))
        with (
            pytest.raises(DatabaseError, match="permission denied for database"),
            transaction(outsider),
        ):
            pass


def test_the_hash_in_sql_and_in_python_agree(engine: Engine) -> None:
    query = sa.text("SELECT mf.split_bucket(:u, :i, :s)")

    with transaction(engine) as connection:
        for (user_id, item_id, seed), golden in GOLDEN.items():
            values = {"u": user_id, "i": item_id, "s": seed}
            bucket = connection.scalar(query, values)
            assert bucket == split_bucket(user_id, item_id, seed)
            assert golden is None or bucket == golden

    # Where one id ends and the other begins matters.
    assert split_bucket("12", "3", 0) != split_bucket("1", "23", 0)


def snapshot_of(engine: Engine, **settings: Any) -> Snapshot:
    """Return what a split with these settings takes from the warehouse."""
    split = SplitConfig(**settings)
    with transaction(engine, isolation_level="REPEATABLE READ") as connection:
        return take_snapshot(connection, split)


def test_the_same_data_and_seed_give_the_same_snapshot(engine: Engine) -> None:
    shuffled = make_ratings().sample(frac=1, random_state=1)
    load(engine, shuffled)
    first = content_hash(snapshot_of(engine))

    # This moves every row to another place on disk.
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE mf.ratings SET rating = rating"))

    again = content_hash(snapshot_of(engine))
    other_seed = content_hash(snapshot_of(engine, seed=1))

    assert again == first
    assert other_seed != first


def test_hash_split_keeps_every_row_on_its_side_as_ratings_come_in(engine: Engine) -> None:
    ratings = make_ratings()
    load(engine, ratings[::2])
    before = _sides(snapshot_of(engine))

    load(engine, ratings[1::2])
    after = _sides(snapshot_of(engine))
    as_before = {pair: after[pair] for pair in before}
    test_share = sum(after.values()) / len(after)

    assert as_before == before
    assert test_share == pytest.approx(0.3, abs=0.04)


def _sides(snapshot: Snapshot) -> dict[tuple[str, str], bool]:
    """Return by user and item whether the rating is on the test side."""
    sides = {}
    for ratings, is_test in ((snapshot.train, False), (snapshot.test, True)):
        user_ids = snapshot.users.ids[ratings.user]
        item_ids = snapshot.items.ids[ratings.item]
        for pair in zip(user_ids, item_ids, strict=True):
            sides[pair] = is_test

    return sides


def _held_out(snapshot: Snapshot) -> set[tuple[str, str]]:
    """Return user and item of the ratings on the test side."""
    return {pair for pair, is_test in _sides(snapshot).items() if is_test}


def _pairs(ratings: pd.DataFrame) -> set[tuple[str, str]]:
    """Return user and item of each row."""
    return set(zip(ratings["user_id"], ratings["item_id"], strict=True))


def test_temporal_split_holds_out_the_latest(engine: Engine) -> None:
    ratings = make_ratings()
    ratings.loc[:9, "rated_at"] = None
    load(engine, ratings)
    snapshot = snapshot_of(engine, protocol="temporal", test_fraction=0.25)
    held_out = _held_out(snapshot)

    dated = ratings.dropna(subset="rated_at").sort_values("rated_at")
    latest = dated.tail(len(held_out))

    assert held_out == _pairs(latest)
    assert len(held_out) == pytest.approx(0.25 * len(dated), abs=2)


def test_leave_last_holds_out_each_users_latest(engine: Engine) -> None:
    ratings = make_ratings()
    load(engine, ratings)
    snapshot = snapshot_of(engine, protocol="leave_last")
    per_user = np.bincount(snapshot.test.user)

    assert per_user.tolist() == [1] * 60

    last = ratings.sort_values("rated_at").groupby("user_id").tail(1)
    assert _held_out(snapshot) == _pairs(last)


def test_a_snapshot_has_the_times_of_its_ratings(engine: Engine) -> None:
    ratings = make_ratings()
    ratings.loc[:9, "rated_at"] = None
    # No ingest lets these in, but who may write the table might.
    odd = ["infinity", "-infinity", "1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z"]
    ratings.loc[10:13, "rated_at"] = odd
    load(engine, ratings)
    snapshot = snapshot_of(engine)

    found = {}
    for side in (snapshot.train, snapshot.test):
        assert side.rated_at is not None
        user_ids = snapshot.users.ids[side.user]
        item_ids = snapshot.items.ids[side.item]
        for user_id, item_id, time in zip(user_ids, item_ids, side.rated_at, strict=True):
            found[user_id, item_id] = int(time)

    pairs = list(zip(ratings["user_id"], ratings["item_id"], strict=True))
    times = [found[pair] for pair in pairs]
    dated = pd.to_datetime(ratings["rated_at"][14:], format="ISO8601")

    assert times[:14] == [UNDATED] * 14
    assert times[14:] == [round(moment.timestamp()) for moment in dated]


def test_without_times_a_snapshot_has_none(engine: Engine) -> None:
    load(engine, make_ratings().assign(rated_at=None))

    assert snapshot_of(engine).train.rated_at is None


def test_given_split_takes_the_sources_word(engine: Engine) -> None:
    ratings = make_ratings()
    is_test = np.arange(len(ratings)) % 5 == 0
    ratings["side"] = np.where(is_test, "test", "train")
    load(engine, ratings)
    snapshot = snapshot_of(engine, protocol="given")

    assert len(snapshot.test) == is_test.sum()


@pytest.mark.parametrize("protocol", ["temporal", "leave_last"])
def test_a_split_by_date_needs_dates(engine: Engine, protocol: str) -> None:
    undated = make_ratings().assign(rated_at=None)
    load(engine, undated)

    with pytest.raises(QualityError, match="needs dated ratings"):
        snapshot_of(engine, protocol=protocol)


def test_an_empty_table_is_refused(engine: Engine) -> None:
    with pytest.raises(QualityError, match=r"mf\.ratings is empty"):
        snapshot_of(engine)


def test_the_split_id_names_what_the_split_depends_on() -> None:
    default = split_id(SplitConfig())
    spelled_out = split_id(SplitConfig(seed=0, test_fraction=0.3))

    assert default == spelled_out

    temporal = split_id(SplitConfig(protocol="temporal"))
    different = {
        default,
        split_id(SplitConfig(seed=1)),
        split_id(SplitConfig(test_fraction=0.2)),
        temporal,
    }

    assert len(different) == 4

    # A split by date draws nothing.
    with_seed = split_id(SplitConfig(protocol="temporal", seed=1))
    assert with_seed == temporal


def test_a_server_that_is_not_there_is_a_database_error() -> None:
    nowhere = database_engine("postgresql://x@127.0.0.1:1/none")

    with (
        pytest.raises(DatabaseError, match="Check MF_DATABASE_URL"),
        transaction(nowhere),
    ):
        pass


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "nonsense"])
def test_another_database_than_postgres_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="MF_DATABASE_URL"):
        database_engine(url)
