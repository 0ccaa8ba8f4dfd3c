"""Seeded synthetic ratings shaped like MovieLens 20M, for what MovieLens 100K is too small to show.

138,000 users x 27,000 items with long tails: lognormal activity of the users, a shifted power law
over the items. Planted are biases and 32 factors with a decaying spectrum:

    signal(u, i) = mean + b_u + b_i + x_u . y_i
    rating = round to halves of signal + noise, clipped to 0.5..5

The sets are parts of one draw of 20 million pairs: `20m` and random parts of it. To see linear
growth in the number of users too, there are also the ratings of a random part of the users
(`5m_users`, `1m_users`). 5% of each set are held out.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import erf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Floats = NDArray[np.floating]

LOW = 0.5
HIGH = 5.0
# One rating in so many is held out.
HOLDOUT = 20

_MEAN = 3.5
# Standard deviations of what is planted.
_USER_BIAS = 0.40
_ITEM_BIAS = 0.45
_NOISE = 0.75
# Standard deviation of x_u . y_i.
_FACTORS = 0.50

_ROWS_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class Shape:
    """How large the draw is; one in `HOLDOUT` of a set's ratings is held out."""

    n_ratings: int = 20_000_000
    n_users: int = 138_000
    n_items: int = 27_000
    n_factors: int = 32
    seed: int = 2024


@dataclass(frozen=True)
class Draw:
    """All ratings, sorted by (user, item), no pair twice.

    Attributes:
        user, item: int32 arrays of shape (n_ratings,).
        value: float32 array of shape (n_ratings,), halves from 0.5 to 5.
        signal: float32 array of shape (n_ratings,), what was planted, before noise and rounding.
    """

    user: Int32s
    item: Int32s
    value: Float32s
    signal: Float32s


def draw_ratings(shape: Shape) -> Draw:
    """Return the ratings of `shape`.

    The order of the draws decides the bits: whoever moves one makes other sets.
    """
    rng = np.random.default_rng(shape.seed)
    user, item = _draw_pairs(rng, shape)
    signal = _plant_signal(rng, shape, user, item)

    # People rate in half stars: round(2 (signal + noise)) / 2.
    noise = rng.normal(0, _NOISE, shape.n_ratings)
    noisy = signal + noise
    halves = np.round(noisy * 2) / 2
    value = np.clip(halves, LOW, HIGH).astype(np.float32)

    return Draw(user, item, value, signal)


def _draw_pairs(rng: np.random.Generator, shape: Shape) -> tuple[Int32s, Int32s]:
    """Return who rates what: few users rate much, few items are rated much."""
    # Even the least active user rates now and then: activity = lognormal + 0.15.
    activity = np.exp(rng.normal(0, 1.1, shape.n_users)) + 0.15

    # A power law that is flat at its head, since many items are about as well known:
    # popularity = 1 / (rank + 60)^1.25
    ranks = np.arange(shape.n_items)
    by_rank = 1.0 / (ranks + 60.0) ** 1.25

    # Row numbers must not tell how popular an item is.
    popularity = by_rank[rng.permutation(shape.n_items)]

    return _distinct_pairs(rng, activity, popularity, shape.n_ratings)


def _distinct_pairs(
    rng: np.random.Generator, activity: Floats, popularity: Floats, n: int
) -> tuple[Int32s, Int32s]:
    """Return `n` distinct (user, item) pairs drawn by activity x popularity, sorted."""
    n_items = len(popularity)
    user_steps = _cumulative(activity)
    item_steps = _cumulative(popularity)

    # Some pairs come twice and count once, so each round draws more than are missing.
    keys = np.empty(0, np.int64)
    while len(keys) < n:
        size = int((n - len(keys)) * 1.3) + 1_000

        # A uniform draw falls into a row's step as often as the row's weight says.
        user = np.searchsorted(user_steps, rng.random(size))
        item = np.searchsorted(item_steps, rng.random(size))

        # One number per pair sorts by (user, item): key = user * n_items + item.
        drawn = user.astype(np.int64) * n_items + item
        keys = np.unique(np.concatenate([keys, drawn]))

    # The keys are sorted, so the surplus is dropped at random: its end are the last users.
    chosen = rng.permutation(len(keys))[:n]
    keys = keys[np.sort(chosen)]

    user = keys // n_items
    item = keys % n_items
    return user.astype(np.int32), item.astype(np.int32)


def _cumulative(weights: Floats) -> Floats:
    """Return the distribution function of `weights`; shape as theirs, the last value is 1."""
    steps: Floats = np.cumsum(weights / weights.sum())
    # Rounding may leave the last step below 1, and a draw above it would find no row.
    steps /= steps[-1]
    return steps


def _plant_signal(rng: np.random.Generator, shape: Shape, user: Int32s, item: Int32s) -> Float32s:
    """Return mean + b_u + b_i + x_u . y_i of every pair.

    The array is float32 of shape (n_ratings,).
    """
    # Real ratings have a few strong directions and many weak ones.
    spectrum = 1.0 / (1 + np.arange(shape.n_factors)) ** 0.75
    spectrum = spectrum / np.sqrt((spectrum**2).sum())

    # Entries of both sides have variance spectrum * _FACTORS, and the variance of a sum of
    # products is the sum of the products' variances: sum(spectrum^2) * _FACTORS^2.
    scale = np.sqrt(spectrum * _FACTORS)

    user_bias = rng.normal(0, _USER_BIAS, shape.n_users)
    item_bias = rng.normal(0, _ITEM_BIAS, shape.n_items)
    user_factors = _draw_factors(rng, shape.n_users, scale)
    item_factors = _draw_factors(rng, shape.n_items, scale)

    # In pieces, since the gathered factors of all pairs would take 5 GB.
    # signal = x_u . y_i
    signal = np.empty(shape.n_ratings, np.float32)
    for start in range(0, shape.n_ratings, _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        of_users = user_factors[user[rows]]
        of_items = item_factors[item[rows]]
        signal[rows] = np.einsum("ij,ij->i", of_users, of_items)

    # The biases of all pairs are only one number each.
    signal += (_MEAN + user_bias[user] + item_bias[item]).astype(np.float32)
    return signal


def _draw_factors(rng: np.random.Generator, n: int, scale: Float64s) -> Float32s:
    """Return normal factors of standard deviation `scale`, one per direction.

    The array is float32 of shape (n, n_factors); `scale` has shape (n_factors,).
    """
    factors = rng.normal(0, 1, (n, len(scale))) * scale
    return factors.astype(np.float32)


def rows_of_share(draw: Draw, shape: Shape, share: int) -> Int64s:
    """Return a random `1 / share` of the rows, in random order.

    A smaller part lies within a larger one.
    """
    rng = np.random.default_rng(shape.seed + 1)
    return rng.permutation(shape.n_ratings)[: shape.n_ratings // share]


def rows_of_users(draw: Draw, shape: Shape, share: int) -> Int64s:
    """Return all rows of a random `1 / share` of the users, in random order.

    The ratings per user stay as they are, while a share of the rows thins them out.
    """
    rng = np.random.default_rng(shape.seed + 2)
    users = rng.permutation(shape.n_users)[: shape.n_users // share]
    chosen = np.zeros(shape.n_users, bool)
    chosen[users] = True

    # In random order, so that a user's held-out rows are any of his.
    rows = rows_of_share(draw, shape, 1)
    return rows[chosen[draw.user[rows]]]


# name: (how its rows are picked, one in how many)
SETS: dict[str, tuple[Callable[[Draw, Shape, int], Int64s], int]] = {
    "20m": (rows_of_share, 1),
    "10m": (rows_of_share, 2),
    "5m": (rows_of_share, 4),
    "1m": (rows_of_share, 20),
    "200k": (rows_of_share, 100),
    "5m_users": (rows_of_users, 4),
    "1m_users": (rows_of_users, 20),
}


def one_set(draw: Draw, shape: Shape, name: str) -> dict[str, NDArray[Any]]:
    """Return set `name` as arrays: training rows tru, tri, trr, held-out rows teu, tei, ter.

    The last letter is the column: user (int32), item (int32), rating (float32). Users are numbered
    anew where only some take part.
    """
    pick, share = SETS[name]
    rows = pick(draw, shape, share)

    user = draw.user
    if pick is rows_of_users:
        # A user without ratings would still cost every solver a row of factors.
        _, renumbered = np.unique(draw.user[rows], return_inverse=True)
        user = np.zeros(len(draw.user), np.int32)
        user[rows] = renumbered

    n_held_out = len(rows) // HOLDOUT
    train = rows[n_held_out:]
    held_out = rows[:n_held_out]
    return {
        "tru": user[train],
        "tri": draw.item[train],
        "trr": draw.value[train],
        "teu": user[held_out],
        "tei": draw.item[held_out],
        "ter": draw.value[held_out],
    }


def noise_floor(draw: Draw, shape: Shape, name: str) -> float:
    """Return the held-out RMSE of E[rating | signal]: no model can be below it.

    Rounding and clipping are integrated out.
    """
    pick, share = SETS[name]
    rows = pick(draw, shape, share)
    held_out = rows[: len(rows) // HOLDOUT]

    # A rating climbs half a star at each threshold t that signal + noise passes:
    # E[rating | s] = LOW + sum over t of 0.5 P(s + noise > t)
    # P(s + noise > t) = (1 + erf((s - t) / (sd sqrt 2))) / 2
    grid = np.linspace(-3, 10, 13_001)
    expected = np.full_like(grid, LOW)
    for threshold in np.arange(LOW + 0.25, HIGH, 0.5):
        passed = np.array([erf((at - threshold) / (_NOISE * sqrt(2))) for at in grid])
        expected += 0.25 * (1 + passed)

    # Interpolated, since erf is slow and the curve is smooth.
    signal = draw.signal[held_out].astype(float)

    # rmse = sqrt(mean((E[rating | s] - rating)^2))
    predicted = np.interp(signal, grid, expected)
    errors = predicted - draw.value[held_out]
    return float(np.sqrt(np.mean(errors**2)))


def write_sets(folder: Path, names: list[str], shape: Shape | None = None) -> dict[str, Path]:
    """Return the files of the sets `names`, generating those that `folder` lacks."""
    paths = {name: folder / f"explicit_{name}.npz" for name in names}
    missing = [name for name in names if not paths[name].exists()]
    if not missing:
        return paths

    # One draw serves all of them: the sets are parts of it.
    shape = shape or Shape()
    size = f"{shape.n_ratings:,} ratings, seed {shape.seed}"
    print(f"generating {', '.join(missing)}: {size} (about a minute)", flush=True)

    folder.mkdir(parents=True, exist_ok=True)
    draw = draw_ratings(shape)
    for name in missing:
        _write_set(paths[name], draw, shape, name)
    return paths


def _write_set(path: Path, draw: Draw, shape: Shape, name: str) -> None:
    """Write set `name` to `path`, and beside it, as JSON, what it is."""
    arrays: dict[str, Any] = dict(one_set(draw, shape, name))
    about = {
        **asdict(shape),
        "set": name,
        "n_train": len(arrays["tru"]),
        "n_held_out": len(arrays["teu"]),
        "floor_rmse": noise_floor(draw, shape, name),
    }
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")

    # It gets its name only once it is whole. savez would append .npz to the other name, hence the
    # file object.
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)
