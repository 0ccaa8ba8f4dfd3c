"""Exact top-N lists in tiles of bounded memory.

A tile of users is scored by float32 GEMM. N plus a margin candidates, or some more, are scored
again in float64 and sorted by (score descending, item row). Item rows are sorted by item_id, so
ties are broken by item_id. Where the error bound of float32 leaves a doubt about the N-th place,
the whole row is scored in float64. The lists are therefore the same for any tiling and any number
of shards.

Candidates are found by blocks of items. The k-th largest of the blocks' maxima is reached by at
least k items, one of each of those blocks, and by few others. So most scores are only compared,
where a partition of the whole row moves them and their places.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mf_core.data.ratings import Float32s, Float64s, Int32s, Ratings
from mf_core.models.factors import FactorModel

_MARGIN = 16
# A float32 score, two comparisons, and in a small catalogue the maximum of its block, twice.
_BYTES_PER_SCORE = 14
_LARGEST_BLOCK = 64
# So many times the items that are wanted may reach the threshold; more do where many are equal.
_MOST_REACHED = 8
_PRODUCTS_AT_A_TIME = 1 << 19
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
    reached, lowest = _candidates(scores, kept)
    row, item = np.nonzero(reached)
    result = _ordered(user, row, item, _exact(model, user[row], item), n)

    if kept < scores.shape[1]:
        for doubtful in _doubtful_rows(bound, user, lowest, result):
            _score_in_full(model, scores, doubtful, result)
    return result


def _candidates(scores: Float32s, kept: int) -> tuple[NDArray[np.bool_], Float32s]:
    """Return which items may be among the `kept` best of each row, and what no other exceeds.

    Shapes (n, n_items) and (n,). A row has at least `kept` of them, or all that it may list.
    """
    lowest = _block_threshold(scores, kept)
    reached = scores >= lowest[:, None]
    reached &= scores > -np.inf

    # Where very many reach it, any `kept` of the best will do: the bound tells whether they do.
    too_many = np.count_nonzero(reached, axis=1) > _MOST_REACHED * kept
    for row in np.flatnonzero(too_many):
        best = np.argpartition(-scores[row], kept - 1)[:kept]
        reached[row] = False
        reached[row, best] = True
        lowest[row] = scores[row, best].min()
    return reached, lowest


def _block_threshold(scores: Float32s, kept: int) -> Float32s:
    """Return a score of each row that at least `kept` of its items reach; shape (n,)."""
    n_users, n_items = scores.shape
    size = max(1, min(_LARGEST_BLOCK, n_items // (4 * kept)))
    in_blocks = n_items - n_items % size
    blocks = scores[:, :in_blocks].reshape(n_users, -1, size)
    maxima: Float32s = blocks.max(axis=2)
    if in_blocks < n_items:
        rest = scores[:, in_blocks:].max(axis=1, keepdims=True)
        maxima = np.hstack([maxima, rest])
    return np.partition(maxima, -kept, axis=1)[:, -kept]


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
    bound: "_ErrorBound", user: Int32s, lowest: Float32s, result: TopN
) -> NDArray[np.int64]:
    """Return the rows in which an item that is no candidate might belong into the list.

    No such item has a float32 score above `lowest`.
    """
    last_place = result.score[:, -1] - _offset(bound.model, user)
    doubtful = last_place <= lowest + bound.of(user)
    return np.flatnonzero(np.isfinite(lowest) & doubtful)


def _score_in_full(model: FactorModel, scores: Float32s, row: int, result: TopN) -> None:
    """Make the list of one row from exact scores of all items."""
    user = result.user[row : row + 1]
    n_places = result.item.shape[1]

    # What the list must not hold is -inf in the rough scores.
    may_be_listed = scores[row] > -np.inf
    item = np.flatnonzero(may_be_listed)
    only_row = np.zeros(len(item), np.int64)
    exact = _exact(model, user[only_row], item)
    best = _ordered(user, only_row, item, exact, n_places)
    result.item[row] = best.item[0]
    result.score[row] = best.score[0]


def _exact(model: FactorModel, user: Int32s, item: NDArray[np.int64]) -> Float64s:
    """Return the float64 score of each pair of a user and an item row; shape (n,).

    The sum runs over the last axis, so that its order is the same however many pairs there are.
    """
    scores: Float64s = model.user_bias[user].astype(np.float64)
    scores += model.mean
    scores += model.item_bias[item]

    # In pieces: the factors of all pairs at once would take more memory than the scores.
    n_factors = model.user_factors.shape[1]
    at_a_time = max(1, _PRODUCTS_AT_A_TIME // max(1, n_factors))
    for start in range(0, len(user), at_a_time):
        piece = slice(start, start + at_a_time)
        x = model.user_factors[user[piece]]
        y = model.item_factors[item[piece]]
        products = x.astype(np.float64) * y
        scores[piece] += products.sum(axis=-1)
    return scores


def _ordered(
    user: Int32s, row: NDArray[np.int64], item: NDArray[np.int64], scores: Float64s, n: int
) -> TopN:
    """Return the first `n` items of each row, by score.

    Pairs come sorted by row and item, and the sort is stable: equal scores keep their order.
    """
    order = np.lexsort((-scores, row))
    counts = np.bincount(row, minlength=len(user))
    first = np.cumsum(counts) - counts
    place = np.arange(len(row)) - first[row]
    listed = place < n

    # A user with fewer than `n` items left has -1 and -inf at the end.
    lists = np.full((len(user), n), -1, np.int32)
    best = np.full((len(user), n), -np.inf)
    chosen = order[listed]
    lists[row[listed], place[listed]] = item[chosen]
    best[row[listed], place[listed]] = scores[chosen]
    return TopN(user, lists, best)


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
        of_columns = np.abs(model.item_factors).max(axis=0, initial=0.0)
        self._largest_of_columns = of_columns.astype(np.float64)
        self._largest_bias = float(np.abs(model.item_bias).max(initial=0.0))

    def of(self, user: Int32s) -> Float64s:
        """Return the bound for all items of each user; shape (n_users,)."""
        x = self.model.user_factors[user].astype(np.float64)
        by_length = _lengths(x) * self._largest_length
        by_column = np.abs(x) @ self._largest_of_columns
        largest_sum = np.minimum(by_length, by_column)

        n_terms = x.shape[1] + 2
        roundoff = n_terms * _FLOAT32_ROUNDOFF
        largest = largest_sum + self._largest_bias
        return np.asarray(roundoff * largest)


def _lengths(factors: Float32s | Float64s) -> Float64s:
    """Return |x| of each row; float64 array of shape (n,)."""
    squares = factors.astype(np.float64) ** 2
    return np.asarray(np.sqrt(squares.sum(axis=1)))
