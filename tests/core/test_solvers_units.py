"""Ratings r and a r + b are the same ratings: nothing but the units of the predictions changes."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from mf_core.config import RatingHeadConfig, SolverConfig, make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.solvers.fit import FitResult, fit_rating_head

NAMES = [name for name, value in RatingHeadConfig() if isinstance(value, SolverConfig)]
# 0..1 in tenths has no exact float32; all are ten steps apart, so that each holds all levels.
SCALES = [(0, 1), (1, 5), (-10, 10), (1, 100), (1, 1000)]
SHAPE = (60, 40)
ITERATIONS = 24

each_solver = pytest.mark.parametrize("name", NAMES)
each_scale = pytest.mark.parametrize("scale", SCALES)


class Outcome(NamedTuple):
    """A fit on one scale, with everything that has a unit divided by the scale's width."""

    predicted: NDArray[np.float64]
    deviation: NDArray[np.float64]
    train_rmse: float
    validation_rmse: float
    log: list[str]


def ratings(scale: tuple[float, float], start: int = 0) -> Ratings:
    """Return planted ratings in eleven levels on `scale`; another `start` leaves out others."""
    rng = np.random.default_rng(1)
    n_users, n_items = SHAPE
    user, item = np.nonzero(rng.random(SHAPE) < 0.4)
    taste = np.sum(rng.normal(0, 1, (n_users, 2))[user] * rng.normal(0, 1, (n_items, 2))[item], 1)
    level = np.clip(np.round(6 + taste + rng.normal(0, 1, n_items)[item]), 0, 10)
    low, high = scale
    value = (low + (high - low) * level / 10).astype(np.float32)
    chosen = slice(start, None)
    return Ratings(user[chosen].astype(np.int32), item[chosen].astype(np.int32), value[chosen])


def fitted(name: str, scale: tuple[float, float], **more: object) -> tuple[FitResult, list[str]]:
    """Return a fit of `name` on `scale`, and what it logged."""
    low, high = scale
    config = make_config(
        {
            "train.device": "cpu",
            "rating_head.solver": name,
            "rating_head.validation_fraction": 0.3,
            "rating_head.bayes.sweeps": ITERATIONS,
            "data.scale_low": low,
            "data.scale_high": high,
            "data.relevant_from": high,
        }
    )
    users, items = (id_map(f"{number:02d}" for number in range(n)) for n in SHAPE)
    lines: list[str] = []
    given = {"log": lines.append, **more}
    return fit_rating_head(config, ratings(scale), users, items, **given), lines  # type: ignore[arg-type]


@cache
def outcome(name: str, scale: tuple[float, float]) -> Outcome:
    """Return a fit of `name` on `scale` in units of the scale's width."""
    fit, log = fitted(name, scale)
    low, high = scale
    user, item = (rows.ravel().astype(np.int32) for rows in np.indices(SHAPE))
    deviation = fit.samples.standard_deviation(user, item) if fit.samples else np.zeros(1)
    assert fit.validation_rmse is not None
    return Outcome(
        (fit.model.predict(user, item) - low) / (high - low),
        deviation / (high - low),
        fit.train_rmse / (high - low),
        fit.validation_rmse / (high - low),
        log,
    )


@each_scale
@each_solver
def test_another_scale_changes_nothing_but_the_units(name: str, scale: tuple[float, float]) -> None:
    ours = outcome(name, scale)
    usual = outcome(name, (1, 5))

    assert ours.predicted == pytest.approx(usual.predicted, abs=1e-3)
    assert ours.deviation == pytest.approx(usual.deviation, abs=1e-3)
    assert ours.train_rmse == pytest.approx(usual.train_rmse, abs=1e-3)
    assert ours.validation_rmse == pytest.approx(usual.validation_rmse, abs=1e-3)
    # They do say something: the ratings that were planted are found again.
    assert usual.validation_rmse < 0.8 * np.std(ratings((0, 1)).value)


def test_what_is_said_at_the_end_is_in_rating_units() -> None:
    fit, lines = fitted("bayes", (1, 1000))
    assert fit.validation_rmse is not None
    assert f"uncompressed {fit.validation_rmse:.5f}" in lines[-1]


def test_a_start_on_another_scale_starts_the_same_fit() -> None:
    """With least squares: whether an axis of a start is turned around changes no prediction."""
    ends = []
    for scale in ((1, 5), (1, 1000)):
        first, _ = fitted("als", scale)
        second, _ = fitted("als", scale, start=first.model, iterations=2)
        user, item = (rows.ravel().astype(np.int32) for rows in np.indices(SHAPE))
        low, high = scale
        ends.append((second.model.predict(user, item) - low) / (high - low))
    assert ends[0] == pytest.approx(ends[1], abs=1e-3)


@each_solver
def test_ratings_that_all_agree_are_predicted(name: str) -> None:
    users, items = (id_map(f"{number:02d}" for number in range(n)) for n in SHAPE)
    same = ratings((1, 5))
    same = Ratings(same.user, same.item, np.full(len(same), 4, np.float32))
    config = make_config({"train.device": "cpu", "rating_head.solver": name})
    fit = fit_rating_head(config, same, users, items, iterations=8)
    assert fit.model.predict(same.user, same.item) == pytest.approx(4, abs=0.3)


def test_the_post_s_model_gets_the_ratings_as_they_are() -> None:
    """Its penalty and its steps are the post's numbers for the post's scale."""
    users, items = (id_map(f"{number:02d}" for number in range(n)) for n in SHAPE)
    config = make_config(
        {
            "train.device": "cpu",
            "rating_head.solver": "gradient",
            "rating_head.gradient.preset": "seed",
        }
    )
    model = fit_rating_head(config, ratings((1, 5)), users, items, iterations=3).model
    assert model.mean == 0
    assert not model.user_bias.any()
