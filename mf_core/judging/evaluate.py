"""Every figure measured on the test rows: the candidate, its baselines, and its rivals.

A rival (the live champion, the recent versions) is only ever judged on rows that it was not trained
on, and its losses are paired by user with the candidate's. Predictions are clipped to the rating
scale, as published.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mf_core.config import Config
from mf_core.data.snapshot import Snapshot
from mf_core.figures import (
    Figure,
)
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
    recent: Sequence[Rival],
    *,
    log: Log = lambda line: None,
) -> list[Figure]:
    """Return all figures of a candidate.

    Args:
        config: settings; `gate.cutoff` and `gate.bootstrap_samples` shape the figures.
        snapshot: train and test rows.
        candidate: the model to judge.
        champion: the live version's evaluated model; None before the first publication.
        recent: versions that went live in the last `gate.recent_days` days.
        log: called with lines for people.
    """
    judge = Judge(config, snapshot)
    figures = _of_lists(judge, candidate, champion, recent, log=log)
    if candidate.rating is not None:
        samples = candidate.samples
        figures += _of_ratings(judge, candidate.rating, samples, champion, recent)
    return figures


def _of_lists(
    judge: Judge,
    candidate: Heads,
    champion: Rival | None,
    recent: Sequence[Rival],
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
        rows = judge.some_rows()
        log(f"item-item baseline: {lists.model.note}")
        figures += judge.lists("item_item", lists, rows=rows)
        figures += judge.baseline_losses("item_item", candidate.lists, lists, rows)
    if champion is not None:
        figures += judge.lists("champion", champion.heads.lists, rows=champion.unseen)
        figures += judge.list_losses("champion", candidate, champion)
    if recent:
        best = max(recent, key=judge.ndcg)
        figures += judge.list_losses("recent_best", candidate, best)
    return figures


def _of_ratings(
    judge: Judge,
    candidate: FactorModel,
    samples: PosteriorSamples | None,
    champion: Rival | None,
    recent: Sequence[Rival],
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
    rated = [(rival.heads.rating, rival) for rival in recent if rival.heads.rating is not None]
    if rated:
        best, rival = min(rated, key=lambda pair: judge.rmse(*pair))
        figures += judge.rating_losses("recent_best", candidate, best, rival)
    return figures
