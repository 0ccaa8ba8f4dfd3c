"""What the checks of the lists say, what they leave, and how they grow; shards written again."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mf_core import pipeline
from mf_core.errors import VerificationError
from mf_core.publishing import publish, verification
from mf_core.publishing import recommend as lists
from mf_core.warehouse import transaction
from mf_core.warehouse.engine import copy_table

from .test_publish import ready_to_verify, rows
from .worlds import World, make_world

EVERY_COLUMN = """
    SELECT user_id, rank, item_id, score, predicted_rating, predicted_rating_sd, source
    FROM mf.{table}
    ORDER BY user_id, rank
"""


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            "UPDATE mf.{table} SET rank = 1 WHERE user_id = 'u003' AND rank = 2",
            ["ranks_run_from_one: Key (model_version, user_id, rank)=(1, u003, 1) is duplicated."],
        ),
        (
            "UPDATE mf.{table} SET rank = rank + 1 WHERE user_id = 'u003'",
            ["ranks_run_from_one: {'user_id': 'u003', 'rows': 10, 'lowest': 2, 'highest': 11}"],
        ),
        (
            "UPDATE mf.{table} SET score = score + 1000 WHERE user_id = 'u003' AND rank = 5",
            ["scores_fall_with_rank: {'user_id': 'u003', 'rank': 5, 'score': 1000"],
        ),
        (
            """
            UPDATE mf.{table} AS t SET item_id = (
              SELECT item_id FROM mf.{table} AS o WHERE o.user_id = t.user_id AND o.rank = 2
            )
            WHERE rank = 1 AND user_id = 'u003'
            """,
            ["no_item_twice: {'user_id': 'u003', 'item_id': 'i", "'times': 2}"],
        ),
        (
            "UPDATE mf.{table} SET predicted_rating = NULL WHERE user_id = 'u003' AND rank = 4",
            ["ratings_for_all_or_none: {'user_id': 'u003', 'rank': 4"],
        ),
        (
            """
            DELETE FROM mf.{table} WHERE user_id = 'u003';
            UPDATE mf.{table} SET score = 'Infinity' WHERE user_id = 'u004' AND rank = 1;
            INSERT INTO mf.hidden_items (item_id, hidden_at)
            SELECT item_id, '2020-01-01' FROM mf.{table} WHERE user_id = 'u005' AND rank = 1
            """,
            [
                "failed 3 check(s)",
                "every_user_has_a_full_list: {'user_id': 'u003', 'rows': 0",
                "figures_are_finite: {'user_id': 'u004', 'rank': 1, 'score': inf",
                "no_hidden_item: {'user_id': 'u",
            ],
        ),
    ],
)
def test_a_failed_check_names_the_rows_and_leaves_the_table_unverified(
    world: World, engine: Engine, damage: str, said: list[str]
) -> None:
    split, refitted = ready_to_verify(world)
    table = publish.table_name(split.model_version)
    with transaction(engine) as connection:
        connection.execute(sa.text(damage.format(table=table)))

    with pytest.raises(VerificationError) as refused:
        pipeline.verify(world.config, world.place, refitted)

    for words in said:
        assert words in str(refused.value)
    with transaction(engine) as connection:
        assert not publish.is_verified(connection, table)


def test_what_is_verified_has_the_indexes_of_readers_and_no_other(
    world: World, engine: Engine
) -> None:
    split, refitted = ready_to_verify(world)
    for _ in range(2):
        pipeline.verify(world.config, world.place, refitted)

    table = publish.table_name(split.model_version)
    indexes = "SELECT indexname FROM pg_indexes WHERE tablename = :table ORDER BY 1"
    assert rows(engine, indexes, table=table) == [(f"{table}_item_id_idx",), (f"{table}_pkey",)]


def test_a_shard_that_is_cut_off_or_written_again_leaves_the_others_alone(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded = world.with_settings(recommend__shards=8)
    split, refitted = ready_to_verify(sharded)
    query = EVERY_COLUMN.format(table=publish.table_name(split.model_version))
    before = rows(engine, query)

    # Cut off while a tile is under way, and once more before the first.
    whole = lists.recommendation_tables
    for n_tiles in (1, 0):

        def cut_off(*made_of: Any, n: int = n_tiles, **version: Any) -> Iterator[pa.Table]:
            """Yield some tiles, then fail."""
            yield from islice(whole(*made_of, **version), n)
            raise InterruptedError

        with monkeypatch.context() as patch:
            patch.setattr(lists, "recommendation_tables", cut_off)
            with pytest.raises(InterruptedError):
                pipeline.recommend_shard(sharded.config, sharded.place, refitted, 3)
        assert rows(engine, query) == before

    pipeline.recommend_shard(sharded.config, sharded.place, refitted, 3)
    assert rows(engine, query) == before
    assert pipeline.verify(sharded.config, sharded.place, refitted) == len(before)


def test_verification_grows_with_the_rows_whatever_the_statistics_say(engine: Engine) -> None:
    seconds = []
    for n_users in (2_000, 20_000):
        with transaction(engine) as connection:
            version = _approved_lists(connection, n_users)
        with transaction(engine) as connection:
            started = time.perf_counter()
            n_rows = verification.verify_table(connection, version, min_coverage=0.5)
            seconds.append(time.perf_counter() - started)
        assert n_rows == n_users * 20
    # Ten times the rows; a plan that pairs them one by one would take a hundred times as long.
    assert seconds[1] < 30 * seconds[0]


def _approved_lists(connection: Connection, n_users: int) -> int:
    """Put ratings and unverified lists of `n_users` into the warehouse; return the version.

    Every user has rated items 0 to 9, and has 20 more in a list. Statistics are those of an empty
    table.
    """
    key = f"{n_users} users"
    make = """
        DELETE FROM mf.ratings;
        ALTER TABLE mf.ratings SET (autovacuum_enabled = off);
        ANALYZE mf.ratings;
        INSERT INTO mf.snapshots (snapshot_id, split_id, uri, sha256, protocol, n_users, n_items)
        VALUES (:key, '', '', '', 'hash', :n_users, 30);
        INSERT INTO mf.ratings (user_id, item_id, rating, batch_id)
        SELECT 'u' || u, 'i' || i, 3, 0
        FROM generate_series(1, :n_users) AS u, generate_series(0, 9) AS i;
    """
    values = {"key": key, "n_users": n_users}
    connection.execute(sa.text(make), values)
    version = connection.scalar(
        sa.text(
            "INSERT INTO mf.models (run_key, state, snapshot_id, split_id, training_fingerprint, "
            "config, code_version, top_n) "
            "VALUES (:key, 'approved', :key, '', '', '{}', '', 20) RETURNING model_version"
        ),
        values,
    )
    assert version is not None
    publish.create_table(connection, version, "")
    user = np.repeat(np.arange(1, n_users + 1), 20)
    place = np.tile(np.arange(20), n_users)
    columns = {
        "model_version": pa.repeat(version, len(user)),
        "user_id": [f"u{u}" for u in user],
        "rank": place + 1,
        "item_id": [f"i{10 + p}" for p in place],
        "score": -place.astype(np.float64),
        "predicted_rating": np.full(len(user), 3.5),
        "source": pa.repeat("model", len(user)),
        "generated_at": pa.repeat(datetime.now(UTC).isoformat(), len(user)),
    }
    copy_table(connection, ("mf", publish.table_name(version)), pa.table(columns))
    return int(version)
