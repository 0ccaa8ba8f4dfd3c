"""What a candidate has to beat: the global mean, biases only, and the popularity list."""

import numpy as np

from mf_core.factors import FactorModel
from mf_core.ratings import Float64s, Ratings
from mf_core.snapshot import Snapshot

# Surprise's BaselineOnly: damped means in turns (Koren 2010, 'Factor in the neighbors'), here on both sides alike.
_DAMPING_ITEM, _DAMPING_USER, _SWEEPS = 10.0, 15.0, 10


def global_mean_model(snapshot: Snapshot) -> FactorModel:
    """Return the model that predicts the training mean everywhere."""
    return _model(snapshot, np.zeros(len(snapshot.users)), np.zeros(len(snapshot.items)))


def biases_only_model(snapshot: Snapshot) -> FactorModel:
    """Return mean + user bias + item bias, fitted to the training rows by damped means in turns."""
    train, n_users, n_items = snapshot.train, len(snapshot.users), len(snapshot.items)
    residual = train.value.astype(np.float64) - train.value.mean(dtype=np.float64)
    user_bias, item_bias = np.zeros(n_users), np.zeros(n_items)
    user_count, item_count = (
        np.bincount(train.user, minlength=n_users),
        np.bincount(train.item, minlength=n_items),
    )
    for _ in range(_SWEEPS):
        item_sum = np.bincount(train.item, residual - user_bias[train.user], minlength=n_items)
        item_bias = item_sum / (item_count + _DAMPING_ITEM)
        user_sum = np.bincount(train.user, residual - item_bias[train.item], minlength=n_users)
        user_bias = user_sum / (user_count + _DAMPING_USER)
    return _model(snapshot, user_bias, item_bias)


def popularity(train: Ratings, n_items: int, relevant_from: float) -> Float64s:
    """Return each item's number of training ratings of at least `relevant_from`; float64 array of shape (n_items,)."""
    return np.bincount(train.item[train.value >= relevant_from], minlength=n_items).astype(
        np.float64
    )


def popularity_model(snapshot: Snapshot, relevant_from: float) -> FactorModel:
    """Return the model that scores every item by its popularity, for everybody alike."""
    counts = popularity(snapshot.train, len(snapshot.items), relevant_from)
    return _model(snapshot, np.zeros(len(snapshot.users)), counts, mean=0.0)


def _model(
    snapshot: Snapshot, user_bias: Float64s, item_bias: Float64s, mean: float | None = None
) -> FactorModel:
    return FactorModel(
        mean=float(snapshot.train.value.mean(dtype=np.float64)) if mean is None else mean,
        user_bias=user_bias.astype(np.float32),
        item_bias=item_bias.astype(np.float32),
        user_factors=np.zeros((len(snapshot.users), 1), dtype=np.float32),
        item_factors=np.zeros((len(snapshot.items), 1), dtype=np.float32),
        users=snapshot.users,
        items=snapshot.items,
    )
