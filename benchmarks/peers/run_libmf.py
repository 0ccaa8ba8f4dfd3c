"""LIBMF (Chin et al. 2015): parallel SGD.

Settings: k, lambda, eta, center (take the training mean off first).
"""

import contextlib
import io
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.peers.contract import Float32s, Float64s, Int32s, Task, dot_products
else:
    from contract import Task, dot_products

with contextlib.redirect_stdout(io.StringIO()):  # the package prints where it was found
    from libmf import mf


def main() -> None:
    """Fit once, and print the point."""
    task = Task()
    since = time.perf_counter()
    mean = _mean(task)
    rows = _rows(task, mean)
    task.prepared(since)

    engine = _engine(task)

    task.start()
    engine.fit(rows)
    seconds = task.pause()

    user, item, _ = task.held_out
    predicted = mean + _predict(engine.model, user, item)
    task.report(seconds, task.iterations, predicted)


def _mean(task: Task) -> np.float32:
    """Return what is taken off the ratings: their mean, or nothing."""
    if not task.settings["center"]:
        return np.float32(0)

    _, _, rating = task.train
    mean = rating.mean(dtype=np.float64)
    return np.float32(mean)


def _rows(task: Task, mean: np.float32) -> "Float32s":
    """Return LIBMF's input.

    It is a float32 array of shape (n, 3): the row numbers are floats there too.
    """
    user, item, rating = task.train
    rows = np.stack([user, item, rating - mean], axis=1)
    return rows.astype(np.float32)


def _engine(task: Task) -> Any:
    settings = task.settings
    ridge = settings["lambda"]
    return mf.MF(
        k=settings["k"],
        eta=settings["eta"],
        nr_iters=task.iterations,
        nr_threads=os.cpu_count(),
        quiet=True,
        # The package's binding already hands LIBMF a copy of its own.
        copy_data=False,
        # The binding's own default is L1; L2 is what the best settings were found for.
        lambda_p1=0.0,
        lambda_q1=0.0,
        lambda_p2=ridge,
        lambda_q2=ridge,
    )


def _predict(model: Any, user: "Int32s", item: "Int32s") -> "Float64s":
    """Return what LIBMF's mf_predict does: p_u . q_i.

    Where the user or item has no training rating it is LIBMF's mean.
    """
    user_factors = np.ctypeslib.as_array(model.P, (model.m, model.k))
    item_factors = np.ctypeslib.as_array(model.Q, (model.n, model.k))

    # LIBMF's table ends with the last row that has a training rating.
    known = (user < model.m) & (item < model.n)
    out = np.full(len(user), model.b, np.float64)
    out[known] = dot_products(user_factors, item_factors, user[known], item[known])

    # A row within the table but without ratings has factors of NaN.
    return np.where(np.isnan(out), model.b, out)


if __name__ == "__main__":
    main()
