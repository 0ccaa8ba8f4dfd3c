"""One of our solvers on one file, as the peers' runners do it.

Run it as `python -m benchmarks.ours DATA.npz TASK`.

TASK is JSON: `overrides` (settings by dotted name), `iterations`, `points` (after which iterations
to measure) and `clip`. The clock runs from plain arrays: grouping the ratings, tracing TensorFlow's
functions and everything else is in it. A point's seconds are those of its iterations and of taking
the factors off the device once, as a fit that ended there would have done.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.peers.contract import peak_mb
from mf_core.config import Config, make_config
from mf_core.data.ratings import Ratings
from mf_core.solvers.fit import SOLVERS, make_solver
from mf_core.solvers.runtime import select_device
from mf_core.solvers.solver import HeldOut, Problem, Solver


def main() -> None:
    """Fit, and print a JSON line per iteration."""
    train, held_out = _read(sys.argv[1])
    task = json.loads(sys.argv[2])
    low, high = task["clip"]
    config = _config(task)
    measured = HeldOut(held_out, low, high)
    shape = _shape(train, held_out)

    device = select_device(config.train.device)
    with tf.device(device.name):
        # The device's own start belongs to the import.
        tf.linalg.cholesky(tf.eye(2))
        clock = _Clock()
        problem = Problem.of(config, "rating", train, shape, limit=task["iterations"])
        solver = make_solver(SOLVERS[config.rating_head.solver], problem)
        clock.stop()

        for point in _points(solver, task, clock, measured):
            point |= {"peak_mb": peak_mb(), "device": device.label}
            print(json.dumps(point), flush=True)


class _Clock:
    """Sums up stretches; `seconds` is their sum."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = time.perf_counter()

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> float:
        """End the stretch and return its length."""
        length = time.perf_counter() - self._since
        self.seconds += length
        return length


def _read(path: str) -> tuple[Ratings, Ratings]:
    """Return the training and the held-out ratings of a file that `benchmarks.generate` wrote.

    Its arrays are named by side (tr, te) and column (user, item, rating).
    """
    with np.load(path) as arrays:
        train = Ratings(arrays["tru"], arrays["tri"], arrays["trr"])
        held_out = Ratings(arrays["teu"], arrays["tei"], arrays["ter"])
    return train, held_out


def _config(task: dict[str, Any]) -> Config:
    low, high = task["clip"]
    scale = {
        "data.scale_low": low,
        "data.scale_high": high,
        # No list is made here; it only has to lie on the scale.
        "data.relevant_from": high,
    }
    return make_config({**scale, **task["overrides"]})


def _shape(train: Ratings, held_out: Ratings) -> tuple[int, int]:
    """Return the number of users and of items over both sides.

    A held-out row may be of a user or an item that has no training rating.
    """
    last_user = max(train.user.max(), held_out.user.max())
    last_item = max(train.item.max(), held_out.item.max())
    n_users = int(last_user) + 1
    n_items = int(last_item) + 1
    return n_users, n_items


def _points(
    solver: Solver, task: dict[str, Any], clock: _Clock, measured: HeldOut
) -> Iterator[dict[str, Any]]:
    """Yield the figures of each iteration, with the errors after those that TASK names."""
    n_iterations = task["iterations"]
    to_measure = {*task["points"], n_iterations}

    for iteration in range(n_iterations):
        clock.start()
        train_rmse = solver.iterate(iteration)
        sweep_seconds = clock.stop()

        done = iteration + 1
        point = {"iterations": done, "sweep_seconds": sweep_seconds, "train_rmse": train_rmse}
        if done in to_measure:
            point |= _measure(solver, clock, measured)
        yield point


def _measure(solver: Solver, clock: _Clock, measured: HeldOut) -> dict[str, float]:
    # Not on the clock, which goes on to later points: a fit takes its factors once.
    began = time.perf_counter()
    factors = solver.factors()
    seconds = clock.seconds + time.perf_counter() - began

    return {
        "seconds": seconds,
        "rmse": measured.rmse(factors),
        # Ours begin with plain arrays: bringing them into our form is on the clock.
        "prepare_seconds": 0.0,
    }


if __name__ == "__main__":
    main()
