"""The validation part of training rows, made as the run's own protocol makes its test side.

Settings that are chosen on such a part are right for the question that the test side asks: what a
user gives to an item some time (`hash`, `given`), what everybody does next (`temporal`), or what
each user does last (`leave_last`). Only training rows are looked at.
"""

import numpy as np
from numpy.typing import NDArray

from mf_core.config import Config
from mf_core.data.ratings import UNDATED, Float64s, IdMap, Ratings, Seconds, pair_draws

Mask = NDArray[np.bool_]


def validation_part(
    config: Config,
    ratings: Ratings,
    users: IdMap,
    items: IdMap,
    *,
    fraction: float,
    seed: int,
) -> Mask:
    """Return which of the training rows to judge by; boolean array of shape (n,).

    hash, given  each row by a draw of its own (`pair_draws`), so that a row is on the same side
                 whatever else is loaded.
    temporal     the latest rows.
    leave_last   the last row of users with at least two, of so many users that the part is not
                 larger than `fraction`.

    Where no row has a time, all protocols draw. A row without a time counts as older than all that
    have one, as in the split.

    Args:
        config: `split.protocol` is read.
        ratings: the training rows, in any order.
        users: ids of all users, in row order.
        items: ids of all items, in row order.
        fraction: share of the rows to judge by.
        seed: of the draws. Under temporal they decide between rows of equal times, under leave_last
            between users.
    """
    draws = pair_draws(ratings, users, items, seed)
    protocol = config.split.protocol
    if ratings.rated_at is None or protocol in {"hash", "given"}:
        return draws < fraction

    most = round(fraction * len(ratings))
    if protocol == "temporal":
        part = _latest(ratings.rated_at, draws, most)
    else:
        part = _last_of_users(ratings, ratings.rated_at, draws, most)
    return part & (ratings.rated_at != UNDATED)


def _latest(rated_at: Seconds, draws: Float64s, n: int) -> Mask:
    """Return the `n` latest rows, of equal times those with the highest draws."""
    order = np.lexsort((draws, rated_at))
    late = np.zeros(len(rated_at), dtype=bool)
    late[order[len(order) - n :]] = True
    return late


def _last_of_users(ratings: Ratings, rated_at: Seconds, draws: Float64s, most: int) -> Mask:
    """Return the last row of each user with at least two, `most` rows at most."""
    # In the order of users, each user's rows in the order of time: a user's last row is followed
    # by another user's, and comes after another row of the same user. Of two rows of one time the
    # one of the higher item id counts as later, as in the split.
    order = np.lexsort((ratings.item, rated_at, ratings.user))
    user = ratings.user[order]
    is_first = np.diff(user, prepend=-1) != 0
    is_last = np.diff(user, append=-1) != 0
    lasts = order[is_last & ~is_first]

    # Of more users than are wanted, those with the lowest draws.
    chosen = lasts[np.argsort(draws[lasts], kind="stable")][:most]
    last = np.zeros(len(ratings), dtype=bool)
    last[chosen] = True
    return last
