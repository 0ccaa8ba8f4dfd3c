"""Alternating least squares on implicit feedback, by conjugate gradients.

Implicit, iALS (Hu, Koren, Volinsky 2008; Rendle et al. 2021, 'Revisiting the performance of iALS on item recommendation
benchmarks'), over the set S of observed pairs, with targets t that say how much the user liked the item:

    loss = sum_S (t_ui - x_u . y_i)^2 + alpha0 sum_all (x_u . y_i)^2
           + lambda (sum_u (n_u + alpha0 I)^nu |x_u|^2 + sum_i (n_i + alpha0 U)^nu |y_i|^2)
    t = lowest + (1 - lowest) (r - scale_low) / (relevant_from - scale_low)

The papers take the pairs that count as positive, all with target 1. A rating below `relevant_from` is an observation too:
the user chose the item, which most items can't say, and did not care for it (docs/adr/0014-graded-targets.md).

`sum_all` needs only alpha0 Y^T Y, once per sweep. In the basis of its eigenvectors a row's equations are (D + G^T G) x = G^T t
with D diagonal, and a few steps of conjugate gradients go on from the row's last solution, as for explicit ratings: no K x K
matrix is formed per row. U and I count the users and items with an observed pair; the others have zero factors and would add
nothing to the loss.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import tensorflow as tf

from mf_core.config import DataConfig, RankingHeadConfig
from mf_core.ratings import Float32s, Ratings
from mf_core.solvers.buckets import Side, both_sides, padding_note, with_zero_row
from mf_core.solvers.conjugate import improve
from mf_core.solvers.iterate import Arrays, Factors, Start

_INITIAL_SPREAD = 0.1
_Step = Callable[..., tuple[tf.Tensor, tf.Tensor]]


def _initial(side: Side, n_factors: int, seed: int) -> tf.Tensor:
    noise = tf.random.stateless_normal(
        (side.n_rows, n_factors), seed=(seed, 0), stddev=_INITIAL_SPREAD
    )
    return noise * side.active()


def _float(*shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32)


@cache
def _implicit_step(n_factors: int, steps: int, index: tf.DType) -> _Step:
    """Return the function that improves one batch: (*batch, table, weight, ridge, old) -> (solutions (B, K), squared error).

    The values of the batch are the targets; `table`, `old` and the solutions are in the basis in which alpha0 Y^T Y is diagonal,
    `weight` (K,). All fits of a process share the function's trace.
    """

    def step(
        rows: tf.Tensor,
        other: tf.Tensor,
        target: tf.Tensor,
        table: tf.Tensor,
        weight: tf.Tensor,
        ridge: tf.Tensor,
        old: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        design = tf.gather(table, other)
        diagonal = weight + tf.gather(ridge, rows)[:, None]
        scale = 1.0 / (diagonal + tf.reduce_sum(tf.square(design), axis=1))
        return improve(design, diagonal, scale, target, tf.gather(old, rows), steps)

    batch = (
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec((None, None), index),
        _float(None, None),
    )
    table, vector = _float(None, n_factors), _float(None)
    return tf.function(step, input_signature=(*batch, table, _float(n_factors), vector, table))


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
        targets = Ratings(
            train.user, train.item, preference_targets(train.value, config.lowest_target, data)
        )
        self._users, self._items = both_sides(targets, shape, config.n_factors)
        self.n_ratings, self.note = len(train), padding_note(self._users, self._items)
        self._step = _implicit_step(
            config.n_factors, config.conjugate_steps, self._users.batches[0].other.dtype
        )
        self._user_ridge = self._ridge(self._users, self._items.n_active, config)
        self._item_ridge = self._ridge(self._items, self._users.n_active, config)
        self._item, self._user = (
            _initial(self._items, config.n_factors, seed),
            tf.zeros((shape[0], config.n_factors)),
        )
        if start:
            known = start.item[:, :-1].any(axis=1, keepdims=True)
            self._item, self._user = (
                tf.where(known, start.item[:, :-1], self._item),
                tf.constant(start.user[:, :-1]),
            )

    def _ridge(self, side: Side, n_other: int, config: RankingHeadConfig) -> tf.Tensor:
        return (
            config.regularization
            * (side.count + self._alpha0 * n_other) ** config.regularization_exponent
        )

    def iterate(self, iteration: int) -> float:
        """Run one sweep and return the root mean square of target - score over the observed pairs."""
        self._user, _ = self._half(self._users, self._user, self._item, self._user_ridge)
        self._item, squared_error = self._half(
            self._items, self._item, self._user, self._item_ridge
        )
        return float(np.sqrt(float(squared_error) / self.n_ratings))

    def _half(
        self, side: Side, mine: tf.Tensor, other: tf.Tensor, ridge: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        gram = self._alpha0 * tf.matmul(other, other, transpose_a=True)
        eigen = tf.linalg.eigh(tf.cast(gram, tf.float64))
        weight, basis = (
            tf.cast(part, tf.float32) for part in (tf.maximum(eigen[0], 0.0), eigen[1])
        )
        table, old = with_zero_row(tf.matmul(other, basis)), tf.matmul(mine, basis)
        solutions, errors = zip(
            *side.each_batch(lambda *batch: self._step(*batch, table, weight, ridge, old)),
            strict=True,
        )
        total = tf.reduce_sum(tf.cast(tf.stack(errors), tf.float64))
        return tf.matmul(side.in_row_order(list(solutions)), basis, transpose_b=True), total

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
        return Factors(
            0.0, np.zeros(len(user), np.float32), np.zeros(len(item), np.float32), user, item
        )
