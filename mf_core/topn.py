"""Exact top-N lists in tiles of bounded memory.

A tile of users is scored by float32 GEMM, N plus a margin candidates are kept, and those are scored again in float64 and
sorted by (score descending, item row). Item rows are sorted by item_id, so ties are broken by item_id. Where float32's error
bound leaves a doubt about the N-th place, the whole row is scored in float64. The lists are therefore the same for any
tiling and any number of shards.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mf_core.factors import FactorModel
from mf_core.ratings import Float32s, Float64s, Int32s, Ratings

_MARGIN = 16
_BYTES_PER_SCORE = 16  # a float32 score, its negation, and an int64 index from the partition
_FLOAT32_ROUNDOFF = 2.0**-23


@dataclass(frozen=True)
class Seen:
    """The items to leave out of each user's list, in compressed rows.

    Attributes:
        start: int64 array of shape (n_users + 1,).
        item: int32 array; user u's items are item[start[u]:start[u + 1]].
    """

    start: NDArray[np.int64]
    item: Int32s

    def of(self, user: Int32s) -> tuple[NDArray[np.int64], Int32s]:
        """Return (position within `user`, item) for all items of the given users."""
        counts = self.start[user + 1] - self.start[user]
        position = np.repeat(np.arange(len(user)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return position, self.item[np.repeat(self.start[user], counts) + within]


@dataclass(frozen=True)
class TopN:
    """Lists of one tile.

    Attributes:
        user: int32 array of shape (n,).
        item: int32 array of shape (n, N), best first; -1 where a user has fewer than N eligible items.
        score: float64 array of shape (n, N); -inf at those places.
    """

    user: Int32s
    item: Int32s
    score: Float64s


def seen_items(ratings: Ratings, n_users: int) -> Seen:
    """Return the items that each user has rated."""
    order = np.argsort(ratings.user, kind="stable")
    start = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(ratings.user, minlength=n_users), out=start[1:])
    return Seen(start, ratings.item[order])


def top_n(
    model: FactorModel,
    users: Int32s,
    seen: Seen,
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
    for start in range(0, len(users), rows):
        yield _tile(model, users[start : start + rows], seen, n, hidden)


def _tile(model: FactorModel, user: Int32s, seen: Seen, n: int, hidden: Int32s | None) -> TopN:
    scores = model.user_factors[user] @ model.item_factors.T
    scores += model.item_bias
    position, item = seen.of(user)
    scores[position, item] = -np.inf
    if hidden is not None:
        scores[:, hidden] = -np.inf
    kept = min(n + _MARGIN, scores.shape[1])
    candidates = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
    candidates.sort(axis=1)
    rough = np.take_along_axis(scores, candidates, axis=1)
    exact = np.where(np.isneginf(rough), -np.inf, _exact(model, user[:, None], candidates))
    result = _ordered(user, candidates, exact, n)
    if kept < scores.shape[1]:
        cutoff = rough.min(axis=1)
        doubtful = np.isfinite(cutoff) & (
            result.score[:, -1] - _offset(model, user) <= cutoff + _error_bound(model, user)
        )
        for row in np.flatnonzero(doubtful):
            everything = np.arange(scores.shape[1])[None, :]
            full = np.where(
                np.isneginf(scores[row]),
                -np.inf,
                _exact(model, user[row : row + 1, None], everything),
            )
            exact_row = _ordered(user[row : row + 1], everything, full, n)
            result.item[row], result.score[row] = exact_row.item[0], exact_row.score[0]
    return result


def _exact(model: FactorModel, user: Int32s, item: NDArray[np.int64]) -> Float64s:
    """Float64 scores of shape (n_users, n_candidates). The sum runs over the last axis: its order is the same for any shape."""
    products = model.user_factors[user].astype(np.float64) * model.item_factors[item]
    return (
        model.mean
        + model.user_bias[user].astype(np.float64)
        + model.item_bias[item]
        + products.sum(axis=-1)
    )


def _ordered(user: Int32s, candidates: NDArray[np.int64], scores: Float64s, n: int) -> TopN:
    # Candidates come sorted by item row and the sort is stable, so equal scores stay in the order of their items.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    item = np.take_along_axis(candidates, order, axis=1).astype(np.int32)
    score = np.take_along_axis(scores, order, axis=1)
    item[np.isneginf(score)] = -1
    missing = n - item.shape[1]
    if missing > 0:
        item = np.pad(item, ((0, 0), (0, missing)), constant_values=-1)
        score = np.pad(score, ((0, 0), (0, missing)), constant_values=-np.inf)
    return TopN(user, item, score)


def _offset(model: FactorModel, user: Int32s) -> Float64s:
    """What the exact scores hold beyond the float32 ones: shape (n_users,)."""
    return model.mean + model.user_bias[user].astype(np.float64)


def _error_bound(model: FactorModel, user: Int32s) -> Float64s:
    """Bound on |float32 score - exact score|: (k + 2) roundoffs of |u||v| + |b| (Higham 2002, section 3.1)."""
    longest = float(np.sqrt((model.item_factors.astype(np.float64) ** 2).sum(axis=1).max()))
    largest_bias = float(np.abs(model.item_bias).max())
    norms = np.sqrt((model.user_factors[user].astype(np.float64) ** 2).sum(axis=1))
    return (model.user_factors.shape[1] + 2) * _FLOAT32_ROUNDOFF * (norms * longest + largest_bias)


def with_popular_fallback(model: FactorModel, popularity: Float64s) -> FactorModel:
    """Return `model` with one more factor that orders the list of a user without factors by popularity.

    Args:
        model: the ranking head.
        popularity: float64 array of shape (n_items,).
    """
    user_column: Float32s = np.asarray(~model.user_factors.any(axis=1), dtype=np.float32)[:, None]
    item_column: Float32s = popularity.astype(np.float32)[:, None]
    return FactorModel(
        mean=model.mean,
        user_bias=model.user_bias,
        item_bias=model.item_bias,
        user_factors=np.hstack([model.user_factors, user_column]),
        item_factors=np.hstack([model.item_factors, item_column]),
        users=model.users,
        items=model.items,
    )
