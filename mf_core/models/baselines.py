"""What a candidate has to beat: the global mean, biases only, and the popular list."""

import numpy as np

from mf_core.config import DataConfig
from mf_core.data.fading import fading, is_recent
from mf_core.data.ratings import Float64s, Ratings
from mf_core.data.relevance import is_relevant
from mf_core.data.snapshot import Snapshot
from mf_core.models.biases import fit_biases
from mf_core.models.factors import FactorModel


def zero_model(snapshot: Snapshot) -> FactorModel:
    """Return the model that predicts 0 for every pair, in the place of one that was not fitted."""
    return _model(snapshot, 0.0, np.zeros(len(snapshot.users)), np.zeros(len(snapshot.items)))


def global_mean_model(snapshot: Snapshot) -> FactorModel:
    """Return the model that predicts the training mean everywhere."""
    user_bias = np.zeros(len(snapshot.users))
    item_bias = np.zeros(len(snapshot.items))
    return _model(snapshot, _mean(snapshot.train), user_bias, item_bias)


def biases_only_model(snapshot: Snapshot) -> FactorModel:
    """Return mean + user bias + item bias, with the dampings that suit the training rows."""
    fit = fit_biases(snapshot.train, (len(snapshot.users), len(snapshot.items)))
    return _model(snapshot, fit.mean, fit.user, fit.item)


def relevant_counts(data: DataConfig, ratings: Ratings, n_items: int) -> Float64s:
    """Return how many relevant ratings each item has; float64 array of shape (n_items,).

    Args:
        data: says which ratings are relevant; its `popular_half_life_days`, how much
            less an older one counts.
        ratings: the ratings; the latest of them counts as 1.
        n_items: number of items.
    """
    relevant = is_relevant(data, ratings.value)
    left = fading(ratings, data.popular_half_life_days)
    weights = None if left is None else left[relevant]
    counts = np.bincount(ratings.item[relevant], weights, minlength=n_items)

    # As precise as the factors of a model, in which the same counts have to order the same way.
    return counts.astype(np.float32).astype(np.float64)


def recent_counts(data: DataConfig, ratings: Ratings, n_items: int, days: int) -> Float64s:
    """Return how many relevant ratings of the last days each item has, none of them faded.

    Args:
        data, ratings, n_items: as for `relevant_counts`.
        days: how many, counted back from the latest of all ratings.
    """
    chosen = is_relevant(data, ratings.value) & is_recent(ratings, days)
    return np.bincount(ratings.item[chosen], minlength=n_items).astype(np.float64)


def popularity_model(data: DataConfig, snapshot: Snapshot) -> FactorModel:
    """Return the model that scores items by their training ratings, as `relevant_counts` does."""
    counts = relevant_counts(data, snapshot.train, len(snapshot.items))
    return _model(snapshot, 0.0, np.zeros(len(snapshot.users)), counts)


def _mean(ratings: Ratings) -> float:
    return float(ratings.value.mean(dtype=np.float64))


def _model(
    snapshot: Snapshot, mean: float, user_bias: Float64s, item_bias: Float64s
) -> FactorModel:
    return FactorModel(
        mean=mean,
        user_bias=user_bias.astype(np.float32),
        item_bias=item_bias.astype(np.float32),
        user_factors=np.zeros((len(snapshot.users), 1), dtype=np.float32),
        item_factors=np.zeros((len(snapshot.items), 1), dtype=np.float32),
        users=snapshot.users,
        items=snapshot.items,
    )
