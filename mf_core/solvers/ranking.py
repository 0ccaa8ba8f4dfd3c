"""The ranking head's solver: implicit ALS, the item-item learner, or both in one factor model.

A blend adds both learners' scores in standard deviations of each user's scores over the items, with
`item_share` as the weight of the item-item learner's. Of any score of a user only the order counts,
so a user's rows are multiplied by what leaves the factors of ALS as they are: a later fit can start
from them. Side by side the factors of both are one factor model.

Of a user with n ratings, few, the popular items are a better guess than either learner. They are
one more column: the counts of relevant ratings, standardized, weigh

    exp(-(n - 1) / popular_ratings)

standard deviations of the user's scores: as much as the learner for one rating, hardly anything
from some tens on.
"""

import numpy as np

from mf_core.config import RankingHeadConfig, SolverConfig
from mf_core.data.ratings import Float32s
from mf_core.solvers.implicit import ImplicitAls
from mf_core.solvers.item_item import ItemItem
from mf_core.solvers.preference import Preferences
from mf_core.solvers.solver import COLUMN_BYTES, Arrays, Factors, Problem, Solver

# Similar items go by the items' factors, in which popularity should have no say. What an item's
# column has too little, the users' has too much.
_POPULARITY_LENGTH = 1e-3


class RankingLists(Solver):
    """The learners that the settings name, an iteration of each at a time."""

    unit = "sweep"

    def __init__(self, problem: Problem[RankingHeadConfig]) -> None:
        """Put the observed pairs on the device."""
        super().__init__(problem)
        settings = problem.settings
        self._settings = settings
        preferences = Preferences.of(problem)
        self.note = preferences.note()

        self._als: ImplicitAls | None = None
        self._item_item: ItemItem | None = None
        if settings.learner != "item_item":
            self._als = ImplicitAls(problem, preferences)
        if settings.learner != "als":
            self._item_item = ItemItem(preferences, settings, problem.seed)

        self._rated = preferences.users.count.numpy()
        self._listed = preferences.items.count.numpy() > 0
        train = problem.ratings
        relevant = train.item[train.value >= problem.data.relevant_from]
        self._popularity = np.bincount(relevant, minlength=problem.shape[1])

    @classmethod
    def bytes_per_row(cls, settings: SolverConfig, shape: tuple[int, int]) -> int:
        """Return what a fit holds in memory for each user and item, beside ratings and batches.

        That is 24 bytes for each factor of either learner.
        """
        assert isinstance(settings, RankingHeadConfig)
        n_factors = settings.n_factors if settings.learner != "item_item" else 0
        if settings.learner != "als":
            n_factors += min(settings.item_factors, *shape)
        return COLUMN_BYTES * (n_factors + 1)

    def iterate(self, iteration: int) -> float:
        """Run one iteration of each learner that has one left; return the error of the first."""
        errors = []
        if self._als:
            errors.append(self._als.iterate())
        if self._item_item and iteration < self._settings.item_passes:
            errors.append(self._item_item.iterate())
        return errors[0]

    def closing_note(self) -> str:
        """Say what it costs to hold the item-item weights in factors."""
        return self._item_item.note() if self._item_item else ""

    def state(self) -> Arrays:
        """Return all that the next iteration depends on."""
        state: Arrays = {}
        for learner in (self._als, self._item_item):
            if learner:
                state |= learner.state()
        return state

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        for learner in (self._als, self._item_item):
            if learner:
                learner.restore(state)

    def factors(self) -> Factors:
        """Return the arrays of all learners as those of one model; biases and mean are 0."""
        user, item = self._learned()
        spread = self._spread(user, item)
        user, item = self._with_popularity(user, item, spread)
        return Factors.without_biases(user, item)

    def _learned(self) -> tuple[Float32s, Float32s]:
        """Return the factors that were learned, those of ALS first and as they are."""
        learned = [learner.factors() for learner in (self._als, self._item_item) if learner]
        tables = [(user.numpy(), item.numpy()) for user, item in learned]
        if len(tables) == 1:
            return tables[0]
        (user, item), (other_user, other_item) = tables
        share = self._settings.item_share
        ratio = share / (1 - share)

        # Both in standard deviations of the user's scores, times those of ALS.
        weight = ratio * _divided(self._spread(user, item), self._spread(other_user, other_item))
        # Similar items go by the items' factors: there the two shall count as they do in scores.
        length = ratio * _divided(_norm(item), _norm(other_item))
        other_user = other_user * (weight / length)[:, None]
        other_item = other_item * length
        return np.hstack([user, other_user]), np.hstack([item, other_item])

    def _spread(self, user: Float32s, item: Float32s) -> Float32s:
        """Return the standard deviation of each user's scores over the items that have ratings."""
        listed = item[self._listed].astype(np.float64)
        centred = listed - listed.mean(axis=0)
        covariance = centred.T @ centred / len(centred)
        variance = np.einsum("uk,uk->u", user @ covariance.astype(np.float32), user)
        return np.sqrt(np.maximum(variance, 0)).astype(np.float32)

    def _with_popularity(
        self, user: Float32s, item: Float32s, spread: Float32s
    ) -> tuple[Float32s, Float32s]:
        """Return the factors with the column that the lists of users with few ratings go by."""
        until = self._settings.popular_ratings
        if not until:
            return user, item
        counts = self._popularity[self._listed]
        standard = (self._popularity - counts.mean()) / max(counts.std(), 1e-9)
        item_column = _POPULARITY_LENGTH * standard * self._listed
        weight = np.exp((1 - np.maximum(self._rated, 1)) / until)
        user_column = spread * weight / _POPULARITY_LENGTH
        return (
            np.hstack([user, user_column[:, None].astype(np.float32)]),
            np.hstack([item, item_column[:, None].astype(np.float32)]),
        )


def _divided(above: Float32s, below: Float32s) -> Float32s:
    """Return the quotients, 0 where there is nothing to divide by."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _norm(table: Float32s) -> Float32s:
    """Return the Frobenius norm, a float32 array of shape ()."""
    return np.sqrt(np.square(table, dtype=np.float64).sum(), dtype=np.float64).astype(np.float32)
