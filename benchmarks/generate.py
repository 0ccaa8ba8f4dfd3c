"""Seeded synthetic ratings shaped like MovieLens 20M, for what MovieLens 100K is too small to show.

138,000 users x 27,000 items with long tails: lognormal activity of the users, a shifted power law over the items. Planted are
biases and 32 factors with a decaying spectrum:

    signal(u, i) = mean + b_u + b_i + x_u . y_i,   rating = round to halves of signal + noise, clipped to 0.5..5

The sets are parts of one draw of 20 million pairs: `20m` and random parts of it, and for linear growth in both senses also
the ratings of a random part of the users (`5m_users`, `1m_users`). 5% of each set are held out.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import erf, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Int32s = NDArray[np.int32]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]

LOW, HIGH, HOLDOUT = 0.5, 5.0, 20
_MEAN, _USER_BIAS, _ITEM_BIAS, _FACTORS, _NOISE = 3.5, 0.40, 0.45, 0.50, 0.75
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
    """Return the ratings of `shape`; the order of the draws decides the bits, so keep it."""
    rng = np.random.default_rng(shape.seed)
    activity = np.exp(rng.normal(0, 1.1, shape.n_users)) + 0.15
    popularity = (1.0 / (np.arange(shape.n_items) + 60.0) ** 1.25)[rng.permutation(shape.n_items)]
    user, item = _distinct_pairs(rng, activity, popularity, shape.n_ratings)
    spectrum = 1.0 / (1 + np.arange(shape.n_factors)) ** 0.75
    spectrum = spectrum / np.sqrt((spectrum**2).sum())
    user_bias = rng.normal(0, _USER_BIAS, shape.n_users)
    item_bias = rng.normal(0, _ITEM_BIAS, shape.n_items)
    user_factors, item_factors = (
        (rng.normal(0, 1, (n, shape.n_factors)) * np.sqrt(spectrum * _FACTORS)).astype(np.float32)
        for n in (shape.n_users, shape.n_items)
    )
    signal = np.empty(shape.n_ratings, np.float32)
    for start in range(0, shape.n_ratings, _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        signal[rows] = np.einsum("ij,ij->i", user_factors[user[rows]], item_factors[item[rows]])
    signal += (_MEAN + user_bias[user] + item_bias[item]).astype(np.float32)
    noisy = signal + rng.normal(0, _NOISE, shape.n_ratings)
    return Draw(user, item, np.clip(np.round(noisy * 2) / 2, LOW, HIGH).astype(np.float32), signal)


def _distinct_pairs(
    rng: np.random.Generator, activity: Float64s, popularity: Float64s, n: int
) -> tuple[Int32s, Int32s]:
    """Return `n` distinct (user, item) pairs drawn by activity x popularity, sorted."""
    n_items = len(popularity)
    user_steps, item_steps = (
        np.cumsum(activity / activity.sum()),
        np.cumsum(popularity / popularity.sum()),
    )
    user_steps /= user_steps[-1]
    item_steps /= item_steps[-1]
    keys = np.empty(0, np.int64)
    while len(keys) < n:
        size = int((n - len(keys)) * 1.3) + 1_000
        user = np.searchsorted(user_steps, rng.random(size))
        item = np.searchsorted(item_steps, rng.random(size))
        keys = np.unique(np.concatenate([keys, user.astype(np.int64) * n_items + item]))
    keys = keys[np.sort(rng.permutation(len(keys))[:n])]
    return (keys // n_items).astype(np.int32), (keys % n_items).astype(np.int32)


def rows_of_share(draw: Draw, shape: Shape, share: int) -> NDArray[np.int64]:
    """Return a random `1 / share` of the rows, in random order; a smaller part lies within a larger one."""
    return np.random.default_rng(shape.seed + 1).permutation(shape.n_ratings)[
        : shape.n_ratings // share
    ]


def rows_of_users(draw: Draw, shape: Shape, share: int) -> NDArray[np.int64]:
    """Return all rows of a random `1 / share` of the users, in random order."""
    chosen = np.zeros(shape.n_users, bool)
    chosen[
        np.random.default_rng(shape.seed + 2).permutation(shape.n_users)[: shape.n_users // share]
    ] = True
    rows = rows_of_share(draw, shape, 1)
    return rows[chosen[draw.user[rows]]]


# name: (how its rows are picked, one in how many)
SETS: dict[str, tuple[Callable[[Draw, Shape, int], NDArray[np.int64]], int]] = {
    "20m": (rows_of_share, 1),
    "10m": (rows_of_share, 2),
    "5m": (rows_of_share, 4),
    "1m": (rows_of_share, 20),
    "200k": (rows_of_share, 100),
    "5m_users": (rows_of_users, 4),
    "1m_users": (rows_of_users, 20),
}


def one_set(draw: Draw, shape: Shape, name: str) -> dict[str, Int32s | Float32s]:
    """Return set `name` as arrays: training rows tru, tri, trr (user, item, rating), held-out rows teu, tei, ter.

    Users are numbered anew where only some take part.
    """
    pick, share = SETS[name]
    rows = pick(draw, shape, share)
    user = draw.user
    if pick is rows_of_users:
        user = np.zeros(len(draw.user), np.int32)
        user[rows] = np.unique(draw.user[rows], return_inverse=True)[1]
    n_held_out = len(rows) // HOLDOUT
    sides = {"te": rows[:n_held_out], "tr": rows[n_held_out:]}
    columns = {"u": user, "i": draw.item, "r": draw.value}
    return {
        side + key: column[sides[side]] for side in ("tr", "te") for key, column in columns.items()
    }


def noise_floor(draw: Draw, shape: Shape, name: str) -> float:
    """Return the held-out RMSE of E[rating | signal], rounding and clipping integrated out: nothing can be below it."""
    pick, share = SETS[name]
    rows = pick(draw, shape, share)
    held_out = rows[: len(rows) // HOLDOUT]
    grid = np.linspace(-3, 10, 13_001)
    expected = np.full_like(grid, LOW)
    for threshold in np.arange(LOW + 0.25, HIGH, 0.5):
        expected += 0.25 * (
            1 + np.array([erf((at - threshold) / (_NOISE * sqrt(2))) for at in grid])
        )
    errors = np.interp(draw.signal[held_out].astype(float), grid, expected) - draw.value[held_out]
    return float(np.sqrt(np.mean(errors**2)))


def write_sets(folder: Path, names: list[str], shape: Shape | None = None) -> dict[str, Path]:
    """Return the files of the sets `names`, generating those that `folder` lacks."""
    paths = {name: folder / f"explicit_{name}.npz" for name in names}
    missing = [name for name in names if not paths[name].exists()]
    if not missing:
        return paths
    shape = shape or Shape()
    print(
        f"generating {', '.join(missing)}: {shape.n_ratings:,} ratings, seed {shape.seed} (about a minute)",
        flush=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    draw = draw_ratings(shape)
    for name in missing:
        arrays = one_set(draw, shape, name)
        about = asdict(shape) | {
            "set": name,
            "n_train": len(arrays["tru"]),
            "n_held_out": len(arrays["teu"]),
        }
        about["floor_rmse"] = noise_floor(draw, shape, name)
        paths[name].with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
        # Under its name only once it is whole. (A file object, since savez appends .npz to other names.)
        partial = paths[name].with_suffix(".part")
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(paths[name])
    return paths
