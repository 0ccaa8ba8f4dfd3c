"""Ratings as arrays, and the one place where external ids become row numbers.

`user_id` and `item_id` are the source's own text ids; `user` and `item` are row numbers 0..n-1.
Only `IdMap` converts.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mf_core.errors import QualityError

Int32s = NDArray[np.int32]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Seconds = NDArray[np.uint32]

UNDATED = 0
"""What `Ratings.rated_at` holds for a rating without a time."""


@dataclass(frozen=True)
class Ratings:
    """Ratings in coordinate form.

    Attributes:
        user: int32 array of shape (n,), user row numbers.
        item: int32 array of shape (n,), item row numbers.
        value: float32 array of shape (n,), ratings.
        rated_at: uint32 array of shape (n,), when each rating was given, in seconds since
            1970-01-01 UTC; `UNDATED` where that is not known. None where no rating has a time.

    Raises:
        ValueError: unequal lengths, negative row numbers or non-finite values.
    """

    user: Int32s
    item: Int32s
    value: Float32s
    rated_at: Seconds | None = None

    def __post_init__(self) -> None:
        if self.rated_at is not None and len(self.rated_at) != len(self.user):
            raise ValueError(
                f"expected equal lengths, got {len(self.user)} users and {len(self.rated_at)} times"
            )
        if not len(self.user) == len(self.item) == len(self.value):
            raise ValueError(
                f"expected equal lengths, got {len(self.user)} users, {len(self.item)} items, "
                f"{len(self.value)} values"
            )
        if len(self.user) and (self.user.min() < 0 or self.item.min() < 0):
            raise ValueError("expected row numbers from 0, got a negative one")
        if not np.isfinite(self.value).all():
            raise ValueError("expected finite ratings, got NaN or infinity")

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Ratings":
        """Return the rows that a boolean mask of shape (n,), or an index array, selects."""
        return Ratings(
            user=self.user[rows],
            item=self.item[rows],
            value=self.value[rows],
            rated_at=None if self.rated_at is None else self.rated_at[rows],
        )


def known_times(rated_at: Seconds) -> Seconds | None:
    """Return `rated_at`, or None if all of it is undated."""
    return rated_at if (rated_at != UNDATED).any() else None


def concatenate(parts: Iterable[Ratings]) -> Ratings:
    """Return the ratings of all `parts`, one after the other.

    If one part has times, the ratings of a part without any are undated.
    """
    all_parts = list(parts)
    return Ratings(
        user=np.concatenate([part.user for part in all_parts]),
        item=np.concatenate([part.item for part in all_parts]),
        value=np.concatenate([part.value for part in all_parts]),
        rated_at=_all_times(all_parts),
    )


def pair_order(user: Int32s, item: Int32s) -> NDArray[np.int64]:
    """Return the places of (user, item) pairs in sorted order; equal pairs stay as they come.

    Args:
        user, item: row numbers from 0; shape (n,).

    Returns:
        int64 array of shape (n,).
    """
    n = len(user)
    if not n:
        return np.empty(0, np.int64)
    item_bits = int(item.max()).bit_length()
    place_bits = n.bit_length()
    if int(user.max()).bit_length() + item_bits + place_bits > 63:
        # The last key of lexsort is the first to sort by.
        return np.lexsort((item, user)).astype(np.int64)

    # user, item and place in one number: numbers are sorted ten times as fast as places by them.
    packed = user.astype(np.int64)
    packed <<= item_bits
    packed |= item
    packed <<= place_bits
    packed |= np.arange(n)
    packed.sort()
    packed &= (1 << place_bits) - 1
    return packed


def summed(ratings: Ratings) -> Ratings:
    """Return one row for each pair of user and item: the sum of its values, and its latest time.

    The rows are sorted by (user, item).
    """
    rows = ratings.take(pair_order(ratings.user, ratings.item))
    moves = (np.diff(rows.user, prepend=-1) != 0) | (np.diff(rows.item, prepend=-1) != 0)
    first = np.flatnonzero(moves)
    if not len(first):
        return rows
    dated = rows.rated_at
    return Ratings(
        user=rows.user[first],
        item=rows.item[first],
        value=np.add.reduceat(rows.value.astype(np.float64), first).astype(np.float32),
        rated_at=None if dated is None else np.maximum.reduceat(dated, first),
    )


def _all_times(parts: list[Ratings]) -> Seconds | None:
    """Return the times of all `parts`, one after the other; None where none has any."""
    if all(part.rated_at is None for part in parts):
        return None
    return np.concatenate(
        [
            np.full(len(part), UNDATED, np.uint32) if part.rated_at is None else part.rated_at
            for part in parts
        ]
    )


@dataclass(frozen=True)
class IdMap:
    """External ids in row order; they are unique and sorted by code point (Postgres' collation C).

    Attributes:
        ids: object array of shape (n,) of str.

    Raises:
        QualityError: there are more ids than an int32 row number can tell apart.
    """

    ids: NDArray[np.object_]

    def __post_init__(self) -> None:
        most = np.iinfo(np.int32).max
        if len(self.ids) > most:
            raise QualityError(
                f"expected at most {most:,} users and as many items, got {len(self.ids):,} ids: "
                "row numbers have 32 bits. Split the catalogue (docs/howto/catalogues.md)."
            )

    @cached_property
    def _index(self) -> pd.Index:
        """A hash table from id to row number, made once."""
        return pd.Index(self.ids, dtype=object)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Iterable[str]) -> Int32s:
        """Return the row number of each id, -1 where it is unknown.

        Returns:
            int32 array of shape (len(ids),).
        """
        wanted = pd.Index(list(ids), dtype=object)
        return self._index.get_indexer(wanted).astype(np.int32)


def id_map(ids: Iterable[str]) -> IdMap:
    """Return the `IdMap` of the distinct `ids`."""
    distinct = sorted(set(ids))
    # Filled afterwards: NumPy would make a fixed-width array of the list.
    array = np.empty(len(distinct), dtype=object)
    array[:] = distinct
    return IdMap(array)


def pair_draws(ratings: Ratings, users: IdMap, items: IdMap, seed: int) -> Float64s:
    """Return a number from [0, 1) for each rating; float64 array of shape (n,).

    It is a hash of (user_id, item_id, seed), so that it does not change as other ratings come and
    go. Ids are hashed once each (BLAKE2b), pairs by the finalizer of SplitMix64 (Steele, Lea &
    Flood 2014).
    """
    # Ids, not row numbers: a row number changes as other users and items come and go.
    user = _digests(users)[ratings.user]
    item = _digests(items)[ratings.item]
    seeds = np.array([seed], np.uint64)

    # h = mix(mix(u ^ mix(s)) + i); the inner mix makes (u, i) differ from (i, u).
    user_and_seed = _mix(user ^ _mix(seeds))
    mixed = _mix(user_and_seed + item)

    # A float64 holds 53 bits exactly: the upper ones of the 64, divided by 2^53.
    upper = mixed >> np.uint64(11)
    return upper.astype(np.float64) * 2.0**-53


def _digests(ids: IdMap) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each id; uint64 array of shape (len(ids),)."""
    digests = [
        hashlib.blake2b(external_id.encode(), digest_size=8).digest() for external_id in ids.ids
    ]
    # Little-endian everywhere, so that draws are the same on every machine.
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the next output of SplitMix64 for each state, modulo 2^64."""
    # The increment of the state: 2^64 divided by the golden ratio, made odd.
    value = value + np.uint64(0x9E3779B97F4A7C15)

    # z = (z ^ (z >> 30)) * m1
    value = value ^ (value >> np.uint64(30))
    value = value * np.uint64(0xBF58476D1CE4E5B9)

    # z = (z ^ (z >> 27)) * m2
    value = value ^ (value >> np.uint64(27))
    value = value * np.uint64(0x94D049BB133111EB)

    # z ^ (z >> 31)
    return value ^ (value >> np.uint64(31))
