"""Test metrics per user, and their intervals by bootstrap over users.

Everything is kept as sums per user: a figure is a ratio of sums over users, divided once, and a bootstrap resample is the
same ratio with each user counted as often as drawn (Efron & Tibshirani 1993). Users are the unit since one user's ratings
are not independent of each other.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mf_core.factors import FactorModel
from mf_core.ratings import Float64s, Int32s, Ratings
from mf_core.topn import Seen, seen_items, top_n

_RESAMPLED_NUMBERS_AT_A_TIME = 1 << 24


@dataclass(frozen=True)
class Column:
    """One figure as sums per user: sum(numerator) / sum(denominator), or its square root.

    Attributes:
        metric: name of the figure.
        slice: rows or users that it is about.
        numerator, denominator: float64 arrays of shape (n_users,).
        n: ratings or users behind it.
        square_root: whether the figure is the root of the ratio.
    """

    metric: str
    slice: str
    numerator: Float64s
    denominator: Float64s
    n: int
    square_root: bool = False


@dataclass(frozen=True)
class ListQuality:
    """List metrics of every user who has a relevant test item (0 for the others), and the lists themselves.

    Attributes:
        ndcg, recall, average_precision, hit: float64 arrays of shape (n_users,).
        judged: float64 array of shape (n_users,): 1 for users with a relevant test item, else 0.
        lists: int32 array of shape (n_judged, N): the judged users' lists, -1 where too short.
    """

    ndcg: Float64s
    recall: Float64s
    average_precision: Float64s
    hit: Float64s
    judged: Float64s
    lists: Int32s


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of an interval."""

    value: float
    low: float
    high: float


def rating_column(
    metric: str, test: Ratings, errors: Float64s, rows: NDArray[np.bool_], n_users: int, name: str
) -> Column:
    """Return rmse, mae or the post's average_error, sum(d^2) / (2 n), over the test rows of one slice.

    Args:
        metric: rmse, mae or average_error.
        test: the test ratings.
        errors: float64 array of shape (n_test,), prediction minus rating.
        rows: boolean array of shape (n_test,), the slice.
        n_users: number of users.
        name: name of the slice.
    """
    size = {"rmse": errors**2, "mae": np.abs(errors), "average_error": errors**2 / 2}[metric]
    user = test.user[rows]
    sums: Float64s = np.bincount(user, size[rows], minlength=n_users).astype(np.float64)
    return Column(
        metric,
        name,
        sums,
        np.bincount(user, minlength=n_users).astype(np.float64),
        len(user),
        square_root=metric == "rmse",
    )


def mean_column(metric: str, user: Int32s, values: Float64s, n_users: int, name: str) -> Column:
    """Return the mean of `values`, one per test row, whose users are `user`; both arrays of shape (n,)."""
    sums = np.bincount(user, values, minlength=n_users).astype(np.float64)
    return Column(
        metric, name, sums, np.bincount(user, minlength=n_users).astype(np.float64), len(user)
    )


def list_quality(
    model: FactorModel,
    train: Ratings,
    test: Ratings,
    relevant_from: float,
    cutoff: int,
    tile_mib: int = 64,
    unlisted: Int32s | None = None,
) -> ListQuality:
    """Return the list metrics over the full catalogue without the item rows `unlisted`, training items left out.

    Relevant: a test rating of at least `relevant_from`. NDCG: gain 1, discount 1/log2(rank + 1), ideal of
    min(cutoff, number of relevant items). Average precision is divided by the same minimum.
    """
    n_users = len(model.users)
    relevant = test.take(test.value >= relevant_from)
    n_relevant = np.bincount(relevant.user, minlength=n_users)
    judged = np.flatnonzero(n_relevant).astype(np.int32)
    seen, wanted = seen_items(train, n_users), seen_items(relevant, n_users)
    tiles = list(top_n(model, judged, seen, cutoff, hidden=unlisted, tile_mib=tile_mib))
    lists = (
        np.concatenate([tile.item for tile in tiles]) if tiles else np.empty((0, cutoff), np.int32)
    )
    return _quality(lists, judged, wanted, n_relevant, n_users, cutoff, len(model.items))


def _quality(
    lists: Int32s,
    judged: Int32s,
    wanted: Seen,
    n_relevant: np.ndarray,
    n_users: int,
    cutoff: int,
    n_items: int,
) -> ListQuality:
    position, item = wanted.of(judged)
    relevant_keys = position * n_items + item
    keys = np.arange(len(judged))[:, None] * n_items + lists
    hits = np.isin(keys, relevant_keys) & (lists >= 0)
    discount = 1.0 / np.log2(np.arange(2, cutoff + 2))
    possible = np.minimum(n_relevant[judged], cutoff)
    ideal = np.cumsum(discount)[possible - 1] if len(judged) else np.empty(0)
    precision = np.cumsum(hits, axis=1) / np.arange(1, cutoff + 1)

    def spread(values: Any) -> Float64s:
        out = np.zeros(n_users)
        out[judged] = values
        return out

    return ListQuality(
        ndcg=spread((hits * discount).sum(axis=1) / ideal),
        recall=spread(hits.sum(axis=1) / n_relevant[judged]),
        average_precision=spread((hits * precision).sum(axis=1) / possible),
        hit=spread(hits.any(axis=1).astype(np.float64)),
        judged=spread(np.ones(len(judged))),
        lists=lists,
    )


def diversity(
    lists: Int32s, train: Ratings, n_items: int, unlisted: Int32s | None = None
) -> dict[str, float]:
    """Return coverage (share of items recommended to anybody), novelty (mean self-information of a recommended item, in bits)
    and the Gini index of how often items are recommended (0: all alike), over the items that are not `unlisted`."""
    listed = np.delete(np.arange(n_items), [] if unlisted is None else unlisted)
    shown = np.bincount(lists[lists >= 0], minlength=n_items)[listed].astype(np.float64)
    popularity = np.bincount(train.item, minlength=n_items)[listed] + 1.0
    n_items = len(listed)
    bits = -np.log2(popularity / popularity.sum())
    ordered = np.sort(shown)
    total = ordered.sum()
    gini = (
        float(((2 * np.arange(1, n_items + 1) - n_items - 1) * ordered).sum() / (n_items * total))
        if total
        else float("nan")
    )
    novelty = float((shown * bits).sum() / total) if total else float("nan")
    return {"coverage": float((shown > 0).mean()), "novelty": novelty, "gini": gini}


def estimates(columns: Sequence[Column], samples: int, seed: int) -> list[Estimate]:
    """Return each column's figure with its 95% interval from `samples` resamples of the users."""
    points, resampled = resample(columns, samples, seed)
    low, high = _percentiles(resampled, [2.5, 97.5])
    return [Estimate(*map(float, row)) for row in zip(points, low, high, strict=True)]


def paired_loss(worse: Column, better: Column, samples: int, seed: int) -> Estimate:
    """Return figure(worse) - figure(better) with its one-sided 95% bounds, by resampling the users of both alike."""
    points, resampled = resample([worse, better], samples, seed)
    low, high = _percentiles(resampled[:, 0] - resampled[:, 1], [5.0, 95.0])
    return Estimate(float(points[0] - points[1]), float(low), float(high))


def _percentiles(resampled: Float64s, percents: list[float]) -> Float64s:
    """Percentiles along the first axis, without the resamples that drew nobody; NaN where all did, which is no mishap here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanpercentile(resampled, percents, axis=0))


def resample(columns: Sequence[Column], samples: int, seed: int) -> tuple[Float64s, Float64s]:
    """Return the figures, shape (n_columns,), and their bootstrap resamples, shape (samples, n_columns).

    The same users are drawn for all columns, so columns can be compared pairwise.
    """
    numerators = np.stack([column.numerator for column in columns], axis=1)
    denominators = np.stack([column.denominator for column in columns], axis=1)
    square_root = np.array([column.square_root for column in columns])

    def figures(top: Float64s, bottom: Float64s) -> Float64s:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = top / bottom
            return np.where(square_root, np.sqrt(ratio), ratio)

    n_users = len(numerators)
    generator = np.random.default_rng(seed)
    at_a_time = max(1, _RESAMPLED_NUMBERS_AT_A_TIME // max(1, n_users))
    parts = []
    for start in range(0, samples, at_a_time):
        size = min(at_a_time, samples - start)
        drawn = generator.integers(0, n_users, (size, n_users))
        flat = (drawn + np.arange(size)[:, None] * n_users).ravel()
        weights = (
            np.bincount(flat, minlength=size * n_users).reshape(size, n_users).astype(np.float64)
        )
        parts.append(figures(weights @ numerators, weights @ denominators))
    return figures(numerators.sum(axis=0), denominators.sum(axis=0)), np.concatenate(parts)
