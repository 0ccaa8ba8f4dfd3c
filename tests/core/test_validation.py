"""The validation part of training rows is made as the protocol makes its test side."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from mf_core.config import make_config
from mf_core.data.ratings import UNDATED, Ratings, id_map
from mf_core.data.validation import validation_part

DAY = 86_400
USERS = id_map(f"u{number:03d}" for number in range(200))
ITEMS = id_map(f"i{number:03d}" for number in range(50))


def all_pairs(**fields: Any) -> Ratings:
    """Return 10,000 ratings, each at a second of its own, in an order of no meaning."""
    user, item = np.indices((len(USERS), len(ITEMS)), dtype=np.int32)
    seconds = 1 + np.random.default_rng(3).permutation(user.size).astype(np.uint32)
    ratings = Ratings(user.ravel(), item.ravel(), np.ones(user.size, np.float32), seconds)
    return dataclasses.replace(ratings, **fields)


def part_of(ratings: Ratings, protocol: str, fraction: float = 0.1, seed: int = 0) -> Ratings:
    """Return the rows to judge by."""
    config = make_config({"split.protocol": protocol})
    mask = validation_part(config, ratings, USERS, ITEMS, fraction=fraction, seed=seed)
    assert mask.shape == (len(ratings),)
    return ratings.take(mask)


def times_of(ratings: Ratings) -> np.ndarray:
    """Return when the ratings were given."""
    assert ratings.rated_at is not None
    return ratings.rated_at


def rows_of(ratings: Ratings) -> set[tuple[int, int]]:
    """Return the pairs."""
    return set(zip(ratings.user.tolist(), ratings.item.tolist(), strict=True))


@pytest.mark.parametrize("protocol", ["hash", "given"])
def test_hash_and_given_draw_whatever_the_times(protocol: str) -> None:
    part = part_of(all_pairs(), protocol)

    assert len(part) == pytest.approx(1_000, abs=150)
    assert rows_of(part) == rows_of(part_of(all_pairs(rated_at=None), protocol))
    # A tenth of all rows that are drawn are among the latest tenth.
    assert (times_of(part) > 9_000).mean() == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("protocol", ["temporal", "leave_last"])
def test_without_times_every_protocol_draws(protocol: str) -> None:
    undated = all_pairs(rated_at=None)

    assert rows_of(part_of(undated, protocol)) == rows_of(part_of(undated, "hash"))


def test_temporal_takes_the_latest_rows_of_all() -> None:
    part = part_of(all_pairs(), "temporal", 0.2)

    assert sorted(times_of(part)) == list(range(8_001, 10_001))


def test_temporal_takes_the_share_even_where_all_times_are_equal() -> None:
    one_day = all_pairs(rated_at=np.full(10_000, DAY, np.uint32))
    part = part_of(one_day, "temporal")

    assert len(part) == 1_000
    assert rows_of(part) != rows_of(part_of(one_day, "temporal", seed=1))


def test_temporal_leaves_undated_rows_to_the_fit() -> None:
    times = np.zeros(10_000, np.uint32)
    times[:300] = 1 + np.arange(300)
    part = part_of(all_pairs(rated_at=times), "temporal")

    assert sorted(times_of(part)) == list(range(1, 301))
    assert UNDATED not in times_of(part)


def test_leave_last_takes_as_many_of_each_user() -> None:
    ratings = all_pairs()
    part = part_of(ratings, "leave_last")
    latest = np.sort(times_of(ratings).reshape(len(USERS), len(ITEMS)), axis=1)[:, -5:]

    assert np.bincount(part.user).tolist() == [5] * 200
    assert sorted(times_of(part)) == sorted(latest.ravel())


def test_leave_last_leaves_each_user_half_of_what_there_is() -> None:
    # Half of the users have three ratings, the others fifty.
    few = (np.arange(10_000) // 50 % 2 == 0) & (np.arange(10_000) % 50 >= 3)
    part = part_of(all_pairs().take(~few), "leave_last")

    assert np.bincount(part.user).tolist() == [1, 2] * 100


def test_leave_last_takes_fewer_users_where_the_part_would_be_too_large() -> None:
    few_ratings = all_pairs().take(np.arange(10_000) % 50 < 2)
    part = part_of(few_ratings, "leave_last")
    other = part_of(few_ratings, "leave_last", seed=1)

    assert len(part) == len(other) == 40
    assert np.bincount(part.user).max() == 1
    assert rows_of(part) != rows_of(other)


def test_leave_last_leaves_users_with_one_row_and_undated_ones() -> None:
    times = np.array([7, 5, 5, UNDATED, UNDATED, UNDATED, 3], np.uint32)
    user = np.array([0, 1, 1, 2, 2, 3, 3], np.int32)
    item = np.array([0, 4, 3, 1, 2, 1, 2], np.int32)
    ratings = Ratings(user, item, np.ones(7, np.float32), times)

    # Of user 1's two rows of one time, the one of the higher item id is the last.
    assert rows_of(part_of(ratings, "leave_last", 0.9)) == {(1, 4), (3, 2)}


def test_nothing_comes_of_no_rows() -> None:
    nothing = all_pairs().take(np.zeros(10_000, dtype=bool))

    for protocol in ("hash", "temporal", "leave_last"):
        assert len(part_of(nothing, protocol)) == 0
