"""Solver `bayes` where users have one rating or two, and most ratings are the highest."""

from functools import cache

import numpy as np
import pytest

from mf_core.config import make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.models.biases import fit_biases
from mf_core.solvers.fit import FitResult, fit_rating_head

SHAPE = (3_000, 80)


def draw(seed: int, per_user: int) -> Ratings:
    """Return ratings that biases of the items and noise decide, cut off at 5."""
    rng = np.random.default_rng(seed)
    n_users, n_items = SHAPE
    user = np.repeat(np.arange(n_users), per_user)
    item = rng.integers(0, n_items, len(user))
    pairs = np.unique(user * n_items + item)
    user, item = pairs // n_items, pairs % n_items
    of_items = np.random.default_rng(0).normal(0, 0.5, n_items)
    value = np.clip(np.round(5.2 + of_items[item] + rng.normal(0, 1.5, len(user))), 1, 5)
    return Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))


@cache
def fit(per_user: int) -> FitResult:
    """Return a fit to so many ratings of each user."""
    config = make_config({"train.device": "cpu", "rating_head.bayes.sweeps": 40})
    users, items = (id_map(f"{number:04d}" for number in range(n)) for n in SHAPE)
    return fit_rating_head(config, draw(1, per_user), users, items, iterations=40)


def test_predictions_are_right_on_average() -> None:
    model = fit(1).model
    train, test = draw(1, 1), draw(2, 1)
    of_train = float(np.mean(model.predict(train.user, train.item) - train.value))
    error = model.predict(test.user, test.item) - test.value

    # On the training ratings but for what holding the mean in few factors costs.
    assert of_train == pytest.approx(0, abs=0.01)
    assert error.mean() == pytest.approx(0, abs=3 * error.std() / len(error) ** 0.5)


def test_it_is_hardly_worse_than_the_biases_that_made_the_ratings() -> None:
    test = draw(2, 1)
    biases = fit_biases(draw(1, 1), SHAPE)
    predicted = biases.mean + biases.user[test.user] + biases.item[test.item]

    def rmse(predicted: np.ndarray) -> float:
        return float(np.sqrt(np.mean((np.clip(predicted, 1, 5) - test.value) ** 2)))

    assert rmse(fit(1).model.predict(test.user, test.item)) < 1.01 * rmse(predicted)


def test_one_rating_does_not_tell_how_much_a_user_s_ratings_scatter() -> None:
    def variation(per_user: int) -> float:
        """Return the spread of users' noise variances over their mean, within a sample."""
        samples = fit(per_user).samples
        assert samples is not None
        of_users = samples.user_variance
        return float(np.mean(of_users.std(axis=1) / of_users.mean(axis=1)))

    assert variation(1) < 0.15
    assert variation(20) > 2 * variation(1)


def test_nine_of_ten_ratings_lie_within_their_interval() -> None:
    result = fit(1)
    test = draw(2, 1)
    assert result.samples is not None
    deviation = result.samples.standard_deviation(test.user, test.item)
    error = np.abs(result.model.predict(test.user, test.item).clip(1, 5) - test.value)
    assert np.mean(error <= 1.645 * deviation) == pytest.approx(0.9, abs=0.04)
