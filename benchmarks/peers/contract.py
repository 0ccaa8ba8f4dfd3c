"""What the peers' runners share. Imports NumPy only, since it runs in each peer's own environment.

A runner is called as `python run_PEER.py DATA.npz SETTINGS.json-text`, fits once, and prints one JSON line per measured point:

    seconds           training, from the data in the peer's own input form to the fitted model; evaluating the held-out rows and
                      imports are not in it
    prepare_seconds   bringing the arrays into that form; not in `seconds`, so that no converter of ours counts against a peer
    rmse, mae         on the held-out rows, predictions clipped to the rating scale
    peak_mb           largest resident memory so far, of the process and its children
    iterations        sweeps or epochs done
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

_ROWS_AT_A_TIME = 1 << 18


class Task:
    """The data, the settings, and the clock.

    Attributes:
        settings: the peer's settings, without `clip`, `iterations` and `seed`, which every runner has.
        train, held_out: (user int32[n], item int32[n], rating float32[n]).
        n_users, n_items: over both.
        clip: lowest and highest rating of the scale.
    """

    def __init__(self) -> None:
        with np.load(sys.argv[1]) as arrays:
            self.train = tuple(arrays[name] for name in ("tru", "tri", "trr"))
            self.held_out = tuple(arrays[name] for name in ("teu", "tei", "ter"))
        self.settings = json.loads(sys.argv[2])
        self.clip = self.settings.pop("clip")
        self.iterations = self.settings.pop("iterations")
        self.seed = self.settings.pop("seed")
        self.n_users, self.n_items = (
            int(max(self.train[k].max(), self.held_out[k].max())) + 1 for k in (0, 1)
        )
        self.prepare_seconds = 0.0
        self._started = self._excluded = self._paused = 0.0

    def prepared(self, since: float) -> None:
        """Note how long the conversion took that began at `since` (time.perf_counter)."""
        self.prepare_seconds = time.perf_counter() - since

    def start(self) -> None:
        """Start the clock."""
        self._started, self._excluded = time.perf_counter(), 0.0

    def pause(self) -> float:
        """Stop the clock and return the seconds so far."""
        self._paused = time.perf_counter()
        return self._paused - self._started - self._excluded

    def resume(self) -> None:
        """Let the clock go on."""
        self._excluded += time.perf_counter() - self._paused

    def report(self, seconds, iterations, predicted) -> None:
        """Print a point; `predicted` is a float array of shape (n_held_out,)."""
        errors = np.clip(np.asarray(predicted, np.float64), *self.clip) - self.held_out[2]
        if not np.isfinite(errors).all():
            raise SystemExit("the predictions are not all finite")
        point = {
            "seconds": seconds,
            "prepare_seconds": self.prepare_seconds,
            "rmse": float(np.sqrt(np.mean(errors**2))),
            "mae": float(np.mean(np.abs(errors))),
            "peak_mb": peak_mb(),
            "iterations": iterations,
        }
        print(json.dumps(point), flush=True)


def dot_products(user_factors, item_factors, user, item):
    """Return x_u . y_i for every pair, shape (n,), in float64 and in pieces."""
    out = np.empty(len(user))
    for start in range(0, len(user), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        out[rows] = np.einsum(
            "nk,nk->n", user_factors[user[rows]], item_factors[item[rows]], dtype=np.float64
        )
    return out


def peak_mb() -> float:
    """Return the largest resident memory so far in MB (10^6 bytes), summed up over this process and those it has started."""
    return (
        sum(_peak_kib(process) for process in [os.getpid(), *_descendants(os.getpid())])
        * 1024
        / 1e6
    )


def _peak_kib(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _descendants(process: int) -> list:
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *_descendants(int(child))]
    return found
