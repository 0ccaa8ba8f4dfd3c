"""Draws that depend on the pair of ids alone."""

import numpy as np
import pytest

from mf_core.data.ratings import Ratings, id_map, pair_draws

GOLDEN = [0.4246317720658843, 0.1975384142582971, 0.5084939788840761, 0.044483330546108424]


def all_pairs(n_users: int, n_items: int) -> Ratings:
    user, item = (rows.ravel().astype(np.int32) for rows in np.indices((n_users, n_items)))
    return Ratings(user, item, np.ones(len(user), np.float32))


def test_a_pair_keeps_its_draw_as_ids_and_ratings_come_and_go() -> None:
    users, items = id_map(["b", "d", "ü"]), id_map(["1", "2"])
    few = pair_draws(all_pairs(3, 2), users, items, 5).reshape(3, 2)
    more_users, more_items = id_map(["a", "b", "c", "d", "ü"]), id_map(["0", "1", "1b", "2"])
    many = pair_draws(all_pairs(5, 4), more_users, more_items, 5).reshape(5, 4)
    assert np.array_equal(many[[1, 3, 4]][:, [1, 3]], few)


def test_draws_are_what_they_were() -> None:
    users, items = id_map(["1", "12"]), id_map(["3", "23"])
    assert pair_draws(all_pairs(2, 2), users, items, 0) == pytest.approx(GOLDEN, abs=1e-15)


def test_draws_are_even_and_seeds_and_sides_have_nothing_to_do_with_each_other() -> None:
    users, items = (id_map(map(str, range(n))) for n in (300, 200))
    first, second = (pair_draws(all_pairs(300, 200), users, items, seed) for seed in (0, 1))
    counts, _ = np.histogram(first, 20, (0, 1))
    assert np.abs(counts - 3000).max() < 5 * np.sqrt(3000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    square = pair_draws(all_pairs(200, 200), items, items, 0).reshape(200, 200)
    assert abs(np.corrcoef(square.ravel(), square.T.ravel())[0, 1]) < 0.05
