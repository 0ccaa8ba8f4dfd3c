"""Figures of one case out of the systems' files: NDCG@10 and RMSE, and who is ahead of whom."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted import Scale
from benchmarks.sets import Case
from mf_core.judging.bootstrap import Column, paired_loss

CUTOFF = 10
# Bootstrap samples behind the bounds.
SAMPLES = 2_000
# What a loss has to pass before it is named: NDCG, and RMSE on a scale from 1 to 5.
NDCG_MARGIN = 0.005
RMSE_MARGIN = 0.002
_STARS = 4.0

# The peers with the same information as ours, by what they are compared on.
LIST_PEERS = (*("ease", "dlae", "edlae", "ials", "rp3beta", "bm25", "popularity", "ease_relevant"),)
RATING_PEERS = ("biases", "myfm", "myfm_ordinal", "ours_als")

Lists = NDArray[np.int32]


@dataclass(frozen=True)
class Measured:
    """One system on one case, as sums per user, seeds averaged.

    Attributes:
        ndcg: None for a system that makes no lists.
        rmse: None for one that predicts no ratings.
        about: what people read of it: found settings, seconds, seeds.
    """

    ndcg: Column | None
    rmse: Column | None
    about: dict[str, Any]


def measure(case: Case, files: Sequence[Path]) -> Measured:
    """Return the figures of a system from its files, one per seed."""
    with np.load(case.arrays) as held:
        truth = dict(held)
    ndcg: list[NDArray[Any]] = []
    squares: list[NDArray[Any]] = []
    found = []
    seconds = []
    for path in files:
        with np.load(path) as held:
            if "lists" in held:
                ndcg.append(_ndcg(held["lists"], truth, case.scale.relevant_from))
            if "predicted" in held:
                squares.append(_squares(held["predicted"], truth, case))
            found.append(json.loads(str(held["found"])))
            seconds.append(held["seconds"])

    search, fit = np.mean(seconds, axis=0)
    about = {"found": found, "search_seconds": float(search), "fit_seconds": float(fit)}
    judged = _relevant_per_user(truth, case.scale.relevant_from) > 0
    n_rows = np.bincount(truth["teu"], minlength=len(truth["user_ids"]))
    return Measured(
        ndcg=_column("ndcg", np.mean(ndcg, axis=0), judged) if ndcg else None,
        rmse=_column("rmse", np.mean(squares, axis=0), n_rows) if squares else None,
        about=about,
    )


def _column(metric: str, numerator: NDArray[Any], denominator: NDArray[Any]) -> Column:
    return Column(
        metric=metric,
        slice="all",
        numerator=numerator.astype(float),
        denominator=denominator.astype(float),
        n=int(denominator.sum()),
        square_root=metric == "rmse",
    )


def _relevant_per_user(truth: Mapping[str, NDArray[Any]], relevant_from: float) -> NDArray[Any]:
    relevant = truth["teu"][truth["ter"] >= relevant_from]
    return np.bincount(relevant, minlength=len(truth["user_ids"]))


def _ndcg(
    lists: Lists, truth: Mapping[str, NDArray[Any]], relevant_from: float
) -> NDArray[np.float64]:
    """Return NDCG@10 per user, 0 without a relevant test row.

    Gain 1, discount 1 / log2(rank + 1), ideal of min(10, number of relevant rows).
    """
    n_users, n_items = len(truth["user_ids"]), len(truth["item_ids"])
    relevant = truth["ter"] >= relevant_from
    wanted = truth["teu"][relevant].astype(np.int64) * n_items + truth["tei"][relevant]
    keys = np.arange(n_users)[:, None] * n_items + lists
    hits = np.isin(keys, wanted) & (lists >= 0)

    discount = 1 / np.log2(np.arange(2, CUTOFF + 2))
    possible = np.minimum(_relevant_per_user(truth, relevant_from), CUTOFF)
    ideal = np.concatenate([[0], np.cumsum(discount)])[possible]
    gained: NDArray[np.float64] = hits @ discount
    return np.divide(gained, ideal, out=np.zeros(n_users), where=ideal > 0)


def _squares(
    predicted: NDArray[Any], truth: Mapping[str, NDArray[Any]], case: Case
) -> NDArray[np.float64]:
    """Return the sum of squared errors per user, predictions clipped to the scale."""
    clipped = np.clip(predicted, case.scale.low, case.scale.high)
    squares = (clipped - truth["ter"]) ** 2
    return np.bincount(truth["teu"], squares, minlength=len(truth["user_ids"])).astype(float)


def shape_of(case: Case) -> dict[str, float]:
    """Return how large a case is: ratings a user counts the users of the test side too."""
    with np.load(case.arrays) as held:
        n_users, n_items = len(held["user_ids"]), len(held["item_ids"])
        n_train, n_test = len(held["tru"]), len(held["teu"])
    per_user = n_train / n_users
    return {
        "n_train": n_train,
        "n_test": n_test,
        "n_users": n_users,
        "n_items": n_items,
        "ratings_per_user": per_user,
        "items_not_rated": n_items - per_user,
    }


def figures_of(systems: Mapping[str, Measured], scale: Scale) -> dict[str, Any]:
    """Return every system's figures, and ours against the best peer, as JSON has it."""
    about: dict[str, Any] = {"systems": {}}
    for name, measured in systems.items():
        figures = {
            column.metric: _figure(column)
            for column in (measured.ndcg, measured.rmse)
            if column is not None
        }
        about["systems"][name] = {**figures, **measured.about}

    ours = systems.get("ours")
    if ours is None:
        return about
    list_peers = {name: systems[name].ndcg for name in LIST_PEERS if name in systems}
    rating_peers = {name: systems[name].rmse for name in RATING_PEERS if name in systems}
    if ours.ndcg is not None and list_peers:
        about["lists"] = {**_against(ours.ndcg, list_peers), "margin": NDCG_MARGIN}
    if ours.rmse is not None and rating_peers:
        margin = RMSE_MARGIN * (scale.high - scale.low) / _STARS
        about["ratings"] = {**_against(ours.rmse, rating_peers), "margin": margin}
    return about


def _against(ours: Column, peers: Mapping[str, Column | None]) -> dict[str, Any]:
    """Return our loss against the best peer, above 0 where the peer is ahead.

    The best is chosen by its figure on the test rows, which favours the peers. The loss has
    one-sided 95% bounds, paired by user.
    """
    columns = {name: column for name, column in peers.items() if column is not None}
    sign = 1 if ours.square_root else -1
    best = min(columns, key=lambda name: sign * _figure(columns[name]))
    ordered = (ours, columns[best]) if ours.square_root else (columns[best], ours)
    loss = paired_loss(*ordered, SAMPLES, 0)
    return {
        "ours": _figure(ours),
        "best_peer": best,
        "peer": _figure(columns[best]),
        "loss": loss.value,
        "loss_low": loss.low,
        "loss_high": loss.high,
        "n": ours.n,
    }


def _figure(column: Column) -> float:
    ratio = float(column.numerator.sum() / column.denominator.sum())
    return float(np.sqrt(ratio)) if column.square_root else ratio


def pooled(parts: Sequence[tuple[Case, Mapping[str, Measured]]]) -> dict[str, Measured]:
    """Return several folds of one set as one case: a user of several folds is one user."""
    common = set.intersection(*(set(systems) for _, systems in parts))
    ids = []
    for case, _ in parts:
        with np.load(case.arrays) as held:
            ids.append(held["user_ids"])
    everybody = np.unique(np.concatenate(ids))

    def summed(columns: Sequence[Column | None]) -> Column | None:
        whole = [column for column in columns if column is not None]
        if len(whole) < len(columns):
            return None
        numerator = np.zeros(len(everybody))
        denominator = np.zeros(len(everybody))
        for column, of_part in zip(whole, ids, strict=True):
            rows = np.searchsorted(everybody, of_part)
            numerator[rows] += column.numerator
            denominator[rows] += column.denominator
        return _column(whole[0].metric, numerator, denominator)

    return {
        name: Measured(
            ndcg=summed([systems[name].ndcg for _, systems in parts]),
            rmse=summed([systems[name].rmse for _, systems in parts]),
            about={},
        )
        for name in parts[0][1]
        if name in common
    }
