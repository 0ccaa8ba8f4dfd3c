"""LIBMF (Chin et al. 2015): parallel SGD. Settings: k, lambda, eta, center (take the training mean off first)."""

import contextlib
import io
import os
import time

import numpy as np
from contract import Task, dot_products

with contextlib.redirect_stdout(io.StringIO()):  # the package prints where it was found
    from libmf import mf


def main() -> None:
    task = Task()
    settings = task.settings
    since = time.perf_counter()
    mean = np.float32(task.train[2].mean(dtype=np.float64)) if settings["center"] else np.float32(0)
    rows = np.stack([task.train[0], task.train[1], task.train[2] - mean], axis=1).astype(np.float32)
    task.prepared(since)
    # The binding's own default is L1; L2 is what the best settings were found for.
    ridge = {
        "lambda_p1": 0.0,
        "lambda_q1": 0.0,
        "lambda_p2": settings["lambda"],
        "lambda_q2": settings["lambda"],
    }
    # The package's binding already hands LIBMF a copy of its own.
    engine = mf.MF(
        k=settings["k"],
        eta=settings["eta"],
        nr_iters=task.iterations,
        nr_threads=os.cpu_count(),
        quiet=True,
        copy_data=False,
        **ridge,
    )
    task.start()
    engine.fit(rows)
    seconds = task.pause()
    task.report(seconds, task.iterations, mean + _predict(engine.model, *task.held_out[:2]))


def _predict(model, user, item):
    """What LIBMF's mf_predict does: its mean where the user or item has no training rating."""
    user_factors = np.ctypeslib.as_array(model.P, (model.m, model.k))
    item_factors = np.ctypeslib.as_array(model.Q, (model.n, model.k))
    known = (user < model.m) & (item < model.n)
    out = np.full(len(user), model.b, np.float64)
    out[known] = dot_products(user_factors, item_factors, user[known], item[known])
    return np.where(np.isnan(out), model.b, out)


if __name__ == "__main__":
    main()
