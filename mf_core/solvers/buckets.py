"""Ratings grouped by the rows of one side, and the normal equations of many rows at once.

Rows are grouped by their number of ratings into power-of-two buckets, sorted by count within a bucket, and cut into batches
that are padded to their longest row: a batch of B rows with at most L ratings each gathers a (B, L, K) block G of the other
side's factors, and

    A = G^T G,   b = G^T t,   x = (A + ridge)^-1 b

come from batched `matmul`, `cholesky` and `cholesky_solve`. A padded place points at an extra row of zeros, so it adds
nothing to A or b. Less than half of a batch is ever padding; the sort makes it a few percent on real data.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mf_core.ratings import Float32s, Int32s

Int64s = NDArray[np.int64]

# Elements of one batch's largest array. 2^22 float32 are 16 MiB: with fewer, the cost of starting each operation shows.
CPU_CELLS = 1 << 22
# A GPU wants large batches; 2^26 float32 are 256 MiB.
GPU_CELLS = 1 << 26


@dataclass(frozen=True)
class BatchPlan:
    """Which rows are solved together.

    Attributes:
        rows: int64 array of shape (n_active,): the rows that have ratings, in batch order.
        slices: (start, stop, length) per batch: `rows[start:stop]`, padded to `length` ratings each.
        padding_share: padded places as a share of all gathered places.
    """

    rows: Int64s
    slices: tuple[tuple[int, int, int], ...]
    padding_share: float


def plan_batches(counts: Int64s, width: int, cells: int) -> BatchPlan:
    """Return the batches of the rows with `counts` ratings each, int64 array of shape (n_rows,).

    No batch gathers more than `cells` numbers (rows x ratings x `width`, nor rows x `width` x `width`), unless a single row
    does.
    """
    order = np.argsort(counts, kind="stable")
    rows = order[np.searchsorted(counts[order], 1) :].astype(np.int64)
    sorted_counts = counts[rows]
    # frexp is exact: the exponent of count - 1/2 is the k with 2^(k-1) < count <= 2^k.
    exponents = np.frexp(sorted_counts - 0.5)[1]
    edges = np.flatnonzero(np.diff(exponents, prepend=-1, append=-1))
    slices = []
    for bucket_start, bucket_stop in pairwise(edges):
        longest = int(sorted_counts[bucket_stop - 1])
        step = max(1, cells // (max(longest, width) * width))
        for start in range(int(bucket_start), int(bucket_stop), step):
            stop = min(start + step, int(bucket_stop))
            slices.append((start, stop, int(sorted_counts[stop - 1])))
    places = sum((stop - start) * length for start, stop, length in slices)
    return BatchPlan(rows, tuple(slices), 1 - int(sorted_counts.sum()) / places if places else 0.0)


@dataclass(frozen=True)
class Batch:
    """One batch on the device, padded once for all sweeps: index arithmetic in every sweep would cost an eighth of its time.

    Attributes:
        rows: int64 tensor of shape (B,).
        other: int64 tensor of shape (B, L): the other side's row of each rating; `n_other` where there is none.
        value: float32 tensor of shape (B, L): the ratings; 0 where there is none.
    """

    rows: tf.Tensor
    other: tf.Tensor
    value: tf.Tensor


class Side:
    """The ratings of one side's rows, on the device for as long as the fit lasts: nothing is copied there within a sweep.

    Attributes:
        n_rows: number of rows, those without ratings included.
        n_other: number of rows of the other side; also the number of the row of zeros that padding points at.
        n_active: number of rows with ratings.
        count: float32 tensor of shape (n_rows,), ratings per row.
        plan: how the batches were cut.
        batches: the batches.
    """

    def __init__(self, row: Int32s, other: Int32s, value: Float32s, shape: tuple[int, int], width: int, cells: int) -> None:
        """Group the ratings `value[k]` of `row[k]` for `other[k]`; `shape` is (n_rows, n_other), `width` the unknowns per row."""
        self.n_rows, self.n_other = shape
        order = _row_order(row, other)
        counts = np.bincount(row, minlength=self.n_rows).astype(np.int64)
        self.plan = plan_batches(counts, width, cells)
        self.n_active = len(self.plan.rows)
        self.count = tf.constant(counts.astype(np.float32))
        starts = np.cumsum(counts) - counts
        # int64 throughout: offsets can pass 2^31, and TensorFlow keeps int32 tensors off the GPU.
        table = _RowOrder(*map(tf.constant, (starts, counts, other[order].astype(np.int64), value[order])))
        rows = tf.constant(self.plan.rows)
        self.batches = [
            Batch(rows[start:stop], *table.pad(rows[start:stop], length, self.n_other))
            for start, stop, length in self.plan.slices
        ]
        # Where row r's solution stands among all batches' solutions; n_active (a row of zeros) for a row without ratings.
        places = np.full(self.n_rows, self.n_active, dtype=np.int64)
        places[self.plan.rows] = np.arange(self.n_active)
        self._places = tf.constant(places)

    def in_row_order(self, solutions: list[tf.Tensor]) -> tf.Tensor:
        """Return the batches' solutions, each of shape (B, K), as one tensor of shape (n_rows, K); zeros without ratings.

        A gather by the inverse order: unlike a scatter it needs no atomics, so it is deterministic and fast on a GPU too.
        """
        return tf.gather(with_zero_row(tf.concat(solutions, axis=0)), self._places)

    def active(self) -> tf.Tensor:
        """Return 1 for each row with ratings and 0 for the others; float32 tensor of shape (n_rows, 1)."""
        return tf.cast(self.count > 0, tf.float32)[:, None]


@dataclass(frozen=True)
class _RowOrder:
    """Ratings in row order: row r's stand at start[r] .. start[r] + count[r] - 1 of `other` and `value`."""

    start: tf.Tensor
    count: tf.Tensor
    other: tf.Tensor
    value: tf.Tensor

    def pad(self, rows: tf.Tensor, length: int, n_other: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (other, value) of `rows`, each of shape (B, length)."""
        offset = tf.range(length, dtype=tf.int64)[None, :]
        present = offset < tf.gather(self.count, rows)[:, None]
        position = tf.where(present, tf.gather(self.start, rows)[:, None] + offset, 0)
        return tf.where(present, tf.gather(self.other, position), n_other), tf.where(
            present, tf.gather(self.value, position), 0.0
        )


def _row_order(row: Int32s, other: Int32s) -> Int64s:
    """Return the order of the ratings by (row, other). A snapshot's are sorted by (user, item), which saves most of it."""
    key = row.astype(np.int64) << 32 | other
    if (key[1:] >= key[:-1]).all():
        return np.arange(len(row))
    if (other[1:] >= other[:-1]).all():
        return _stable_order(row)
    order = _stable_order(other)
    return order[_stable_order(row[order])]


def _stable_order(key: Int32s) -> Int64s:
    """Return the stable sorting order of `key` (not negative) by its 16-bit halves: NumPy sorts those by radix, in O(n)."""
    order = np.argsort((key & 0xFFFF).astype(np.uint16), kind="stable")
    if len(key) and key.max() > 0xFFFF:
        order = order[np.argsort((key >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def with_zero_row(table: tf.Tensor) -> tf.Tensor:
    """Return `table` of shape (n, ...) with a row of zeros below it: what padding points at."""
    return tf.concat([table, tf.zeros_like(table[:1])], axis=0)


def factorize(design: tf.Tensor, ridge: tf.Tensor, gram: tf.Tensor | None = None) -> tf.Tensor:
    """Return the Cholesky factors of G^T G + gram + diag(ridge), shape (B, K, K).

    `design` G has shape (B, L, K), `ridge` (B, K), and `gram`, shared by all rows, (K, K).
    """
    precision = tf.matmul(design, design, transpose_a=True)
    if gram is not None:
        precision += gram
    return tf.linalg.cholesky(tf.linalg.set_diag(precision, tf.linalg.diag_part(precision) + ridge))


def solve(cholesky: tf.Tensor, design: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Return the solutions of (L L^T) x = G^T t, shape (B, K); `target` t has shape (B, L)."""
    right = tf.matmul(design, target[:, :, None], transpose_a=True)
    return tf.linalg.cholesky_solve(cholesky, right)[:, :, 0]
