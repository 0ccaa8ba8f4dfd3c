"""Gradient descent: a step worked by hand, the post's constants, early stopping, refusals."""

from typing import Any

import numpy as np
import pytest

from mf_core.config import DataConfig, GradientConfig, make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.errors import TrainingError
from mf_core.models.factors import FactorModel
from mf_core.solvers.fit import FitResult, fit_rating_head
from mf_core.solvers.gradient import SeedGradient, seed_learning_rate
from mf_core.solvers.solver import Problem

USERS, ITEMS = (id_map(f"{number:03d}" for number in range(n)) for n in (40, 30))


def low_rank_ratings() -> Ratings:
    rng = np.random.default_rng(4)
    full = np.clip(3.5 + rng.normal(0, 1, (40, 2)) @ rng.normal(0, 1, (2, 30)), 1, 5)
    user, item = np.nonzero(rng.random(full.shape) < 0.5)
    return Ratings(
        user.astype(np.int32), item.astype(np.int32), full[user, item].astype(np.float32)
    )


def fit(train: Ratings, preset: str = "biased", **settings: object) -> FitResult:
    names = {name.replace("__", "."): value for name, value in settings.items()}
    head = {
        "rating_head.solver": "gradient",
        "rating_head.gradient.preset": preset,
        "train.device": "cpu",
    }
    return fit_rating_head(make_config({**head, **names}), train, USERS, ITEMS)


def same_bits(one: FactorModel, other: FactorModel) -> bool:
    names = ("user_bias", "item_bias", "user_factors", "item_factors")
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names)


def test_one_step_of_the_post_s_descent_equals_the_step_worked_by_hand() -> None:
    train = Ratings(
        np.array([0, 0, 1], np.int32),
        np.array([0, 1, 1], np.int32),
        np.array([5, 1, 3], np.float32),
    )
    settings = GradientConfig(preset="seed")
    solver = SeedGradient(Problem(train, (3, 2), settings, DataConfig(), seed=0, limit=1))
    rng = np.random.default_rng(0)
    u, p = (
        rng.normal(0, 1, (3, 10)).astype(np.float32),
        rng.normal(0, 1, (2, 10)).astype(np.float32),
    )
    solver.restore({"user": u, "item": p})
    solver.iterate(0)
    # loss = sum |r - u.p| + .001 (sum |U| + sum |P|): d/du = -sign(r - u.p) p + .001 sign(u).
    s00, s01, s11 = (np.sign(r - u[a] @ p[b]) for a, b, r in ((0, 0, 5), (0, 1, 1), (1, 1, 3)))
    gradient_u = np.stack([-s00 * p[0] - s01 * p[1], -s11 * p[1], np.zeros(10)]) + 0.001 * np.sign(
        u
    )
    gradient_p = np.stack([-s00 * u[0], -s01 * u[0] - s11 * u[1]]) + 0.001 * np.sign(p)
    np.testing.assert_allclose(solver.state()["user"], u - 0.001 * gradient_u, atol=1e-6)
    np.testing.assert_allclose(solver.state()["item"], p - 0.001 * gradient_p, atol=1e-6)


def test_the_post_s_learning_rate_decays_in_a_staircase() -> None:
    assert [seed_learning_rate(step) for step in (0, 9_999, 10_000, 19_999)] == [
        0.001,
        0.001,
        0.00096,
        0.00096,
    ]


def test_preset_seed_runs_the_post_s_steps_on_all_rows() -> None:
    train = low_rank_ratings()
    plain = fit(train, "seed")
    # Nothing is held out, whatever part the other presets hold out.
    changed = fit(train, "seed", rating_head__validation_fraction=0.3)
    assert plain.iterations == changed.iterations == 500
    assert plain.model.user_factors.shape == (40, 10)
    assert same_bits(plain.model, changed.model)


def test_preset_seed_gives_rows_without_ratings_zero_factors() -> None:
    train = Ratings(np.zeros(1, np.int32), np.zeros(1, np.int32), np.full(1, 3, np.float32))
    model = fit(train, "seed").model
    assert (model.user_factors[1:] == 0).all()
    assert (model.item_factors[1:] == 0).all()
    assert model.predict(np.zeros(1, np.int32), np.zeros(1, np.int32)) == pytest.approx(3, abs=0.05)


def test_the_biased_preset_learns_a_low_rank_matrix_and_two_fits_give_the_same_bits() -> None:
    train = low_rank_ratings()
    settings: dict[str, Any] = {
        "rating_head__gradient__n_factors": 4,
        "rating_head__gradient__batch_size": 64,
        "rating_head__gradient__epochs": 200,
        "rating_head__gradient__learning_rate": 0.02,
        "rating_head__gradient__regularization": 0.01,
    }
    first, second = fit(train, **settings), fit(train, **settings)
    assert first.validation_rmse is not None
    assert first.validation_rmse < 0.6 * train.value.std()
    assert same_bits(first.model, second.model)


def test_the_biased_preset_stops_early_and_keeps_the_best_epoch() -> None:
    rng = np.random.default_rng(0)
    pure_noise = low_rank_ratings()
    pure_noise = Ratings(pure_noise.user, pure_noise.item, rng.permutation(pure_noise.value))
    fitted = fit(
        pure_noise,
        rating_head__gradient__regularization=0.0,
        rating_head__gradient__learning_rate=0.05,
    )
    assert fitted.iterations < 60


def test_values_beyond_float32_are_refused_with_advice() -> None:
    train = low_rank_ratings()
    huge = Ratings(train.user, train.item, train.value * np.float32(1e25))
    with pytest.raises(
        TrainingError, match=r"no longer finite after iteration 1.*Lower the learning rate"
    ):
        fit(huge, "seed")
