"""The sets of many shapes: seeded, shaped as they say, and such that taste can be learned."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.planted import FIRST_SECOND, SPAN_SECONDS, Rated, Scale, Shape, draw_ratings
from benchmarks.protocols import PROTOCOLS, few_ratings, last_fifth, last_of_each_user
from benchmarks.shapes import ALL, HELD_BACK, SHAPES

SCALE = Scale(1, 5, 0.5, relevant_from=4, centre=3.5, spread=1.0)
SMALL = Shape(6_000, 300, 200, SCALE, seed=7, epochs=4, turn=0.5)


@pytest.fixture(scope="module")
def rated() -> Rated:
    return draw_ratings(SMALL)


def test_two_draws_are_equal_and_another_seed_is_not(rated: Rated) -> None:
    again, other = draw_ratings(SMALL), draw_ratings(replace(SMALL, seed=8))
    for name, values in vars(rated).items():
        np.testing.assert_array_equal(values, vars(again)[name])
    assert not np.array_equal(rated.user, other.user[: len(rated.user)])


def test_ratings_are_distinct_pairs_on_the_scale_in_order_of_time(rated: Rated) -> None:
    pairs = set(zip(rated.user.tolist(), rated.item.tolist(), strict=True))
    assert len(pairs) == len(rated.user)
    assert set(np.unique(rated.value)) == set(np.arange(1, 5.5, 0.5))
    assert (np.diff(rated.second) >= 0).all()
    assert rated.second.min() >= FIRST_SECOND
    assert rated.second.max() <= FIRST_SECOND + SPAN_SECONDS


def test_without_drift_a_set_has_all_of_its_ratings_and_every_user_has_one() -> None:
    rated = draw_ratings(replace(SMALL, epochs=1))
    assert len(rated.user) == SMALL.n_ratings
    assert len(np.unique(rated.user)) == SMALL.n_users


def test_people_pick_what_they_like() -> None:
    """Users who are alike by one half of the catalogue are alike by the other."""

    def overlap(strength: float) -> float:
        rated = draw_ratings(replace(SMALL, epochs=1, strength=strength, activity=0.1))
        seen = np.zeros((2, SMALL.n_users, SMALL.n_items))
        seen[rated.item % 2, rated.user, rated.item] = 1
        even, odd = (side - side.mean(axis=0) for side in seen)
        pairs = np.triu_indices(SMALL.n_users, 1)
        return float(np.corrcoef((even @ even.T)[pairs], (odd @ odd.T)[pairs])[0, 1])

    assert abs(overlap(0.0)) < 0.05
    assert overlap(3.0) > 0.2


def test_sets_to_hold_back_are_of_the_same_kinds_and_other_sizes_and_seeds() -> None:
    assert len(ALL) == len(SHAPES) + len(HELD_BACK)
    for name, shape in SHAPES.items():
        held_back = HELD_BACK[f"held_back_{name}"]
        assert held_back.scale == shape.scale
        assert held_back.epochs == shape.epochs
        assert held_back.seed != shape.seed
        assert 0.5 < held_back.n_ratings / shape.n_ratings < 2
        assert held_back.n_users != shape.n_users
        assert held_back.n_ratings < 0.9 * held_back.n_users * held_back.n_items


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_row_is_on_both_sides(rated: Rated, protocol: str) -> None:
    train, test = PROTOCOLS[protocol](rated)
    assert test.any()
    assert not (train & test).any()


def test_the_last_fifth_is_later_than_the_rest(rated: Rated) -> None:
    train, test = last_fifth(rated)
    assert test.mean() == pytest.approx(0.2, abs=0.01)
    assert rated.second[train].max() < rated.second[test].min()


def test_the_last_of_each_user_are_his_last_and_leave_him_some(rated: Rated) -> None:
    train, test = last_of_each_user(rated, 10)
    for user in np.unique(rated.user[test]):
        mine = rated.user == user
        assert test[mine].sum() == 10
        assert rated.second[mine & train].max() <= rated.second[mine & test].min()


def test_users_cut_to_a_few_ratings_have_those_and_the_others_all(rated: Rated) -> None:
    whole, _ = PROTOCOLS["random"](rated)
    train, test = few_ratings(rated, 3)
    judged = np.unique(rated.user[test])
    kept = np.bincount(rated.user[train], minlength=SMALL.n_users)
    before = np.bincount(rated.user[whole], minlength=SMALL.n_users)
    assert (kept[judged] == 3).all()
    cut = kept < before
    assert 0.1 < cut.mean() < 0.3
    assert (kept[~cut] == before[~cut]).all()
