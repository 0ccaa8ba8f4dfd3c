"""Candidates for lists, from float32 scores: few items per user, the best among them.

A tile of users is scored against a tile of items by one matrix product, and of each user's scores
the `kept` best are found in two rounds. The items are dealt into groups, and whoever is among the
`kept` best items stands in one of the `kept` groups with the highest maxima: so the first round
compares the groups' maxima, and the second one the members of those few groups. Most scores are
read once, where a partition of them all would move each of them and its place.

Nothing here is exact. `ErrorBound` says by how much a score may be off, and `mf_core.models.topn`
decides by exact scores.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mf_core.data.ratings import Float32s, Float64s, Int32s
from mf_core.models.factors import FactorModel
from mf_core.models.user_items import UserItems

Places = NDArray[np.int64]
NO_ITEM = -1

# A tile's scores and item factors should stay in the processor's cache.
_MOST_COLUMNS = 32_768
_LEAST_COLUMNS = 4_096
_MOST_ROWS = 128
_ROWS_WORTH_A_PRODUCT = 64
# A float32 score; where the catalogue is small, its place and a copy of both.
_BYTES_PER_SCORE = 14
_FLOAT32_ROUNDOFF = 2.0**-23


@dataclass(frozen=True)
class Tiling:
    """How many users and items are scored at a time."""

    rows: int
    columns: int

    @classmethod
    def of(cls, n_items: int, n_bytes: int) -> "Tiling":
        """Return a tiling whose scores take no more than `n_bytes`, or those of one user."""
        cells = max(1, n_bytes // _BYTES_PER_SCORE)

        # Few rows at a time would read all item factors for few scores: rather fewer columns.
        columns = min(max(cells // _ROWS_WORTH_A_PRODUCT, _LEAST_COLUMNS), _MOST_COLUMNS)
        columns = max(1, min(columns, n_items))
        rows = max(1, min(cells // columns, _MOST_ROWS))
        return cls(rows, columns)


class RoughScores:
    """Float32 scores of the items that lists may hold.

    The mean and the user's bias, which are the same for all items of a user, are left out.
    """

    def __init__(
        self, model: FactorModel, seen: UserItems, hidden: Int32s | None, n_bytes: int
    ) -> None:
        """Bring the item factors into tiles.

        Args:
            model: its scores.
            seen: items left out, per user.
            hidden: int32 array of item rows left out for everybody.
            n_bytes: bound of the memory that one thread takes for scores.
        """
        n_items = len(model.item_bias)
        listed = np.arange(n_items)
        if hidden is not None:
            listed = np.delete(listed, hidden)

        # A column for each item that a list may hold, in order, and none for the others.
        self._items = listed
        self._column = np.full(n_items, -1)
        self._column[listed] = np.arange(len(listed))
        self._users = model.user_factors
        self._seen = seen
        self.tiling = Tiling.of(len(listed), n_bytes)

        # The bias, where items have one, is one more factor.
        self._has_bias = bool(model.item_bias.any())
        self._tiles: list[tuple[int, Float32s]] = []
        for first in range(0, len(listed), self.tiling.columns):
            item = listed[first : first + self.tiling.columns]
            table = np.ascontiguousarray(model.item_factors[item].T)
            if self._has_bias:
                table = np.vstack([table, model.item_bias[item]])
            self._tiles.append((first, table))

    def buffer(self) -> Float32s:
        """Return memory for a tile of scores, which a thread takes for one tile after another."""
        return np.empty(self.tiling.rows * self.tiling.columns, np.float32)

    def best(self, user: Int32s, n: int, buffer: Float32s) -> tuple[Places, Float32s]:
        """Return the items of the `n` highest scores of each user, and the lowest of these.

        Args:
            user: int32 array of user rows, no more than a tile has.
            n: how many; where lists may hold fewer items, all of these.
            buffer: what `buffer` returned.

        Returns:
            int64 array of shape (n_users, n), items in no order, NO_ITEM where a list may hold no
            more; and float32 array of shape (n_users,): no other item's score is above it, which is
            -inf where there is no other.
        """
        kept = min(n, len(self._items))
        column = np.empty((len(user), 0), np.int64)
        score = np.empty((len(user), 0), np.float32)
        for first, scores in self._scored(user, buffer):
            of_tile, found = _highest(scores, min(kept, scores.shape[1]))
            column = np.hstack([column, of_tile + first])
            score = np.hstack([score, found])
            if score.shape[1] > kept:
                place, score = _highest(score, kept)
                column = np.take_along_axis(column, place, axis=1)

        item = self._items[column]
        item[np.isneginf(score)] = NO_ITEM
        lowest = score.min(axis=1, initial=np.inf)
        if kept == len(self._items):
            lowest[:] = -np.inf
        return item, lowest

    def reaching(self, user: int, score: float, buffer: Float32s) -> Places:
        """Return the items of one user whose scores are at least `score`, in order."""
        found = [np.empty(0, np.int64)]
        for first, scores in self._scored(np.array([user], np.int32), buffer):
            reached = (scores[0] >= score) & (scores[0] > -np.inf)
            found.append(self._items[np.flatnonzero(reached) + first])
        return np.concatenate(found)

    def _scored(self, user: Int32s, buffer: Float32s) -> Iterator[tuple[int, Float32s]]:
        """Yield the first column of each tile and its scores (n_users, columns), all in `buffer`.

        They are -inf where the user has seen the item.
        """
        factors = self._users[user]
        if self._has_bias:
            factors = np.hstack([factors, np.ones((len(user), 1), np.float32)])
        position, item = self._seen.of(user)
        seen = self._column[item]
        for first, table in self._tiles:
            columns = table.shape[1]
            cells = buffer[: len(user) * columns]
            scores = cells.reshape(len(user), columns)
            np.matmul(factors, table, out=scores)

            in_tile = (seen >= first) & (seen < first + columns)
            cell = position * columns + (seen - first)
            cells[cell[in_tile]] = -np.inf
            yield first, scores


def _highest(scores: Float32s, kept: int) -> tuple[Places, Float32s]:
    """Return the columns of the `kept` highest scores of each row, and these scores.

    `scores` has shape (n, columns), and both results have (n, kept), in no order.
    """
    n, columns = scores.shape
    if kept == columns:
        return np.tile(np.arange(columns), (n, 1)), scores.copy()

    # As many members that it pays to look at maxima first, and no group is too few for `kept`.
    members = math.isqrt(columns // (2 * kept))
    if members < 2:
        column = np.argpartition(scores, columns - kept, axis=1)[:, columns - kept :]
        return column, np.take_along_axis(scores, column, axis=1)

    # Group g is the columns g, g + n_groups, and so on: whole rows of neighbours are compared.
    n_groups = columns // members
    dealt = n_groups * members
    maxima = scores[:, :dealt].reshape(n, members, n_groups).max(axis=1)
    group = np.argpartition(maxima, n_groups - kept, axis=1)[:, n_groups - kept :]
    step = np.arange(members) * n_groups
    contender = (group[:, None, :] + step[:, None]).reshape(n, members * kept)

    # What is left over after dealing contends too.
    left_over = np.arange(dealt, columns)
    if len(left_over):
        contender = np.hstack([contender, np.tile(left_over, (n, 1))])
    start_of_row = np.arange(n)[:, None] * columns
    found = scores.reshape(-1).take(contender + start_of_row)
    place = np.argpartition(found, found.shape[1] - kept, axis=1)[:, -kept:]
    return (
        np.take_along_axis(contender, place, axis=1),
        np.take_along_axis(found, place, axis=1),
    )


class ErrorBound:
    """A bound on |float32 score - exact score|, whose items' part is computed once.

    It is (K + 2) roundoffs of sum_k |x_uk| |y_ik| + |b_i| (Higham 2002, section 3.1). The sum is
    bounded in two ways, of which the smaller counts: by Cauchy and Schwarz as |x_u| |y_i|, and by
    each column's largest |y_ik|. The second is the smaller one where a column is large that the
    user has none of, such as the counts that order the popular list.
    """

    def __init__(self, model: FactorModel) -> None:
        factors = model.item_factors
        self._users = model.user_factors

        lengths = _lengths(factors)
        self._largest_length = lengths.max(initial=0.0)

        # The largest |y_ik| without a copy of all of them.
        highest = factors.max(axis=0, initial=0.0)
        lowest = factors.min(axis=0, initial=0.0)
        of_columns = np.maximum(highest, -lowest)
        self._largest_of_columns = of_columns.astype(np.float64)

        biases = np.abs(model.item_bias)
        self._largest_bias = float(biases.max(initial=0.0))

    def of(self, user: Int32s) -> Float64s:
        """Return the bound for all items of each user; shape (n_users,)."""
        x = self._users[user].astype(np.float64)
        by_length = _lengths(x) * self._largest_length
        by_column = np.abs(x) @ self._largest_of_columns
        largest_sum = np.minimum(by_length, by_column)

        n_terms = x.shape[1] + 2
        roundoff = n_terms * _FLOAT32_ROUNDOFF
        largest = largest_sum + self._largest_bias
        return np.asarray(roundoff * largest)


def _lengths(factors: Float32s | Float64s) -> Float64s:
    """Return |x| of each row; float64 array of shape (n,)."""
    squares = np.einsum("ik,ik->i", factors, factors, dtype=np.float64)
    return np.sqrt(squares)
