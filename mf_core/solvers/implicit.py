"""Alternating least squares on implicit feedback, by conjugate gradients.

Implicit, iALS (Hu, Koren, Volinsky 2008; Rendle et al. 2021, 'Revisiting the performance of iALS on
item recommendation benchmarks'), over the set S of observed pairs, with targets t that say how much
the user liked the item:

    loss = sum_S (t_ui - x_u . y_i)^2 + alpha0 sum_all (x_u . y_i)^2
           + lambda (sum_u (n_u + alpha0 I)^nu |x_u|^2 + sum_i (n_i + alpha0 U)^nu |y_i|^2)
    t = lowest + (1 - lowest) (r - scale_low) / (relevant_from - scale_low)

The papers take the pairs that count as positive, all with target 1. A rating below `relevant_from`
is an observation too: the user chose the item, which most items can't say, and did not care for it
(docs/adr/0014-graded-targets.md).

The users' factors that the lists are made of solve the same equations with the targets of
`Preferences.for_lists`.

The weight of the unobserved pairs is in units of the root of the density: for n ratings alpha0 is
c sqrt(n / (U I)). With a fixed alpha0 the ridge of a row with few ratings in a large catalogue
hardly depends on its ratings, and all lists become one; in these units one c fits catalogues of 20
and of 20,000 items (docs/adr/0033-item-item-learner.md).

`sum_all` needs only alpha0 Y^T Y, once per sweep. In the basis of its eigenvectors a row's
equations are (D + G^T G) x = G^T t with D diagonal, and a few steps of conjugate gradients go on
from the row's last solution, as for explicit ratings: no K x K matrix is formed per row. U and I
count the users and items with an observed pair; the others have zero factors and would add nothing
to the loss.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import tensorflow as tf

from mf_core.config import RankingHeadConfig
from mf_core.solvers.buckets import Side, with_zero_row
from mf_core.solvers.conjugate import improve
from mf_core.solvers.preference import Preferences
from mf_core.solvers.solver import Arrays, Problem, Start

_INITIAL_SPREAD = 0.1
_ROUNDS_FOR_LISTS = 3
_Step = Callable[..., tuple[tf.Tensor, tf.Tensor]]


class ImplicitAls:
    """Implicit ALS, one sweep at a time; a pair's target follows from its rating.

    Attributes:
        limit: how many sweeps it takes.
    """

    def __init__(self, problem: Problem[RankingHeadConfig], preferences: Preferences) -> None:
        """Begin with random items, or where the problem's start says."""
        settings = problem.settings
        self._users = preferences.users
        self._items = preferences.items
        self._for_lists = preferences.for_lists
        self._n_ratings = len(problem.ratings)
        self.limit = problem.limit

        self._alpha0 = settings.unobserved_scale * self._density() ** 0.5
        self._user_ridge = self._ridge(self._users, self._items.n_active, settings)
        self._item_ridge = self._ridge(self._items, self._users.n_active, settings)
        index = self._users.batches[0].other.dtype
        self._step = _implicit_step(settings.n_factors, settings.conjugate_steps, index)

        # A sweep solves for the users first, so only the items need something to begin with.
        self._user = tf.zeros((problem.shape[0], settings.n_factors))
        self._item = _initial(self._items, settings.n_factors, problem.seed)
        if problem.start:
            self._begin_at(problem.start)

    def _density(self) -> float:
        """Return which share of the pairs is observed."""
        return self._n_ratings / (self._users.n_active * self._items.n_active)

    def _ridge(self, side: Side, n_other: int, settings: RankingHeadConfig) -> tf.Tensor:
        """Return lambda (n_row + alpha0 n_other)^nu for each row of a side."""
        frequency = side.count + self._alpha0 * n_other
        return settings.regularization * frequency**settings.regularization_exponent

    def _begin_at(self, start: Start) -> None:
        """Take over the start's factors; this model has no biases."""
        user = start.user[:, :-1]
        item = start.item[:, :-1]
        self._user = tf.constant(user)

        # A new item begins as all items do in a fit without a start.
        known = item.any(axis=1, keepdims=True)
        self._item = tf.where(known, item, self._item)

    def iterate(self) -> float:
        """Run one sweep; return the root mean square of target - score over the observed pairs."""
        self._user, _ = self._half(
            side=self._users, mine=self._user, other=self._item, ridge=self._user_ridge
        )
        self._item, squared_error = self._half(
            side=self._items, mine=self._item, other=self._user, ridge=self._item_ridge
        )
        mean_square = float(squared_error) / self._n_ratings
        return float(np.sqrt(mean_square))

    def _half(
        self, side: Side, mine: tf.Tensor, other: tf.Tensor, ridge: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the improved rows `mine` of `side` and the sum of squared errors with them."""
        # The term over all pairs couples the factors. In float64, since squares lose half the bits.
        gram = self._alpha0 * tf.matmul(other, other, transpose_a=True)
        values, vectors = tf.linalg.eigh(tf.cast(gram, tf.float64))
        weight = tf.cast(tf.maximum(values, 0.0), tf.float32)
        basis = tf.cast(vectors, tf.float32)

        # In the basis of the eigenvectors it is a diagonal, which costs a row nothing.
        table = with_zero_row(tf.matmul(other, basis))
        old = tf.matmul(mine, basis)
        given = (table, weight, ridge, old)
        turned, squared_error = side.solutions_of(lambda *batch: self._step(*batch, *given))
        return tf.matmul(turned, basis, transpose_b=True), squared_error

    def note(self) -> str:
        """Say nothing: least squares leave nothing out."""
        return ""

    def state(self) -> Arrays:
        """Return all that the next sweep depends on."""
        return {"user": self._user.numpy(), "item": self._item.numpy()}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._user = tf.constant(state["user"])
        self._item = tf.constant(state["item"])

    def factors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the factors of users and items, float32 tensors of shapes (n, n_factors)."""
        user = self._user
        if self._for_lists is not self._users:
            # Begun at the fit's rows, three times its steps come close to the solution.
            for _ in range(_ROUNDS_FOR_LISTS):
                user, _ = self._half(
                    side=self._for_lists, mine=user, other=self._item, ridge=self._user_ridge
                )
        return user, self._item


def _initial(side: Side, n_factors: int, seed: int) -> tf.Tensor:
    """Return random rows for a side, zeros for those without ratings."""
    shape = (side.n_rows, n_factors)
    noise = tf.random.stateless_normal(shape, seed=(seed, 0), stddev=_INITIAL_SPREAD)
    return noise * side.active()


@cache
def _implicit_step(n_factors: int, steps: int, index: tf.DType) -> _Step:
    """Return the function that improves one batch.

    It takes (*batch, table, weight, ridge, old) and returns (solutions (B, K), squared error). The
    values of the batch are the targets; `table`, `old` and the solutions are in the basis in which
    alpha0 Y^T Y is the diagonal `weight` (K,). All fits of a process share the function's trace.
    """

    # A traced function takes its tensors in the order of the signature below.
    def step(  # noqa: PLR0917
        rows: tf.Tensor,
        other: tf.Tensor,
        target: tf.Tensor,
        table: tf.Tensor,
        weight: tf.Tensor,
        ridge: tf.Tensor,
        old: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Improve one batch of rows, and measure its squared error."""
        # G, and D = alpha0 Y^T Y + ridge.
        design = tf.gather(table, other)
        diagonal = weight + tf.gather(ridge, rows)[:, None]

        # The inverse of the whole diagonal of D + G^T G is the preconditioner.
        scale = 1.0 / (diagonal + tf.reduce_sum(tf.square(design), axis=1))
        start = tf.gather(old, rows)
        return improve(
            design=design, diagonal=diagonal, scale=scale, target=target, start=start, steps=steps
        )

    def floats(*shape: int | None) -> tf.TensorSpec:
        """Return the signature of a float32 tensor."""
        return tf.TensorSpec(shape, tf.float32)

    signature = (
        tf.TensorSpec((None,), tf.int64),  # rows
        tf.TensorSpec((None, None), index),  # other
        floats(None, None),  # target
        floats(None, n_factors),  # table
        floats(n_factors),  # weight
        floats(None),  # ridge
        floats(None, n_factors),  # old
    )
    return tf.function(step, input_signature=signature)
