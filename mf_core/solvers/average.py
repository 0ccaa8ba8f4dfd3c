"""The mean of the sampled models as one model of bounded rank.

The mean over samples of x_u . y_i is a dot product of the samples' factors laid side by side, so it
has a truncated SVD

    (1/n) sum_s X_s Y_s^T  ~  L R^T

Samples wait in a buffer; when it is full they are merged into L R^T, so memory stays bounded
however many are kept. The biases are averaged as they are.
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
    """Return (L, R) of at most `rank` columns each: L R^T best approximates left right^T.

    With right = Q C, Q orthonormal, left right^T = (left C^T) Q^T: the right singular vectors of
    the tall left C^T turn Q. They are the eigenvectors of a small matrix, which in float64, squares
    and all, is good to float32.
    """
    # (left C^T)^T (left C^T) = C left^T left C^T
    basis, core = orthogonal(right)
    inner = tf.matmul(core, tf.matmul(_gram(left), core, transpose_b=True))

    # eigh has the smallest first; what is noise is left out by zero columns, so shapes stay.
    squares, vectors = tf.linalg.eigh(inner)
    squares = squares[::-1][:rank]
    vectors = vectors[:, ::-1][:, :rank]
    kept = squares > squares[0] * _LEAST_SQUARE
    vectors *= tf.cast(kept, tf.float64)

    # Both sides get the root of the singular value, which is the fourth root of its square.
    root = tf.where(kept, squares, 1.0) ** 0.25
    turn_left = tf.matmul(core, vectors / root, transpose_a=True)
    turn_right = tf.matmul(basis, vectors * root)
    new_left = tf.matmul(left, tf.cast(turn_left, tf.float32))
    new_right = tf.matmul(right, tf.cast(turn_right, tf.float32))
    return new_left, new_right


def orthogonal(table: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return float64 (T, C): table T has orthonormal (or zero) columns and table = (table T) C.

    From the Gram matrix, in float64 so that it is good to float32: a QR of a tall table would cost
    several times more.
    """
    values, vectors = tf.linalg.eigh(_gram(table))
    kept = values > values[-1] * _LEAST_SQUARE

    # With table^T table = V S^2 V^T: T = V S^-1, C = S V^T. Dropped directions are 0 in both.
    root = tf.sqrt(tf.where(kept, values, 0.0))
    inverse = tf.where(kept, tf.math.rsqrt(tf.where(kept, values, 1.0)), 0.0)
    return vectors * inverse, root[:, None] * tf.transpose(vectors)


def _gram(table: tf.Tensor) -> tf.Tensor:
    """Return table^T table in float64, of which no more than a block of the table is ever held."""
    width = tf.shape(table)[1]
    total = tf.zeros((width, width), tf.float64)
    for start in tf.range(0, tf.shape(table)[0], _ROWS_AT_A_TIME):
        block = tf.cast(table[start : start + _ROWS_AT_A_TIME], tf.float64)
        total += tf.matmul(block, block, transpose_a=True)
    return total


_compress = tf.function(compress, reduce_retracing=True)


class RunningMean:
    """The sum of the samples so far.

    It is held as sums of biases and as two tables whose product is the sum of x_u . y_i.
    """

    def __init__(self, n_users: int, n_items: int, n_factors: int, rank: int) -> None:
        """`rank` is the most that is kept of the sum between merges."""
        self.n_samples = 0
        self._rank = min(rank, n_users, n_items)
        self._columns = max(BUFFERED_COLUMNS, rank) // n_factors * n_factors
        self._biases = [tf.zeros(n_users), tf.zeros(n_items)]
        self._tables = [tf.zeros((n_users, 0)), tf.zeros((n_items, 0))]
        self._waiting: list[tuple[tf.Tensor, tf.Tensor]] = []

    def add(self, user: tf.Tensor, item: tf.Tensor) -> None:
        """Add a sample; each row of a side is (factors, bias)."""
        self.n_samples += 1
        self._biases = [self._biases[0] + user[:, -1], self._biases[1] + item[:, -1]]
        self._waiting.append((user[:, :-1], item[:, :-1]))

        # Merging costs the same for few columns as for many, so it waits for a full buffer.
        waiting_columns = sum(x.shape[1] for x, _ in self._waiting)
        if waiting_columns >= self._columns:
            left, right = self._together()
            self._tables = list(_compress(left, right, tf.constant(self._rank)))
            self._waiting = []

    def _together(self) -> list[tf.Tensor]:
        """Return the two tables with the waiting samples beside them."""
        waiting_users = [x for x, _ in self._waiting]
        waiting_items = [y for _, y in self._waiting]
        left = tf.concat([self._tables[0], *waiting_users], axis=1)
        right = tf.concat([self._tables[1], *waiting_items], axis=1)
        return [left, right]

    def mean(self, rank: int) -> list[tf.Tensor]:
        """Return (user bias, item bias, user factors, item factors) of the mean.

        The factors have `rank` columns at most.
        """
        left, right = self._together()
        if left.shape[1] > rank:
            left, right = _compress(left, right, tf.constant(rank))

        # 1/n belongs to the product, so each of its sides gets the root of it.
        scale = 1.0 / max(self.n_samples, 1)
        biases = [bias * scale for bias in self._biases]
        return [*biases, left * scale**0.5, right * scale**0.5]

    def state(self) -> Arrays:
        """Return the sums and the waiting samples."""
        state: Arrays = {"mean_samples": np.array([self.n_samples])}
        for at, name in enumerate(_NAMES):
            state[f"{name}_bias"] = self._biases[at].numpy()
            state[f"{name}_table"] = self._tables[at].numpy()
            if self._waiting:
                columns = [pair[at] for pair in self._waiting]
                state[f"{name}_waiting"] = tf.concat(columns, axis=1).numpy()
        return state

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self.n_samples = int(state["mean_samples"][0])
        self._biases = [tf.constant(state[f"{name}_bias"]) for name in _NAMES]
        self._tables = [tf.constant(state[f"{name}_table"]) for name in _NAMES]
        # One sample as wide as all that waited: the same columns in the same order.
        waiting = [state.get(f"{name}_waiting") for name in _NAMES]
        left, right = waiting
        self._waiting = []
        if left is not None and right is not None:
            self._waiting.append((tf.constant(left), tf.constant(right)))
