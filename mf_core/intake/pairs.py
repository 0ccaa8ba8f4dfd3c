"""Whether a source has a rating of each pair of user and item once, found while it is read."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# 8 bytes each, and as many again while they are sorted: half of a GiB.
_MOST_ROWS = 1 << 25
_ODD = np.uint64(0x9E3779B97F4A7C15)


class Pairs:
    """The pairs of a source's rows, as hashes of 64 bits.

    Equal pairs have equal hashes. Two others may have, once in some ten thousand sources of 20
    million rows; then they are taken for equal, and the rows are sorted for nothing.
    """

    def __init__(self, most_rows: int = _MOST_ROWS) -> None:
        self._hashes: list[NDArray[np.uint64]] = []
        self._room = most_rows

    def add(self, rows: Any) -> None:
        """Look at the columns user_id and item_id of a chunk's table."""
        self._room -= rows.num_rows
        if self._room < 0:
            self._hashes = []
        if self._room < 0 or not rows.num_rows:
            return
        users = _hashes_of(rows.column("user_id"))
        items = _hashes_of(rows.column("item_id"))
        # hash = user + odd * item mod 2^64
        self._hashes.append(users + _ODD * items)

    def are_distinct(self) -> bool:
        """Return whether no pair came twice; of more rows than there is room for, it is not."""
        if self._room < 0 or not self._hashes:
            return False
        hashes = np.concatenate(self._hashes)
        self._hashes = []
        hashes.sort()
        return not bool((hashes[1:] == hashes[:-1]).any())


def _hashes_of(ids: Any) -> NDArray[np.uint64]:
    """Return the hashes of ids (an Arrow array of strings), shape (n,)."""
    from pandas.util import hash_array

    # Each id once: there are far fewer than rows.
    encoded = pa.concat_arrays(ids.chunks).dictionary_encode()
    texts = encoded.dictionary.to_numpy(zero_copy_only=False)
    hashes: NDArray[np.uint64] = hash_array(texts, categorize=False)
    return hashes[encoded.indices.to_numpy()]
