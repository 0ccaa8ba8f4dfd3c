"""Gradient descent: the 2016 post's model, and a biased one trained by mini-batch Adam.

Preset `seed` is the model and the loss of the blog post 'Simple Matrix Factorization with TensorFlow' (2016), exactly:

    r_hat(u, i) = u . p,   loss = sum |r - r_hat| + .001 (sum |U| + sum |P|)

10 factors, truncated-normal start (standard deviation 1), full-batch gradient descent for 500 steps at a learning rate of
.001 that decays by .96 every 10,000 steps in a staircase. Unlike the post it looks the factors up: no users x items product.

Preset `biased` (Koren, Bell, Volinsky 2009, 'Matrix Factorization Techniques for Recommender Systems'; Kingma & Ba 2015):

    r_hat(u, i) = mean + b_u + b_i + x_u . y_i
    loss = mean over the batch of (r - r_hat)^2 + lambda (|x_u|^2 + |y_i|^2 + b_u^2 + b_i^2)
"""

import keras
import numpy as np
import tensorflow as tf

from mf_core.config import GradientConfig
from mf_core.ratings import Ratings
from mf_core.solvers.iterate import Arrays, Factors, HeldOut

SEED_FACTORS = 10
SEED_STEPS = 500
_SEED_LEARNING_RATE, _SEED_DECAY, _SEED_DECAY_STEPS = 0.001, 0.96, 10_000
_SEED_L1 = 0.001
_INITIAL_SPREAD = 0.1
_SHUFFLE = 2


def seed_learning_rate(step: int) -> float:
    """Return the post's learning rate at `step` (from 0)."""
    return _SEED_LEARNING_RATE * _SEED_DECAY ** (step // _SEED_DECAY_STEPS)


class SeedGradient:
    """The post's model; one iteration is one full-batch step."""

    note = "the 2016 post's constants; other rating_head settings are not used"

    def __init__(self, train: Ratings, shape: tuple[int, int], seed: int) -> None:
        """Put `train` on the device; `shape` is (n_users, n_items)."""
        self.n_ratings = len(train)
        self._user, self._item, self._value = _on_device(train)
        self._seen = tuple(
            np.bincount(rows, minlength=n) > 0
            for rows, n in zip((train.user, train.item), shape, strict=True)
        )
        self._tables = tuple(
            tf.Variable(tf.random.stateless_truncated_normal((n, SEED_FACTORS), seed=(seed, side)))
            for side, n in enumerate(shape)
        )
        self._step = tf.function(self._descend, input_signature=(tf.TensorSpec((), tf.float32),))

    def _descend(self, learning_rate: tf.Tensor) -> tf.Tensor:
        users, items = self._tables
        with tf.GradientTape() as tape:
            predicted = tf.reduce_sum(
                tf.gather(users, self._user) * tf.gather(items, self._item), axis=1
            )
            difference = self._value - predicted
            penalty = tf.reduce_sum(tf.abs(users)) + tf.reduce_sum(tf.abs(items))
            loss = tf.reduce_sum(tf.abs(difference)) + _SEED_L1 * penalty
        for table, gradient in zip(self._tables, tape.gradient(loss, self._tables), strict=True):
            table.assign_sub(learning_rate * tf.convert_to_tensor(gradient))
        return tf.reduce_mean(tf.square(difference))

    def iterate(self, iteration: int) -> float:
        """Run one step and return the training RMSE before it (not clipped)."""
        return float(np.sqrt(self._step(tf.constant(seed_learning_rate(iteration), tf.float32))))

    def validation_rmse(self) -> None:
        """There is none: the post runs all its steps."""

    def state(self) -> Arrays:
        """Return all that the next step depends on."""
        return {
            side: table.numpy() for side, table in zip(("user", "item"), self._tables, strict=True)
        }

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        for side, table in zip(("user", "item"), self._tables, strict=True):
            table.assign(state[side])

    def factors(self) -> Factors:
        """Return the model's arrays, on the host; rows without ratings, which still hold their random start, become 0."""
        users, items = (
            table.numpy() * seen[:, None]
            for table, seen in zip(self._tables, self._seen, strict=True)
        )
        return Factors(
            0.0, np.zeros(len(users), np.float32), np.zeros(len(items), np.float32), users, items
        )


class BiasedGradient:
    """The biased model; one iteration is one epoch of mini-batch Adam over rows shuffled by (seed, epoch)."""

    def __init__(
        self,
        train: Ratings,
        shape: tuple[int, int],
        config: GradientConfig,
        seed: int,
        held_out: HeldOut | None,
    ) -> None:
        """Put `train` on the device; `shape` is (n_users, n_items)."""
        self.n_ratings, self.note = (
            len(train),
            f"{-(-len(train) // config.batch_size)} batches an epoch",
        )
        self._config, self._seed, self._held_out = config, seed, held_out
        self._mean = float(np.mean(train.value, dtype=np.float64))
        self._user, self._item, value = _on_device(train)
        self._value = value - tf.constant(self._mean, tf.float32)
        # Rows without ratings start at 0 and have no gradient, so they stay there.
        seen = [
            (np.bincount(rows, minlength=n) > 0)[:, None]
            for rows, n in zip((train.user, train.item), shape, strict=True)
        ]
        starts = [
            tf.random.stateless_normal(
                (n, config.n_factors), seed=(seed, side), stddev=_INITIAL_SPREAD
            )
            * seen[side]
            for side, n in enumerate(shape)
        ]
        self._variables = [
            tf.Variable(start) for start in (*starts, tf.zeros(shape[0]), tf.zeros(shape[1]))
        ]
        self._adam = keras.optimizers.Adam(config.learning_rate)
        self._adam.build(self._variables)
        self._epoch = tf.function(
            self._run_epoch, input_signature=(tf.TensorSpec((None,), tf.int64),)
        )

    def _run_epoch(self, order: tf.Tensor) -> tf.Tensor:
        """Run all batches of an epoch; returns the sum of the squared errors that they met."""
        total = tf.zeros((), tf.float64)
        for start in tf.range(0, tf.size(order), self._config.batch_size):
            total += tf.cast(
                self._descend(order[start : start + self._config.batch_size]), tf.float64
            )
        return total

    def _descend(self, rows: tf.Tensor) -> tf.Tensor:
        user, item = tf.gather(self._user, rows), tf.gather(self._item, rows)
        with tf.GradientTape() as tape:
            x, y, b, c = (
                tf.gather(v, at)
                for v, at in zip(self._variables, (user, item, user, item), strict=True)
            )
            squared_error = tf.square(
                tf.gather(self._value, rows) - b - c - tf.reduce_sum(x * y, axis=1)
            )
            norm = tf.reduce_sum(tf.square(x) + tf.square(y), axis=1) + tf.square(b) + tf.square(c)
            loss = tf.reduce_mean(squared_error + self._config.regularization * norm)
        gradients = [
            tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, self._variables)
        ]
        self._adam.apply_gradients(zip(gradients, self._variables, strict=True))
        return tf.reduce_sum(squared_error)

    def iterate(self, iteration: int) -> float:
        """Run one epoch and return the training RMSE that its batches met (not clipped)."""
        order = np.random.default_rng((self._seed, _SHUFFLE, iteration)).permutation(self.n_ratings)
        return float(np.sqrt(self._epoch(tf.constant(order, tf.int64)) / self.n_ratings))

    def validation_rmse(self) -> float | None:
        """Return the RMSE on the held-out part, predictions clipped to the scale; None without such a part."""
        return self._held_out.rmse(self.factors()) if self._held_out else None

    def _all_variables(self) -> list[tf.Variable]:
        return [*self._variables, *(variable.value for variable in self._adam.variables)]

    def state(self) -> Arrays:
        """Return all that the next epoch depends on, Adam's moments and step count included."""
        return {
            f"{number:02d}": variable.numpy()
            for number, variable in enumerate(self._all_variables())
        }

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        for number, variable in enumerate(self._all_variables()):
            # An artifact keeps a scalar, Adam's step count, as an array of one element.
            variable.assign(state[f"{number:02d}"].reshape(variable.shape))

    def factors(self) -> Factors:
        """Return the model's arrays, on the host."""
        users, items, user_bias, item_bias = (variable.numpy() for variable in self._variables)
        return Factors(self._mean, user_bias, item_bias, users, items)


def _on_device(train: Ratings) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return (
        tf.constant(train.user.astype(np.int64)),
        tf.constant(train.item.astype(np.int64)),
        tf.constant(train.value),
    )
