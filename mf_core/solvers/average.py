"""The mean of the sampled models as one model of bounded rank.

The mean over samples of x_u . y_i is a dot product of the samples' factors laid side by side, so it has a truncated SVD

    (1/n) sum_s X_s Y_s^T  ~  L R^T

Samples wait in a buffer; when it is full they are merged into L R^T, so memory stays bounded however many are kept. The
biases are averaged as they are.
"""

import numpy as np
import tensorflow as tf

from mf_core.solvers.solver import Arrays

BUFFERED_COLUMNS = 256
_ROWS_AT_A_TIME = 1 << 13
_NAMES = ("mean_user", "mean_item")
_LEAST_SQUARE = 1e-13
"""Of the largest: a direction below a millionth of the longest one is float32 noise."""


def compress(left: tf.Tensor, right: tf.Tensor, rank: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (L, R) of at most `rank` columns each with L R^T the best approximation of left right^T.

    With right = Q C, Q orthonormal, left right^T = (left C^T) Q^T: the right singular vectors of the tall left C^T turn Q. They
    are the eigenvectors of a small matrix, which in float64, squares and all, is good to float32.
    """
    basis, core = orthogonal(right)
    inner = tf.matmul(core, tf.matmul(_gram(left), core, transpose_b=True))
    squares, vectors = tf.linalg.eigh(inner)
    squares, vectors = squares[::-1][:rank], vectors[:, ::-1][:, :rank]
    kept = squares > squares[0] * _LEAST_SQUARE
    root = tf.where(kept, squares, 1.0) ** 0.25  # of the singular value
    vectors *= tf.cast(kept, tf.float64)
    turns = tf.matmul(core, vectors / root, transpose_a=True), tf.matmul(basis, vectors * root)
    new_left, new_right = (
        tf.matmul(side, tf.cast(turn, tf.float32))
        for side, turn in zip((left, right), turns, strict=True)
    )
    return new_left, new_right


def orthogonal(table: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return float64 (T, C) such that table T has orthonormal columns (or zero ones) and table = (table T) C.

    From the Gram matrix, in float64 so that it is good to float32: a QR of a tall table would cost several times more.
    """
    values, vectors = tf.linalg.eigh(_gram(table))
    kept = values > values[-1] * _LEAST_SQUARE
    root = tf.sqrt(tf.where(kept, values, 0.0))
    inverse = tf.where(kept, tf.math.rsqrt(tf.where(kept, values, 1.0)), 0.0)
    return vectors * inverse, root[:, None] * tf.transpose(vectors)


def _gram(table: tf.Tensor) -> tf.Tensor:
    """Return table^T table in float64, of which no more than a block of the table is ever held."""
    total = tf.zeros((tf.shape(table)[1], tf.shape(table)[1]), tf.float64)
    for start in tf.range(0, tf.shape(table)[0], _ROWS_AT_A_TIME):
        block = tf.cast(table[start : start + _ROWS_AT_A_TIME], tf.float64)
        total += tf.matmul(block, block, transpose_a=True)
    return total


_compress = tf.function(compress, reduce_retracing=True)


class RunningMean:
    """The sum of the samples so far, as sums of biases and as two tables whose product is the sum of x_u . y_i."""

    def __init__(self, n_users: int, n_items: int, n_factors: int, rank: int) -> None:
        """`rank` is the most that is kept of the sum between merges."""
        self.n_samples, self._rank = 0, min(rank, n_users, n_items)
        self._columns = max(BUFFERED_COLUMNS, rank) // n_factors * n_factors
        self._biases = [tf.zeros(n_users), tf.zeros(n_items)]
        self._tables = [tf.zeros((n_users, 0)), tf.zeros((n_items, 0))]
        self._waiting: list[tuple[tf.Tensor, tf.Tensor]] = []

    def add(self, user: tf.Tensor, item: tf.Tensor) -> None:
        """Add a sample; each row of a side is (factors, bias)."""
        self.n_samples += 1
        self._biases = [
            total + side[:, -1] for total, side in zip(self._biases, (user, item), strict=True)
        ]
        self._waiting.append((user[:, :-1], item[:, :-1]))
        if sum(side.shape[1] for side, _ in self._waiting) >= self._columns:
            self._tables, self._waiting = (
                list(_compress(*self._together(), tf.constant(self._rank))),
                [],
            )

    def _together(self) -> list[tf.Tensor]:
        return [
            tf.concat([table, *(pair[at] for pair in self._waiting)], axis=1)
            for at, table in enumerate(self._tables)
        ]

    def mean(self, rank: int) -> list[tf.Tensor]:
        """Return (user bias, item bias, user factors, item factors) of the mean, factors of `rank` columns at most."""
        left, right = self._together()
        if left.shape[1] > rank:
            left, right = _compress(left, right, tf.constant(rank))
        scale = 1.0 / max(self.n_samples, 1)
        return [*(bias * scale for bias in self._biases), left * scale**0.5, right * scale**0.5]

    def state(self) -> Arrays:
        """Return the sums and the waiting samples."""
        state: Arrays = {"mean_samples": np.array([self.n_samples])}
        for at, name in enumerate(_NAMES):
            state[f"{name}_bias"] = self._biases[at].numpy()
            state[f"{name}_table"] = self._tables[at].numpy()
            if self._waiting:
                state[f"{name}_waiting"] = tf.concat(
                    [pair[at] for pair in self._waiting], axis=1
                ).numpy()
        return state

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self.n_samples = int(state["mean_samples"][0])
        self._biases = [tf.constant(state[f"{name}_bias"]) for name in _NAMES]
        self._tables = [tf.constant(state[f"{name}_table"]) for name in _NAMES]
        left, right = (state.get(f"{name}_waiting") for name in _NAMES)
        self._waiting = (
            [] if left is None or right is None else [(tf.constant(left), tf.constant(right))]
        )
