"""What a candidate has to beat: the global mean, biases only, and the popular list."""

import numpy as np

from mf_core.config import DataConfig
from mf_core.data.fading import fading
from mf_core.data.ratings import Float64s, Ratings
from mf_core.data.snapshot import Snapshot
from mf_core.models.factors import FactorModel

# Surprise's BaselineOnly: damped means in turns (Koren 2010, 'Factor in the neighbors').
_DAMPING_ITEM = 10.0
_DAMPING_USER = 15.0
_SWEEPS = 10


def global_mean_model(snapshot: Snapshot) -> FactorModel:
    """Return the model that predicts the training mean everywhere."""
    user_bias = np.zeros(len(snapshot.users))
    item_bias = np.zeros(len(snapshot.items))
    return _model(snapshot, _mean(snapshot.train), user_bias, item_bias)


def biases_only_model(snapshot: Snapshot) -> FactorModel:
    """Return mean + user bias + item bias, fitted to the training rows by damped means in turns."""
    train = snapshot.train
    n_users = len(snapshot.users)
    n_items = len(snapshot.items)
    residual = train.value.astype(np.float64) - _mean(train)
    user_count = np.bincount(train.user, minlength=n_users)
    item_count = np.bincount(train.item, minlength=n_items)
    user_bias = np.zeros(n_users)
    item_bias = np.zeros(n_items)

    # Each side explains what the other leaves: b_i = sum(r - b_u) / (n_i + damping).
    for _ in range(_SWEEPS):
        item_sum = np.bincount(train.item, residual - user_bias[train.user], minlength=n_items)
        item_bias = item_sum / (item_count + _DAMPING_ITEM)
        user_sum = np.bincount(train.user, residual - item_bias[train.item], minlength=n_users)
        user_bias = user_sum / (user_count + _DAMPING_USER)
    return _model(snapshot, _mean(train), user_bias, item_bias)


def relevant_counts(data: DataConfig, ratings: Ratings, n_items: int) -> Float64s:
    """Return how many relevant ratings each item has; float64 array of shape (n_items,).

    Args:
        data: `relevant_from` says which ratings are relevant, `popular_half_life_days` how much
            less an older one counts.
        ratings: the ratings; the latest of them counts as 1.
        n_items: number of items.
    """
    relevant = ratings.value >= data.relevant_from
    left = fading(ratings, data.popular_half_life_days)
    weights = None if left is None else left[relevant]
    counts = np.bincount(ratings.item[relevant], weights, minlength=n_items)

    # As precise as the factors of a model, in which the same counts have to order the same way.
    return counts.astype(np.float32).astype(np.float64)


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
