"""The search for settings before a fit, on a validation part of the training ratings.

No test row comes here. The part is made as the run's own split makes its test side
(`mf_core.data.validation`), the lists on it are made as for readers, and settings that a person has
set are left alone. The ranking head is searched by a race (`mf_core.training.race`) among what
`mf_core.training.ranking_candidates` names.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mf_core.config import Config, Head, make_config, pinned, settings, with_found
from mf_core.data.attributes import AttributeMatrices
from mf_core.data.ratings import IdMap, Ratings
from mf_core.data.validation import validation_part
from mf_core.errors import ConfigError, TrainingError
from mf_core.figures import NDCG
from mf_core.judging.metrics import list_quality
from mf_core.models.factors import FactorModel
from mf_core.models.lists import list_maker
from mf_core.records import FoundSettings
from mf_core.training.race import Race, Rung, Settings, Trial
from mf_core.training.ranking_candidates import ranking_candidates

Log = Callable[[str], None]

VALIDATION_FRACTION = 0.1
# Different from the seed of any split or fit, so that their parts and these are independent.
VALIDATION_SEED = 1_000_003
_SAMPLE_SEED = 2_000_003

# Fewer validation ratings than these say too little: then several parts are judged on.
_ENOUGH_RATINGS = 5_000
_MOST_PARTS = 4

# Up to so many ratings a whole fit takes a second or two. There the race may cost as much as the
# fit of both heads does, beyond it half of that; `fits` counts fits of the ranking head alone.
_SMALL = 1_000_000
_SMALL_RUNGS = (Rung(users=1.0, iterations=1 / 3), Rung(users=1.0, iterations=1.0))
_SMALL_FITS = 5.0
_LARGE_RUNGS = (Rung(users=1 / 9, iterations=1.0), Rung(users=1 / 3, iterations=1.0))
_LARGE_FITS = 1.6


@dataclass(frozen=True)
class SearchRows:
    """What a search may look at: training ratings, in rows of `users` and `items`.

    `attributes` are those rows' attributes as the rating head takes them; None if it takes none.
    """

    train: Ratings
    users: IdMap
    items: IdMap
    attributes: AttributeMatrices | None = None

    def shape(self) -> tuple[int, int]:
        """Return how many users and how many items have a training rating."""
        return len(np.unique(self.train.user)), len(np.unique(self.train.item))


def search_settings(
    config: Config,
    rows: SearchRows,
    begin_at: FoundSettings | None,
    log: Log,
    heads: Sequence[Head] = ("rating", "ranking"),
) -> FoundSettings:
    """Return the best settings that a search within its budget finds.

    Args:
        config: the settings of the run, without found ones.
        rows: the training ratings.
        begin_at: what an earlier search has found: it takes part. None: there is nothing.
        log: called with lines for people.
        heads: which heads to search for; what was found for the others stays.
    """
    before = begin_at.settings if begin_at else {}
    found = {name: value for name, value in before.items() if _head_of(name) not in heads}
    grounds = []
    trials: list[dict[str, Any]] = []
    if "ranking" in heads:
        outcome = _ranking_head(config, rows, before, log)
        found |= outcome.settings
        grounds.append(outcome.grounds)
        trials += outcome.trials
    n_users, n_items = rows.shape()
    result = FoundSettings(
        settings=_without_shipped(found),
        source="night",
        found_at=datetime.now(UTC).isoformat(timespec="seconds"),
        grounds="; ".join(grounds),
        n_ratings=len(rows.train),
        n_users=n_users,
        n_items=n_items,
        trials=trials,
    )
    log(f"search: {result.sentence()}: {result.values()}")
    return result


def _head_of(name: str) -> str:
    """Return the head that a setting is of."""
    return "rating" if name.startswith("rating_head.") else "ranking"


def _without_shipped(found: Settings) -> Settings:
    """Return those that differ from the shipped ones."""
    shipped = {setting.name: setting.default for setting in settings()}
    return {name: value for name, value in found.items() if value != shipped[name]}


@dataclass(frozen=True)
class _Outcome:
    """What was found for one head, on what grounds, and everything that was tried."""

    settings: Settings
    grounds: str
    trials: list[dict[str, Any]]


def _ranking_head(config: Config, rows: SearchRows, before: Settings, log: Log) -> _Outcome:
    """Return what the race of the ranking head ends in."""
    parts = list(validation_parts(config, rows))
    if not all(_can_be_judged(config, part) for part in parts):
        log("search: none for the ranking head: too few relevant ratings to judge by")
        return _Outcome({}, "too few relevant ratings to search settings of the ranking head", [])

    small = len(rows.train) <= _SMALL
    measure = _Measure(config, rows, parts, log)
    race = Race(
        measure=measure,
        rungs=_SMALL_RUNGS if small else _LARGE_RUNGS,
        fits=_SMALL_FITS if small else _LARGE_FITS,
    )
    earlier = {name: value for name, value in before.items() if _head_of(name) == "ranking"}
    entrants = [{}, earlier] if earlier else [{}]
    stages = ranking_candidates(config, len(rows.train), rows.shape())
    try:
        best = race.winner(entrants, _allowed(config, stages))
    except TrainingError as error:
        # The fit itself will say so too, if it is not only this part of the ratings.
        log(f"search: none for the ranking head: {error}")
        return _Outcome({}, f"the ranking head could not be searched: {error}", [])
    shown = [_record(config, trial) for trial in race.trials]
    return _Outcome(best.settings, _grounds(config, race, best, parts), shown)


def _allowed(config: Config, stages: Sequence[Sequence[Settings]]) -> list[list[Settings]]:
    """Return the stages without what a person has set, and without what does not go together."""
    set_by_hand = pinned(config)
    allowed = []
    for stage in stages:
        kept = []
        for alternative in stage:
            free = {name: value for name, value in alternative.items() if name not in set_by_hand}
            if free and _is_valid(config, free):
                kept.append(free)
        allowed.append(kept)
    return allowed


def _is_valid(config: Config, found: Settings) -> bool:
    try:
        with_found(config, found)
    except ConfigError:
        return False
    return True


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


def validation_parts(config: Config, rows: SearchRows) -> Iterator[Part]:
    """Yield one or more ways to set a validation part aside, until there is enough to judge by."""
    n_judged = 0
    for number in range(_MOST_PARTS):
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
        # The latest ratings are the same whatever the draws.
        if n_judged >= _ENOUGH_RATINGS or config.split.protocol in {"temporal", "leave_last"}:
            return


def _can_be_judged(config: Config, part: Part) -> bool:
    """Say whether there is a relevant rating to learn from, and one to judge by."""
    sides = (part.fitted, part.validation)
    return all((side.value >= config.data.relevant_from).any() for side in sides)


@dataclass(frozen=True)
class _Measure:
    """Fits the ranking head with some settings, and returns the NDCG of its lists."""

    config: Config
    rows: SearchRows
    parts: Sequence[Part]
    log: Log

    def __call__(self, tried: Settings, rung: Rung) -> float:
        config = with_found(self.config, tried)
        figures = []
        try:
            for part in self.parts:
                figures.append(self._on_part(config, part, rung))
        except TrainingError as error:
            if not tried:
                raise
            self.log(f"search: {_in_words(tried)}: {error}")
            return -math.inf
        figure = float(np.mean(figures))
        self.log(
            f"search: {NDCG.title(config.gate.cutoff)} {figure:.4f} with {_in_words(tried)} "
            f"({rung.users:.0%} of the users, {rung.iterations:.0%} of the iterations)"
        )
        return figure

    def _on_part(self, config: Config, part: Part, rung: Rung) -> float:
        from mf_core.solvers.fit import fit_ranking_head

        if rung.users < 1:
            draws = np.random.default_rng(_SAMPLE_SEED).random(len(self.rows.users))
            part = part.of_users(draws < rung.users)
        limit = config.ranking_head.iteration_limit()
        fit = fit_ranking_head(
            config,
            part.fitted,
            self.rows.users,
            self.rows.items,
            iterations=max(1, round(limit * rung.iterations)),
        )
        return validation_ndcg(config, fit.model, part, self.rows.train)


def validation_ndcg(config: Config, ranking: FactorModel, part: Part, rated: Ratings) -> float:
    """Return the NDCG of the lists as the pipeline would make them, on the validation part.

    `rated` are the ratings whose items belong into lists; NaN where nobody can be judged.
    """
    by_ranking = make_config({"recommend.rank_by": "ranking"}, config)
    lists = list_maker(
        by_ranking,
        rating=ranking,  # orders nothing here
        ranking=ranking,
        known=part.fitted,
        rated_items=np.bincount(rated.item, minlength=len(ranking.items)) > 0,
    )
    quality = list_quality(
        lists,
        part.validation,
        config.data.relevant_from,
        cutoff=config.gate.cutoff,
        tile_mib=config.recommend.tile_mib,
    )
    n_judged = quality.judged.sum()
    return float(quality.ndcg.sum() / n_judged) if n_judged else math.nan


def _in_words(tried: Settings) -> str:
    """Return settings in one line, without their sections."""
    if not tried:
        return "the shipped settings"
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in tried.items())


def _record(config: Config, trial: Trial) -> dict[str, Any]:
    """Return a trial as it stands in `mf.found_settings`."""
    return {
        "head": "ranking",
        "settings": trial.settings,
        "metric": NDCG.stored(config.gate.cutoff),
        "value": trial.figure if math.isfinite(trial.figure) else None,
        "users": trial.rung.users,
        "iterations": trial.rung.iterations,
        "seconds": round(trial.seconds, 2),
    }


def _grounds(config: Config, race: Race, best: Trial, parts: Sequence[Part]) -> str:
    """Return by which figures the race was decided, in words."""
    title = NDCG.title(config.gate.cutoff)
    n_judged = sum(len(part.validation) for part in parts)
    on_rows = f"on {n_judged:,} validation ratings"
    if best.rung.users < 1:
        on_rows += f" ({best.rung.users:.0%} of the users)"
    if not best.settings:
        return f"{on_rows}, {title} {best.figure:.4f} of the shipped settings was not beaten"
    shipped = race.shipped(best.rung).figure
    return f"{on_rows}, {title} {best.figure:.4f} against {shipped:.4f} with the shipped ones"
