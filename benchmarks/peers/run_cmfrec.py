"""cmfrec's CMF (Cortes): ALS in C with OpenMP. Settings: those of `CMF`."""

import time

import cmfrec
import numpy as np
from contract import Task, dot_products
from scipy.sparse import coo_matrix


def main() -> None:
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
    user, item = task.held_out[:2]
    # A row without ratings has factors and a bias of 0.
    predicted = (
        model.glob_mean_
        + model.user_bias_[user]
        + model.item_bias_[item]
        + dot_products(model.A_, model.B_, user, item)
    )
    task.report(seconds, task.iterations, np.nan_to_num(predicted, nan=model.glob_mean_))


if __name__ == "__main__":
    main()
