"""What a candidate has to beat: the global mean, biases only, and the popular list."""

import numpy as np

from mf_core.data.ratings import Float64s, Ratings
from mf_core.data.snapshot import Snapshot
from mf_core.models.biases import fit_biases
from mf_core.models.factors import FactorModel


def global_mean_model(snapshot: Snapshot) -> FactorModel:
    """Return the model that predicts the training mean everywhere."""
    user_bias = np.zeros(len(snapshot.users))
    item_bias = np.zeros(len(snapshot.items))
    return _model(snapshot, _mean(snapshot.train), user_bias, item_bias)


def biases_only_model(snapshot: Snapshot) -> FactorModel:
    """Return mean + user bias + item bias, with the dampings that suit the training rows."""
    fit = fit_biases(snapshot.train, (len(snapshot.users), len(snapshot.items)))
    return _model(snapshot, fit.mean, fit.user, fit.item)


def relevant_counts(ratings: Ratings, n_items: int, relevant_from: float) -> Float64s:
    """Return how many ratings of at least `relevant_from` each item has; shape (n_items,)."""
    relevant = ratings.item[ratings.value >= relevant_from]
    return np.bincount(relevant, minlength=n_items).astype(np.float64)


def popularity_model(snapshot: Snapshot, relevant_from: float) -> FactorModel:
    """Return the model that scores items by their number of relevant training ratings."""
    counts = relevant_counts(snapshot.train, len(snapshot.items), relevant_from)
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
