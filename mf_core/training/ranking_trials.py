"""One trial of a search for the ranking head: its lists, judged on validation parts.

Both learners are fitted apart and kept, so that settings of one of them cost a fit of that one, and
how they are joined costs none.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from mf_core.config import Config, make_config, with_found
from mf_core.data.ratings import Float64s, Ratings
from mf_core.errors import TrainingError
from mf_core.figures import NDCG
from mf_core.judging.metrics import list_quality
from mf_core.models.factors import FactorModel
from mf_core.models.lists import list_maker
from mf_core.training.race import Rung, Settings
from mf_core.training.search_rows import Log, Part, SearchRows

_SAMPLE_SEED = 2_000_003
_WARM_UP_USERS = 200
# Of each learner, for each part: the best so far, and the one that is compared with it.
_KEPT_FITS = 3


@dataclass
class RankingTrials:
    """Fits the ranking head with some settings, and returns the NDCG of its lists by user.

    Attributes:
        config: the settings that what is tried is laid over.
        rows: the training ratings.
        parts: for each rung what is fitted, and what is judged on; a user counts in each of them.
        log: called with lines for people.
    """

    config: Config
    rows: SearchRows
    parts: Mapping[Rung, Sequence[Part]]
    log: Log
    _fits: dict[tuple[int, Rung, str], FactorModel] = field(default_factory=dict)

    def __call__(self, tried: Settings, rung: Rung) -> Float64s | None:
        config = with_found(self.config, tried)
        try:
            of_parts = [
                self._on_part(config, number, rung) for number in range(len(self.parts[rung]))
            ]
        except TrainingError as error:
            if not tried:
                raise
            self.log(f"search: {in_words(tried)}: {error}")
            return None
        by_user = np.concatenate(of_parts)
        if not len(by_user):
            raise TrainingError("no user has a relevant rating to judge by.")
        self.log(
            f"search: {NDCG.title(config.gate.cutoff)} {by_user.mean():.4f} with {in_words(tried)} "
            f"({rung.users:.0%} of the users, {rung.iterations:.0%} of the iterations)"
        )
        return by_user

    def warm_up(self) -> None:
        """Fit a few users once, so that what TensorFlow compiles does not count as a fit's time."""
        few = Rung(users=min(1.0, _WARM_UP_USERS / len(self.rows.users)), iterations=0.0)
        # Too few of them may have a relevant rating, which says nothing of all.
        with suppress(TrainingError):
            one_part = {few: next(iter(self.parts.values()))[:1]}
            RankingTrials(self.config, self.rows, one_part, lambda line: None)({}, few)

    def _on_part(self, config: Config, number: int, rung: Rung) -> Float64s:
        # TensorFlow takes seconds to import.
        from mf_core.solvers.preference import observations
        from mf_core.solvers.ranking import joined

        part = self.parts[rung][number]
        if rung.users < 1:
            draws = np.random.default_rng(_SAMPLE_SEED).random(len(self.rows.users))
            part = part.of_users(draws < rung.users)
        head = config.ranking_head
        models = {
            learner: self._fit(config, learner, part, rung=rung, number=number)
            for learner in head.learners()
        }
        tables = {name: (model.user_factors, model.item_factors) for name, model in models.items()}
        observed = observations(config, part.fitted)
        user, item = joined(head, config.data, observed, tables)
        lists = FactorModel(
            mean=0.0,
            user_bias=np.zeros(len(user), np.float32),
            item_bias=np.zeros(len(item), np.float32),
            user_factors=user,
            item_factors=item,
            users=self.rows.users,
            items=self.rows.items,
        )
        return validation_ndcg(config, lists, part, self.rows.train)

    def _fit(
        self, config: Config, learner: str, part: Part, *, rung: Rung, number: int
    ) -> FactorModel:
        """Return the model of one learner by itself, which may have been fitted before."""
        from mf_core.solvers.fit import fit_ranking_head

        alone = config.ranking_head.alone(learner)
        key = (number, rung, alone.model_dump_json())
        if key in self._fits:
            # It moves to the end, so that what was not asked for the longest goes first.
            self._fits[key] = self._fits.pop(key)
            return self._fits[key]
        # The prior counts ratings, of which a sample of the users has so many fewer.
        settings = alone.model_copy(update={"item_prior": alone.item_prior * rung.users})
        limit = settings.iteration_limit()
        model = fit_ranking_head(
            config.model_copy(update={"ranking_head": settings}),
            part.fitted,
            self.rows.users,
            self.rows.items,
            iterations=max(1, round(limit * rung.iterations)),
        ).model
        self._fits[key] = model
        while len(self._fits) > 2 * _KEPT_FITS * len(self.parts[rung]):
            del self._fits[next(iter(self._fits))]
        return model


def validation_ndcg(config: Config, ranking: FactorModel, part: Part, rated: Ratings) -> Float64s:
    """Return the NDCG of the lists as the pipeline would make them, on the validation part.

    It is a float64 array of shape (n,), of the users who have a relevant validation rating. `rated`
    are the ratings whose items belong into lists.
    """
    # By the ranking head alone: there is no rating head here.
    by_ranking = make_config(
        {"recommend.rank_by": "ranking", "recommend.rating_weight": 0.0}, config
    )
    lists = list_maker(
        by_ranking,
        rating=ranking,
        ranking=ranking,
        known=part.fitted,
        rated_items=np.bincount(rated.item, minlength=len(ranking.items)) > 0,
    )
    quality = list_quality(
        lists,
        part.validation,
        config.data,
        cutoff=config.gate.cutoff,
        tile_mib=config.recommend.tile_mib,
    )
    return quality.ndcg[quality.judged > 0]


def in_words(tried: Settings) -> str:
    """Return settings in one line, without their sections."""
    if not tried:
        return "the shipped settings"
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in tried.items())
