"""How a set of ratings is parted into a training and a test side.

Every protocol leaves training rows to each user whom it judges, except `random` and `last_fifth`:
there a test row may be of a user or an item without a training rating, as it is for a nightly job.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted import Int64s, Rated

Mask = NDArray[np.bool_]

TEST_SHARE = 0.2
_SEED = 11


def random_fifth(rated: Rated) -> tuple[Mask, Mask]:
    """Return training and test rows: a fifth of the rows at random is the test side."""
    rng = np.random.default_rng(_SEED)
    test = rng.random(len(rated.user)) < TEST_SHARE
    return ~test, test


def last_fifth(rated: Rated) -> tuple[Mask, Mask]:
    """Return training and test rows: what was rated after one moment is the test side."""
    cut = np.quantile(rated.second, 1 - TEST_SHARE)
    test = rated.second > cut
    return ~test, test


def last_of_each_user(rated: Rated, n: int) -> tuple[Mask, Mask]:
    """Return training and test rows: the last `n` of each user who has more than `n` are tests."""
    from_end = _place_of(rated, rated.second.max() - rated.second)
    enough = np.bincount(rated.user)[rated.user] > n
    test = enough & (from_end < n)
    return ~test, test


def few_ratings(rated: Rated, n: int) -> tuple[Mask, Mask]:
    """Return training and test rows: a fifth of the users keep `n` training ratings each.

    Their test rows are those of `random_fifth`. The other users keep all of their training rows, so
    that there is something to learn from.
    """
    train, test = random_fifth(rated)
    rng = np.random.default_rng(_SEED + 1)
    cut = rng.random(rated.user.max() + 1) < TEST_SHARE

    # Any n of them; a user who has fewer is not one with n ratings.
    key = rng.random(len(rated.user)) + ~train
    place = _place_of(rated, key)
    n_train = np.bincount(rated.user, weights=train)
    cut &= n_train >= n
    of_cut = cut[rated.user]
    return train & (~of_cut | (place < n)), test & of_cut


def _place_of(rated: Rated, key: NDArray[np.generic]) -> Int64s:
    """Return each row's place among its user's rows by `key`, from 0; ties by row."""
    order = np.lexsort((key, rated.user))
    user = rated.user[order]
    first = np.searchsorted(user, user)
    place = np.empty(len(user), np.int64)
    place[order] = np.arange(len(user)) - first
    return place


Protocol = Callable[[Rated], tuple[Mask, Mask]]
PROTOCOLS: dict[str, Protocol] = {
    "random": random_fifth,
    "last_fifth": last_fifth,
    "last_10": partial(last_of_each_user, n=10),
    "last_1": partial(last_of_each_user, n=1),
    **{f"few_{n}": partial(few_ratings, n=n) for n in (1, 2, 3, 5)},
}
