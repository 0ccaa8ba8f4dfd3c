"""Draws that depend on the pair of ids alone."""

import numpy as np
import pytest

from mf_core.data.ratings import IdMap, Ratings, id_map, pair_draws

GOLDEN = [0.4246317720658843, 0.1975384142582971, 0.5084939788840761, 0.044483330546108424]


def all_pairs(n_users: int, n_items: int) -> Ratings:
    """Return a rating of 1 for every user and item."""
    user_grid, item_grid = np.indices((n_users, n_items))
    user = user_grid.ravel().astype(np.int32)
    item = item_grid.ravel().astype(np.int32)

    return Ratings(user, item, np.ones(len(user), np.float32))


def numbered(n: int) -> IdMap:
    """Return the ids "0" to "n - 1"."""
    return id_map(str(number) for number in range(n))


def test_a_pair_keeps_its_draw_as_ids_and_ratings_come_and_go() -> None:
    users = id_map(["b", "d", "ü"])
    items = id_map(["1", "2"])
    few = pair_draws(all_pairs(3, 2), users, items, 5)

    more_users = id_map(["a", "b", "c", "d", "ü"])
    more_items = id_map(["0", "1", "1b", "2"])
    many = pair_draws(all_pairs(5, 4), more_users, more_items, 5)

    # The few users and items in the rows and columns that they have among the many.
    found_again = many.reshape(5, 4)[[1, 3, 4]][:, [1, 3]]

    assert np.array_equal(found_again, few.reshape(3, 2))


def test_draws_are_what_they_were() -> None:
    users = id_map(["1", "12"])
    items = id_map(["3", "23"])
    draws = pair_draws(all_pairs(2, 2), users, items, 0)

    assert draws == pytest.approx(GOLDEN, abs=1e-15)


def test_draws_are_even_and_seeds_and_sides_have_nothing_to_do_with_each_other() -> None:
    users = numbered(300)
    items = numbered(200)
    pairs = all_pairs(300, 200)
    first = pair_draws(pairs, users, items, 0)
    second = pair_draws(pairs, users, items, 1)

    # 60,000 draws in 20 bins.
    counts, _ = np.histogram(first, 20, (0, 1))

    assert np.abs(counts - 3000).max() < 5 * np.sqrt(3000)

    between_seeds = np.corrcoef(first, second)[0, 1]
    assert abs(between_seeds) < 0.02

    square = pair_draws(all_pairs(200, 200), items, items, 0).reshape(200, 200)
    between_sides = np.corrcoef(square.ravel(), square.T.ravel())[0, 1]

    assert abs(between_sides) < 0.05
