"""cmfrec's CMF (Cortes): ALS in C with OpenMP. Settings: those of `CMF`."""

import time
from typing import TYPE_CHECKING

import cmfrec
import numpy as np
from scipy.sparse import coo_matrix

if TYPE_CHECKING:
    from benchmarks.peers.contract import Float64s, Task, dot_products
else:
    from contract import Task, dot_products


def main() -> None:
    """Fit once, and print the point."""
    task = Task()
    since = time.perf_counter()
    user, item, rating = task.train
    matrix = coo_matrix((rating, (user, item)), shape=(task.n_users, task.n_items))
    task.prepared(since)

    # What only new users and serving need is left out of the training time.
    model = cmfrec.CMF(
        niter=task.iterations,
        random_state=task.seed + 1,
        precompute_for_predictions=False,
        verbose=False,
        **task.settings,
    )
    task.start()
    model.fit(matrix)
    seconds = task.pause()

    predicted = _predict(model, task)
    task.report(seconds, task.iterations, predicted)


def _predict(model: cmfrec.CMF, task: Task) -> "Float64s":
    """Return mean + b_u + b_i + a_u . b_i of the held-out pairs."""
    user, item, _ = task.held_out
    predicted = (
        model.glob_mean_
        + model.user_bias_[user]
        + model.item_bias_[item]
        + dot_products(model.A_, model.B_, user, item)
    )
    # A row without ratings has factors and a bias of 0.
    return np.nan_to_num(predicted, nan=model.glob_mean_)


if __name__ == "__main__":
    main()
