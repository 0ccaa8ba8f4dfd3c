"""myfm (Ohtsuki): Bayesian factorization machines by Gibbs sampling, one thread.

Settings: rank; features: `plain` (user and item ids), `svdpp` (also the items that a user rated) or
`svdpp_both` (also the users who rated an item), each of weight 1 / sqrt(their number), from the
training rows only; seconds: stop when they are over. The prediction is the mean of all samples but
the first five, as is the package's own default.
"""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import myfm
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, hstack, identity, spmatrix

if TYPE_CHECKING:
    from benchmarks.peers.contract import Columns, Task
else:
    from contract import Task

_LEFT_OUT = 5

# The design matrix of some rows, and their relation blocks, as myfm takes both.
Design = tuple[csr_matrix, list[Any]]


@dataclass(frozen=True)
class _Inputs:
    """What myfm is given.

    `groups` are the numbers of columns that share a prior, in the order of the columns.
    """

    train: Design
    held_out: Design
    groups: list[int]


def main() -> None:
    """Fit once, and print the points on the way."""
    task = Task()
    features = task.settings.pop("features")
    seconds_limit = task.settings.pop("seconds")
    points = {*task.settings.pop("points", []), task.iterations}

    since = time.perf_counter()
    inputs = _plain(task) if features == "plain" else _blocks(task, features)
    task.prepared(since)

    follower = _Follower(task, inputs.held_out, points, seconds_limit)
    model = myfm.MyFMRegressor(random_seed=task.seed + 42, **task.settings)
    os.environ["TQDM_DISABLE"] = "1"
    design, blocks = inputs.train
    _, _, rating = task.train
    task.start()
    # The samples' predictions are summed up by the follower; kept samples would only cost memory.
    model.fit(
        design,
        rating,
        X_rel=blocks,
        n_iter=task.iterations,
        n_kept_samples=1,
        group_shapes=inputs.groups,
        callback=follower.follow,
    )


class _Follower:
    """Sums up the samples' predictions of the held-out rows while the clock stands."""

    def __init__(
        self, task: Task, held_out: Design, points: set[int], seconds_limit: float
    ) -> None:
        self.task = task
        self.held_out = held_out
        self.points = points
        self.seconds_limit = seconds_limit
        _, _, rating = task.held_out
        self.total = np.zeros(len(rating))

    def follow(self, sweep: int, sample: Any, hyper: Any, history: Any) -> tuple[bool, None]:
        """Called by myfm after each sweep, from 0; returns whether to stop, and no message."""
        seconds = self.task.pause()
        done = sweep + 1

        # The prediction is the mean of the samples so far, the burn-in left out.
        if done > _LEFT_OUT:
            self.total += sample.predict_score(*self.held_out)
            over = seconds > self.seconds_limit
            if over or done in self.points:
                self.task.report(seconds, done, self.total / (done - _LEFT_OUT))
            if over:
                return True, None

        self.task.resume()
        return False, None


def _plain(task: Task) -> _Inputs:
    """One-hot users and items side by side."""
    return _Inputs(
        train=(_one_hot(task, task.train), []),
        held_out=(_one_hot(task, task.held_out), []),
        groups=[task.n_users, task.n_items],
    )


def _one_hot(task: Task, side: "Columns") -> csr_matrix:
    """Return the ids as ones in a matrix of shape (n, n_users + n_items)."""
    user, item, _ = side
    n = len(user)

    # Written in the compressed form itself: two ones in each row, in the columns `user` and
    # `n_users + item`.
    columns = np.stack([user, item + task.n_users], axis=1).ravel()
    row_ends = np.arange(0, 2 * n + 1, 2)
    shape = (n, task.n_users + task.n_items)
    return csr_matrix((np.ones(2 * n), columns, row_ends), shape=shape)


def _blocks(task: Task, features: str) -> _Inputs:
    """The same as relation blocks (Rendle 2013), with who rated what beside the ids."""
    user, item, _ = task.train
    shape = (task.n_users, task.n_items)
    rated = csr_matrix((np.ones(len(user)), (user, item)), shape=shape)

    # A user's row is his id and the items that he rated.
    users = hstack([identity(task.n_users), scaled(rated)])
    items = identity(task.n_items)
    groups = [task.n_users, task.n_items, task.n_items]

    if features == "svdpp_both":
        items = hstack([items, scaled(rated.T)])
        groups.append(task.n_users)

    return _Inputs(
        train=_related(task.train, users, items),
        held_out=_related(task.held_out, users, items),
        groups=groups,
    )


def _related(side: "Columns", users: spmatrix, items: spmatrix) -> Design:
    """Return ratings that say no more than which user and which item they are of.

    All features are in the blocks, so the design matrix itself has no column.
    """
    user, item, _ = side
    design = csr_matrix((len(user), 0))
    blocks = [block(user, users), block(item, items)]
    return design, blocks


def block(rows: NDArray[Any], features: spmatrix) -> Any:
    """Return a block: rating n has row `rows[n]` of `features`."""
    return myfm.RelationBlock(rows.tolist(), csr_matrix(features))


def scaled(rows: spmatrix) -> spmatrix:
    """Return `rows` with each one of weight 1 / sqrt(the number in its row)."""
    rows = csr_matrix(rows)
    # A row without ones stays empty, whatever its weight.
    n_in_row = np.maximum(np.diff(rows.indptr), 1)

    weights = 1.0 / np.sqrt(n_in_row)
    return diags(weights) @ rows


if __name__ == "__main__":
    main()
