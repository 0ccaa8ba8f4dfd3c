"""Every figure measured on the test rows: the candidate, its baselines, and its rivals.

A rival (the live champion, the recent versions) is only ever judged on rows that it was not trained
on, and its losses are paired by user with the candidate's. Predictions are clipped to the rating
scale, as published.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mf_core.config import Config
from mf_core.data.snapshot import Snapshot
from mf_core.figures import Figure
from mf_core.judging.item_item import item_item_lists
from mf_core.judging.judge import Judge
from mf_core.judging.rivals import Rival
from mf_core.models.baselines import biases_only_model, global_mean_model, popularity_model
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Heads
from mf_core.models.samples import PosteriorSamples

Log = Callable[[str], None]


def evaluate(
    config: Config,
    snapshot: Snapshot,
    candidate: Heads,
    champion: Rival | None,
    recent: Iterable[Rival],
    *,
    log: Log = lambda line: None,
) -> list[Figure]:
    """Return all figures of a candidate.

    Args:
        config: settings; `gate.cutoff` and `gate.bootstrap_samples` shape the figures.
        snapshot: train and test rows.
        candidate: the model to judge.
        champion: the live version's evaluated model; None before the first publication.
        recent: versions that went live in the last `gate.recent_days` days, which may be loaded one
            by one as they are asked for.
        log: called with lines for people.
    """
    judge = Judge(config, snapshot)
    best = _best_of(judge, recent)
    figures = _of_lists(judge, candidate, champion, best.lists, log=log)
    if candidate.rating is not None:
        samples = candidate.samples
        figures += _of_ratings(judge, candidate.rating, samples, champion, best.ratings)
    return judge.measured(figures)


@dataclass(frozen=True)
class _Best:
    """The best of the recent versions by NDCG, and by RMSE; None where there is none."""

    lists: Rival | None
    ratings: Rival | None


def _best_of(judge: Judge, recent: Iterable[Rival]) -> _Best:
    """Return the best of the recent versions on a sample of the users, holding no more than these.

    The sample says which of them the candidate is compared with. The comparison itself is on all
    rows.
    """
    lists: Rival | None = None
    ratings: Rival | None = None
    highest_ndcg = -math.inf
    lowest_rmse = math.inf
    for rival in recent:
        ndcg = judge.sampled_ndcg(rival)
        if ndcg > highest_ndcg:
            lists, highest_ndcg = rival, ndcg
        if rival.heads.rating is not None:
            rmse = judge.sampled_rmse(rival.heads.rating, rival)
            if rmse < lowest_rmse:
                ratings, lowest_rmse = rival, rmse
    return _Best(lists, ratings)


def _of_lists(
    judge: Judge,
    candidate: Heads,
    champion: Rival | None,
    recent_best: Rival | None,
    *,
    log: Log,
) -> list[Figure]:
    """Return the figures of the lists, of all that they are compared with, and the losses."""
    config = judge.config
    snapshot = judge.snapshot
    popularity = popularity_model(config.data, snapshot)
    popular_lists = replace(candidate.lists, ordering=popularity)
    figures = [
        *judge.lists("candidate", candidate.lists, slices=True),
        *judge.lists("popularity", popular_lists),
    ]
    if config.gate.require_item_baseline != "off":
        lists = item_item_lists(config, snapshot, popular_lists)
        rows = judge.sampled_rows
        log(f"item-item baseline: {lists.model.note}")
        figures += judge.lists("item_item", lists, rows=rows)
        figures += judge.baseline_losses("item_item", candidate.lists, lists, rows)
    if champion is not None:
        figures += judge.lists("champion", champion.heads.lists, rows=champion.unseen)
        figures += judge.list_losses("champion", candidate, champion)
    if recent_best is not None:
        figures += judge.list_losses("recent_best", candidate, recent_best)
    return figures


def _of_ratings(
    judge: Judge,
    candidate: FactorModel,
    samples: PosteriorSamples | None,
    champion: Rival | None,
    recent_best: Rival | None,
) -> list[Figure]:
    """Return the figures of the predicted ratings, likewise.

    A rival that predicts none has none.
    """
    figures = [
        *judge.ratings("candidate", candidate, slices=True),
        *judge.ratings("global_mean", global_mean_model(judge.snapshot)),
        *judge.ratings("biases", biases_only_model(judge.snapshot)),
    ]
    if samples is not None:
        figures += judge.deviations("candidate", candidate, samples)
    if champion is not None and champion.heads.rating is not None:
        theirs = champion.heads.rating
        figures += judge.ratings("champion", theirs, rows=champion.unseen)
        figures += judge.rating_losses("champion", candidate, theirs, champion)
    if recent_best is not None and recent_best.heads.rating is not None:
        best = recent_best.heads.rating
        figures += judge.rating_losses("recent_best", candidate, best, recent_best)
    return figures
