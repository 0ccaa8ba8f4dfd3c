"""Implicit features: who rated what, as a few numbers per row.

The pattern M has 1 where a training rating stands. With D the number of ratings per user and E per
item, a user's features are its row of D^-.4 M E^-.25, an item's its row of E^-.4 M^T D^-.25. With
powers -.5 and 0 they would be SVD++'s normalised sum over the rated items (Koren 2008); with these
a rarely rated item tells more, each of its few raters having chosen it. Both are used through their
singular vectors,

    D^-.4 M E^-.25 = P S Q^T,   features = P S

A Gaussian prior on the regression weights is the same in any rotated basis, so all singular vectors
together are the full pattern, exactly; the leading ones are a short cut. They come from subspace
iteration with a random start (Halko, Martinsson & Tropp 2011), whose products with M are gathers
and sums over the solver's own batches.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from mf_core.data.ratings import Float32s
from mf_core.solvers.average import orthogonal
from mf_core.solvers.buckets import Side, with_zero_row

OVERSAMPLING = 16
_PASSES = 4
_ROW_POWER = -0.4
_COLUMN_POWER = -0.25
_ATTRIBUTE_SCALE = 0.1
_LEAST_VALUE = 1e-7
_Product = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Features:
    """Features P S of one side's rows; a row without ratings has the mean of the others.

    Attributes:
        basis: float32 tensor P of shape (n_rows, J), orthonormal columns.
        scale: float32 tensor S of shape (J,).
    """

    basis: tf.Tensor
    scale: tf.Tensor


def pattern_features(mine: Side, other: Side, rank: int, seed: tuple[int, int]) -> Features:
    """Return the leading `rank` features of `mine`'s rows, or all where there are fewer.

    `seed` decides the random start.
    """
    if not rank:
        return Features(tf.zeros((mine.n_rows, 0)), tf.zeros(0))
    full = min(mine.n_rows, mine.n_other)
    kept = min(rank, full)
    # More columns than are kept let the leading ones converge sooner.
    sampled = min(rank + OVERSAMPLING, full)
    passes = _PASSES if sampled < full else 1
    pattern = _NormalisedPattern(mine, other)
    random = tf.random.stateless_normal((mine.n_other, sampled), seed)
    basis, core = pattern.leading_subspace(random, passes)

    # The normalised pattern is about basis core^T; the singular vectors of the small core turn the
    # basis into P.
    gram = tf.matmul(core, core, transpose_a=True)
    values, vectors = tf.linalg.eigh(gram)
    values = values[::-1][:kept]
    vectors = vectors[:, ::-1][:, :kept]
    rated = tf.matmul(basis, vectors)
    return Features(
        basis=_at_the_mean(rated, mine.active()),
        scale=tf.sqrt(tf.maximum(values, 0.0)),
    )


class _NormalisedPattern:
    """The matrix N = D^-.4 M E^-.25 by its products.

    D and E are the numbers of ratings per row of `mine` and of `other`.
    """

    def __init__(self, mine: Side, other: Side) -> None:
        self._scale = _power(mine, _ROW_POWER)
        self._other_scale = _power(other, _COLUMN_POWER)
        self._forward = _neighbour_sums(mine)
        self._backward = _neighbour_sums(other)

    def leading_subspace(self, random: tf.Tensor, passes: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (Q, N^T Q), Q the orthonormal columns that subspace iteration arrives at."""
        # N random
        scaled = self._other_scale * random
        basis = self._scale * self._forward(scaled)

        # N N^T Q: made orthonormal each time, or all columns would turn into the leading one.
        for _ in range(passes):
            scaled = self._scale * _orthonormal(basis)
            back = self._backward(scaled)
            scaled = self._other_scale**2 * back
            basis = self._scale * self._forward(scaled)

        basis = _orthonormal(basis)
        scaled = self._scale * basis
        return basis, self._other_scale * self._backward(scaled)


def _neighbour_sums(side: Side) -> _Product:
    """Return the function table -> M table.

    The gathered rows are added up as they come; no batch of them is ever held.
    """

    def add_up(other: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """Return each row's sum over the table's rows that it points at."""
        n_rows = tf.shape(other)[0]
        length = tf.shape(other)[1]
        row = tf.repeat(tf.range(n_rows), length)
        places = tf.reshape(other, [-1])
        return tf.sparse.segment_sum(table, places, row)

    other = tf.TensorSpec((None, None), side.batches[0].other.dtype)
    table = tf.TensorSpec((None, None))
    traced = tf.function(add_up, input_signature=(other, table))

    def product(table: tf.Tensor) -> tf.Tensor:
        """Return M table."""
        padded = with_zero_row(table)

        def sums_of(rows: tf.Tensor, other: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
            """Return the sums of one batch's rows."""
            return traced(other, padded)

        return side.in_row_order(side.each_batch(sums_of))

    return product


def _orthonormal(table: tf.Tensor) -> tf.Tensor:
    turn, _ = orthogonal(table)
    return tf.matmul(table, tf.cast(turn, tf.float32))


def _power(side: Side, exponent: float) -> tf.Tensor:
    """Return each row's number of ratings to a power, as a column; 1 for a row without any."""
    count = tf.maximum(side.count, 1.0)
    return count[:, None] ** exponent


def _at_the_mean(basis: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """Return `basis` with the mean of the rated rows for those without ratings.

    Nothing is known of their raters. Zeros would say that nobody wanted them: they would be
    predicted as something worse than the least popular.
    """
    mean = tf.reduce_sum(basis * active, axis=0, keepdims=True) / tf.reduce_sum(active)
    return basis * active + (1.0 - active) * mean


def with_attributes(pattern: Features, attributes: Float32s, active: tf.Tensor) -> Features:
    """Return features of the pattern and of the rows' attributes together.

    The two are columns of one table X of features; with X = P S Q^T over the rows with ratings, P S
    is the same features in another basis, and a row x without ratings stands at P = x Q S^-1: the
    mean of the pattern, and attributes of its own.

    Args:
        pattern: the pattern's features.
        attributes: float32 array of shape (n_rows, F): indicators and standardised numbers.
        active: float32 tensor of shape (n_rows, 1), 1 for the rows with ratings.
    """
    of_pattern = pattern.basis * pattern.scale
    of_attributes = _ATTRIBUTE_SCALE * tf.constant(attributes)
    table = tf.concat([of_pattern, of_attributes], axis=1)

    # X^T X = Q S^2 Q^T, over the rows with ratings; in float64, since squares lose half the bits.
    rated = tf.cast(table * active, tf.float64)
    values, vectors = tf.linalg.eigh(tf.matmul(rated, rated, transpose_a=True))

    # A direction in which the rated rows hardly differ tells nothing, and dividing by its length
    # would be noise.
    kept = values > _LEAST_VALUE * values[-1]
    scale = tf.sqrt(values[kept])
    turn = tf.boolean_mask(vectors, kept, axis=1) / scale

    # P = X Q S^-1
    basis = tf.matmul(table, tf.cast(turn, tf.float32))
    return Features(basis, tf.cast(scale, tf.float32))
