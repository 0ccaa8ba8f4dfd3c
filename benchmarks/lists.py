"""Top-N lists of MovieLens 100K: ours against EASE's and the popularity list, user by user."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.results import table
from mf_core.config import Config
from mf_core.data.snapshot import Snapshot
from mf_core.judging.metrics import Column, ListQuality, list_quality, paired_loss
from mf_core.models.baselines import popularity_model
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Models, make_heads
from mf_core.models.lists import ListMaker

CUTOFF = 10
EASE_LAMBDA = 300.0
# Bootstrap samples behind the bounds.
SAMPLES = 2_000


@dataclass(frozen=True)
class _Anchors:
    """The lists on one fold that ours are compared with."""

    ease: ListQuality
    popularity: ListQuality


class ListComparison:
    """NDCG of our lists, EASE's and popularity's, per user, fold and seed."""

    def __init__(self) -> None:
        # By fold; of ours one per seed.
        self._ours: dict[int, list[ListQuality]] = {}
        self._anchors: dict[int, _Anchors] = {}
        self._seconds: list[float] = []

    def add(
        self, config: Config, snapshot: Snapshot, rating: FactorModel, fold: int, seed: int
    ) -> None:
        """Fit the ranking head, and measure its lists and those it is compared with."""
        from mf_core.solvers.fit import fit_ranking_head

        began = time.perf_counter()
        ranking = fit_ranking_head(config, snapshot.train, snapshot.users, snapshot.items)
        self._seconds.append(time.perf_counter() - began)

        models = Models(rating, ranking.model)
        lists = make_heads(config, snapshot, models, snapshot.train).lists
        ours = _quality(config, snapshot, lists)
        self._ours.setdefault(fold, []).append(ours)
        # They have no seed: once per fold is enough.
        if fold not in self._anchors:
            self._anchors[fold] = _measure_anchors(config, snapshot, lists)

        mine = _mean(ours)
        theirs = _mean(self._anchors[fold].ease)
        print(
            f"lists of u{fold}, seed {seed}: NDCG@{CUTOFF} {mine:.4f}, EASE {theirs:.4f}",
            flush=True,
        )

    def figures(self) -> dict[str, Any]:
        """Return the figures per fold and over all folds together.

        Seeds are averaged by user.
        """
        ours = []
        eases = []
        popularities = []
        per_fold = {}

        for fold, anchors in self._anchors.items():
            mine = _mean_column(self._ours[fold])
            ease_lists = _mean_column([anchors.ease])
            popularity = _mean_column([anchors.popularity])
            per_fold[f"u{fold}"] = _compare(mine, ease_lists, popularity, seed=fold)

            ours.append(mine)
            eases.append(ease_lists)
            popularities.append(popularity)

        # A user of several folds is one user, and all of his lists are drawn together.
        pooled = _compare(_sum(ours), _sum(eases), _sum(popularities), seed=0)
        return {
            "folds": per_fold,
            "all": pooled,
            "ranking_seconds": float(np.mean(self._seconds)),
        }


def _measure_anchors(config: Config, snapshot: Snapshot, lists: ListMaker) -> _Anchors:
    """Fit and measure what our `lists` are compared with, over the same catalogue."""
    relevant_from = config.data.relevant_from
    ease_lists = ease(snapshot, relevant_from)
    popularity = popularity_model(config.data, snapshot)
    return _Anchors(
        ease=_quality(config, snapshot, replace(lists, ordering=ease_lists)),
        popularity=_quality(config, snapshot, replace(lists, ordering=popularity)),
    )


def _quality(config: Config, snapshot: Snapshot, lists: ListMaker) -> ListQuality:
    return list_quality(lists, snapshot.test, config.data.relevant_from, CUTOFF)


def _mean(quality: ListQuality) -> float:
    """Return NDCG@CUTOFF, the mean over the users who are judged."""
    total = quality.ndcg.sum()
    return float(total / quality.judged.sum())


def _mean_column(qualities: Sequence[ListQuality]) -> Column:
    """Return the NDCG per user, averaged over the seeds; who is judged is the same for all."""
    judged = qualities[0].judged
    return Column(
        metric="ndcg",
        slice="all",
        numerator=np.mean([quality.ndcg for quality in qualities], axis=0),
        denominator=judged,
        n=int(judged.sum()),
    )


def _sum(columns: Sequence[Column]) -> Column:
    """Return the columns of several folds as one, user by user."""
    numerators = [column.numerator for column in columns]
    denominators = [column.denominator for column in columns]
    return Column(
        metric="ndcg",
        slice="all",
        numerator=np.sum(numerators, axis=0),
        denominator=np.sum(denominators, axis=0),
        # Users of several folds count several times.
        n=sum(column.n for column in columns),
    )


def _compare(ours: Column, ease_lists: Column, popularity: Column, seed: int) -> dict[str, Any]:
    """Return the three NDCGs and our loss: NDCG of EASE minus ours, below 0 where ours is better.

    The loss has one-sided 95% bounds, paired by user.
    """
    loss = paired_loss(ease_lists, ours, SAMPLES, seed)
    return {
        "ndcg": _ratio(ours),
        "ease_ndcg": _ratio(ease_lists),
        "popularity_ndcg": _ratio(popularity),
        "loss_against_ease": loss.value,
        "loss_low": loss.low,
        "loss_high": loss.high,
        "n": ours.n,
    }


def _ratio(column: Column) -> float:
    """Return the figure: sum(numerator) / sum(denominator)."""
    total = column.numerator.sum()
    return float(total / column.denominator.sum())


def ease(snapshot: Snapshot, relevant_from: float) -> FactorModel:
    """Return EASE (Steck 2019) as a factor model, on ratings from `relevant_from` on.

    The factors of a user are his row X_u of 0 and 1, those of an item its column of the weights B.
    """
    rows = np.zeros((len(snapshot.users), len(snapshot.items)))
    liked = snapshot.train.take(snapshot.train.value >= relevant_from)
    rows[liked.user, liked.item] = 1

    # The closed form of ridge regression without self-similarity:
    # P = (X^T X + lambda I)^-1,  B_ij = -P_ij / P_jj,  B_jj = 0
    ridge = EASE_LAMBDA * np.eye(len(snapshot.items))
    inverse = np.linalg.inv(rows.T @ rows + ridge)
    weights = inverse / -np.diag(inverse)

    # An item must not recommend itself.
    np.fill_diagonal(weights, 0)

    return FactorModel(
        mean=0.0,
        user_bias=np.zeros(len(snapshot.users), np.float32),
        item_bias=np.zeros(len(snapshot.items), np.float32),
        user_factors=rows.astype(np.float32),
        item_factors=weights.T.astype(np.float32),
        users=snapshot.users,
        items=snapshot.items,
    )


def list_table(lists: dict[str, Any]) -> str:
    """Return the table of what `ListComparison.figures` has returned."""
    names = (
        "ndcg",
        "ease_ndcg",
        "popularity_ndcg",
        "loss_against_ease",
        "loss_low",
        "loss_high",
    )
    parts = {**lists["folds"], "all": lists["all"]}

    rows = []
    for part, figures in parts.items():
        cells = [f"{figures[name]:.4f}" for name in names]
        rows.append([part, *cells])
    return table(["fold", *names], rows)
