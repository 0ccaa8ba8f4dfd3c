"""Alternating least squares, exact, on explicit ratings and on implicit feedback.

Explicit, with biases (Zhou et al. 2008, 'Large-scale Parallel Collaborative Filtering for the Netflix Prize', plus biases):

    r_hat(u, i) = mean + b_u + b_i + x_u . y_i
    loss = sum (r - r_hat)^2 + lambda (sum_u (c + n_u) |x_u|^2 + sum_i (c + n_i) |y_i|^2) + lambda_b (sum b_u^2 + sum b_i^2)

With the items fixed, (x_u, b_u) is the ridge solution of the targets r - mean - b_i on the rows (y_i, 1); then the sides
change places. `mean` is the mean of the training ratings. c = 40 ratings hold back the rows with few ratings, as a prior
does; the plain lambda n (c = 0) of the paper does too little of that: validation RMSE 0.919 instead of 0.915 on MovieLens 100K
(u1.base), 0.812 instead of 0.810 after six sweeps over 5M synthetic ratings, each at its best lambda; and one lambda suits both.

Implicit, iALS (Hu, Koren, Volinsky 2008; Rendle et al. 2021, 'Revisiting the performance of iALS on item recommendation
benchmarks'), over the set S of observed pairs, with targets t that say how much the user liked the item:

    loss = sum_S (t_ui - x_u . y_i)^2 + alpha0 sum_all (x_u . y_i)^2
           + lambda (sum_u (n_u + alpha0 I)^nu |x_u|^2 + sum_i (n_i + alpha0 U)^nu |y_i|^2)
    t = lowest + (1 - lowest) (r - scale_low) / (relevant_from - scale_low)

The papers take the pairs that count as positive, all with target 1. A rating below `relevant_from` is an observation too:
the user chose the item, which most items can't say, and did not care for it (docs/adr/0014-graded-targets.md).

`sum_all` needs only alpha0 Y^T Y, once per sweep. U and I count the users and items with an observed pair; the others have
zero factors and would add nothing to the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from mf_core.config import AlsConfig, DataConfig, RankingHeadConfig
from mf_core.ratings import Float32s, Ratings
from mf_core.solvers.buckets import CPU_CELLS, GPU_CELLS, Side, factorize, solve, with_zero_row
from mf_core.solvers.iterate import Arrays, Factors, HeldOut

_INITIAL_SPREAD = 0.1
_PRIOR_RATINGS = 40.0
_Step = Callable[..., tuple[tf.Tensor, tf.Tensor]]


def _sides(train: Ratings, shape: tuple[int, int], width: int) -> tuple[Side, Side]:
    cells = GPU_CELLS if tf.constant(0.0).device.endswith("GPU:0") else CPU_CELLS
    n_users, n_items = shape
    users = Side(train.user, train.item, train.value, (n_users, n_items), width, cells)
    items = Side(train.item, train.user, train.value, (n_items, n_users), width, cells)
    return users, items


def _initial(side: Side, n_factors: int, seed: int) -> tf.Tensor:
    noise = tf.random.stateless_normal((side.n_rows, n_factors), seed=(seed, 0), stddev=_INITIAL_SPREAD)
    return noise * side.active()


def _padding_note(users: Side, items: Side) -> str:
    return (
        f"padding {users.plan.padding_share:.1%} of the users' and {items.plan.padding_share:.1%} of the items' places, "
        f"{len(users.batches)} + {len(items.batches)} batches"
    )


def _float(*shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32)


_BATCH = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, None), tf.int64), _float(None, None))


@dataclass(frozen=True)
class _Ridge:
    """What the explicit objective adds to the diagonal, and the centred rating scale that errors are clipped to."""

    factors: float
    bias: float
    low: float
    high: float


def _explicit_step(side: Side, ridge: _Ridge, n_factors: int, *, measure: bool) -> _Step:
    """Return the function that solves one batch: (*batch, table, bias) -> (solutions (B, K + 1), squared error).

    Only the side solved last is worth measuring; the other's error is given as 0.
    """

    def step(
        rows: tf.Tensor, other: tf.Tensor, value: tf.Tensor, table: tf.Tensor, bias: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        design, offset = tf.gather(table, other), tf.gather(bias, other)
        weight = ridge.factors * (_PRIOR_RATINGS + tf.gather(side.count, rows)[:, None])
        diagonal = tf.concat([tf.tile(weight, (1, n_factors)), tf.fill((tf.shape(rows)[0], 1), ridge.bias)], axis=1)
        solution = solve(factorize(design, diagonal), design, value - offset)
        if not measure:
            return solution, tf.zeros(())
        predicted = offset + tf.matmul(design, solution[:, :, None])[:, :, 0]
        error = tf.where(other < side.n_other, value - tf.clip_by_value(predicted, ridge.low, ridge.high), 0.0)
        return solution, tf.reduce_sum(tf.square(error))

    width = n_factors + 1
    return tf.function(step, input_signature=(*_BATCH, _float(None, width), _float(None)))


class ExplicitAls:
    """Explicit ALS with biases, one sweep (users, then items) at a time. Factors live on the device between sweeps."""

    def __init__(
        self, train: Ratings, shape: tuple[int, int], config: AlsConfig, data: DataConfig, seed: int, held_out: HeldOut | None
    ) -> None:
        """Put `train` on the device; `shape` is (n_users, n_items)."""
        self._mean = float(np.mean(train.value, dtype=np.float64))
        centred = Ratings(train.user, train.item, (train.value - np.float32(self._mean)).astype(np.float32))
        self._users, self._items = _sides(centred, shape, config.n_factors + 1)
        self.n_ratings, self.note = len(train), _padding_note(self._users, self._items)
        self._held_out = held_out
        ridge = _Ridge(
            config.regularization, config.bias_regularization, data.scale_low - self._mean, data.scale_high - self._mean
        )
        self._solve_users = _explicit_step(self._users, ridge, config.n_factors, measure=False)
        self._solve_items = _explicit_step(self._items, ridge, config.n_factors, measure=True)
        # Each row of a side is (factors, bias). Only the items' start matters: the users are solved first.
        self._item = tf.pad(_initial(self._items, config.n_factors, seed), ((0, 0), (0, 1)))
        self._user = tf.zeros((shape[0], config.n_factors + 1))

    def iterate(self, iteration: int) -> float:
        """Run one sweep and return the training RMSE after it, predictions clipped to the scale."""
        self._user, _ = self._half(self._users, self._solve_users, self._item)
        self._item, squared_error = self._half(self._items, self._solve_items, self._user)
        return float(np.sqrt(float(squared_error) / self.n_ratings))

    @staticmethod
    def _half(side: Side, step: _Step, other: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        table = with_zero_row(tf.concat([other[:, :-1], tf.ones_like(other[:, :1])], axis=1))
        bias = with_zero_row(other[:, -1])
        solutions, errors = zip(*(step(batch.rows, batch.other, batch.value, table, bias) for batch in side.batches), strict=True)
        total = tf.reduce_sum(tf.cast(tf.stack(errors), tf.float64))
        return side.in_row_order(list(solutions)), total

    def validation_rmse(self) -> float | None:
        """Return the RMSE on the held-out part, predictions clipped to the scale; None without such a part."""
        return self._held_out.rmse(self.factors()) if self._held_out else None

    def state(self) -> Arrays:
        """Return all that the next sweep depends on."""
        return {"user": self._user.numpy(), "item": self._item.numpy()}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._user, self._item = tf.constant(state["user"]), tf.constant(state["item"])

    def factors(self) -> Factors:
        """Return the model's arrays, on the host."""
        user, item = self._user.numpy(), self._item.numpy()
        return Factors(self._mean, user[:, -1].copy(), item[:, -1].copy(), user[:, :-1].copy(), item[:, :-1].copy())


def _implicit_step(side: Side, n_factors: int, *, measure: bool) -> _Step:
    """Return the function that solves one batch: (*batch, table, gram, ridge) -> (solutions (B, K), squared error).

    The values of the batch are the targets.
    """

    def step(
        rows: tf.Tensor, other: tf.Tensor, target: tf.Tensor, table: tf.Tensor, gram: tf.Tensor, ridge: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        design = tf.gather(table, other)
        diagonal = tf.tile(tf.gather(ridge, rows)[:, None], (1, n_factors))
        solution = solve(factorize(design, diagonal, gram), design, target)
        if not measure:
            return solution, tf.zeros(())
        # A padded place has target and prediction 0.
        error = target - tf.matmul(design, solution[:, :, None])[:, :, 0]
        return solution, tf.reduce_sum(tf.square(error))

    signature = (*_BATCH, _float(None, n_factors), _float(n_factors, n_factors), _float(None))
    return tf.function(step, input_signature=signature)


def preference_targets(rating: Float32s, lowest: float, data: DataConfig) -> Float32s:
    """Return the target of each rating: `lowest` at the scale's low end, 1 at `data.relevant_from`, on a line through both.

    Where every rating is relevant there is no such line, and all targets are 1.
    """
    span = data.relevant_from - data.scale_low
    if not span:
        return np.ones_like(rating)
    return (1 + (1 - lowest) * (rating - data.relevant_from) / span).astype(np.float32)


class ImplicitAls:
    """Implicit ALS on the observed pairs of `train`, one sweep at a time; a pair's target follows from its rating."""

    def __init__(
        self, train: Ratings, shape: tuple[int, int], config: RankingHeadConfig, data: DataConfig, seed: int
    ) -> None:
        """Put the pairs on the device; `shape` is (n_users, n_items)."""
        self._alpha0 = config.unobserved_weight
        targets = Ratings(train.user, train.item, preference_targets(train.value, config.lowest_target, data))
        self._users, self._items = _sides(targets, shape, config.n_factors)
        self.n_ratings, self.note = len(train), _padding_note(self._users, self._items)
        self._solve_users = _implicit_step(self._users, config.n_factors, measure=False)
        self._solve_items = _implicit_step(self._items, config.n_factors, measure=True)
        self._user_ridge = self._ridge(self._users, self._items.n_active, config)
        self._item_ridge = self._ridge(self._items, self._users.n_active, config)
        self._item = _initial(self._items, config.n_factors, seed)
        self._user = tf.zeros((shape[0], config.n_factors))

    def _ridge(self, side: Side, n_other: int, config: RankingHeadConfig) -> tf.Tensor:
        return config.regularization * (side.count + self._alpha0 * n_other) ** config.regularization_exponent

    def iterate(self, iteration: int) -> float:
        """Run one sweep and return the root mean square of target - score over the observed pairs."""
        self._user, _ = self._half(self._users, self._solve_users, self._item, self._user_ridge)
        self._item, squared_error = self._half(self._items, self._solve_items, self._user, self._item_ridge)
        return float(np.sqrt(float(squared_error) / self.n_ratings))

    def _half(self, side: Side, step: _Step, other: tf.Tensor, ridge: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        table, gram = with_zero_row(other), self._alpha0 * tf.matmul(other, other, transpose_a=True)
        results = (step(batch.rows, batch.other, batch.value, table, gram, ridge) for batch in side.batches)
        solutions, errors = zip(*results, strict=True)
        total = tf.reduce_sum(tf.cast(tf.stack(errors), tf.float64))
        return side.in_row_order(list(solutions)), total

    def validation_rmse(self) -> None:
        """There is none: squared error on held-out pairs says little about lists."""

    def state(self) -> Arrays:
        """Return all that the next sweep depends on."""
        return {"user": self._user.numpy(), "item": self._item.numpy()}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._user, self._item = tf.constant(state["user"]), tf.constant(state["item"])

    def factors(self) -> Factors:
        """Return the model's arrays, on the host; the biases and the mean are 0."""
        user, item = self._user.numpy(), self._item.numpy()
        return Factors(0.0, np.zeros(len(user), np.float32), np.zeros(len(item), np.float32), user, item)
