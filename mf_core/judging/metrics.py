"""Test metrics, as sums per user, and how lists spread over the catalogue."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mf_core.config import DataConfig
from mf_core.data.ratings import Float64s, Int32s, Ratings
from mf_core.data.relevance import is_relevant
from mf_core.figures import AVERAGE_ERROR, COVERAGE, GINI, MAE, NOVELTY, OVERLAP, RMSE, Metric
from mf_core.judging.bootstrap import Column
from mf_core.models.lists import ListMaker
from mf_core.models.user_items import UserItems, items_by_user


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


class MadeLists:
    """The lists of the users that were asked for, each made once.

    A list depends on what its user has seen and not on the test rows, so every comparison on some
    of the rows takes the same one.
    """

    def __init__(self, lists: ListMaker, cutoff: int, tile_mib: int) -> None:
        """Make no list yet.

        Args:
            lists: makes them.
            cutoff: their length N.
            tile_mib: memory bound of the scores, in MiB.
        """
        n_users = len(lists.ordering.users)
        self._lists = lists
        self._tile_mib = tile_mib
        self._item = np.full((n_users, cutoff), -1, np.int32)
        self._is_made = np.zeros(n_users, bool)

    @property
    def n_users(self) -> int:
        """Return how many users there are."""
        return len(self._is_made)

    def of(self, users: Int32s) -> Int32s:
        """Return the lists of the user rows `users`; shape (n, N), -1 where too short."""
        missing = users[~self._is_made[users]]
        for made in self._lists.top(missing, self._item.shape[1], self._tile_mib):
            self._item[made.user] = made.item
        self._is_made[missing] = True
        return self._item[users]


def list_quality(
    lists: ListMaker, test: Ratings, data: DataConfig, cutoff: int, tile_mib: int = 64
) -> ListQuality:
    """Return the metrics of the lists over the full catalogue, without what `lists` leaves out.

    `data` says which test rows are relevant. NDCG: gain 1, discount 1/log2(rank + 1), ideal of
    min(cutoff, number of relevant items). Average precision is divided by that minimum.
    """
    return quality_of(
        MadeLists(lists, cutoff, tile_mib), test, data, n_items=len(lists.ordering.items)
    )


def quality_of(made: MadeLists, test: Ratings, data: DataConfig, *, n_items: int) -> ListQuality:
    """Return the metrics of lists that are made where they are missing, as `list_quality` does."""
    n_users = made.n_users
    relevant = items_by_user(test.take(is_relevant(data, test.value)), n_users)

    # A user without a relevant test item can't be judged.
    n_relevant = np.diff(relevant.start)
    judged = np.flatnonzero(n_relevant).astype(np.int32)
    lists = made.of(judged)
    hits = _hits(lists, judged, relevant, n_items)
    cutoff = lists.shape[1]
    n_relevant = n_relevant[judged]

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


def _hits(lists: Int32s, judged: Int32s, relevant: UserItems, n_items: int) -> NDArray[np.bool_]:
    """Return which places of the lists hold a relevant item; shape (n_judged, N)."""
    # A pair is one number, so that a hit is found by bisection.
    position, item = relevant.of(judged)
    relevant_keys = position * n_items + item
    relevant_keys.sort()
    first_keys = np.arange(len(judged)) * n_items
    keys = first_keys[:, None] + lists

    place = np.searchsorted(relevant_keys, keys)
    nearest = relevant_keys.take(place, mode="clip")
    is_item = lists >= 0
    return is_item & (nearest == keys)


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
