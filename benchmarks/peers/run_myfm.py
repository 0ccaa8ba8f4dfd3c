"""myfm (Ohtsuki): Bayesian factorization machines by Gibbs sampling, one thread.

Settings: rank; features: `plain` (user and item ids), `svdpp` (also the items that a user rated) or `svdpp_both` (also the users
who rated an item), each of weight 1 / sqrt(their number), from the training rows only; seconds: stop when they are over. The
prediction is the mean of all samples but the first five, as is the package's own default.
"""

import os
import time

import myfm
import numpy as np
from contract import Task
from scipy.sparse import csr_matrix, diags, hstack, identity

_LEFT_OUT = 5


def main() -> None:
    task = Task()
    features, seconds_limit = task.settings.pop("features"), task.settings.pop("seconds")
    points = set(task.settings.pop("points", [])) | {task.iterations}
    since = time.perf_counter()
    inputs, held_out, groups = (_plain if features == "plain" else _blocks)(task, features)
    task.prepared(since)
    follower = _Follower(task, held_out, points, seconds_limit)
    model = myfm.MyFMRegressor(random_seed=task.seed + 42, **task.settings)
    os.environ["TQDM_DISABLE"] = "1"
    task.start()
    # The samples' predictions are summed up by the follower; kept samples would only cost memory.
    model.fit(
        inputs[0],
        task.train[2],
        X_rel=inputs[1],
        n_iter=task.iterations,
        n_kept_samples=1,
        group_shapes=groups,
        callback=follower.follow,
    )


class _Follower:
    """Sums up the samples' predictions of the held-out rows while the clock stands."""

    def __init__(self, task, held_out, points, seconds_limit) -> None:
        self.task, self.held_out, self.points, self.seconds_limit = (
            task,
            held_out,
            points,
            seconds_limit,
        )
        self.total = np.zeros(len(task.held_out[2]))

    def follow(self, sweep, sample, hyper, history):
        """Called by myfm after each sweep, from 0; returns whether to stop, and no message."""
        seconds = self.task.pause()
        done = sweep + 1
        if done > _LEFT_OUT:
            self.total += sample.predict_score(*self.held_out)
            over = seconds > self.seconds_limit
            if over or done in self.points:
                self.task.report(seconds, done, self.total / (done - _LEFT_OUT))
            if over:
                return True, None
        self.task.resume()
        return False, None


def _plain(task, features):
    """One-hot users and items side by side."""

    def design(user, item):
        n = len(user)
        columns = np.stack([user, item + task.n_users], axis=1).ravel()
        return csr_matrix(
            (np.ones(2 * n), columns, np.arange(0, 2 * n + 1, 2)),
            shape=(n, task.n_users + task.n_items),
        )

    return (
        (design(*task.train[:2]), []),
        (design(*task.held_out[:2]), []),
        [task.n_users, task.n_items],
    )


def _blocks(task, features):
    """The same as relation blocks (Rendle 2013), with who rated what beside the ids."""
    user, item, _ = task.train
    rated = csr_matrix((np.ones(len(user)), (user, item)), shape=(task.n_users, task.n_items))
    users, items = identity(task.n_users), identity(task.n_items)
    groups = [task.n_users, task.n_items]
    users, groups = hstack([users, _scaled(rated)]), [task.n_users, task.n_items, task.n_items]
    if features == "svdpp_both":
        items, groups = hstack([items, _scaled(rated.T)]), [*groups, task.n_users]

    def both(rows):
        blocks = [
            myfm.RelationBlock(row.tolist(), csr_matrix(block))
            for row, block in zip(rows, (users, items), strict=True)
        ]
        return csr_matrix((len(rows[0]), 0)), blocks

    return both(task.train[:2]), both(task.held_out[:2]), groups


def _scaled(rows):
    rows = csr_matrix(rows)
    return diags(1.0 / np.sqrt(np.maximum(np.diff(rows.indptr), 1))) @ rows


if __name__ == "__main__":
    main()
