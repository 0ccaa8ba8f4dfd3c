"""Biases alone: the dampings are those that the planted variances call for."""

import numpy as np
import pytest

from mf_core.config import make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.data.snapshot import Snapshot
from mf_core.errors import ConfigError
from mf_core.models.baselines import biases_only_model
from mf_core.models.biases import BiasesFit, fit_biases
from mf_core.solvers.fit import fit_rating_head
from mf_core.tune.space import search_space

SHAPE = (400, 300)


def planted(user_sd: float, item_sd: float, noise: float, share: float = 0.1) -> Ratings:
    """Return ratings of nothing but biases and noise, without ends of the scale."""
    rng = np.random.default_rng(5)
    user, item = np.nonzero(rng.random(SHAPE) < share)
    of_users = rng.normal(0, user_sd, SHAPE[0])
    of_items = rng.normal(0, item_sd, SHAPE[1])
    value = 3 + of_users[user] + of_items[item] + rng.normal(0, noise, len(user))
    return Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))


@pytest.mark.parametrize(("user_sd", "item_sd"), [(0.5, 0.5), (0.5, 0.2), (0.25, 0.5)])
def test_dampings_are_noise_over_planted_variance(user_sd: float, item_sd: float) -> None:
    found = fit_biases(planted(user_sd, item_sd, 1.0), SHAPE).dampings()
    assert found == pytest.approx((user_sd**-2, item_sd**-2), rel=0.3)


def test_where_users_do_not_differ_they_are_damped_away() -> None:
    fit = BiasesFit(planted(0.0, 0.5, 1.0), SHAPE)
    for _ in range(100):
        fit.sweep()
    of_users, of_items = fit.dampings()
    assert of_users > 100
    assert of_items == pytest.approx(4, rel=0.3)
    assert np.abs(fit.user).max() < 0.3


def test_no_fixed_dampings_are_much_better_on_other_ratings() -> None:
    """The best of a grid is looked up on the test rows themselves, which ours never sees."""
    everything = planted(0.3, 0.6, 1.0)
    is_test = np.random.default_rng(0).random(len(everything)) < 0.5
    train = everything.take(~is_test)
    test = everything.take(is_test)

    def rmse(user: np.ndarray, item: np.ndarray, mean: float) -> float:
        error = mean + user[test.user] + item[test.item] - test.value
        return float(np.sqrt(np.mean(error**2)))

    def damped(of_users: float, of_items: float) -> float:
        mean = train.value.mean()
        user, item = np.zeros(SHAPE[0]), np.zeros(SHAPE[1])
        counts = [
            np.bincount(r, minlength=n)
            for r, n in zip((train.user, train.item), SHAPE, strict=True)
        ]
        for _ in range(10):
            left = train.value - mean - user[train.user]
            item = np.bincount(train.item, left, SHAPE[1]) / (counts[1] + of_items)
            left = train.value - mean - item[train.item]
            user = np.bincount(train.user, left, SHAPE[0]) / (counts[0] + of_users)
        return rmse(user, item, mean)

    ours = fit_biases(train, SHAPE)
    grid = [1, 2, 4, 8, 16, 32]
    best = min(damped(of_users, of_items) for of_users in grid for of_items in grid)
    assert rmse(ours.user, ours.item, ours.mean) < best + 0.002
    assert damped(1, 1) > best + 0.01


def test_the_solver_is_the_baseline_and_says_its_dampings() -> None:
    train = planted(0.5, 0.5, 1.0)
    users, items = (id_map(f"{number:03d}" for number in range(n)) for n in SHAPE)
    config = make_config({"train.device": "cpu", "rating_head.solver": "biases"})
    lines: list[str] = []
    fit = fit_rating_head(config, train, users, items, log=lines.append)
    baseline = biases_only_model(Snapshot(users, items, train, train.take(np.arange(5))))

    assert fit.model.mean == pytest.approx(baseline.mean, abs=1e-6)
    assert fit.model.user_bias == pytest.approx(baseline.user_bias, abs=1e-5)
    assert fit.model.item_bias == pytest.approx(baseline.item_bias, abs=1e-5)
    assert not fit.model.user_factors.any()
    assert (fit.iterations, fit.validation_rmse, fit.samples) == (12, None, None)
    assert lines[-1].startswith("rating: damped by 3.9 ratings of a user and ")
    with pytest.raises(ConfigError, match="nothing to tune"):
        search_space(config, "rating")
