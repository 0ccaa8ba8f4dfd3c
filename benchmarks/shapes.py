"""Sets of ratings of many shapes: what a nightly job meets that is not MovieLens.

`SHAPES` are for work: settings may be chosen and code be tried on them. `HELD_BACK` are of the same
kinds with other seeds, sizes and parameters, and nobody tunes on them: they are measured once, when
a change is ready, and their figures are published beside those of `SHAPES`. Whoever looks at them
to choose something has to draw new ones (`_HELD_BACK_SEED`).

    python -m benchmarks sets [NAME ...]     write them to var/benchmarks/shapes/NAME/
"""

from dataclasses import replace

import numpy as np

from benchmarks.planted import Scale, Shape

_HALF_POINTS = Scale(0.5, 5, 0.5, relevant_from=4, centre=3.5, spread=1.0)
_FIVE = Scale(1, 5, 1, relevant_from=4, centre=3.6, spread=1.1)
_TEN = Scale(1, 10, 1, relevant_from=8, centre=7.5, spread=1.8)
_HUNDRED = Scale(1, 100, 1, relevant_from=70, centre=62, spread=24)
# Two of three ratings are the highest.
_MOSTLY_FIVE = Scale(1, 5, 1, relevant_from=5, centre=5.2, spread=1.6)
_MOSTLY_THREE = Scale(1, 3, 1, relevant_from=3, centre=2.8, spread=0.7)
_JESTER = Scale(-10, 10, 0.25, relevant_from=3, centre=0.8, spread=5.2)

SHAPES = {
    # 10 ratings a user, of 3,000 items.
    "half_points": Shape(
        *(24_000, 2_341, 2_956, _HALF_POINTS, 101),
        head=5,
        tail=1.4,
        strength=3.5,
        group_size=25,
    ),
    # 39 ratings a user, of 15,000 items: a user's row is next to nothing of the catalogue.
    "long_tail": Shape(
        *(50_000, 1_295, 14_684, _TEN, 102),
        head=10,
        tail=1.2,
        strength=3.5,
        group_size=60,
    ),
    # 41 ratings a user, of 3,000 items: tastes count more than popularity.
    "square": Shape(
        *(123_000, 3_000, 3_000, _FIVE, 103),
        tail=0.9,
        strength=2.6,
        group_size=20,
    ),
    # Items and tastes come and go.
    "drifting": Shape(
        *(80_000, 1_400, 3_500, _HALF_POINTS, 104),
        activity=0.8,
        head=5,
        tail=1.2,
        strength=2.6,
        group_size=20,
        epochs=12,
        life=4.0,
        turn=0.6,
    ),
    # Few ratings, many levels.
    "hundred": Shape(
        *(4_800, 480, 400, _HUNDRED, 105),
        activity=0.7,
        head=5,
    ),
    # Most users have one rating, and nearly all ratings are the highest.
    "one_rating": Shape(
        *(10_400, 10_000, 1_500, _MOSTLY_FIVE, 106),
        activity=1.5,
    ),
    # 20 ratings a user, 20 items that he has not seen.
    "few_items": Shape(
        *(24_000, 1_200, 40, _JESTER, 107),
        activity=0.5,
        head=10,
        tail=0.5,
        strength=1.0,
    ),
    # 20,000 items, three levels.
    "wide": Shape(
        *(80_000, 2_000, 20_000, _MOSTLY_THREE, 108),
        head=10,
        tail=1.2,
        strength=3.5,
        group_size=60,
    ),
    # 200 ratings a user.
    "heavy_users": Shape(
        *(100_000, 500, 2_000, _TEN, 109),
        activity=0.6,
        strength=2.0,
        group_size=15,
    ),
}

_HELD_BACK_SEED = 7_001


def _held_back(name: str, shape: Shape, seed: int) -> Shape:
    """Return another set of the kind of `shape`: sizes and parameters move by up to 40%."""
    # Drawn by a seed of its own, so that a new kind leaves the others as they are.
    rng = np.random.default_rng([seed, *name.encode()])

    def moved(figure: float) -> float:
        return figure * float(np.exp(rng.uniform(np.log(1 / 1.4), np.log(1.4))))

    n_users = round(moved(shape.n_users))
    per_user = moved(shape.n_ratings / shape.n_users)
    n_items = round(moved(shape.n_items))
    # Nobody can rate more than a part of the items.
    per_user = min(max(per_user, 1.05), n_items / 2)
    return replace(
        shape,
        n_ratings=round(n_users * per_user),
        n_users=n_users,
        n_items=n_items,
        seed=int(rng.integers(1 << 30)),
        activity=moved(shape.activity),
        tail=moved(shape.tail),
        strength=moved(shape.strength),
        group_size=moved(shape.group_size),
        group_share=min(0.9, moved(shape.group_share)),
        item_bias=moved(shape.item_bias),
        user_bias=moved(shape.user_bias),
        liking=moved(shape.liking),
    )


HELD_BACK = {
    f"held_back_{name}": _held_back(name, shape, _HELD_BACK_SEED) for name, shape in SHAPES.items()
}
ALL = {**SHAPES, **HELD_BACK}
