"""Pairs whose mean prediction over the samples is followed exactly: what a fit is judged by."""

import numpy as np
import tensorflow as tf

from mf_core.config import BayesConfig
from mf_core.solvers.solver import Arrays, HeldOut, Problem

_PROBE_RATINGS = 100_000
_PROBE_SEED = 4


class Probe:
    """The pairs whose mean prediction is followed exactly, sweep by sweep."""

    def __init__(self, pairs: HeldOut) -> None:
        """Put the pairs on the device."""
        self.pairs = pairs

        # int64: TensorFlow keeps int32 tensors off the GPU.
        user = pairs.ratings.user.astype(np.int64)
        item = pairs.ratings.item.astype(np.int64)
        self._user = tf.constant(user)
        self._item = tf.constant(item)
        self._sum = tf.zeros(len(pairs.ratings), tf.float64)
        self._predict = tf.function(self._predictions, reduce_retracing=True)

    def _predictions(self, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Return b_u + b_i + x_u . y_i of each pair, float64."""
        mine = tf.gather(user, self._user)
        other = tf.gather(item, self._item)

        # A row is (factors, bias).
        user_bias = mine[:, -1]
        item_bias = other[:, -1]
        x = mine[:, :-1]
        y = other[:, :-1]
        dots = tf.reduce_sum(x * y, axis=1)

        # Sums over hundreds of samples follow, so they are taken in float64.
        predicted = user_bias + item_bias + dots
        return tf.cast(predicted, tf.float64)

    def add(self, user: tf.Tensor, item: tf.Tensor) -> None:
        """Add a sample; each row of a side is (factors, bias)."""
        self._sum += self._predict(user, item)

    def rmse(self, n_samples: int, mean: float) -> float:
        """Return the RMSE of the mean prediction of `n_samples` plus `mean`, clipped."""
        predicted = mean + self._sum.numpy() / n_samples
        clipped = np.clip(predicted, self.pairs.low, self.pairs.high)
        error = self.pairs.ratings.value - clipped
        return float(np.sqrt(np.mean(np.square(error))))

    def state(self) -> Arrays:
        """Return the sum so far."""
        return {"probe": self._sum.numpy()}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._sum = tf.constant(state["probe"])


def training_probe(problem: Problem[BayesConfig]) -> HeldOut:
    """Return a seeded part of the training ratings, all of them where there are few."""
    train = problem.ratings
    rng = np.random.default_rng((problem.seed, _PROBE_SEED))
    order = rng.permutation(len(train))
    chosen = np.sort(order[:_PROBE_RATINGS])
    some = train.take(chosen)
    return HeldOut(some, problem.data.scale_low, problem.data.scale_high)
