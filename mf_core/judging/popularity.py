"""How fast popularity fades in these ratings: the half-life with which the popular list is best."""

from dataclasses import replace
from typing import Any

import numpy as np

from mf_core.config import Config, make_config
from mf_core.data.ratings import UNDATED, Float64s, IdMap, Ratings
from mf_core.data.relevance import is_relevant
from mf_core.data.snapshot import Snapshot
from mf_core.data.validation import judges_by_late_rows, validation_part
from mf_core.judging.metrics import list_quality
from mf_core.models.baselines import popularity_model
from mf_core.models.lists import list_maker

POPULAR_HALF_LIFE = "data.popular_half_life_days"

_SHARES_OF_THE_SPAN = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
_VALIDATION_FRACTION = 0.1
# The mean over so many users is precise enough, and takes seconds with any catalogue.
_MOST_USERS = 5_000
_ONE_SIDED_95 = 1.645


def half_lives(ratings: Ratings) -> list[float]:
    """Return half-lives that are worth a trial, in days: shares of the time that the ratings span.

    None where no rating has a time, or all were given within days.
    """
    dated = (
        np.empty(0) if ratings.rated_at is None else ratings.rated_at[ratings.rated_at != UNDATED]
    )
    if not len(dated):
        return []
    span_days = (int(dated.max()) - int(dated.min())) / 86_400
    in_days = {float(round(span_days * share)) for share in _SHARES_OF_THE_SPAN}
    return sorted((days for days in in_days if days >= 1), reverse=True)


def choose_popular_half_life(
    config: Config, train: Ratings, users: IdMap, items: IdMap, seed: int
) -> tuple[dict[str, Any], dict[float | None, float]]:
    """Return `data.popular_half_life_days` where a half-life makes the popular list better.

    It is judged on the latest training rows, or on each user's last. Under protocols that draw
    their test rows nothing is tried: drawn rows are as old as those that are counted, so none of
    them can say what is popular next. A half-life is taken if the list's NDCG is better with
    95% confidence, paired by user.

    Args:
        config: a half-life that somebody has set is left alone.
        train: the training ratings.
        users: ids of all users, in row order.
        items: ids of all items, in row order.
        seed: of the users whose lists are judged, where there are many.

    Returns:
        The setting by its dotted name, empty if all ratings are to count the same; and the NDCG by
        half-life, such as {None: 0.21, 13.0: 0.25}; empty if nothing was tried.
    """
    tried = half_lives(train)
    set_by_hand = config.data.popular_half_life_days is not None
    if set_by_hand or not tried or not judges_by_late_rows(config, train):
        return {}, {}

    rows = _rows_to_judge_by(config, train, users, items, seed)
    plain = _ndcg_by_user(config, rows)
    if not len(plain):
        return {}, {}
    figures: dict[float | None, float] = {None: float(plain.mean())}
    clear = []
    for days in tried:
        ndcg = _ndcg_by_user(make_config({POPULAR_HALF_LIFE: days}, config), rows)
        figures[days] = float(ndcg.mean())
        if _is_clear(ndcg - plain):
            clear.append(days)
    if not clear:
        return {}, figures
    return {POPULAR_HALF_LIFE: max(clear, key=lambda days: figures[days])}, figures


def _is_clear(gain: Float64s) -> bool:
    """Say whether the mean of the users' gains (n,) is above 0 with 95% confidence."""
    standard_error = gain.std() / np.sqrt(len(gain))
    return bool(gain.mean() > _ONE_SIDED_95 * standard_error)


def _rows_to_judge_by(
    config: Config, train: Ratings, users: IdMap, items: IdMap, seed: int
) -> Snapshot:
    """Return the training rows as a training side and the validation part of some users."""
    held_out = validation_part(
        config, train, users, items, fraction=_VALIDATION_FRACTION, seed=seed
    )
    relevant = held_out & is_relevant(config.data, train.value)
    judged = np.unique(train.user[relevant])
    some = np.random.default_rng(seed).permutation(judged)[:_MOST_USERS]
    return Snapshot(
        users=users,
        items=items,
        train=train.take(~held_out),
        test=train.take(relevant & np.isin(train.user, some)),
    )


def _ndcg_by_user(config: Config, rows: Snapshot) -> Float64s:
    """Return the popular list's NDCG for each user with a validation row; shape (n_judged,)."""
    model = popularity_model(config.data, rows)
    _, rated_items = rows.rated()
    lists = list_maker(config, model, model, rows.train, rated_items=rated_items)
    quality = list_quality(
        replace(lists, ordering=model),
        rows.test,
        config.data,
        config.gate.cutoff,
        config.recommend.tile_mib,
    )
    return quality.ndcg[quality.judged > 0]
