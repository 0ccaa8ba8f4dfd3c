"""The search for settings before a fit, on a validation part of the training ratings.

No test row comes here. The part is made as the run's own split makes its test side
(`mf_core.data.validation`), the lists on it are made as for readers, and settings that a person has
set are left alone. The ranking head is searched by a race (`mf_core.training.race`) among what
`mf_core.training.ranking_candidates` names.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mf_core.config import Config, Head, pinned, settings, with_found
from mf_core.data.fading import HALF_LIFE
from mf_core.data.relevance import is_relevant
from mf_core.data.validation import judges_by_late_rows
from mf_core.errors import ConfigError, TrainingError
from mf_core.figures import NDCG
from mf_core.judging.popularity import POPULAR_HALF_LIFE, choose_popular_half_life
from mf_core.records import FoundSettings
from mf_core.training.race import Race, Rung, Settings, Trial
from mf_core.training.ranking_candidates import (
    POPULAR_LISTS,
    event_candidates,
    ranking_candidates,
    recent_candidates,
)
from mf_core.training.ranking_trials import RankingTrials
from mf_core.training.rating_choice import SOLVER, choose_rating_solver
from mf_core.training.search_rows import (
    MOST_PARTS,
    VALIDATION_SEED,
    Log,
    Outcome,
    Part,
    SearchRows,
    validation_parts,
)

# Up to so many ratings a whole fit takes a second or two. There the race may cost as much as the
# fit of both heads does, beyond it half of that; `fits` counts fits of the ranking head alone, and
# leaves time for the choice of the rating head's solver.
_SMALL = 1_000_000
_SMALL_RUNGS = (Rung(users=1.0, iterations=1 / 2), Rung(users=1.0, iterations=1.0))
_SMALL_FITS = 12.0
# Beyond it the first trials are of a sample of the users, and the last ones of three times as many.
_SAMPLED_RATINGS = 600_000
_LARGEST_SAMPLE = 1 / 9
_FITS_OF_THE_SAMPLE = 12.0


def _extent(n_ratings: int) -> tuple[tuple[Rung, Rung], float]:
    """Return the rungs of a race on so many ratings, and how many whole fits it may take."""
    if n_ratings <= _SMALL:
        return _SMALL_RUNGS, _SMALL_FITS
    users = min(_LARGEST_SAMPLE, _SAMPLED_RATINGS / n_ratings)
    rungs = (Rung(users=users, iterations=1.0), Rung(users=3 * users, iterations=1.0))
    return rungs, _FITS_OF_THE_SAMPLE * users


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
    found = dict(before)
    outcomes = []
    parts = list(validation_parts(config, rows))
    if "rating" in heads:
        # The solver is chosen anew; what was found for each of them stays.
        found.pop(SOLVER, None)
        of_rating = _named(found, "rating_head.")
        chosen = choose_rating_solver(
            with_found(config, of_rating), parts, rows.users, rows.items, log
        )
        outcomes.append(chosen)
    if "ranking" in heads:
        # First what is popular: the race is on lists in which that has a say.
        popularity = _popularity(config, rows, log)
        fading = with_found(config, popularity.settings)
        # What `mf tune` has found takes part whole.
        earlier = _named(before, "ranking_head.", HALF_LIFE)
        outcomes += [popularity, _ranking_head(fading, rows, parts, earlier, log)]
        searched = (POPULAR_HALF_LIFE, HALF_LIFE, "ranking_head.")
        found = {name: found[name] for name in found if not name.startswith(searched)}
    for outcome in outcomes:
        found |= outcome.settings
    n_users, n_items = rows.shape()
    result = FoundSettings(
        settings=_without_shipped(found),
        source="night",
        found_at=datetime.now(UTC).isoformat(timespec="seconds"),
        grounds="; ".join(filter(None, [outcome.grounds for outcome in outcomes])),
        n_ratings=len(rows.train),
        n_users=n_users,
        n_items=n_items,
        trials=[trial for outcome in outcomes for trial in outcome.trials],
    )
    log(f"search: {result.sentence()}: {result.values()}")
    return result


def _named(found: Settings, *beginnings: str) -> Settings:
    """Return the settings whose names begin so."""
    return {name: value for name, value in found.items() if name.startswith(beginnings)}


def _without_shipped(found: Settings) -> Settings:
    """Return those that differ from the shipped ones."""
    shipped = {setting.name: setting.default for setting in settings()}
    return {name: value for name, value in found.items() if value != shipped[name]}


def _popularity(config: Config, rows: SearchRows, log: Log) -> Outcome:
    """Return how fast popularity fades."""
    settings, figures = choose_popular_half_life(
        config, rows.train, rows.users, rows.items, VALIDATION_SEED
    )
    if not figures:
        return Outcome({}, "", [])
    title = NDCG.title(config.gate.cutoff)
    tried = [f"{value:.4f} ({days or 'no'} days)" for days, value in figures.items()]
    log(f"search: {title} of the popular list by its half-life: {', '.join(tried)}")

    shown = [
        {
            "head": "popularity",
            "settings": {} if days is None else {POPULAR_HALF_LIFE: days},
            "metric": NDCG.stored(config.gate.cutoff),
            "value": value,
        }
        for days, value in figures.items()
    ]
    chosen = settings.get(POPULAR_HALF_LIFE)
    if chosen is None:
        return Outcome({}, "", shown)
    against = f"{figures[chosen]:.4f} against {figures[None]:.4f} where all ratings count the same"
    return Outcome(settings, f"{title} of the popular list {against}", shown)


def _ranking_head(
    config: Config, rows: SearchRows, parts: Sequence[Part], earlier: Settings, log: Log
) -> Outcome:
    """Return what the race of the ranking head ends in; what was found `earlier` takes part."""
    rungs, fits = _extent(len(rows.train))
    # What decides has not chosen: of many that are tried, the best on a part is so by chance too.
    deciding = list(validation_parts(config, rows, first=MOST_PARTS))
    parts_of = {rungs[0]: parts, rungs[-1]: deciding}
    chose_too = judges_by_late_rows(config, rows.train)
    if not all(_can_be_judged(config, part) for part in [*parts, *deciding]):
        log("search: none for the ranking head: too few relevant ratings to judge by")
        return Outcome({}, "too few relevant ratings to search settings of the ranking head", [])

    measure = RankingTrials(config, rows, parts_of, log)
    race = Race(
        measure=measure,
        rungs=rungs,
        fits=fits,
        last_margin=2.0 if chose_too else 1.0,
        simplest=POPULAR_LISTS,
    )
    entrants = [{}, earlier] if earlier else [{}]
    stages = [
        recent_candidates(config, rows.train),
        *event_candidates(config, rows.train),
        *ranking_candidates(config),
    ]
    try:
        measure.warm_up()
        best = race.winner(entrants, _allowed(config, stages))
    except TrainingError as error:
        # The fit itself will say so too, if it is not only this part of the ratings.
        log(f"search: none for the ranking head: {error}")
        return Outcome({}, f"the ranking head could not be searched: {error}", [])
    shown = [_record(config, trial) for trial in race.trials]
    return Outcome(best.settings, _grounds(config, race, best, parts_of[best.rung]), shown)


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


def _can_be_judged(config: Config, part: Part) -> bool:
    """Say whether there is a relevant rating to learn from, and one to judge by."""
    sides = (part.fitted, part.validation)
    return all(is_relevant(config.data, side.value).any() for side in sides)


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
