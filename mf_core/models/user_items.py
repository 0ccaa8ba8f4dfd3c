"""Items of each user in compressed rows: what he has rated, or what is relevant to him."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mf_core.data.ratings import Int32s, Ratings


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
        first = np.cumsum(counts) - counts
        place = np.arange(counts.sum())
        place += np.repeat(self.start[user] - first, counts)
        return position, place


def items_by_user(ratings: Ratings, n_users: int) -> UserItems:
    """Return the items that each user has rated."""
    counts = np.bincount(ratings.user, minlength=n_users)
    start = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(counts, out=start[1:])
    # A snapshot's ratings are sorted, and there are many of them.
    is_sorted = bool((ratings.user[1:] >= ratings.user[:-1]).all())
    if is_sorted:
        return UserItems(start, ratings.item)
    order = np.argsort(ratings.user, kind="stable")
    return UserItems(start, ratings.item[order])
