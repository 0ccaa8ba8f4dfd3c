"""Ratings as arrays, and the one place where external ids become row numbers.

`user_id` and `item_id` are the source's own text ids; `user` and `item` are row numbers 0..n-1. Only `IdMap` converts.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Int32s = NDArray[np.int32]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class Ratings:
    """Ratings in coordinate form.

    Attributes:
        user: int32 array of shape (n,), user row numbers.
        item: int32 array of shape (n,), item row numbers.
        value: float32 array of shape (n,), ratings.

    Raises:
        ValueError: unequal lengths, negative row numbers or non-finite values.
    """

    user: Int32s
    item: Int32s
    value: Float32s

    def __post_init__(self) -> None:
        if not len(self.user) == len(self.item) == len(self.value):
            raise ValueError(
                f"expected equal lengths, got {len(self.user)} users, {len(self.item)} items, {len(self.value)} values"
            )
        if len(self.user) and (self.user.min() < 0 or self.item.min() < 0):
            raise ValueError("expected row numbers from 0, got a negative one")
        if not np.isfinite(self.value).all():
            raise ValueError("expected finite ratings, got NaN or infinity")

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Ratings":
        """Return the rows that a boolean mask of shape (n,), or an index array, selects."""
        return Ratings(self.user[rows], self.item[rows], self.value[rows])


def concatenate(parts: Iterable[Ratings]) -> Ratings:
    """Return the ratings of all `parts`, one after the other."""
    users, items, values = zip(*((p.user, p.item, p.value) for p in parts), strict=True)
    return Ratings(np.concatenate(users), np.concatenate(items), np.concatenate(values))


@dataclass(frozen=True)
class IdMap:
    """External ids in row order; they are unique and sorted by code point (Postgres' collation C).

    Attributes:
        ids: object array of shape (n,) of str.
    """

    ids: NDArray[np.object_]

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.ids, dtype=object)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Iterable[str]) -> Int32s:
        """Return the row number of each id, -1 where it is unknown; int32 array of shape (len(ids),)."""
        return self._index.get_indexer(pd.Index(list(ids), dtype=object)).astype(np.int32)


def id_map(ids: Iterable[str]) -> IdMap:
    """Return the `IdMap` of the distinct `ids`."""
    distinct = sorted(set(ids))
    array = np.empty(len(distinct), dtype=object)
    array[:] = distinct
    return IdMap(array)


def pair_draws(ratings: Ratings, users: IdMap, items: IdMap, seed: int) -> Float64s:
    """Return a number from [0, 1) for each rating; float64 array of shape (n,).

    It is a hash of (user_id, item_id, seed), so that it does not change as other ratings come and go. Ids are hashed once each
    (BLAKE2b), pairs by the finalizer of SplitMix64 (Steele, Lea & Flood 2014).
    """
    user, item = _digests(users), _digests(items)
    mixed = _mix(_mix(user[ratings.user] ^ _mix(np.array([seed], np.uint64))) + item[ratings.item])
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _digests(ids: IdMap) -> NDArray[np.uint64]:
    data = b"".join(
        hashlib.blake2b(external_id.encode(), digest_size=8).digest() for external_id in ids.ids
    )
    return np.frombuffer(data, dtype="<u8").astype(np.uint64)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
