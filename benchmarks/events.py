"""Sets of events without ratings: who picked what as in `planted`, and what it weighs.

How much a user likes a picked item decides how often it is played, or how far towards a purchase a
visit gets. Only the sum of a pair's events is kept, as a warehouse has it.

    shop    a view weighs 1, a place in the basket 3, a purchase 10; most pairs are one view
    plays   counts with a long tail; now and then a user dislikes an item, which weighs -10
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from benchmarks.planted import Float64s, Rated, Scale, Shape, draw_ratings

# The ratings of `planted` before they are rounded: how much a pair is liked, of variance 1.
_LIKING = Scale(-3, 3, 1e-3, relevant_from=0, centre=0, spread=1)
_BASKET, _PURCHASE, _DISLIKE = 3, 10, -10


@dataclass(frozen=True)
class EventSet:
    """One set, to the last bit.

    Attributes:
        kind: what its events are.
        shape: who picks what, how much it is liked, and the seed.
    """

    kind: Literal["shop", "plays"]
    shape: Shape


EVENTS = {
    # 20 pairs a user, of 1,200 items; most are views alone.
    "events_shop": EventSet(
        "shop",
        Shape(
            *(24_000, 1_200, 1_200, _LIKING, 201),
            head=5,
            tail=1.1,
            strength=2.6,
            group_size=20,
            liking=1.0,
        ),
    ),
    # 40 pairs a user, of 1,000 items.
    "events_plays": EventSet(
        "plays",
        Shape(
            *(40_000, 1_000, 1_000, _LIKING, 202),
            head=10,
            tail=0.9,
            strength=2.2,
            group_size=15,
            liking=1.0,
        ),
    ),
}


def draw_events(events: EventSet) -> Rated:
    """Return the pairs of `events` with their weights in the place of ratings."""
    rated = draw_ratings(events.shape)
    rng = np.random.default_rng([events.shape.seed, 1])
    weigh = {"shop": _shop, "plays": _plays}[events.kind]
    return replace(rated, value=weigh(rng, rated.value))


def _shop(rng: np.random.Generator, liked: Float64s) -> Float64s:
    """Return the weights of visits to a shop; of the shape of `liked`."""
    views = 1 + rng.poisson(0.5 * np.exp(0.6 * liked))
    in_basket = rng.random(len(liked)) < _chance(1.5 * liked - 2.5)
    bought = in_basket & (rng.random(len(liked)) < _chance(liked - 0.5))
    return (views + _BASKET * in_basket + _PURCHASE * bought).astype(float)


def _plays(rng: np.random.Generator, liked: Float64s) -> Float64s:
    """Return how often items are played, less what a dislike weighs; of the shape of `liked`."""
    plays = np.ceil(np.exp(1.2 * liked + 0.8 * rng.normal(size=len(liked))))
    disliked = rng.random(len(liked)) < _chance(-2 * liked - 4)
    return plays + _DISLIKE * disliked


def _chance(log_odds: Float64s) -> Float64s:
    chance: Float64s = 1 / (1 + np.exp(-log_odds))
    return chance
