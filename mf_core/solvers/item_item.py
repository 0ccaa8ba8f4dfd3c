"""The item-item learner: a denoising linear autoencoder, in factor form.

With X the targets of the ratings (0 where there is none), users by items, the weights between items
that rebuild each user's row from what dropout leaves of it have a closed form (DLAE; Steck 2020,
'Autoencoders that don't overfit towards the identity'):

    B = (G + L)^-1 G,   G = X^T X,   L = m (diag(G) + c),   m = p / (1 - p)
    scores = X B

p is the dropout, and m c the ridge. It needs no items x items matrix: with S = (diag(G) + c)^-1/2
and the eigenvectors W and values v of S G S,

    X B = (X S W f) (W f S^-1)^T,   f = sqrt(v / (v + m))

which is a factor model, exact with all eigenvectors. The leading ones come from subspace iteration
with a random start (Halko, Martinsson & Tropp 2011), one product with X S and its transpose a pass,
so any number of items will do. What is cut off is mostly noise: f is small there.
"""

import numpy as np
import tensorflow as tf

from mf_core.config import RankingHeadConfig
from mf_core.solvers.average import orthogonal
from mf_core.solvers.buckets import Side, with_zero_row
from mf_core.solvers.preference import Preferences
from mf_core.solvers.solver import Arrays

_OVERSAMPLING = 32
_PURPOSE = 1
# A product of so many columns at a time gathers no more than a batch of least squares does.
_COLUMNS_AT_A_TIME = 128


class ItemItem:
    """The learner, one pass of subspace iteration at a time.

    Attributes:
        limit: how many passes it takes.
    """

    def __init__(self, preferences: Preferences, settings: RankingHeadConfig, seed: int) -> None:
        """Begin with a random subspace."""
        users = preferences.users
        items = preferences.items
        self._users = users
        self._items = items
        self._for_lists = preferences.for_lists
        self.limit = settings.item_passes
        self._kept = min(settings.item_factors, users.n_active, items.n_active)
        self._ratio = settings.item_dropout / (1 - settings.item_dropout)

        # S, 0 for an item without ratings.
        squares = _sums_of_squares(items)
        self._scale = items.active() * tf.math.rsqrt(squares + settings.item_prior)
        self._held = 0.0
        self._energy = float(tf.reduce_sum(squares * tf.square(self._scale)))

        # More columns than are kept let the leading ones converge sooner.
        columns = min(self._kept + _OVERSAMPLING, users.n_active, items.n_active)
        start = tf.random.stateless_normal((items.n_rows, columns), seed=(seed, _PURPOSE))
        self._basis = start * items.active()

    def iterate(self) -> float:
        """Run one pass; return the root mean square of what the subspace leaves of X S."""
        basis = _orthonormal(self._basis)
        projected = self._forward(basis, self._users)
        self._basis = self._backward(projected)
        return self._rest(projected)

    def _forward(self, table: tf.Tensor, users: Side) -> tf.Tensor:
        """Return X S table, X being the targets of `users`."""
        return _product(users, self._scale * table)

    def _backward(self, table: tf.Tensor) -> tf.Tensor:
        """Return S X^T table."""
        return self._scale * _product(self._items, table)

    def _rest(self, projected: tf.Tensor) -> float:
        self._held = float(tf.reduce_sum(tf.square(projected)))
        n_ratings = float(tf.reduce_sum(self._users.count))
        return float(np.sqrt(max(self._energy - self._held, 0.0) / n_ratings))

    def factors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the factors of users and items, float32, of shapes (n, item_factors) at most."""
        basis = _orthonormal(self._basis)
        projected = self._forward(basis, self._users)

        # In float64, since squares lose half the bits.
        wide = tf.cast(projected, tf.float64)
        values, vectors = tf.linalg.eigh(tf.matmul(wide, wide, transpose_a=True))
        values = tf.maximum(values[::-1][: self._kept], 0.0)
        turn = tf.cast(vectors[:, ::-1][:, : self._kept], tf.float32)
        kept = tf.cast(tf.sqrt(values / (values + self._ratio)), tf.float32)

        if self._for_lists is not self._users:
            projected = self._forward(basis, self._for_lists)
        user = tf.matmul(projected, turn) * kept
        item = tf.math.divide_no_nan(tf.matmul(basis, turn) * kept, self._scale)
        return user, item

    def note(self) -> str:
        """Say how much of the targets the factors hold."""
        held = self._held / self._energy
        return (
            f"item-item weights in {self._kept} factors, which hold {held:.1%} of the sum of "
            "squares of the scaled targets"
        )

    def state(self) -> Arrays:
        """Return all that the next pass depends on."""
        return {"item_basis": self._basis.numpy(), "item_held": np.array([self._held])}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._basis = tf.constant(state["item_basis"])
        self._held = float(state["item_held"][0])


def _sums_of_squares(side: Side) -> tf.Tensor:
    """Return the sum of each row's squared targets; float32 tensor of shape (n_rows, 1)."""

    def of_batch(rows: tf.Tensor, other: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """Return the sums of one batch's rows."""
        return tf.reduce_sum(tf.square(value), axis=1, keepdims=True)

    return side.in_row_order(side.each_batch(of_batch))


def _product(side: Side, table: tf.Tensor) -> tf.Tensor:
    """Return M table, M the matrix of the side's targets; a few columns at a time."""
    parts = []
    for first in range(0, table.shape[1], _COLUMNS_AT_A_TIME):
        padded = with_zero_row(table[:, first : first + _COLUMNS_AT_A_TIME])

        def of_batch(
            rows: tf.Tensor, other: tf.Tensor, value: tf.Tensor, padded: tf.Tensor = padded
        ) -> tf.Tensor:
            """Return the weighted sums of one batch's rows."""
            return _weighted_sums(other, value, padded)

        parts.append(side.in_row_order(side.each_batch(of_batch)))
    return tf.concat(parts, axis=1)


def _sums(other: tf.Tensor, value: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Return each row's sum over the table's rows that it points at, weighted by its values."""
    gathered = tf.gather(table, other)
    return tf.matmul(value[:, None, :], gathered)[:, 0, :]


_weighted_sums = tf.function(_sums, reduce_retracing=True)


def _orthonormal(table: tf.Tensor) -> tf.Tensor:
    turn, _ = orthogonal(table)
    return tf.matmul(table, tf.cast(turn, tf.float32))
