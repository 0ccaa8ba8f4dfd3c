"""Exact top-N lists in tiles of bounded memory.

Float32 scores give N candidates plus a margin (`mf_core.models.candidates`). These are scored again
in float64 and sorted by (score descending, item row). Item rows are sorted by item_id, so ties are
broken by item_id. Where the error bound of float32 leaves a doubt about the N-th place, every item
whose float32 score comes near it is scored in float64. The lists are therefore the same for any
tiling, any number of threads and any number of shards.

Each thread makes the lists of a part of the users. NumPy lets them run side by side, and its matrix
products take one thread each meanwhile: threads that wait for each other within a product cost more
than they give, most of all on a busy machine.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mf_core.data.ratings import Float32s, Float64s, Int32s
from mf_core.models.blas_threads import blas_threads, one_blas_thread
from mf_core.models.candidates import NO_ITEM, ErrorBound, RoughScores
from mf_core.models.factors import FactorModel
from mf_core.models.user_items import UserItems

_MARGIN = 16
# What is yielded at a time: many tiles of a thread, since threads wait for each other at the end,
# and few enough places for the rows that the caller makes of them.
_TILES_AT_A_TIME = 16
_PLACES_AT_A_TIME = 1 << 17
# Factors of pairs in float64, which should stay in the processor's cache.
_PRODUCTS_AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class TopN:
    """Lists of some users.

    Attributes:
        user: int32 array of shape (n,).
        item: int32 array of shape (n, N), best first; -1 where a user has fewer than N items left.
        score: float64 array of shape (n, N); -inf at those places.
    """

    user: Int32s
    item: Int32s
    score: Float64s

    def part(self, start: int, stop: int) -> "TopN":
        """Return the lists from `start` to before `stop`; the same memory."""
        rows = slice(start, stop)
        return TopN(self.user[rows], self.item[rows], self.score[rows])


def top_n(
    model: FactorModel,
    users: Int32s,
    seen: UserItems,
    n: int,
    *,
    hidden: Int32s | None = None,
    tile_mib: int = 64,
    threads: int | None = None,
) -> Iterator[TopN]:
    """Yield the `n` best items of each of `users`, part by part, without seen and hidden items.

    Args:
        model: scores; its row numbers are those of `users`, `seen` and `hidden`.
        users: int32 array of user rows.
        seen: items left out, per user.
        n: length of the lists.
        hidden: int32 array of item rows left out for everybody.
        tile_mib: memory bound of the scores of all threads together, in MiB.
        threads: how many; None for as many as NumPy's matrix products would take.
    """
    threads = threads or blas_threads()
    rough = RoughScores(model, seen, hidden, (tile_mib << 20) // threads)
    lists = _Lists(model, rough, n)

    users_of_tiles = threads * rough.tiling.rows
    tiles = min(_TILES_AT_A_TIME, _PLACES_AT_A_TIME // (users_of_tiles * max(n, 1)))
    at_a_time = users_of_tiles * max(tiles, 1)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(users), at_a_time):
            parts = np.array_split(users[start : start + at_a_time], threads)
            # Not around the loop: the limit is the whole process's, and the caller's turn comes.
            with one_blas_thread():
                made = list(pool.map(lists.of, parts))
            yield _joined(made)


def _joined(parts: list[TopN]) -> TopN:
    user = np.concatenate([part.user for part in parts])
    item = np.concatenate([part.item for part in parts])
    score = np.concatenate([part.score for part in parts])
    return TopN(user, item, score)


class _Lists:
    """Makes exact lists out of candidates; threads may share it."""

    def __init__(self, model: FactorModel, rough: RoughScores, n: int) -> None:
        self._model = model
        self._rough = rough
        self._bound = ErrorBound(model)
        self._n = n

    def of(self, users: Int32s) -> TopN:
        """Return the lists of `users`, made tile by tile."""
        shape = (len(users), self._n)
        item = np.full(shape, NO_ITEM, np.int32)
        score = np.full(shape, -np.inf)
        lists = TopN(users, item, score)

        buffer = self._rough.buffer()
        rows = self._rough.tiling.rows
        for start in range(0, len(users), rows):
            self._fill(lists.part(start, start + rows), buffer)
        return lists

    def _fill(self, tile: TopN, buffer: Float32s) -> None:
        """Write the lists of a tile of users into it."""
        # The margin keeps items whose float32 score is a little too low to stand among the first N.
        kept = self._n + _MARGIN
        candidates, lowest = self._rough.best(tile.user, kept, buffer)
        self._write(tile, candidates)

        last_place = tile.score[:, -1]
        for row in self._doubtful(tile.user, last_place, lowest):
            one = tile.part(row, row + 1)
            near = self._near(one, buffer)
            self._write(one, near[None])

    def _write(self, lists: TopN, candidates: NDArray[np.int64]) -> None:
        """Write the best of the candidates of each user into the lists."""
        best, exact = self._ordered(lists.user, candidates)
        places = best.shape[1]
        lists.item[:, :places] = best
        lists.score[:, :places] = exact

    def _near(self, one: TopN, buffer: Float32s) -> NDArray[np.int64]:
        """Return all items that may belong into the list of one user, by their float32 scores."""
        # Who stands in the list or comes before it may be this much lower in float32.
        last_place = one.score[0, -1] - self._offset(one.user)
        enough = last_place - self._bound.of(one.user)
        user = int(one.user[0])
        return self._rough.reaching(user, float(enough[0]), buffer)

    def _doubtful(self, user: Int32s, last_place: Float64s, lowest: Float32s) -> NDArray[np.int64]:
        """Return the rows in which an item that is no candidate might belong into the list.

        No such item has a float32 score above `lowest`.
        """
        doubtful = last_place - self._offset(user) <= lowest + self._bound.of(user)
        return np.flatnonzero(np.isfinite(lowest) & doubtful)

    def _ordered(
        self, user: Int32s, candidates: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Float64s]:
        """Return the N best candidates of each user, or as many as there are, and their scores.

        `candidates` has shape (n, n_candidates). Sorted by row, and then by score in a stable sort,
        those of equal scores keep the order of their rows.
        """
        item = np.sort(candidates, axis=1)
        exact = self._exact(user, item)
        exact[item == NO_ITEM] = -np.inf
        order = np.argsort(-exact, axis=1, kind="stable")[:, : self._n]
        return np.take_along_axis(item, order, axis=1), np.take_along_axis(exact, order, axis=1)

    def _exact(self, user: Int32s, item: NDArray[np.int64]) -> Float64s:
        """Return the float64 scores of some items of each user; both of shape (n, n_candidates).

        The sum runs over the last axis, so that its order is the same however many pairs there are.
        """
        model = self._model
        scores = model.item_bias[item] + self._offset(user)[:, None]

        # In pieces: the factors of all pairs at once would take more memory than the scores.
        per_user = max(1, item.shape[1] * model.item_factors.shape[1])
        at_a_time = max(1, _PRODUCTS_AT_A_TIME // per_user)
        for start in range(0, len(user), at_a_time):
            piece = slice(start, start + at_a_time)
            x = model.user_factors[user[piece]].astype(np.float64)
            y = model.item_factors.take(item[piece], axis=0, mode="wrap").astype(np.float64)
            scores[piece] += np.einsum("uk,uck->uc", x, y)
        return scores

    def _offset(self, user: Int32s) -> Float64s:
        """Return what the exact scores hold beyond the float32 ones; shape (n_users,)."""
        return self._model.mean + self._model.user_bias[user].astype(np.float64)
