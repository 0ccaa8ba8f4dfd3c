"""What the peers' runners share. Imports NumPy only, since it runs in each peer's own environment.

A runner is called as `python run_PEER.py DATA.npz SETTINGS.json-text`, fits once, and prints one
JSON line per measured point:

    seconds           training, from the data in the peer's own input form to the fitted model;
                      evaluating the held-out rows and imports are not in it
    prepare_seconds   bringing the arrays into that form; not in `seconds`, so that no converter of
                      ours counts against a peer
    rmse, mae         on the held-out rows, predictions clipped to the rating scale
    peak_mb           largest resident memory so far, of the process and its children
    iterations        sweeps or epochs done
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int32s = NDArray[np.int32]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
# User, item and rating, one of each per row.
Columns = tuple[Int32s, Int32s, Float32s]

_ROWS_AT_A_TIME = 1 << 18


class Task:
    """The data, the settings, and the clock.

    Attributes:
        settings: the peer's settings, without `clip`, `iterations` and `seed`, which every runner
            has.
        train, held_out: (user int32[n], item int32[n], rating float32[n]).
        n_users, n_items: over both.
        clip: lowest and highest rating of the scale.
    """

    def __init__(self) -> None:
        with np.load(sys.argv[1]) as arrays:
            self.train: Columns = (arrays["tru"], arrays["tri"], arrays["trr"])
            self.held_out: Columns = (arrays["teu"], arrays["tei"], arrays["ter"])

        train_user, train_item, _ = self.train
        held_out_user, held_out_item, _ = self.held_out
        self.n_users = _count(train_user, held_out_user)
        self.n_items = _count(train_item, held_out_item)

        # What is left of the settings goes to the peer's own class.
        self.settings: dict[str, Any] = json.loads(sys.argv[2])
        low, high = self.settings.pop("clip")
        self.clip: tuple[float, float] = (low, high)
        self.iterations: int = self.settings.pop("iterations")
        self.seed: int = self.settings.pop("seed")

        # All in seconds of time.perf_counter; `_excluded` is how long the clock stood.
        self.prepare_seconds = 0.0
        self._started = 0.0
        self._excluded = 0.0
        self._paused = 0.0

    def prepared(self, since: float) -> None:
        """Note how long the conversion took that began at `since` (time.perf_counter)."""
        self.prepare_seconds = time.perf_counter() - since

    def start(self) -> None:
        """Start the clock."""
        self._excluded = 0.0
        self._started = time.perf_counter()

    def pause(self) -> float:
        """Stop the clock and return the seconds so far."""
        self._paused = time.perf_counter()
        return self._paused - self._started - self._excluded

    def resume(self) -> None:
        """Let the clock go on."""
        self._excluded += time.perf_counter() - self._paused

    def report(self, seconds: float, iterations: int, predicted: NDArray[Any]) -> None:
        """Print a point; `predicted` is a float array of shape (n_held_out,).

        Raises:
            SystemExit: a prediction is not finite.
        """
        low, high = self.clip
        _, _, rating = self.held_out
        errors = np.clip(np.asarray(predicted, np.float64), low, high) - rating
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


def _count(train: Int32s, held_out: Int32s) -> int:
    """Return the number of rows: a held-out row may have no training rating."""
    last = max(train.max(), held_out.max())
    return int(last) + 1


def dot_products(
    user_factors: NDArray[Any], item_factors: NDArray[Any], user: NDArray[Any], item: NDArray[Any]
) -> Float64s:
    """Return x_u . y_i for every pair of `user` and `item`, which have shape (n,).

    Sums are in float64, and in pieces: the gathered factors of all pairs need not fit in memory.
    """
    out = np.empty(len(user))
    for start in range(0, len(user), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        of_users = user_factors[user[rows]]
        of_items = item_factors[item[rows]]

        # out_n = sum over k of x_nk y_nk
        out[rows] = np.einsum("nk,nk->n", of_users, of_items, dtype=np.float64)
    return out


def peak_mb() -> float:
    """Return the largest resident memory so far in MB (10^6 bytes).

    It is summed up over this process and those it has started.
    """
    own = os.getpid()
    processes = [own, *_descendants(own)]
    kib = sum(_peak_kib(process) for process in processes)
    return kib * 1024 / 1e6


def _peak_kib(process: int) -> int:
    """Return the high-water mark of the process's resident memory."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        # It has ended meanwhile.
        return 0
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def _descendants(process: int) -> list[int]:
    """Return the processes that `process` has started, and those that they have."""
    found = []
    # Linux lists children by the thread that started them.
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        children = task.read_text().split()
        for child in map(int, children):
            found.append(child)
            found += _descendants(child)
    return found
