"""Ratings grouped by the rows of one side, for batches of many rows at once.

Rows are grouped by their number of ratings into power-of-two buckets, sorted by count within a
bucket, and cut into batches that are padded to their longest row: a batch of B rows with at most L
ratings each gathers a (B, L, K) block G of the other side's factors, with which batched operations
solve

    (G^T G + ridge) x = G^T t

A padded place points at an extra row of zeros, so it adds nothing to G^T G or G^T t. Less than half
of a batch is ever padding; the sort makes it a few percent on real data.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mf_core.data.ratings import Float32s, Int32s, Ratings
from mf_core.solvers.deal import Deal
from mf_core.solvers.workers import Workers

Int64s = NDArray[np.int64]
_BITS_OF_INT64 = 63
Solution = TypeVar("Solution")


@dataclass(frozen=True)
class Layout:
    """How a device wants its batches.

    Attributes:
        cells: elements of one batch's largest array.
        index: type of the row numbers in a batch.
        at_once: batches solved side by side.
    """

    cells: int
    index: tf.DType
    at_once: int = 1

    @staticmethod
    def of_device() -> "Layout":
        """Return the layout for the device that operations are placed on at this moment."""
        return GPU if tf.constant(0.0).device.endswith("GPU:0") else CPU


# 2^22 float32 are 16 MiB: with fewer, the cost of starting each operation shows. The operations on
# one batch leave a third of two cores idle.
CPU = Layout(1 << 22, tf.int32, at_once=min(4, os.cpu_count() or 1))
# A GPU wants large batches (2^26 float32 are 256 MiB), and TensorFlow keeps int32 tensors off it.
GPU = Layout(1 << 26, tf.int64)


@dataclass(frozen=True)
class BatchPlan:
    """Which rows are solved together.

    Attributes:
        rows: int64 array of shape (n_active,): the rows that have ratings, in batch order.
        slices: (start, stop, length) per batch: `rows[start:stop]`, padded to `length` ratings.
        padding_share: padded places as a share of all gathered places.
    """

    rows: Int64s
    slices: tuple[tuple[int, int, int], ...]
    padding_share: float


def plan_batches(counts: Int64s, width: int, cells: int) -> BatchPlan:
    """Return the batches of the rows with `counts` ratings each, int64 array of shape (n_rows,).

    No batch gathers more than `cells` numbers (rows x ratings x `width`, nor rows x `width` x
    `width`), unless a single row does.
    """
    # Rows without ratings come first in this order, and are no part of any batch.
    order = np.argsort(counts, kind="stable")
    first = np.searchsorted(counts[order], 1)
    rows = order[first:].astype(np.int64)
    sorted_counts = counts[rows]

    # frexp is exact: the exponent of count - 1/2 is the k with 2^(k-1) < count <= 2^k.
    exponents = np.frexp(sorted_counts - 0.5)[1]
    edges = np.flatnonzero(np.diff(exponents, prepend=-1, append=-1))

    # The last row of a batch is its longest: what the others are padded to.
    slices = []
    for bucket_start, bucket_stop in pairwise(edges.tolist()):
        longest = int(sorted_counts[bucket_stop - 1])
        cells_of_a_row = max(longest, width) * width
        step = max(1, cells // cells_of_a_row)
        for start in range(bucket_start, bucket_stop, step):
            stop = min(start + step, bucket_stop)
            slices.append((start, stop, int(sorted_counts[stop - 1])))
    padding_share = _padding_share(slices, int(sorted_counts.sum()))
    return BatchPlan(rows, tuple(slices), padding_share)


def _padding_share(slices: Sequence[tuple[int, int, int]], n_ratings: int) -> float:
    """Return the padded places as a share of all places of the batches."""
    places = 0
    for start, stop, length in slices:
        places += (stop - start) * length
    return 1 - n_ratings / places if places else 0.0


@dataclass(frozen=True)
class Batch:
    """One batch on the device, padded once for all sweeps.

    Index arithmetic in every sweep would cost an eighth of its time.

    Attributes:
        rows: int64 tensor of shape (B,).
        other: integer tensor of shape (B, L): the other side's row of each rating; `n_other` where
            there is none.
        value: float32 tensor of shape (B, L): the ratings; 0 where there is none.
    """

    rows: tf.Tensor
    other: tf.Tensor
    value: tf.Tensor


class Side:
    """The ratings of one side's rows, on the device for as long as the fit lasts.

    Nothing is copied there within a sweep.

    Attributes:
        n_rows: number of rows, those without ratings included.
        n_other: number of rows of the other side; also the number of the row of zeros that padding
            points at.
        n_active: number of rows with ratings.
        count: float32 tensor of shape (n_rows,), ratings per row.
        plan: how the batches were cut.
        batches: the batches; of several workers, those that this one solves.
    """

    def __init__(
        self,
        row: Int32s,
        other: Int32s,
        value: Float32s,
        shape: tuple[int, int],
        *,
        width: int,
        layout: Layout | None = None,
        workers: Workers | None = None,
    ) -> None:
        """Group the ratings `value[k]` of `row[k]` for `other[k]`.

        `shape` is (n_rows, n_other), `width` the unknowns per row; without a `layout` it is the
        device's. All `workers` give the same ratings, and each keeps those of its batches.
        """
        self.n_rows, self.n_other = shape
        self._workers = workers
        self._layout = layout or Layout.of_device()
        counts = np.bincount(row, minlength=self.n_rows).astype(np.int64)
        self.plan = plan_batches(counts, width, self._layout.cells)
        self.n_active = len(self.plan.rows)
        self.count = tf.constant(counts.astype(np.float32))

        self._deal = Deal.of(self.plan.slices, workers)

        # Where row r's solution stands among all batches' solutions; behind them (a row of zeros)
        # for a row without ratings.
        places = np.full(self.n_rows, self.n_active, dtype=np.int64)
        places[self.plan.rows] = np.arange(self.n_active)
        self._places = tf.constant(self._deal.places(self.plan.slices)[places])

        if workers:
            mine = self._rows_of_mine()[row]
            row, other, value = row[mine], other[mine], value[mine]
            counts = np.bincount(row, minlength=self.n_rows).astype(np.int64)
        # In the order of the plan's rows, each batch's ratings stand together.
        order = _stable_order(places[row])
        pairs = _pack(other, value)[order]
        self.batches = list(self._cut(pairs, counts[self.plan.rows]))

    def _rows_of_mine(self) -> NDArray[np.bool_]:
        """Return which rows this worker solves; boolean array of shape (n_rows,)."""
        mine = np.zeros(self.n_rows, dtype=bool)
        for number in self._deal.mine:
            start, stop, _ = self.plan.slices[number]
            mine[self.plan.rows[start:stop]] = True
        return mine

    def _cut(self, pairs: Int64s, counts: Int64s) -> Iterator[Batch]:
        """Yield the batches of `pairs`, which are in the order of the plan's rows.

        `counts` says how many pairs each of these rows has.
        """
        stops = np.cumsum(counts)
        starts = stops - counts
        row_of_zeros = np.array([self.n_other], np.int32)
        nothing = _pack(row_of_zeros, np.zeros(1, np.float32))[0]
        for number in self._deal.mine:
            start, stop, length = self.plan.slices[number]
            padded = np.full((stop - start, length), nothing)
            own_counts = counts[start:stop, None]
            present = np.arange(length) < own_counts

            # A mask takes its places row by row, which is the order of the pairs.
            first_pair = starts[start]
            end = stops[stop - 1]
            padded[present] = pairs[first_pair:end]
            other, value = _unpack(padded)
            yield Batch(
                rows=tf.constant(self.plan.rows[start:stop]),
                other=tf.constant(other, self._layout.index),
                value=tf.constant(value),
            )

    def each_batch(self, solve: Callable[..., Solution]) -> list[Solution]:
        """Return `solve(rows, other, value)` of each of this worker's batches, in their order."""
        return _on_this_device(
            lambda batch: solve(batch.rows, batch.other, batch.value),
            self.batches,
            self._layout.at_once,
        )

    def in_row_order(self, solutions: list[tf.Tensor]) -> tf.Tensor:
        """Return the batches' solutions, each of shape (B, K), as one tensor of shape (n_rows, K).

        Rows without ratings are zeros. It is a gather by the inverse order: unlike a scatter it
        needs no atomics, so it is deterministic and fast on a GPU too. Several workers exchange
        their solutions here, and all of them have to call it.
        """
        if self._workers:
            solutions = [self._workers.gathered(tf.concat(solutions, axis=0))]
        row_of_zeros = tf.zeros_like(solutions[0][:1])
        return tf.gather(tf.concat([*solutions, row_of_zeros], axis=0), self._places)

    def total_of(self, errors: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the sum of the batches' squared errors, in float64: there may be many batches.

        Several workers exchange theirs, and add up in the order of the batches too.
        """
        together = tf.stack(errors)
        if self._workers:
            gathered = self._workers.gathered(together[:, None])[:, 0]
            together = tf.gather(gathered, self._deal.in_order())
        return tf.reduce_sum(tf.cast(together, tf.float64))

    def solutions_of(self, solve: Callable[..., Any]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return all rows and the sum of the squared errors, where `solve` returns a batch's."""
        solved = self.each_batch(solve)
        solutions = [solution for solution, _ in solved]
        errors = [error for _, error in solved]
        return self.in_row_order(solutions), self.total_of(errors)

    def active(self) -> tf.Tensor:
        """Return 1 for each row with ratings, else 0; float32 tensor of shape (n_rows, 1)."""
        return tf.cast(self.count > 0, tf.float32)[:, None]


def both_sides(
    ratings: Ratings, shape: tuple[int, int], width: int, workers: Workers | None = None
) -> tuple[Side, Side]:
    """Return the users' and the items' side of `ratings`; `shape` is (n_users, n_items)."""
    layout = Layout.of_device()
    n_users, n_items = shape
    of_users = (ratings.user, ratings.item, (n_users, n_items))
    of_items = (ratings.item, ratings.user, (n_items, n_users))

    def make(side: tuple[Int32s, Int32s, tuple[int, int]]) -> Side:
        """Return the side of the users, or that of the items."""
        own, other, own_shape = side
        return Side(
            own,
            other,
            ratings.value,
            shape=own_shape,
            width=width,
            layout=layout,
            workers=workers,
        )

    # Both at once, since NumPy sorts and copies without Python's lock.
    users, items = _on_this_device(make, [of_users, of_items], at_once=2)
    return users, items


def _on_this_device(
    function: Callable[[Any], Solution], arguments: Sequence[Any], at_once: int
) -> list[Solution]:
    """Return `function` of each of the arguments, `at_once` at a time, on this thread's device."""
    if at_once == 1:
        return [function(argument) for argument in arguments]
    device = tf.constant(0.0).device  # a new thread begins with none

    def call(argument: Any) -> Solution:
        """Run the function on the device of the thread that asked."""
        with tf.device(device):
            return function(argument)

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(call, arguments))


def padding_note(users: Side, items: Side) -> str:
    """Say how much of the batches is padding."""
    return (
        f"padding {users.plan.padding_share:.1%} of the users' and "
        f"{items.plan.padding_share:.1%} of the items' places, "
        f"{len(users.plan.slices)} + {len(items.plan.slices)} batches"
    )


def _pack(other: Int32s, value: Float32s) -> Int64s:
    """Return (other, value) as one int64 array.

    To put them in order then takes one random access per rating, where two arrays would take two.
    """
    pairs = np.empty((len(other), 2), np.int32)
    pairs[:, 0] = other
    pairs[:, 1] = value.view(np.int32)
    return pairs.view(np.int64)[:, 0]


def _unpack(pairs: Int64s) -> tuple[Int32s, Float32s]:
    """Return what `_pack` was given, in the shape of `pairs`."""
    halves = pairs.view(np.int32).reshape(*pairs.shape, 2)
    other = halves[..., 0]
    value = np.ascontiguousarray(halves[..., 1]).view(np.float32)
    return other, value


def _stable_order(key: Int64s) -> Int64s:
    """Return the stable sorting order of `key`, which is not negative.

    NumPy sorts plain int64 with vector instructions, some ten times faster than it sorts an order:
    so the position is put below the key, where 63 bits hold both. (2^31 rows and 2^32 ratings fit.)
    """
    bits = len(key).bit_length()
    if int(key.max(initial=0)).bit_length() + bits > _BITS_OF_INT64:
        return np.argsort(key, kind="stable")
    packed = key << bits | np.arange(len(key))
    packed.sort()
    # What is left below the key is the position; in place, since this is the largest array.
    packed &= (1 << bits) - 1
    return packed


def with_zero_row(table: tf.Tensor) -> tf.Tensor:
    """Return `table` of shape (n, ...) with a row of zeros below it: what padding points at."""
    return tf.concat([table, tf.zeros_like(table[:1])], axis=0)
