"""The draw of one batch of rows of the sampler in `mf_core.solvers.bayes`, given the other side.

For each row the noise precision alpha comes first, then the row x of t = G x + noise.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import tensorflow as tf

from mf_core.solvers.sampling import Draw, draw_from_few, draw_gaussian


class Errors(NamedTuple):
    """Sums of errors: squared, with predictions clipped to the scale or times the precisions."""

    clipped: tf.Tensor
    weighted: tf.Tensor
    plain: tf.Tensor  # rating less prediction, not squared


class Given(NamedTuple):
    """What the rows of one side are drawn from, in coordinates where the prior's precision is I.

    All of it lies on the device. `table` and `scalars` are the other side's, with a row of zeros
    below: each place's factors and 1, and its bias and 1, all times the root of its noise
    precision. `rows` are the present ones, `rate` those of the precisions' prior, `standard` Gamma
    draws of rate 1, `normal` normal ones,
    `scale` the ends of the rating scale.
    """

    table: tf.Tensor
    scalars: tf.Tensor
    rows: tf.Tensor
    prior_mean: tf.Tensor
    standard: tf.Tensor
    rate: tf.Tensor
    normal: tf.Tensor
    scale: tf.Tensor


class _Regressions(NamedTuple):
    """The regressions of one batch, t = G x + noise with the prior x ~ N(m, I).

    Every place of G and t is times the root of the other side's precision.
    """

    design: tf.Tensor  # G (B, L, D)
    target: tf.Tensor  # t (B, L)
    root: tf.Tensor  # beta^.5 (B, L), 0 for padding
    old: tf.Tensor  # x before (B, D)
    mean: tf.Tensor  # m (B, D)
    normal: tf.Tensor  # (B, D)
    standard: tf.Tensor  # (B,)
    rate: tf.Tensor  # (B,)


BatchDraw = Callable[..., tuple[tf.Tensor, tf.Tensor, Errors]]


@cache
def batch_function(width: int, index: tf.DType, *, few: bool, measure: bool) -> BatchDraw:
    """Return the function that draws one batch.

    It takes (*batch, *given) and returns (rows and their means side by side (B, 2 D), precisions
    (B, 1), errors). All fits of a
    process share its trace. `few`: by way of the (L, L) matrices. Without `measure` the errors are
    0.
    """

    def draw(
        row: tf.Tensor, other: tf.Tensor, value: tf.Tensor, *parts: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, Errors]:
        """Draw the rows of one batch and their noise precisions."""
        given = Given(*parts)
        batch = _regressions(given, row, other, value)
        draw_rows = _draw_with_few_ratings if few else _draw_with_many_ratings
        fresh, precision = draw_rows(batch)
        new = fresh.over_relaxed(batch.old)
        rows = tf.concat(new, axis=1)
        if not measure:
            return rows, precision, Errors(tf.zeros(()), tf.zeros(()), tf.zeros(()))
        return rows, precision, _errors(batch, new.drawn, precision, value, given.scale)

    table = tf.TensorSpec((None, width))
    given = Given(
        table=table,
        scalars=tf.TensorSpec((None, 2)),
        rows=table,
        prior_mean=table,
        standard=tf.TensorSpec((None,)),
        rate=tf.TensorSpec((None,)),
        normal=table,
        scale=tf.TensorSpec((2,)),
    )
    row = tf.TensorSpec((None,), tf.int64)
    other = tf.TensorSpec((None, None), index)
    value = tf.TensorSpec((None, None))
    return tf.function(draw, input_signature=(row, other, value, *given))


def _regressions(given: Given, row: tf.Tensor, other: tf.Tensor, value: tf.Tensor) -> _Regressions:
    scalars = tf.gather(given.scalars, other)
    weighted_bias = scalars[:, :, 0]
    root = scalars[:, :, 1]
    return _Regressions(
        design=tf.gather(given.table, other),
        target=value * root - weighted_bias,  # (r - b_i) beta^.5
        root=root,
        old=tf.gather(given.rows, row),
        mean=tf.gather(given.prior_mean, row),
        normal=tf.gather(given.normal, row),
        standard=tf.gather(given.standard, row),
        rate=tf.gather(given.rate, row),
    )


def _draw_with_few_ratings(batch: _Regressions) -> tuple[Draw, tf.Tensor]:
    """Return (rows, precisions), by way of the (L, L) matrices G G^T + I."""
    residual = batch.target - tf.linalg.matvec(batch.design, batch.old)
    squared = tf.reduce_sum(tf.square(residual), 1)
    precision = _draw_precision(batch, squared)

    # What is drawn is the deviation from m; alpha^.5 on both sides makes the noise a unit one.
    root = tf.sqrt(precision)
    explained = tf.linalg.matvec(batch.design, batch.mean)
    target = root * (batch.target - explained)
    design = root[:, :, None] * batch.design
    deviation = draw_from_few(design, target, batch.normal)
    return Draw(batch.mean + deviation.drawn, batch.mean + deviation.mean), precision


def _draw_with_many_ratings(batch: _Regressions) -> tuple[Draw, tf.Tensor]:
    """Return (rows, precisions), by way of the (D, D) matrices G^T G + I."""
    gram = tf.matmul(batch.design, batch.design, transpose_a=True)
    right = tf.linalg.matvec(batch.design, batch.target, transpose_a=True)

    # |t - G x|^2 = |t|^2 + x . (G^T G x - 2 G^T t): without another pass over G.
    image = tf.linalg.matvec(gram, batch.old) - 2.0 * right
    of_target = tf.reduce_sum(tf.square(batch.target), 1)
    squared = of_target + tf.reduce_sum(batch.old * image, 1)
    precision = _draw_precision(batch, squared)

    # A = alpha G^T G + I, b = alpha G^T t + m.
    a = precision[:, :, None] * gram + tf.eye(gram.shape[-1])
    b = precision * right + batch.mean
    return draw_gaussian(a, b, batch.normal), precision


def _draw_precision(batch: _Regressions, squared: tf.Tensor) -> tf.Tensor:
    """Return draws of alpha ~ Gamma(a + n / 2, rate a / tau + |t - G x|^2 / 2), shape (B, 1).

    The Gamma draws of rate 1 are there already; `squared` may be a rounding below 0.
    """
    total_rate = batch.rate + 0.5 * tf.maximum(squared, 0.0)
    return (batch.standard / total_rate)[:, None]


def _errors(
    batch: _Regressions,
    new: tf.Tensor,
    precision: tf.Tensor,
    value: tf.Tensor,
    scale: tf.Tensor,
) -> Errors:
    """Return the errors of the rows `new` (B, D) with noise `precision` (B, 1)."""
    residual = batch.target - tf.linalg.matvec(batch.design, new)
    weighted = tf.reduce_sum(precision * tf.square(residual))

    # The weight beta^.5 comes off again; where there is none, at padding, the error is 0.
    error = tf.math.divide_no_nan(residual, batch.root)
    predicted = tf.clip_by_value(value - error, scale[0], scale[1])
    squared = tf.square(value - predicted)
    clipped = tf.reduce_sum(tf.where(batch.root > 0.0, squared, 0.0))
    return Errors(clipped, weighted, tf.reduce_sum(error))
