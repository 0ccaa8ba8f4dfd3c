"""Exact top-N lists in tiles of bounded memory.

A tile of users is scored by float32 GEMM, N plus a margin candidates are kept, and those are
scored again in float64 and sorted by (score descending, item row). Item rows are sorted by item_id,
so ties are broken by item_id. Where float32's error bound leaves a doubt about the N-th place, the
whole row is scored in float64. The lists are therefore the same for any tiling and any number of
shards.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mf_core.data.ratings import Float32s, Float64s, Int32s, Ratings
from mf_core.models.factors import FactorModel

_MARGIN = 16
_BYTES_PER_SCORE = 16  # a float32 score, its negation, and an int64 index from the partition
_FLOAT32_ROUNDOFF = 2.0**-23


@dataclass(frozen=True)
class UserItems:
    """Some items of each user, in compressed rows.

    Attributes:
        start: int64 array of shape (n_users + 1,).
        item: int32 array; user u's items are item[start[u]:start[u + 1]].
    """

    start: NDArray[np.int64]
    item: Int32s

    def of(self, user: Int32s) -> tuple[NDArray[np.int64], Int32s]:
        """Return (position within `user`, item) for all items of the given users."""
        position, place = self.places(user)
        return position, self.item[place]

    def places(self, user: Int32s) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (position within `user`, place within `item`) for all items of the given users."""
        counts = self.start[user + 1] - self.start[user]
        position = np.repeat(np.arange(len(user)), counts)

        # The k-th item of a user stands k places behind the user's start.
        first = np.repeat(np.cumsum(counts) - counts, counts)
        within = np.arange(counts.sum()) - first
        place = np.repeat(self.start[user], counts) + within
        return position, place


@dataclass(frozen=True)
class TopN:
    """Lists of one tile.

    Attributes:
        user: int32 array of shape (n,).
        item: int32 array of shape (n, N), best first; -1 where a user has fewer than N items left.
        score: float64 array of shape (n, N); -inf at those places.
    """

    user: Int32s
    item: Int32s
    score: Float64s


def items_by_user(ratings: Ratings, n_users: int) -> UserItems:
    """Return the items that each user has rated."""
    counts = np.bincount(ratings.user, minlength=n_users)
    start = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(counts, out=start[1:])
    order = np.argsort(ratings.user, kind="stable")
    return UserItems(start, ratings.item[order])


def top_n(
    model: FactorModel,
    users: Int32s,
    seen: UserItems,
    n: int,
    *,
    hidden: Int32s | None = None,
    tile_mib: int = 64,
) -> Iterator[TopN]:
    """Yield the `n` best items of each of `users`, tile by tile, without seen and hidden items.

    Args:
        model: scores; its row numbers are those of `users`, `seen` and `hidden`.
        users: int32 array of user rows.
        seen: items left out, per user.
        n: length of the lists.
        hidden: int32 array of item rows left out for everybody.
        tile_mib: memory bound of one tile's scores, in MiB.
    """
    n_items = len(model.item_bias)
    rows = max(1, (tile_mib << 20) // (n_items * _BYTES_PER_SCORE))
    bound = _ErrorBound(model)
    for start in range(0, len(users), rows):
        yield _tile(bound, users[start : start + rows], seen, n=n, hidden=hidden)


def _tile(
    bound: "_ErrorBound", user: Int32s, seen: UserItems, n: int, hidden: Int32s | None
) -> TopN:
    model = bound.model
    scores = _rough_scores(model, user, seen, hidden)

    # The margin keeps items whose float32 score is a little too low to stand among the first N.
    kept = min(n + _MARGIN, scores.shape[1])
    candidates = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
    candidates.sort(axis=1)
    rough = np.take_along_axis(scores, candidates, axis=1)
    exact = _exact(model, user[:, None], candidates)
    exact = np.where(np.isneginf(rough), -np.inf, exact)
    result = _ordered(user, candidates, exact, n)

    if kept < scores.shape[1]:
        for row in _doubtful_rows(bound, user, rough, result):
            _score_in_full(model, scores, row, result)
    return result


def _rough_scores(
    model: FactorModel, user: Int32s, seen: UserItems, hidden: Int32s | None
) -> Float32s:
    """Return float32 scores of shape (n, n_items); -inf for what a list must not hold."""
    scores: Float32s = model.user_factors[user] @ model.item_factors.T
    scores += model.item_bias
    position, item = seen.of(user)
    scores[position, item] = -np.inf
    if hidden is not None:
        scores[:, hidden] = -np.inf
    return scores


def _doubtful_rows(
    bound: "_ErrorBound", user: Int32s, rough: Float32s, result: TopN
) -> NDArray[np.int64]:
    """Return the rows in which an item that was not kept might belong into the list."""
    worst_kept = rough.min(axis=1)
    last_place = result.score[:, -1] - _offset(bound.model, user)
    doubtful = last_place <= worst_kept + bound.of(user)
    return np.flatnonzero(np.isfinite(worst_kept) & doubtful)


def _score_in_full(model: FactorModel, scores: Float32s, row: int, result: TopN) -> None:
    """Make the list of one row from exact scores of all items."""
    n_items = scores.shape[1]
    n_places = result.item.shape[1]
    user = result.user[row : row + 1]
    everything = np.arange(n_items)[None, :]
    exact = _exact(model, user[:, None], everything)

    # What the list must not hold is -inf in the rough scores.
    exact = np.where(np.isneginf(scores[row]), -np.inf, exact)
    best = _ordered(user, everything, exact, n_places)
    result.item[row] = best.item[0]
    result.score[row] = best.score[0]


def _exact(model: FactorModel, user: Int32s, item: NDArray[np.int64]) -> Float64s:
    """Return float64 scores of shape (n_users, n_candidates).

    The sum runs over the last axis, so that its order is the same for any shape.
    """
    products = model.user_factors[user].astype(np.float64) * model.item_factors[item]
    biases = model.mean + model.user_bias[user].astype(np.float64) + model.item_bias[item]
    return biases + products.sum(axis=-1)


def _ordered(user: Int32s, candidates: NDArray[np.int64], scores: Float64s, n: int) -> TopN:
    # Candidates come sorted by item row and the sort is stable: equal scores keep their order.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    item = np.take_along_axis(candidates, order, axis=1).astype(np.int32)
    score = np.take_along_axis(scores, order, axis=1)
    item[np.isneginf(score)] = -1

    # A small catalogue has fewer than N items in all.
    missing = n - item.shape[1]
    if missing > 0:
        item = np.pad(item, ((0, 0), (0, missing)), constant_values=-1)
        score = np.pad(score, ((0, 0), (0, missing)), constant_values=-np.inf)
    return TopN(user, item, score)


def _offset(model: FactorModel, user: Int32s) -> Float64s:
    """Return what the exact scores hold beyond the float32 ones; shape (n_users,)."""
    return model.mean + model.user_bias[user].astype(np.float64)


class _ErrorBound:
    """A bound on |float32 score - exact score|, whose items' part is computed once.

    It is (K + 2) roundoffs of sum_k |x_uk| |y_ik| + |b_i| (Higham 2002, section 3.1). The sum is
    bounded in two ways, of which the smaller counts: by Cauchy and Schwarz as |x_u| |y_i|, and by
    each column's largest |y_ik|. The second is the smaller one where a column is large that the
    user has none of, such as the counts that order the popular list.
    """

    def __init__(self, model: FactorModel) -> None:
        self.model = model
        self._largest_length = float(_lengths(model.item_factors).max(initial=0.0))
        self._largest_of_columns = np.abs(model.item_factors).max(axis=0, initial=0.0)
        self._largest_bias = float(np.abs(model.item_bias).max(initial=0.0))

    def of(self, user: Int32s) -> Float64s:
        """Return the bound for all items of each user; shape (n_users,)."""
        x = self.model.user_factors[user].astype(np.float64)
        by_length = _lengths(x) * self._largest_length
        by_column = np.abs(x) @ self._largest_of_columns.astype(np.float64)
        largest_sum = np.minimum(by_length, by_column)
        n_terms = x.shape[1] + 2
        return np.asarray(n_terms * _FLOAT32_ROUNDOFF * (largest_sum + self._largest_bias))


def _lengths(factors: Float32s | Float64s) -> Float64s:
    """Return |x| of each row; float64 array of shape (n,)."""
    squares = factors.astype(np.float64) ** 2
    return np.asarray(np.sqrt(squares.sum(axis=1)))
