"""Alternating least squares, exact, on implicit feedback.

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
from functools import cache

import numpy as np
import tensorflow as tf

from mf_core.config import DataConfig, RankingHeadConfig
from mf_core.ratings import Float32s, Ratings
from mf_core.solvers.buckets import Side, both_sides, factorize, padding_note, solve, with_zero_row
from mf_core.solvers.iterate import Arrays, Factors, Start

_INITIAL_SPREAD = 0.1
_Step = Callable[..., tuple[tf.Tensor, tf.Tensor]]


def _initial(side: Side, n_factors: int, seed: int) -> tf.Tensor:
    noise = tf.random.stateless_normal((side.n_rows, n_factors), seed=(seed, 0), stddev=_INITIAL_SPREAD)
    return noise * side.active()


def _float(*shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32)


@cache
def _implicit_step(n_factors: int, index: tf.DType, *, measure: bool) -> _Step:
    """Return the function that solves one batch: (*batch, table, gram, ridge) -> (solutions (B, K), squared error).

    The values of the batch are the targets. All fits of a process share the function's trace.
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

    batch = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, None), index), _float(None, None))
    return tf.function(step, input_signature=(*batch, _float(None, n_factors), _float(n_factors, n_factors), _float(None)))


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
        self,
        train: Ratings,
        shape: tuple[int, int],
        config: RankingHeadConfig,
        data: DataConfig,
        seed: int,
        start: Start | None = None,
    ) -> None:
        """Put the pairs on the device; `shape` is (n_users, n_items), `start` where the first sweep goes on from."""
        self._alpha0 = config.unobserved_weight
        targets = Ratings(train.user, train.item, preference_targets(train.value, config.lowest_target, data))
        self._users, self._items = both_sides(targets, shape, config.n_factors)
        self.n_ratings, self.note = len(train), padding_note(self._users, self._items)
        index = self._users.batches[0].other.dtype
        self._solve_users = _implicit_step(config.n_factors, index, measure=False)
        self._solve_items = _implicit_step(config.n_factors, index, measure=True)
        self._user_ridge = self._ridge(self._users, self._items.n_active, config)
        self._item_ridge = self._ridge(self._items, self._users.n_active, config)
        # Only the items' start matters: the users are solved first.
        self._item = _initial(self._items, config.n_factors, seed)
        if start:
            known = start.item[:, :-1].any(axis=1, keepdims=True)
            self._item = tf.where(known, start.item[:, :-1], self._item)
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
        solutions, errors = zip(*side.each_batch(lambda *batch: step(*batch, table, gram, ridge)), strict=True)
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
