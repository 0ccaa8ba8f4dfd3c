"""Gradient descent: the 2016 post's model, and a biased one trained by mini-batch Adam.

Preset `seed` is the model and the loss of the blog post 'Simple Matrix Factorization with
TensorFlow' (2016), exactly:

    r_hat(u, i) = u . p,   loss = sum |r - r_hat| + .001 (sum |U| + sum |P|)

10 factors, truncated-normal start (standard deviation 1), full-batch gradient descent for 500 steps
at a learning rate of .001 that decays by .96 every 10,000 steps in a staircase. Unlike the post it
looks the factors up: no users x items product.

Preset `biased` (Koren, Bell, Volinsky 2009, 'Matrix Factorization Techniques for Recommender
Systems'; Kingma & Ba 2015):

    r_hat(u, i) = b_u + b_i + x_u . y_i
    loss = mean over the batch of (r - r_hat)^2 + lambda (|x_u|^2 + |y_i|^2 + b_u^2 + b_i^2)

of ratings that are centred and in standard deviations.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mf_core.config import GradientConfig
from mf_core.data.ratings import Int32s, Ratings
from mf_core.solvers.solver import Arrays, Factors, Problem, Solver

SEED_FACTORS = 10
_SEED_LEARNING_RATE = 0.001
_SEED_DECAY = 0.96
_SEED_DECAY_STEPS = 10_000
_SEED_L1 = 0.001
_INITIAL_SPREAD = 0.1
_SHUFFLE = 2
_USER = 0
_ITEM = 1


def seed_learning_rate(step: int) -> float:
    """Return the post's learning rate at `step` (from 0)."""
    return _SEED_LEARNING_RATE * _SEED_DECAY ** (step // _SEED_DECAY_STEPS)


class SeedGradient(Solver):
    """The post's model; one iteration is one full-batch step. It has no validation error."""

    unit = "step"
    note = "the 2016 post's constants; other rating_head settings are not used"

    def __init__(self, problem: Problem[GradientConfig]) -> None:
        """Put the ratings on the device."""
        super().__init__(problem)
        train = problem.ratings
        n_users, n_items = problem.shape
        self._user, self._item, self._value = _on_device(train)
        self._seen_users = _has_ratings(train.user, n_users)
        self._seen_items = _has_ratings(train.item, n_items)

        # Each table is drawn by itself, so that its size does not change the other one's draws.
        self._users = _seed_table(n_users, (problem.seed, _USER))
        self._items = _seed_table(n_items, (problem.seed, _ITEM))
        learning_rate = tf.TensorSpec((), tf.float32)
        self._step = tf.function(self._descend, input_signature=(learning_rate,))

    def _descend(self, learning_rate: tf.Tensor) -> tf.Tensor:
        """Take one step; return the mean squared error before it."""
        tables = (self._users, self._items)
        with tf.GradientTape() as tape:
            # r_hat = u . p
            u = tf.gather(self._users, self._user)
            p = tf.gather(self._items, self._item)
            predicted = tf.reduce_sum(u * p, axis=1)
            difference = self._value - predicted

            # loss = sum |r - r_hat| + .001 (sum |U| + sum |P|)
            of_users = tf.reduce_sum(tf.abs(self._users))
            of_items = tf.reduce_sum(tf.abs(self._items))
            absolute_error = tf.reduce_sum(tf.abs(difference))
            loss = absolute_error + _SEED_L1 * (of_users + of_items)

        gradients = tape.gradient(loss, tables)
        for table, gradient in zip(tables, gradients, strict=True):
            table.assign_sub(learning_rate * tf.convert_to_tensor(gradient))
        return tf.reduce_mean(tf.square(difference))

    def iterate(self, iteration: int) -> float:
        """Run one step and return the training RMSE before it (not clipped)."""
        learning_rate = tf.constant(seed_learning_rate(iteration), tf.float32)
        mean_square = self._step(learning_rate)
        return float(np.sqrt(mean_square))

    def state(self) -> Arrays:
        """Return all that the next step depends on."""
        return {"user": self._users.numpy(), "item": self._items.numpy()}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._users.assign(state["user"])
        self._items.assign(state["item"])

    def factors(self) -> Factors:
        """Return the model's arrays, on the host.

        Rows without ratings, which still hold their random start, become 0.
        """
        users = self._users.numpy() * self._seen_users
        items = self._items.numpy() * self._seen_items
        return Factors.without_biases(users, items)


class BiasedGradient(Solver):
    """The biased model; one iteration is one epoch of mini-batch Adam over shuffled rows."""

    unit = "epoch"

    def __init__(self, problem: Problem[GradientConfig]) -> None:
        """Put the ratings on the device."""
        super().__init__(problem)
        settings = problem.settings
        n_batches = -(-self.n_ratings // settings.batch_size)
        self.note = f"{n_batches} batches an epoch"

        self._settings = settings
        self._seed = problem.seed
        self._held_out = problem.held_out

        train = problem.ratings
        self._user, self._item, self._value = _on_device(train)

        self._variables = _biased_variables(problem)
        self._adam = keras.optimizers.Adam(settings.learning_rate)
        self._adam.build(self._variables)
        order = tf.TensorSpec((None,), tf.int64)
        self._epoch = tf.function(self._run_epoch, input_signature=(order,))

    @classmethod
    def make(cls, problem: Problem[GradientConfig]) -> Solver:
        """Return the solver of the preset that the settings name."""
        return SeedGradient(problem) if problem.settings.preset == "seed" else cls(problem)

    def _run_epoch(self, order: tf.Tensor) -> tf.Tensor:
        """Run all batches of an epoch; return the sum of the squared errors that they met."""
        total = tf.zeros((), tf.float64)
        # int64: there may be more ratings than 2^31.
        size = tf.constant(self._settings.batch_size, tf.int64)
        for start in tf.range(0, tf.size(order, tf.int64), size):
            batch = order[start : start + size]
            squared_error = self._descend(batch)
            total += tf.cast(squared_error, tf.float64)
        return total

    def _descend(self, rows: tf.Tensor) -> tf.Tensor:
        """Take one step on the ratings `rows`; return the sum of their squared errors before it."""
        user = tf.gather(self._user, rows)
        item = tf.gather(self._item, rows)
        users, items, user_bias, item_bias = self._variables

        with tf.GradientTape() as tape:
            # r - r_hat
            x = tf.gather(users, user)
            y = tf.gather(items, item)
            b_u = tf.gather(user_bias, user)
            b_i = tf.gather(item_bias, item)
            r = tf.gather(self._value, rows)
            dots = tf.reduce_sum(x * y, axis=1)
            squared_error = tf.square(r - b_u - b_i - dots)

            # lambda (|x_u|^2 + |y_i|^2 + b_u^2 + b_i^2): a row is held back once per rating.
            of_factors = tf.reduce_sum(tf.square(x) + tf.square(y), axis=1)
            norm = of_factors + tf.square(b_u) + tf.square(b_i)
            penalty = self._settings.regularization * norm
            loss = tf.reduce_mean(squared_error + penalty)

        gradients = tape.gradient(loss, self._variables)
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        self._adam.apply_gradients(zip(dense, self._variables, strict=True))
        return tf.reduce_sum(squared_error)

    def iterate(self, iteration: int) -> float:
        """Run one epoch and return the training RMSE that its batches met (not clipped)."""
        # Keyed by the epoch, so that a fit that goes on from a checkpoint draws the same order.
        rng = np.random.default_rng((self._seed, _SHUFFLE, iteration))
        order = rng.permutation(self.n_ratings)
        squared_error = self._epoch(tf.constant(order, tf.int64))
        return float(np.sqrt(squared_error / self.n_ratings))

    def validation_rmse(self) -> float | None:
        """Return the RMSE on the held-out part, predictions clipped to the scale."""
        return self._held_out.rmse(self.factors()) if self._held_out else None

    def _all_variables(self) -> list[tf.Variable]:
        return [*self._variables, *(variable.value for variable in self._adam.variables)]

    def state(self) -> Arrays:
        """Return all that the next epoch depends on, Adam's moments and step count included."""
        numbered = enumerate(self._all_variables())
        return {_name(number): variable.numpy() for number, variable in numbered}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        for number, variable in enumerate(self._all_variables()):
            # An artifact keeps a scalar, Adam's step count, as an array of one element.
            variable.assign(state[_name(number)].reshape(variable.shape))

    def factors(self) -> Factors:
        """Return the model's arrays, on the host."""
        users, items, user_bias, item_bias = (variable.numpy() for variable in self._variables)
        return Factors(0.0, user_bias, item_bias, user_factors=users, item_factors=items)


def _name(number: int) -> str:
    """Return under which name a checkpoint holds a variable."""
    return f"{number:02d}"


def _seed_table(n_rows: int, seed: tuple[int, int]) -> tf.Variable:
    """Return the post's random start."""
    shape = (n_rows, SEED_FACTORS)
    start = tf.random.stateless_truncated_normal(shape, seed=seed)
    return tf.Variable(start)


def _biased_variables(problem: Problem[GradientConfig]) -> list[tf.Variable]:
    """Return (users, items, user biases, item biases) as they are before the first epoch."""
    train = problem.ratings
    n_users, n_items = problem.shape
    rank = problem.settings.n_factors

    def table(n_rows: int, side: int, rows: Int32s) -> tf.Tensor:
        """Return where the factors of one side begin."""
        noise = tf.random.stateless_normal(
            (n_rows, rank), seed=(problem.seed, side), stddev=_INITIAL_SPREAD
        )
        # Rows without ratings start at 0 and have no gradient, so they stay there.
        return noise * _has_ratings(rows, n_rows)

    users = table(n_users, _USER, train.user)
    items = table(n_items, _ITEM, train.item)
    starts = (users, items, tf.zeros(n_users), tf.zeros(n_items))
    return [tf.Variable(start) for start in starts]


def _has_ratings(rows: Int32s, n_rows: int) -> NDArray[np.bool_]:
    """Return for each row, as a column, whether it occurs among `rows`."""
    seen: NDArray[Any] = np.bincount(rows, minlength=n_rows) > 0
    return seen[:, None]


def _on_device(train: Ratings) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    # int64: TensorFlow keeps int32 tensors off the GPU.
    user = tf.constant(train.user.astype(np.int64))
    item = tf.constant(train.item.astype(np.int64))
    return user, item, tf.constant(train.value)
