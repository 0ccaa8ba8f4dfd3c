"""What a search may look at: training ratings alone, in two parts, to fit and to judge by."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mf_core.config import Config
from mf_core.data.attributes import AttributeMatrices
from mf_core.data.ratings import IdMap, Ratings
from mf_core.data.validation import judges_by_late_rows, validation_part

Log = Callable[[str], None]

VALIDATION_FRACTION = 0.1
# Different from the seed of any split or fit, so that their parts and these are independent.
VALIDATION_SEED = 1_000_003

# Fewer validation ratings than these say too little: then several parts are judged on.
_ENOUGH_RATINGS = 5_000
MOST_PARTS = 4
"""How many parts are drawn at most."""


@dataclass(frozen=True)
class SearchRows:
    """Training ratings, in rows of `users` and `items`.

    `attributes` are those rows' attributes as the rating head takes them; None if it takes none.
    """

    train: Ratings
    users: IdMap
    items: IdMap
    attributes: AttributeMatrices | None = None

    def shape(self) -> tuple[int, int]:
        """Return how many users and how many items have a training rating."""
        return len(np.unique(self.train.user)), len(np.unique(self.train.item))


@dataclass(frozen=True)
class Part:
    """Training ratings in two: those to fit, and those to judge by."""

    fitted: Ratings
    validation: Ratings

    def of_users(self, chosen: NDArray[np.bool_]) -> "Part":
        """Return the ratings of some users; `chosen` is a boolean array of shape (n_users,)."""
        return Part(
            fitted=self.fitted.take(chosen[self.fitted.user]),
            validation=self.validation.take(chosen[self.validation.user]),
        )


@dataclass(frozen=True)
class Outcome:
    """What was found for one head, by which figures (in words), and everything that was tried.

    `settings` are values by dotted name; none where nothing is better than what is there.
    """

    settings: dict[str, Any]
    grounds: str
    trials: list[dict[str, Any]]


def validation_parts(config: Config, rows: SearchRows, first: int = 0) -> Iterator[Part]:
    """Yield one or more ways to set a validation part aside, until there is enough to judge by.

    Those from another `first` on (`MOST_PARTS`, say) are drawn apart from these. Under a split by
    time there is one: the latest ratings are the same whatever the draws.
    """
    n_judged = 0
    for number in range(first, first + MOST_PARTS):
        held_out = validation_part(
            config,
            rows.train,
            rows.users,
            rows.items,
            fraction=VALIDATION_FRACTION,
            seed=VALIDATION_SEED + number,
        )
        yield Part(rows.train.take(~held_out), rows.train.take(held_out))
        n_judged += int(held_out.sum())
        if n_judged >= _ENOUGH_RATINGS or judges_by_late_rows(config, rows.train):
            return
