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
    gram = _gram(left)
    inner = tf.matmul(core, tf.matmul(gram, core, transpose_b=True))

    # eigh has the smallest first; what is noise is left out by zero columns, so shapes stay.
    squares, vectors = _eigh(inner)
    squares = squares[::-1][:rank]
    vectors = vectors[:, ::-1][:, :rank]
    least = squares[0] * _LEAST_SQUARE
    kept = squares > least
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
    # table^T table = V S^2 V^T
    gram = _gram(table)
    values, vectors = _eigh(gram)
    least = values[-1] * _LEAST_SQUARE
    kept = values > least

    # T = V S^-1, C = S V^T; a direction that is dropped is 0 in both.
    root = tf.sqrt(tf.where(kept, values, 0.0))
    divisible = tf.where(kept, values, 1.0)
    inverse = tf.where(kept, tf.math.rsqrt(divisible), 0.0)
    turn = vectors * inverse
    core = root[:, None] * tf.transpose(vectors)
    return turn, core


def _eigh(matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (values, vectors) of a symmetric float64 matrix of some hundred rows.

    LAPACK finds them three times faster than TensorFlow does on a CPU, where this happens even if
    the rest is on a GPU.
    """
    types = (tf.float64, tf.float64)
    with tf.device("/CPU:0"):
        values, vectors = tf.numpy_function(np.linalg.eigh, [matrix], types, stateful=False)
    values.set_shape(matrix.shape[:1])
    vectors.set_shape(matrix.shape)
    return values, vectors


def _gram(table: tf.Tensor) -> tf.Tensor:
    """Return table^T table in float64, of which no more than a block of the table is ever held."""
    n_rows = tf.shape(table)[0]
    width = tf.shape(table)[1]
    total = tf.zeros((width, width), tf.float64)
    for start in tf.range(0, n_rows, _ROWS_AT_A_TIME):
        stop = start + _ROWS_AT_A_TIME
        block = tf.cast(table[start:stop], tf.float64)
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

        # As many whole samples wait as the buffer holds, or as are worth a merge.
        buffered = max(BUFFERED_COLUMNS, rank)
        self._columns = buffered // n_factors * n_factors
        self._waiting: list[tuple[tf.Tensor, tf.Tensor]] = []

        # Of the users and of the items; the tables have no column yet.
        self._biases = [tf.zeros(n_users), tf.zeros(n_items)]
        no_columns_of_users = tf.zeros((n_users, 0))
        no_columns_of_items = tf.zeros((n_items, 0))
        self._tables = [no_columns_of_users, no_columns_of_items]

    def add(self, user: tf.Tensor, item: tf.Tensor) -> None:
        """Add a sample; each row of a side is (factors, bias)."""
        self.n_samples += 1
        user_bias, item_bias = self._biases
        self._biases = [user_bias + user[:, -1], item_bias + item[:, -1]]
        x = user[:, :-1]
        y = item[:, :-1]
        self._waiting.append((x, y))

        # Most of a merge is spent on the columns merged before, so it waits for a full buffer.
        n_waiting = sum(waiting.shape[1] for waiting, _ in self._waiting)
        if n_waiting >= self._columns:
            self._merge()

    def _merge(self) -> None:
        """Put the waiting samples into the tables."""
        left, right = self._together()
        rank = tf.constant(self._rank)
        self._tables = list(_compress(left, right, rank))
        self._waiting = []

    def _together(self) -> list[tf.Tensor]:
        """Return the two tables with the waiting samples beside them."""
        left, right = self._tables
        of_users = [left]
        of_items = [right]
        for x, y in self._waiting:
            of_users.append(x)
            of_items.append(y)
        return [tf.concat(of_users, axis=1), tf.concat(of_items, axis=1)]

    def mean(self, rank: int) -> list[tf.Tensor]:
        """Return (user bias, item bias, user factors, item factors) of the mean.

        The factors have `rank` columns at most.
        """
        left, right = self._together()
        if left.shape[1] > rank:
            left, right = _compress(left, right, tf.constant(rank))

        # 1/n belongs to the product, so each of its sides gets the root of it.
        scale = 1.0 / max(self.n_samples, 1)
        root = scale**0.5
        user_bias, item_bias = self._biases
        return [user_bias * scale, item_bias * scale, left * root, right * root]

    def state(self) -> Arrays:
        """Return the sums and the waiting samples."""
        state: Arrays = {"mean_samples": np.array([self.n_samples])}
        for at, name in enumerate(_NAMES):
            state[f"{name}_bias"] = self._biases[at].numpy()
            state[f"{name}_table"] = self._tables[at].numpy()
            if self._waiting:
                columns = [pair[at] for pair in self._waiting]
                waiting = tf.concat(columns, axis=1)
                state[f"{name}_waiting"] = waiting.numpy()
        return state

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self.n_samples = int(state["mean_samples"][0])
        self._biases = [tf.constant(state[f"{name}_bias"]) for name in _NAMES]
        self._tables = [tf.constant(state[f"{name}_table"]) for name in _NAMES]

        # One sample as wide as all that waited: the same columns in the same order.
        self._waiting = []
        if f"{_NAMES[0]}_waiting" in state:
            left, right = (tf.constant(state[f"{name}_waiting"]) for name in _NAMES)
            self._waiting.append((left, right))
