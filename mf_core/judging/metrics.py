"""Test metrics per user, and their intervals by bootstrap over users.

Everything is kept as sums per user: a figure is a ratio of sums over users, divided once, and a
bootstrap resample is the same ratio with each user counted as often as drawn (Efron & Tibshirani
1993). Users are the unit since one user's ratings are not independent of each other.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mf_core.config import DataConfig
from mf_core.data.ratings import Float64s, Int32s, Ratings
from mf_core.data.relevance import is_relevant
from mf_core.figures import AVERAGE_ERROR, COVERAGE, GINI, MAE, NOVELTY, OVERLAP, RMSE, Metric
from mf_core.models.lists import ListMaker
from mf_core.models.user_items import UserItems, items_by_user

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
    """List metrics of every user with a relevant test item (0 for the others), and the lists.

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
    metric: Metric,
    test: Ratings,
    errors: Float64s,
    rows: NDArray[np.bool_],
    *,
    n_users: int,
    name: str,
) -> Column:
    """Return rmse, mae or the post's average error, sum(d^2) / (2 n), over some test rows.

    Args:
        metric: one of `figures.RATING_METRICS`.
        test: the test ratings.
        errors: float64 array of shape (n_test,), prediction minus rating.
        rows: boolean array of shape (n_test,), the slice.
        n_users: number of users.
        name: name of the slice.
    """
    sizes = {
        RMSE: errors**2,
        MAE: np.abs(errors),
        AVERAGE_ERROR: errors**2 / 2,
    }
    column = mean_column(metric, test.user[rows], sizes[metric][rows], n_users=n_users, name=name)
    return Column(
        metric=column.metric,
        slice=column.slice,
        numerator=column.numerator,
        denominator=column.denominator,
        n=column.n,
        square_root=metric == RMSE,
    )


def mean_column(
    metric: Metric, user: Int32s, values: Float64s, *, n_users: int, name: str
) -> Column:
    """Return the mean of `values`, one per test row, whose users are `user`; both of shape (n,)."""
    return Column(
        metric=metric.name,
        slice=name,
        numerator=np.bincount(user, values, minlength=n_users).astype(np.float64),
        denominator=np.bincount(user, minlength=n_users).astype(np.float64),
        n=len(user),
    )


def list_quality(
    lists: ListMaker, test: Ratings, data: DataConfig, cutoff: int, tile_mib: int = 64
) -> ListQuality:
    """Return the metrics of the lists over the full catalogue, without what `lists` leaves out.

    `data` says which test rows are relevant. NDCG: gain 1, discount 1/log2(rank + 1), ideal of
    min(cutoff, number of relevant items). Average precision is divided by that minimum.
    """
    n_users = len(lists.ordering.users)
    n_items = len(lists.ordering.items)
    relevant = items_by_user(test.take(is_relevant(data, test.value)), n_users)

    # A user without a relevant test item can't be judged.
    n_relevant = np.diff(relevant.start)
    judged = np.flatnonzero(n_relevant).astype(np.int32)
    tiles = [tile.item for tile in lists.top(judged, cutoff, tile_mib)]
    nobody = np.empty((0, cutoff), np.int32)
    made = np.concatenate([nobody, *tiles])
    return _quality(made, judged, relevant, n_items=n_items)


def _quality(lists: Int32s, judged: Int32s, relevant: UserItems, *, n_items: int) -> ListQuality:
    n_users = len(relevant.start) - 1
    cutoff = lists.shape[1]
    n_relevant = np.diff(relevant.start)[judged]

    # A pair is one number, so that hits are a look-up in a set.
    position, item = relevant.of(judged)
    relevant_keys = position * n_items + item
    keys = np.arange(len(judged))[:, None] * n_items + lists
    hits = np.isin(keys, relevant_keys) & (lists >= 0)

    # The best list there could be has its hits first.
    discount = 1.0 / np.log2(np.arange(2, cutoff + 2))
    possible = np.minimum(n_relevant, cutoff)
    ideal = np.cumsum(discount)[possible - 1] if len(judged) else np.empty(0)
    precision = np.cumsum(hits, axis=1) / np.arange(1, cutoff + 1)

    def spread(values: Any) -> Float64s:
        """Return the judged users' values in the rows of all users."""
        out = np.zeros(n_users)
        out[judged] = values
        return out

    return ListQuality(
        ndcg=spread((hits * discount).sum(axis=1) / ideal),
        recall=spread(hits.sum(axis=1) / n_relevant),
        average_precision=spread((hits * precision).sum(axis=1) / possible),
        hit=spread(hits.any(axis=1).astype(np.float64)),
        judged=spread(np.ones(len(judged))),
        lists=lists,
    )


def diversity(
    lists: Int32s, train: Ratings, n_items: int, left_out: Int32s | None = None
) -> dict[Metric, float]:
    """Return how the recommendations spread over the items that are not `left_out`.

    Coverage is the share of the items that are recommended to anybody, novelty the mean
    self-information of a recommended item in bits, and the Gini index is 0 where all items are
    recommended equally often. The overlap is the share of places of one user's list whose item
    another user's list holds too, the mean over all pairs of users: 1 is one list for everybody.
    """
    listed = np.delete(np.arange(n_items), [] if left_out is None else left_out)
    shown = np.bincount(lists[lists >= 0], minlength=n_items)[listed].astype(np.float64)
    total = shown.sum()

    # One rating more for each item: a new one would tell infinitely much.
    rated = np.bincount(train.item, minlength=n_items)[listed] + 1.0
    bits = -np.log2(rated / rated.sum())
    novelty = float((shown * bits).sum() / total) if total else float("nan")
    return {
        COVERAGE: float((shown > 0).mean()),
        NOVELTY: novelty,
        GINI: _gini(shown),
        OVERLAP: _overlap(shown, len(lists)),
    }


def _overlap(shown: Float64s, n_lists: int) -> float:
    """Return the share of a list's places that another list holds too, the mean over all pairs.

    An item in c lists is common to c (c - 1) ordered pairs, and a list is one of n - 1 such pairs
    for each of its places. NaN where there is only one list.
    """
    places = shown.sum() * (n_lists - 1)
    return float((shown * (shown - 1)).sum() / places) if places else float("nan")


def _gini(counts: Float64s) -> float:
    """Return the Gini index, sum_k (2k - n - 1) c_k / (n sum c) over the counts in rising order."""
    ordered = np.sort(counts)
    n = len(ordered)
    total = ordered.sum()
    if not total:
        return float("nan")
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * total))


def estimates(columns: Sequence[Column], samples: int, seed: int) -> list[Estimate]:
    """Return each column's figure with its 95% interval from `samples` resamples of the users."""
    points, resampled = resample(columns, samples, seed)
    lows, highs = _percentiles(resampled, [2.5, 97.5])
    found = []
    for value, low, high in zip(points, lows, highs, strict=True):
        found.append(Estimate(float(value), float(low), float(high)))
    return found


def paired_loss(worse: Column, better: Column, samples: int, seed: int) -> Estimate:
    """Return figure(worse) - figure(better) with its one-sided 95% bounds.

    The same users are drawn for both.
    """
    points, resampled = resample([worse, better], samples, seed)
    losses = resampled[:, 0] - resampled[:, 1]
    low, high = _percentiles(losses, [5.0, 95.0])
    return Estimate(float(points[0] - points[1]), float(low), float(high))


def _percentiles(resampled: Float64s, percents: list[float]) -> Float64s:
    """Return percentiles along the first axis, without the resamples that drew nobody."""
    with warnings.catch_warnings():
        # Where all resamples drew nobody the figure is NaN, and the gate refuses it.
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanpercentile(resampled, percents, axis=0))


def resample(columns: Sequence[Column], samples: int, seed: int) -> tuple[Float64s, Float64s]:
    """Return the figures and their bootstrap resamples.

    The same users are drawn for all columns, so that columns can be compared pairwise.

    Returns:
        Arrays of shape (n_columns,) and (samples, n_columns).
    """
    numerators = np.stack([column.numerator for column in columns], axis=1)
    denominators = np.stack([column.denominator for column in columns], axis=1)
    square_root = np.array([column.square_root for column in columns])

    def figures(top: Float64s, bottom: Float64s) -> Float64s:
        """Return each column's ratio, or its root; NaN where nobody stands below the line."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = top / bottom
            return np.where(square_root, np.sqrt(ratio), ratio)

    points = figures(numerators.sum(axis=0), denominators.sum(axis=0))
    n_users = len(numerators)
    generator = np.random.default_rng(seed)
    at_a_time = max(1, _RESAMPLED_NUMBERS_AT_A_TIME // max(1, n_users))
    parts = []
    for start in range(0, samples, at_a_time):
        size = min(at_a_time, samples - start)
        weights = _times_drawn(generator, size, n_users)
        parts.append(figures(weights @ numerators, weights @ denominators))
    return points, np.concatenate(parts)


def _times_drawn(generator: np.random.Generator, size: int, n_users: int) -> Float64s:
    """Return how often each user is drawn in `size` resamples; shape (size, n_users)."""
    drawn = generator.integers(0, n_users, (size, n_users))

    # One count over all resamples: each has a range of numbers of its own.
    flat = (drawn + np.arange(size)[:, None] * n_users).ravel()
    counts = np.bincount(flat, minlength=size * n_users)
    return counts.reshape(size, n_users).astype(np.float64)
