"""What a night is measured on: plain sets of growing size, and sets of odd shapes.

Plain sets are those of `benchmarks.generate`. The largest has the size of MovieLens 20M. A smaller
one has as many ratings a user; its items are fewer by the root of that, since a catalogue grows
more slowly than its users.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from benchmarks.generate import HIGH, Draw, Shape, draw_ratings

# One rating in so many comes with the next night's file, and half of those are new.
DELTA = 100
_LARGEST = Shape()
_FIRST_SECOND = 1_100_000_000
_LAST_SECOND = 1_700_000_000


@dataclass(frozen=True)
class Case:
    """A set of ratings and the settings that its night differs by.

    Attributes:
        about: what it is, for people.
        draw: makes its ratings, sorted by (user, item).
        settings: by dotted name.
    """

    about: str
    draw: Callable[[], Draw]
    settings: Mapping[str, str] = field(default_factory=dict)


def plain_shape(n_ratings: int) -> Shape:
    """Return the shape of a plain set, with the ratings that come with the next night."""
    share = n_ratings / _LARGEST.n_ratings
    return Shape(
        n_ratings=n_ratings + n_ratings // (2 * DELTA),
        n_users=round(_LARGEST.n_users * share),
        n_items=round(_LARGEST.n_items * sqrt(share)),
    )


def _plain(n_ratings: int) -> Case:
    shape = plain_shape(n_ratings)
    about = f"{n_ratings:,} ratings, {shape.n_users:,} users x {shape.n_items:,} items"
    return Case(about, lambda: draw_ratings(shape))


def _with_values(user: NDArray[np.int64], item: NDArray[np.int64]) -> Draw:
    """Return pairs with ratings that a bias of the user and of the item explains in part."""
    rng = np.random.default_rng(7)
    # A pair counts once, and the rows are sorted as those of the plain sets.
    n_items = int(item.max()) + 1
    keys = np.unique(user * n_items + item)
    user, item = keys // n_items, keys % n_items
    signal = 3.5 + rng.normal(0, 0.4, user.max() + 1)[user] + rng.normal(0, 0.4, n_items)[item]
    halves = np.round((signal + rng.normal(0, 0.75, len(user))) * 2) / 2
    return Draw(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        value=np.clip(halves, 0.5, HIGH).astype(np.float32),
        signal=signal.astype(np.float32),
    )


def _heavy_users() -> Draw:
    """200 users rate 5,000 of 6,000 items each; one item everybody, and one user nothing else."""
    rng = np.random.default_rng(5)
    item = [np.append(rng.permutation(5_999)[:4_999] + 1, 0) for _ in range(200)]
    user = np.repeat(np.arange(200), 5_000)
    return _with_values(np.append(user, 200), np.append(np.concatenate(item), 0))


def _popular_item() -> Draw:
    """100,000 users, one in ten of whom rates that one item and nothing else; 20 ratings a user."""
    rng = np.random.default_rng(6)
    n_users, n_items, others = 100_000, 5_000, 19
    user = np.arange(n_users)
    others_of = np.repeat(user[user % 10 > 0], others)
    item = rng.integers(1, n_items, len(others_of))
    return _with_values(np.append(user, others_of), np.append(np.zeros(n_users, np.int64), item))


def _two_million_items() -> Draw:
    """Each item has a rating or two, of 2,000 users."""
    rng = np.random.default_rng(8)
    n_items = 2_000_000
    item = np.append(np.arange(n_items), rng.integers(0, n_items, n_items // 2))
    return _with_values(rng.integers(0, 2_000, len(item)), item)


CASES: dict[str, Case] = {
    "10k": _plain(10_000),
    "100k": _plain(100_000),
    "1m": _plain(1_000_000),
    "5m": _plain(5_000_000),
    "20m": _plain(20_000_000),
    "heavy_users": Case(
        "200 users with 5,000 ratings each, and one with a single one", _heavy_users
    ),
    "popular_item": Case("100,000 users who have all rated one item", _popular_item),
    "two_million_items": Case(
        "2,000,000 items with a rating or two, of 2,000 users",
        _two_million_items,
        # Similar items are a product of the catalogue with itself, and the item-item learner and
        # its baseline hold columns for every item: see docs/scale.md.
        {
            "recommend.similar_items": "0",
            "ranking_head.learner": "als",
            "ranking_head.n_factors": "32",
            "gate.require_item_baseline": "off",
        },
    ),
}
# The smallest is for trying things out.
SIZES = ("10k", "100k", "1m", "5m", "20m")
SHAPES = ("heavy_users", "popular_item", "two_million_items")


def write_case(case: Case, folder: Path) -> dict[str, int]:
    """Write `first.csv` and `delta.csv`, the next night's rows, to `folder`; return their counts.

    Half of the delta's rows are new pairs, drawn with the others, and half are changed ratings.
    """
    draw = case.draw()
    rng = np.random.default_rng(9)
    n_ratings = len(draw.user)
    rated_at = rng.integers(_FIRST_SECOND, _LAST_SECOND, n_ratings)

    # A rating that moves by half a star is another one.
    order = rng.permutation(n_ratings)
    half = max(1, n_ratings // (2 * DELTA))
    new, changed = order[:half], order[half : 2 * half]
    first = np.sort(order[half:])
    value = draw.value.copy()
    _write(folder / "first.csv", draw, value, rated_at, rows=first)
    value[changed] = np.where(value[changed] < HIGH, value[changed] + 0.5, HIGH - 0.5)
    rated_at[changed] = _LAST_SECOND
    _write(folder / "delta.csv", draw, value, rated_at, rows=np.append(new, changed))
    return {
        "first": len(first),
        "delta": 2 * half,
        "ratings": n_ratings,
        "users": len(np.unique(draw.user)),
        "items": len(np.unique(draw.item)),
    }


def _write(
    path: Path,
    draw: Draw,
    value: NDArray[np.float32],
    rated_at: NDArray[np.int64],
    *,
    rows: NDArray[np.int64],
) -> None:
    table = pa.table(
        {
            "user_id": draw.user[rows],
            "item_id": draw.item[rows],
            "rating": value[rows],
            "timestamp": rated_at[rows],
        }
    )
    pyarrow.csv.write_csv(table, path)
