"""The synthetic ratings of the benchmarks: seeded, and shaped as they say."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.generate import (
    HOLDOUT,
    SETS,
    Draw,
    Shape,
    draw_ratings,
    noise_floor,
    one_set,
    write_sets,
)

SMALL = Shape(n_ratings=20_000, n_users=600, n_items=300, n_factors=4, seed=7)


@pytest.fixture(scope="module")
def draw() -> Draw:
    return draw_ratings(SMALL)


def test_two_draws_are_equal_and_another_seed_is_not(draw: Draw) -> None:
    again, other = draw_ratings(SMALL), draw_ratings(dataclasses.replace(SMALL, seed=8))
    for name, values in vars(draw).items():
        np.testing.assert_array_equal(values, vars(again)[name])
    assert not np.array_equal(draw.user, other.user)


def test_no_pair_comes_twice_and_ratings_are_halves_on_the_scale(draw: Draw) -> None:
    keys = draw.user.astype(np.int64) * SMALL.n_items + draw.item
    assert len(keys) == SMALL.n_ratings
    assert (np.diff(keys) > 0).all()
    assert draw.user.max() < SMALL.n_users
    assert set(np.unique(draw.value * 2)) == set(range(1, 11))


@pytest.mark.parametrize("name", SETS)
def test_a_set_holds_out_a_twentieth_and_shares_no_row_between_the_sides(
    draw: Draw, name: str
) -> None:
    arrays = one_set(draw, SMALL, name)
    n_held_out, n_train = len(arrays["teu"]), len(arrays["tru"])
    assert n_held_out == (n_held_out + n_train) // HOLDOUT
    train, held_out = (
        set((arrays[side + "u"].astype(np.int64) * SMALL.n_items + arrays[side + "i"]).tolist())
        for side in ("tr", "te")
    )
    assert len(train) == n_train
    assert len(held_out) == n_held_out
    assert not train & held_out


def test_a_part_by_ratings_keeps_the_users_and_one_by_users_their_ratings(draw: Draw) -> None:
    by_ratings, by_users = one_set(draw, SMALL, "5m"), one_set(draw, SMALL, "5m_users")
    assert len(by_ratings["tru"]) + len(by_ratings["teu"]) == SMALL.n_ratings // 4
    users = np.concatenate([by_users["tru"], by_users["teu"]])
    assert users.max() + 1 == len(np.unique(users)) <= SMALL.n_users // 4
    assert np.bincount(users).mean() > 2 * np.bincount(by_ratings["tru"]).mean()


def test_noise_floor_lies_below_the_error_of_the_mean(draw: Draw) -> None:
    arrays = one_set(draw, SMALL, "20m")
    of_mean = np.sqrt(np.mean((arrays["ter"] - arrays["trr"].mean()) ** 2))
    assert 0.5 < noise_floor(draw, SMALL, "20m") < 0.85 * of_mean


def test_written_sets_are_read_back_and_not_generated_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_sets(tmp_path, ["20m", "1m"], SMALL)
    assert "generating 20m, 1m" in capsys.readouterr().out
    with np.load(paths["1m"]) as arrays:
        assert sorted(arrays.files) == ["tei", "ter", "teu", "tri", "trr", "tru"]
    assert write_sets(tmp_path, ["1m"], SMALL)["1m"] == paths["1m"]
    assert capsys.readouterr().out == ""
