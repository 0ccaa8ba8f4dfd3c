"""Counts, offsets and products beyond 2^31, by construction: no such data is needed.

An array of 2^31 elements that are all the same takes no memory (`np.broadcast_to`), and a few ids
of huge row numbers make products as large as billions of ratings do.
"""

import numpy as np
import pytest
import tensorflow as tf
from sqlalchemy import BigInteger, Integer

from mf_core.config import GradientConfig, make_config
from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.data.snapshot import Snapshot
from mf_core.errors import QualityError
from mf_core.judging.rivals import unseen_rows
from mf_core.models.user_items import UserItems
from mf_core.solvers.buckets import _pack, _stable_order, _unpack, plan_batches
from mf_core.solvers.gradient import BiasedGradient
from mf_core.solvers.solver import Problem
from mf_core.warehouse import tables as t

OVER = 2**31
LARGEST_ROW = OVER - 1


def _ids(n: int) -> IdMap:
    """Return `n` ids that are all the same: they take the memory of one."""
    one = np.array(["a"], dtype=object)
    return IdMap(np.broadcast_to(one, n))


def test_more_ids_than_row_numbers_are_refused() -> None:
    assert len(_ids(LARGEST_ROW)) == LARGEST_ROW
    with pytest.raises(QualityError, match="2,147,483,648 ids"):
        _ids(OVER)


def test_places_of_a_users_items_pass_two_to_the_31() -> None:
    # Two users, of whom the second one's items begin behind 2^31 others.
    start = np.array([0, OVER + 5, OVER + 8], np.int64)
    items = UserItems(start, np.broadcast_to(np.int32(7), OVER + 8))
    position, place = items.places(np.array([1], np.int32))
    assert place.tolist() == [OVER + 5, OVER + 6, OVER + 7]
    assert position.tolist() == [0, 0, 0]
    assert items.of(np.array([1], np.int32))[1].tolist() == [7, 7, 7]


def test_a_pair_as_one_number_passes_two_to_the_31() -> None:
    # 70,000 x 70,000 pairs are more than 2^32: with 32 bits other pairs would have their numbers.
    n = 70_000
    ids = id_map(f"{number:05d}" for number in range(n))
    last = Ratings(np.array([n - 1], np.int32), np.array([n - 1], np.int32), np.ones(1, np.float32))
    snapshot = Snapshot(ids, ids, train=last, test=last)
    alike = ((n - 1) * n + n - 1) % 2**32
    test = Ratings(
        np.array([n - 1, alike // n], np.int32),
        np.array([n - 1, alike % n], np.int32),
        np.ones(2, np.float32),
    )
    assert unseen_rows(test, ids, ids, snapshot).tolist() == [False, True]


def test_batches_are_planned_for_rows_of_billions_of_ratings() -> None:
    counts = np.array([OVER, 0, 3 * OVER, 1], np.int64)
    plan = plan_batches(counts, width=33, cells=1 << 22)
    assert plan.slices == ((0, 1, 1), (1, 2, OVER), (2, 3, 3 * OVER))
    assert plan.rows.tolist() == [3, 0, 2]
    assert plan.padding_share == 0


@pytest.mark.parametrize("highest", [LARGEST_ROW, OVER, 2**61, 2**62])
def test_the_order_of_ratings_holds_for_keys_of_any_size(highest: int) -> None:
    key = np.array([highest, 3, highest, 0, highest - 1], np.int64)
    assert _stable_order(key).tolist() == [3, 1, 4, 0, 2]


def test_a_packed_pair_keeps_the_highest_row_number() -> None:
    other = np.array([LARGEST_ROW, 0], np.int32)
    value = np.array([-1.5, 5.0], np.float32)
    unpacked_other, unpacked_value = _unpack(_pack(other, value))
    assert unpacked_other.tolist() == other.tolist()
    assert unpacked_value.tolist() == value.tolist()


def test_an_epoch_counts_its_ratings_with_64_bits() -> None:
    ratings = Ratings(np.zeros(3, np.int32), np.zeros(3, np.int32), np.ones(3, np.float32))
    config = make_config({})
    settings = GradientConfig(n_factors=2)
    problem = Problem(
        ratings=ratings, shape=(1, 1), settings=settings, data=config.data, seed=0, limit=1
    )
    solver = BiasedGradient(problem)
    graph = solver._epoch.get_concrete_function().graph
    sizes = [op.get_attr("out_type") for op in graph.get_operations() if op.type == "Size"]
    assert sizes
    assert set(sizes) == {tf.int64}


def test_counts_in_the_warehouse_have_64_bits() -> None:
    """Integers of 32 bits are left to what settings and item rows bound."""
    short = {
        f"{table.name}.{column.name}"
        for table in t.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, Integer) and not isinstance(column.type, BigInteger)
    }
    assert short == {
        "event_sources.source_id",
        "events.source_id",
        "model_artifacts.iterations",
        "models.top_n",
        "popular_items.days",
        "popular_items.rank",
        "recommendation_rows.rank",
        "similar_items.rank",
    }
