"""The validation part of training rows, made as the run's own protocol makes its test side.

Settings that are chosen on such a part are right for the question that the test side asks: what a
user gives to an item some time (`hash`, `given`), what everybody does next (`temporal`), or what
each user does last (`leave_last`, of whom a single row would tell little). Only training rows are
looked at.
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
    leave_last   the last rows of users with at least two: as many of each user as make `fraction`
                 of all rows, but at most half of what a user has. Where one of each is more than
                 that, the last row of some users.

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
    if ratings.rated_at is None or not judges_by_late_rows(config, ratings):
        return draws < fraction

    most = round(fraction * len(ratings))
    if config.split.protocol == "temporal":
        part = _latest(ratings.rated_at, draws, most)
    else:
        part = _last_of_users(ratings, ratings.rated_at, draws, most)
    return part & (ratings.rated_at != UNDATED)


def judges_by_late_rows(config: Config, ratings: Ratings) -> bool:
    """Say whether the rows to judge by come after the others, and are not drawn among them."""
    return config.split.protocol in {"temporal", "leave_last"} and ratings.rated_at is not None


def _latest(rated_at: Seconds, draws: Float64s, n: int) -> Mask:
    """Return the `n` latest rows, of equal times those with the highest draws."""
    if n == 0:
        return np.zeros(len(rated_at), dtype=bool)
    before = len(rated_at) - n
    cut = np.partition(rated_at, before)[before]
    late = rated_at > cut
    at_the_cut = np.flatnonzero(rated_at == cut)
    by_draw = at_the_cut[np.argsort(draws[at_the_cut])]
    n_missing = n - int(late.sum())
    late[by_draw[len(by_draw) - n_missing :]] = True
    return late


def _last_of_users(ratings: Ratings, rated_at: Seconds, draws: Float64s, most: int) -> Mask:
    """Return the last rows of each user with at least two, `most` rows at most."""
    # Of rows of one time, the one of the higher item id counts as later, as in the split.
    order = np.lexsort((ratings.item, rated_at, ratings.user))
    counts = np.bincount(ratings.user)
    ends = np.cumsum(counts)
    later = np.empty(len(ratings), np.int64)
    later[order] = ends[ratings.user[order]] - 1 - np.arange(len(ratings))

    # Every user loses as many, but keeps at least half of what there is to learn from.
    n_users = int((counts > 1).sum())
    of_each = max(1, most // max(1, n_users))
    last = later < np.minimum(of_each, counts // 2)[ratings.user]
    if last.sum() <= most:
        return last

    # One of each is too many: then those with the lowest draws.
    rows = np.flatnonzero(last)
    chosen = rows[np.argsort(draws[rows], kind="stable")][:most]
    fewer = np.zeros(len(ratings), dtype=bool)
    fewer[chosen] = True
    return fewer
