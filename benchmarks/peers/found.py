"""What the peers share whose settings are found on the rows at hand, as ours are.

Imports NumPy only, since it runs in each peer's own environment. A runner is called as
`python run_PEER.py CASE.npz TASK OUT.npz`; TASK is JSON with `system`, `seed`, and the scale:
`low`, `high` and `relevant_from`. It looks for its settings by fitting on the training rows outside
`validation` and measuring on those inside, fits again on all training rows with the best, and
writes

    lists       int32 array of shape (n_users, 10): item rows, best first, -1 where too short
    predicted   float64 array of shape (n_test,), for peers that predict ratings
    found       JSON: the settings, their figure on the validation part, and how many were tried
    seconds     of the search, and of the last fit, in this order
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Mask = NDArray[np.bool_]
Settings = dict[str, Any]
Grid = Mapping[str, Sequence[Any]]

CUTOFF = 10
_ROUNDS = 2


@dataclass(frozen=True)
class Rows:
    """Ratings as columns of shape (n,): user and item rows, ratings, seconds since 1970."""

    user: Int64s
    item: Int64s
    value: Float64s
    second: Int64s

    def take(self, mask: Mask) -> "Rows":
        """Return the rows where `mask` is True."""
        return Rows(self.user[mask], self.item[mask], self.value[mask], self.second[mask])


class Case:
    """One set by one protocol, and what the command line asks for.

    Attributes:
        system, seed, low, high, relevant_from: of the task.
        kind: ratings, or events, whose values are the weights of pairs.
        train, test: the rows of both sides. Only `report` reads the ratings of the test side.
        validation: boolean array over the training rows.
        n_users, n_items: over both sides.
        arrays: everything that the file holds.
    """

    def __init__(self) -> None:
        with np.load(sys.argv[1]) as held:
            self.arrays = dict(held)
        task = json.loads(sys.argv[2])
        self._out = Path(sys.argv[3])
        self.system: str = task["system"]
        self.seed: int = task["seed"]
        self.kind: str = task["kind"]
        self.low: float = task["low"]
        self.high: float = task["high"]
        self.relevant_from: float = task["relevant_from"]

        self.train = self._rows("tr")
        self.test = self._rows("te")
        self.validation: Mask = self.arrays["validation"]
        self.n_users = len(self.arrays["user_ids"])
        self.n_items = len(self.arrays["item_ids"])
        self._began = time.perf_counter()
        self._search_seconds = 0.0
        self._found: dict[str, Any] = {}

    def _rows(self, side: str) -> Rows:
        columns = self.arrays
        return Rows(
            user=columns[f"{side}u"].astype(np.int64),
            item=columns[f"{side}i"].astype(np.int64),
            value=columns[f"{side}r"].astype(np.float64),
            second=columns[f"{side}s"].astype(np.int64),
        )

    def levels(self, rows: Rows, lowest: float | None) -> tuple[Rows, Float64s]:
        """Return rows, and what each counts: from `lowest` for the least to 1.

        Ratings count on a line up to 1 for `relevant_from`, weights of events by their logarithm
        up to their 95th percentile, below 0 for those against. With `lowest` None only what is
        relevant is returned, and all of it counts 1.
        """
        if lowest is None:
            relevant = rows.take(rows.value >= self.relevant_from)
            return relevant, np.ones(len(relevant.value))
        if self.kind == "events":
            positive = rows.value[rows.value > 0]
            unit, enough = np.percentile(positive, [50, 95])
            size = np.log1p(np.abs(rows.value) / unit) / np.log1p(enough / unit)
            return rows, np.sign(rows.value) * (lowest + (1 - lowest) * np.minimum(size, 1))
        # Where everything is relevant there is no line through both levels.
        span = self.relevant_from - self.low
        above = (rows.value - self.low) / span if span else np.ones(len(rows.value))
        return rows, lowest + (1 - lowest) * above

    def popularity(self, rows: Rows) -> Float64s:
        """Return how many relevant ratings each item has in `rows`."""
        relevant = rows.item[rows.value >= self.relevant_from]
        return np.bincount(relevant, minlength=self.n_items).astype(float)

    def top(self, scores: Float32s, rows: Rows) -> NDArray[np.int32]:
        """Return each user's list by `scores` (n_users, n_items), without what `rows` has.

        A user without a row gets the popular list, and popularity decides between equal scores:
        whoever runs a peer would do as much.
        """
        popular = self.popularity(rows)
        place = np.empty(self.n_items)
        place[np.argsort(popular, kind="stable")] = np.arange(self.n_items)
        unknown = np.bincount(rows.user, minlength=self.n_users) == 0

        scores = scores.astype(np.float32, copy=True)
        scores[unknown] = place
        scores[rows.user, rows.item] = -np.inf
        # By popularity first: the selection below keeps that order where scores are equal.
        by_place = np.argsort(-place, kind="stable")
        ordered = scores[:, by_place]

        n = min(CUTOFF, self.n_items)
        lists = np.full((self.n_users, CUTOFF), -1, np.int32)
        for user, row in enumerate(ordered):
            # All items as good as the n-th, so that those at the border are not drawn by chance.
            border = np.partition(row, -n)[-n]
            best = np.flatnonzero(row >= border)
            best = best[np.argsort(-row[best], kind="stable")][:n]
            best = best[np.isfinite(row[best])]
            lists[user, : len(best)] = by_place[best]
        return lists

    def find(self, grid: Grid, score: Callable[[Rows, Rows, Settings], float]) -> Settings:
        """Return the settings of `grid` of the highest score.

        `score` takes the rows to fit, those to measure on, and settings. One setting at a time
        over all of its values, in the order of `grid`, twice around; it begins with the middle
        value of each.
        """
        fit = self.train.take(~self.validation)
        held_out = self.train.take(self.validation)
        tried: dict[str, float] = {}

        def value_of(settings: Settings) -> float:
            key = json.dumps(settings)
            if key not in tried:
                tried[key] = score(fit, held_out, settings)
            return tried[key]

        best = {name: values[len(values) // 2] for name, values in grid.items()}
        for _ in range(_ROUNDS):
            for name, values in grid.items():
                best = max(({**best, name: value} for value in values), key=value_of)
        self._found = {"settings": best, "figure": value_of(best), "tried": len(tried)}
        self._search_seconds = time.perf_counter() - self._began
        return best

    def find_lists(
        self, grid: Grid, scores: Callable[[Rows, Settings], Float32s]
    ) -> Callable[[Rows], NDArray[np.int32]]:
        """Return what makes the lists of some rows, by settings with the best NDCG."""

        def ndcg_of(fit: Rows, held_out: Rows, settings: Settings) -> float:
            lists = self.top(scores(fit, settings), fit)
            return self.ndcg(lists, held_out)

        best = self.find(grid, ndcg_of)
        return lambda rows: self.top(scores(rows, best), rows)

    def ndcg(self, lists: NDArray[np.int32], rows: Rows) -> float:
        """Return NDCG@10 over the users with a relevant row."""
        relevant = rows.take(rows.value >= self.relevant_from)
        wanted = np.bincount(relevant.user, minlength=self.n_users)
        keys = np.arange(self.n_users)[:, None] * self.n_items + lists
        hits = np.isin(keys, relevant.user * self.n_items + relevant.item) & (lists >= 0)

        discount = 1 / np.log2(np.arange(2, CUTOFF + 2))
        judged = wanted > 0
        ideal = np.cumsum(discount)[np.minimum(wanted[judged], CUTOFF) - 1]
        return float(np.mean((hits[judged] @ discount) / ideal))

    def rmse(self, predicted: Float64s, rows: Rows) -> float:
        """Return the error of predictions, clipped to the scale."""
        errors = np.clip(predicted, self.low, self.high) - rows.value
        return float(np.sqrt(np.mean(errors**2)))

    def report(self, fit: Callable[[Rows], Any], *, of: str) -> None:
        """Fit on all training rows, and write what comes out as `of`: lists or predicted."""
        began = time.perf_counter()
        result = fit(self.train)
        seconds = time.perf_counter() - began

        # It gets its name only once it is whole.
        partial = self._out.with_suffix(".part")
        with partial.open("wb") as file:
            np.savez(
                file,
                **{of: result},
                found=np.array(json.dumps(self._found)),
                seconds=np.array([self._search_seconds, seconds]),
            )
        partial.replace(self._out)
        print(json.dumps({"found": self._found}), flush=True)
