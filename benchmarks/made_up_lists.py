"""Lists and ratings that are not computed, for measurements of what comes after.

Every user has rated some items and is offered others: the first and the next places of an
arithmetic progression over a prime number of items, so no item comes twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_N_ITEMS = 27_011
_RATINGS_A_USER = 145
# As many rows as a tile of 64 MiB has, of 27,000 items and lists of 100.
_USERS_A_TILE = 600
_USERS_A_SHARD = 17_250


@dataclass(frozen=True)
class Lists:
    """Who has rated what and is offered what; ids are decimal numbers, in the order of text."""

    n_users: int
    n_places: int
    n_items: int = _N_ITEMS
    n_ratings: int = _RATINGS_A_USER

    @cached_property
    def user_ids(self) -> pa.StringArray:
        """All users, sorted as a snapshot has them."""
        return pa.array(sorted(str(n + 1) for n in range(self.n_users)))

    @cached_property
    def item_ids(self) -> pa.StringArray:
        """All items."""
        return pa.array(sorted(str(n + 1) for n in range(self.n_items)))

    def items(self, users: NDArray[np.int64], first: int, n: int) -> NDArray[np.int64]:
        """Return the places `first` to `first + n` of each user's progression; shape (users, n)."""
        start = (users * 7_919) % self.n_items
        step = 1 + (users * 104_729) % (self.n_items - 1)
        return (start[:, None] + step[:, None] * np.arange(first, first + n)) % self.n_items

    def tiles(self) -> Iterator[NDArray[np.int64]]:
        """Yield the users, some hundred at a time."""
        for first in range(0, self.n_users, _USERS_A_TILE):
            yield np.arange(first, min(first + _USERS_A_TILE, self.n_users), dtype=np.int64)

    def shards(self) -> Iterator[tuple[str, str, list[NDArray[np.int64]]]]:
        """Yield the first and the last user of each shard, and its tiles."""
        tiles = list(self.tiles())
        a_shard = max(1, _USERS_A_SHARD // _USERS_A_TILE)
        for first in range(0, len(tiles), a_shard):
            own = tiles[first : first + a_shard]
            yield self.user_ids[own[0][0]].as_py(), self.user_ids[own[-1][-1]].as_py(), own

    def table(self, users: NDArray[np.int64], version: int, at: datetime) -> pa.Table:
        """Return the rows of some users' lists, as `recommend` makes them."""
        n_rows = len(users) * self.n_places
        item = self.items(users, self.n_ratings, self.n_places).ravel()
        generator = np.random.default_rng(int(users[0]))
        score = -np.sort(-generator.normal(size=(len(users), self.n_places)), axis=1).ravel()
        columns = {
            "model_version": pa.repeat(version, n_rows),
            "user_id": self.user_ids.take(np.repeat(users, self.n_places)),
            "rank": np.tile(np.arange(1, self.n_places + 1), len(users)),
            "item_id": self.item_ids.take(item),
            "score": score,
            "predicted_rating": np.clip(3.5 + score, 0.5, 5.0).astype(np.float32),
            "predicted_rating_sd": pa.nulls(n_rows, pa.float64()),
            "source": pa.repeat("model", n_rows),
            "generated_at": pa.repeat(at.isoformat(), n_rows),
        }
        return pa.table(columns)

    def tables(
        self, tiles: list[NDArray[np.int64]], version: int, at: datetime
    ) -> Iterator[pa.Table]:
        """Yield the rows of a shard, tile by tile."""
        for users in tiles:
            yield self.table(users, version, at)
