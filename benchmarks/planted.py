"""Seeded ratings of any shape in which people choose what they like.

Where items are picked without regard to taste, no list can be better than popularity, and lists of
such a set say nothing about a recommender. Here a user picks the items with the largest

    log popularity_i(t) + strength * taste_ui(t) + Gumbel noise

which is drawing without replacement by softmax (Efraimidis and Spirakis 2006), and rates them by

    z = standardized(user_bias b_u + item_bias b_i + liking taste_ui(t) + noise)
    rating = round to steps of (centre + spread z), clipped to the scale

Taste is a sum of broad directions (factors with a decaying spectrum) and of small groups of items
(series, authors) of which a user likes a few: the first is what factor models find, the second
what item-item models find; real data have both. With time, popularity fades from an item's release
on, and tastes turn from one planted vector to another.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
Float32s = NDArray[np.float32]

# 2020-01-01T00:00:00Z, and what passes until the last rating.
FIRST_SECOND = 1_577_836_800
SPAN_SECONDS = 3 * 365 * 86_400

_N_FACTORS = 12
_USERS_AT_A_TIME = 512


@dataclass(frozen=True)
class Scale:
    """What ratings people give.

    Attributes:
        low, high, step: the levels.
        relevant_from: what counts as relevant in a list.
        centre, spread: mean and standard deviation of the ratings before rounding and clipping; a
            centre near `high` makes most ratings the highest.
    """

    low: float
    high: float
    step: float
    relevant_from: float
    centre: float
    spread: float


@dataclass(frozen=True)
class Shape:
    """One set, to the last bit: the same shape gives the same ratings.

    Attributes:
        n_ratings, n_users, n_items: the sizes; every user has a rating, not every item.
        scale: what ratings people give.
        seed: of everything that is drawn.
        activity: standard deviation of the log of how much a user rates.
        head, tail: popularity = 1 / (rank + head)^tail.
        strength: weight of taste in what a user picks; 0 is popularity alone.
        group_size: items of a group on average.
        group_share: share of the variance of taste that lies in the groups.
        user_bias, item_bias, liking, noise: weights of the parts of a rating.
        epochs: pieces of time; 1 is a set without drift.
        life: epochs in which an item's popularity fades to 1 / e.
        turn: quarter turns of every user's taste over all epochs.
    """

    n_ratings: int
    n_users: int
    n_items: int
    scale: Scale
    seed: int
    activity: float = 1.0
    head: float = 20.0
    tail: float = 1.0
    strength: float = 1.5
    group_size: float = 8.0
    group_share: float = 0.5
    user_bias: float = 0.6
    item_bias: float = 0.5
    liking: float = 0.7
    noise: float = 1.0
    epochs: int = 1
    life: float = 4.0
    turn: float = 0.0


@dataclass(frozen=True)
class Rated:
    """The ratings in order of time; no pair comes twice.

    Attributes:
        user, item: int64 arrays of shape (n_ratings,), from 0.
        value: float64 array of shape (n_ratings,), on the scale.
        second: int64 array of shape (n_ratings,), seconds since 1970.
    """

    user: Int64s
    item: Int64s
    value: Float64s
    second: Int64s

    def take(self, rows: NDArray[Any]) -> "Rated":
        """Return the rows that a mask or row numbers name."""
        return Rated(self.user[rows], self.item[rows], self.value[rows], self.second[rows])


def draw_ratings(shape: Shape) -> Rated:
    """Return the ratings of `shape`.

    The order of the draws decides the bits: whoever moves one makes other sets.
    """
    rng = np.random.default_rng(shape.seed)
    choice = _Choice(rng, shape)
    counts = _counts_per_epoch(rng, shape)

    parts = []
    for epoch in range(shape.epochs):
        user, item, liked = choice.in_epoch(epoch, counts[epoch])
        parts.append((np.full(len(user), epoch), user, item, liked))
    epoch_of, user, item, liked = (np.concatenate(column) for column in zip(*parts, strict=True))

    value = _ratings(rng, shape, user, item, liked)
    second = _seconds(rng, shape, epoch_of, user)
    return Rated(user, item, value, second).take(np.argsort(second, kind="stable"))


class _Taste:
    """How much each user likes each item; of variance 1 over all pairs."""

    def __init__(self, rng: np.random.Generator, shape: Shape) -> None:
        self._shape = shape
        spectrum = 1.0 / np.arange(1, _N_FACTORS + 1) ** 0.7
        spectrum /= np.sqrt(np.sum(spectrum**2))
        scale = np.sqrt(spectrum)
        users = (shape.n_users, _N_FACTORS)
        self._now = (rng.normal(size=users) * scale).astype(np.float32)
        self._later = (rng.normal(size=users) * scale).astype(np.float32)
        self._items = (rng.normal(size=(shape.n_items, _N_FACTORS)) * scale).astype(np.float32)

        # A user likes one group in twelve, at least one; the few that he likes stand far out.
        n_groups = max(2, round(shape.n_items / shape.group_size))
        self._group = rng.integers(n_groups, size=shape.n_items)
        liked = rng.random((shape.n_users, n_groups)) < 1 / 12
        liked[np.arange(shape.n_users), rng.integers(n_groups, size=shape.n_users)] = True
        share = liked.mean()
        standardized = (liked - share) / np.sqrt(share * (1 - share))
        self._liked = standardized.astype(np.float32)

    def of_users(self, users: Int64s, epoch: int) -> Float32s:
        """Return the taste of `users` (n,) for all items, of shape (n, n_items)."""
        shape = self._shape
        # A turn keeps the length: cos(a) now + sin(a) later.
        angle = 0.5 * np.pi * shape.turn * epoch / max(1, shape.epochs - 1)
        mine = np.cos(angle) * self._now[users] + np.sin(angle) * self._later[users]

        broad = mine @ self._items.T
        groups = self._liked[users][:, self._group]
        taste: Float32s = (
            np.sqrt(1 - shape.group_share) * broad + np.sqrt(shape.group_share) * groups
        ).astype(np.float32)
        return taste


class _Popularity:
    """How well known each item is, epoch by epoch."""

    def __init__(self, rng: np.random.Generator, shape: Shape) -> None:
        self._shape = shape
        by_rank = -shape.tail * np.log(np.arange(shape.n_items) + shape.head)
        # Row numbers must not tell how popular an item is.
        self._log = by_rank[rng.permutation(shape.n_items)]
        # Half of the items are there from the start, as if released before it.
        self._released = rng.integers(-shape.epochs, shape.epochs, size=shape.n_items)

    def log_at(self, epoch: int) -> Float64s:
        """Return log popularity of shape (n_items,); minus infinity before an item's release."""
        if self._shape.epochs == 1:
            return self._log
        age = epoch - self._released
        # A floor, since old items are still found now and then.
        faded = np.log(np.exp(-age / self._shape.life) + 0.02)
        return np.where(age >= 0, self._log + faded, -np.inf)


def _counts_per_epoch(rng: np.random.Generator, shape: Shape) -> Int64s:
    """Return how many items each user picks, of shape (epochs, n_users)."""
    activity = np.exp(rng.normal(0, shape.activity, shape.n_users))
    # Nobody can pick more than there is; what is over goes to the others.
    most = int(0.9 * shape.n_items)
    counts = np.ones(shape.n_users, np.int64)
    while missing := shape.n_ratings - counts.sum():
        open_to = np.where(counts < most, activity, 0)
        counts += rng.multinomial(missing, open_to / open_to.sum())
        counts = np.minimum(counts, most)

    if shape.epochs == 1:
        return counts[None]

    # A user comes at some time and stays for some epochs, mostly few.
    first = rng.integers(shape.epochs, size=shape.n_users)
    stays = rng.geometric(0.3, size=shape.n_users)
    epoch = np.arange(shape.epochs)[:, None]
    present = (epoch >= first) & (epoch < first + stays)
    shares = present / present.sum(axis=0)
    return rng.multinomial(counts, shares.T).T


class _Choice:
    """Who picks what, epoch by epoch; no pair comes twice."""

    def __init__(self, rng: np.random.Generator, shape: Shape) -> None:
        self._rng = rng
        self._strength = shape.strength
        self._taste = _Taste(rng, shape)
        self._popularity = _Popularity(rng, shape)
        self._seen = np.zeros((shape.n_users, shape.n_items), bool)

    def in_epoch(self, epoch: int, counts: Int64s) -> tuple[Int64s, Int64s, Float32s]:
        """Return users, items and how much each is to its user's taste.

        `counts` of shape (n_users,) says how many items each user picks.
        """
        users = np.flatnonzero(counts)
        parts = []
        for start in range(0, len(users), _USERS_AT_A_TIME):
            some = users[start : start + _USERS_AT_A_TIME]
            parts.append(self._of_users(epoch, some, counts[some]))
        user, item, liked = (np.concatenate(column) for column in zip(*parts, strict=True))
        return user, item, liked

    def _of_users(
        self, epoch: int, users: Int64s, counts: Int64s
    ) -> tuple[Int64s, Int64s, Float32s]:
        """Return the same of some users only."""
        liked = self._taste.of_users(users, epoch)
        noise = self._rng.gumbel(size=liked.shape)
        keys = self._popularity.log_at(epoch) + self._strength * liked + noise
        keys[self._seen[users]] = -np.inf

        # Each user takes as many as he picks from the top of his own order.
        order = _largest(keys, int(counts.max()))
        taken = np.arange(order.shape[1]) < counts[:, None]
        # Too few items may be out yet for a user who picks many.
        taken &= np.isfinite(np.take_along_axis(keys, order, axis=1))

        row, place = np.nonzero(taken)
        item = order[row, place]
        self._seen[users[row], item] = True
        return users[row], item, liked[row, item]


def _largest(keys: NDArray[Any], n: int) -> Int64s:
    """Return the columns of the `n` largest of each row, from the largest on."""
    # Only the head is sorted: a row has thousands of columns, and few are picked.
    head = np.argpartition(-keys, n - 1, axis=1)[:, :n]
    order = np.argsort(-np.take_along_axis(keys, head, axis=1), axis=1)
    return np.take_along_axis(head, order, axis=1)


def _ratings(
    rng: np.random.Generator, shape: Shape, user: Int64s, item: Int64s, liked: Float32s
) -> Float64s:
    """Return what the pairs are rated, shape (n,)."""
    z = (
        shape.user_bias * rng.normal(size=shape.n_users)[user]
        + shape.item_bias * rng.normal(size=shape.n_items)[item]
        + shape.liking * liked
        + shape.noise * rng.normal(size=len(user))
    )
    z = (z - z.mean()) / z.std()

    scale = shape.scale
    steps = np.round((scale.centre + scale.spread * z - scale.low) / scale.step)
    return np.clip(scale.low + steps * scale.step, scale.low, scale.high)


def _seconds(rng: np.random.Generator, shape: Shape, epoch: Int64s, user: Int64s) -> Int64s:
    """Return when each pair is rated, shape (n,): a user rates most of an epoch's in one week."""
    length = SPAN_SECONDS / shape.epochs
    came = rng.random((shape.epochs, shape.n_users))[epoch, user]
    within = np.clip(came + rng.exponential(7 * 86_400 / length, size=len(user)), 0, 1)
    seconds = FIRST_SECOND + (epoch + within) * length
    return seconds.astype(np.int64)


def columns_of(rated: Rated) -> dict[str, NDArray[Any]]:
    """Return the columns under the names that a file of ratings has; ids count from 1."""
    return {
        "user_id": rated.user + 1,
        "item_id": rated.item + 1,
        "rating": rated.value,
        "timestamp": rated.second,
    }
