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
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.peers.contract import peak_mb
from mf_core.config import make_config
from mf_core.ratings import Ratings
from mf_core.solvers.fit import SOLVERS
from mf_core.solvers.runtime import select_device
from mf_core.solvers.solver import Factors, HeldOut, Problem


def main() -> None:
    """Fit, and print a JSON line per point."""
    with np.load(sys.argv[1]) as arrays:
        train, held_out = (
            Ratings(*(arrays[side + column] for column in "uir")) for side in ("tr", "te")
        )
    task = json.loads(sys.argv[2])
    low, high = task["clip"]
    scale = {"data.scale_low": low, "data.scale_high": high, "data.relevant_from": high}
    config = make_config({**scale, **task["overrides"]})
    shape = (
        int(max(train.user.max(), held_out.user.max())) + 1,
        int(max(train.item.max(), held_out.item.max())) + 1,
    )
    device = select_device(config.train.device)
    measured, points = HeldOut(held_out, low, high), set(task["points"]) | {task["iterations"]}
    with tf.device(device.name):
        # The device's own start belongs to the import.
        tf.linalg.cholesky(tf.eye(2))
        clock = _Clock()
        problem = Problem.of(config, "rating", train, shape, limit=task["iterations"])
        solver = SOLVERS[config.rating_head.solver].make(problem)
        clock.stop()
        for iteration in range(task["iterations"]):
            clock.start()
            train_rmse = solver.iterate(iteration)
            sweep_seconds = clock.stop()
            point = {
                "iterations": iteration + 1,
                "sweep_seconds": sweep_seconds,
                "train_rmse": train_rmse,
            }
            if iteration + 1 in points:
                began = time.perf_counter()
                factors = solver.factors()
                point |= {
                    "seconds": clock.seconds + time.perf_counter() - began,
                    **_errors(measured, factors),
                }
            print(json.dumps(point | {"peak_mb": peak_mb(), "device": device.label}), flush=True)


class _Clock:
    """Sums up stretches; `seconds` is their sum."""

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, time.perf_counter()

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> float:
        """End the stretch and return its length."""
        length = time.perf_counter() - self._since
        self.seconds += length
        return length


def _errors(held_out: HeldOut, factors: Factors) -> dict[str, Any]:
    return {"rmse": held_out.rmse(factors), "prepare_seconds": 0.0}


if __name__ == "__main__":
    main()
