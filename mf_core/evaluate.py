"""Every figure measured on the test rows: the candidate, its baselines, and its rivals on the same rows.

A rival (the live champion, the recent versions) is only ever judged on rows that it was not trained on, and its losses are
paired by user with the candidate's. Predictions are clipped to the rating scale, as published.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mf_core.baselines import biases_only_model, global_mean_model, popularity, popularity_model
from mf_core.config import Config
from mf_core.factors import FactorModel
from mf_core.metrics import (
    Column,
    ListQuality,
    diversity,
    estimates,
    list_quality,
    mean_column,
    paired_loss,
    rating_column,
)
from mf_core.ratings import Float64s, IdMap, Int32s, Ratings
from mf_core.samples import PosteriorSamples
from mf_core.snapshot import Snapshot
from mf_core.topn import with_popular_fallback

Mask = NDArray[np.bool_]
_BOOTSTRAP_SEED = 20160313
_WITHIN_90 = 1.6448536269514722  # standard deviations either side that hold nine tenths of a normal distribution
_MOST_DEVIATIONS = 500_000


@dataclass(frozen=True)
class Figure:
    """One measured figure, as it stands in `mf.evaluations`. `low` and `high` are None where no interval is known."""

    subject: str
    head: str
    metric: str
    slice: str
    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Heads:
    """The two heads of one model version, in the snapshot's row numbers.

    Attributes:
        rating: predicts ratings.
        ordering: orders the list.
        warm_users, warm_items: boolean arrays, rows with a rating among those that the version was trained on.
        samples: kept samples of the rating head; None where its solver keeps none, or nobody asks how sure it is.
    """

    rating: FactorModel
    ordering: FactorModel
    warm_users: Mask
    warm_items: Mask
    samples: PosteriorSamples | None = None


@dataclass(frozen=True)
class Rival:
    """A version to compare with. `unseen`: boolean array of shape (n_test,), test rows that it was not trained on."""

    model_version: int
    heads: Heads
    unseen: Mask


def align(model: FactorModel, users: IdMap, items: IdMap) -> FactorModel:
    """Return `model` in other row numbers; an id that it does not know gets zero bias and zero factors."""
    user, item = model.users.rows(users.ids), model.items.rows(items.ids)

    def take(array: np.ndarray, rows: Int32s) -> np.ndarray:
        taken = array[rows]
        taken[rows < 0] = 0
        return taken

    return FactorModel(
        mean=model.mean,
        user_bias=take(model.user_bias, user),
        item_bias=take(model.item_bias, item),
        user_factors=take(model.user_factors, user),
        item_factors=take(model.item_factors, item),
        users=users,
        items=items,
    )


def make_heads(
    config: Config,
    snapshot: Snapshot,
    rating: FactorModel,
    ranking: FactorModel,
    trained_on: Snapshot | None = None,
    samples: PosteriorSamples | None = None,
) -> Heads:
    """Bring a version's two models into the snapshot's row numbers and choose the head that orders the list.

    `trained_on` is the snapshot whose training rows the models saw; None: this one. `samples` must be in its row numbers.
    """
    rating = align(rating, snapshot.users, snapshot.items)
    if config.recommend.rank_by == "rating":
        ordering = rating
    else:
        counts = popularity(snapshot.train, len(snapshot.items), config.data.relevant_from)
        ordering = with_popular_fallback(align(ranking, snapshot.users, snapshot.items), counts)
    known = trained_on or snapshot
    warm_users, warm_items = known.warm()
    return Heads(
        rating,
        ordering,
        warm_users=_in_other_rows(warm_users, known.users, snapshot.users),
        warm_items=_in_other_rows(warm_items, known.items, snapshot.items),
        samples=samples,
    )


def unlisted_items(config: Config, snapshot: Snapshot) -> Int32s:
    """Return the rows of the items that no list may hold: those that are there for their attributes only, unless the rating
    head orders the lists. The ranking head has no factors for them, and their score of 0 would come before negative ones."""
    if config.recommend.rank_by == "rating":
        return np.empty(0, np.int32)
    _, rated = snapshot.rated()
    return np.flatnonzero(~rated).astype(np.int32)


def _in_other_rows(mask: Mask, ids: IdMap, wanted: IdMap) -> Mask:
    """Return `mask` over the rows of `ids` as one over the rows of `wanted`; False for an id that `ids` lacks."""
    rows = ids.rows(wanted.ids)
    return mask[rows] & (rows >= 0)


def evaluate(
    config: Config,
    snapshot: Snapshot,
    candidate: Heads,
    champion: Rival | None,
    recent: Sequence[Rival],
    unlisted: Int32s | None = None,
) -> list[Figure]:
    """Return all figures of a candidate.

    Args:
        config: settings; `gate.cutoff` and `gate.bootstrap_samples` shape the figures.
        snapshot: train and test rows.
        candidate: the model to judge.
        champion: the live version's evaluated model; None before the first publication.
        recent: versions that went live in the last `gate.recent_days` days.
        unlisted: int32 array of item rows that are left out of all lists; None: the full catalogue.
    """
    judge = _Judge(config, snapshot, unlisted)
    figures = [
        *judge.ratings("candidate", candidate.rating, slices=True),
        *judge.lists("candidate", candidate.ordering, slices=True),
        *judge.ratings("global_mean", global_mean_model(snapshot)),
        *judge.ratings("biases", biases_only_model(snapshot)),
        *judge.lists("popularity", popularity_model(snapshot, config.data.relevant_from)),
    ]
    if candidate.samples is not None:
        figures += judge.deviations("candidate", candidate.rating, candidate.samples)
    if champion is not None:
        figures += judge.ratings("champion", champion.heads.rating, rows=champion.unseen)
        figures += judge.lists("champion", champion.heads.ordering, rows=champion.unseen)
        figures += judge.rating_losses("champion", candidate, champion)
        figures += judge.list_losses("champion", candidate, champion)
    if recent:
        figures += judge.rating_losses("recent_best", candidate, min(recent, key=judge.rmse))
        figures += judge.list_losses("recent_best", candidate, max(recent, key=judge.ndcg))
    return figures


class _Judge:
    """Measures models on one snapshot's test rows."""

    def __init__(self, config: Config, snapshot: Snapshot, unlisted: Int32s | None) -> None:
        self.config, self.train, self.test = config, snapshot.train, snapshot.test
        self.n_users, self.n_items = len(snapshot.users), len(snapshot.items)
        self.head, self.unlisted = config.recommend.rank_by, unlisted
        self.cutoff, self.samples = config.gate.cutoff, config.gate.bootstrap_samples
        self.activity = np.bincount(self.train.user, minlength=self.n_users)
        self.popularity = np.bincount(self.train.item, minlength=self.n_items)

    def ratings(
        self, subject: str, model: FactorModel, *, rows: Mask | None = None, slices: bool = False
    ) -> list[Figure]:
        """Rating figures of a model on all or some test rows."""
        everything = np.ones(len(self.test), bool) if rows is None else rows
        errors = self._errors(model)
        columns = [
            self._rating_column(metric, errors, everything, "all")
            for metric in ("rmse", "mae", "average_error")
        ]
        if slices:
            columns += [
                self._rating_column("rmse", errors, mask, name)
                for name, mask in self._test_slices()
                if mask.any()
            ]
        return self._figures(subject, "rating", columns)

    def lists(
        self, subject: str, model: FactorModel, *, rows: Mask | None = None, slices: bool = False
    ) -> list[Figure]:
        """List figures of a model on all or some test rows."""
        quality = self._quality(model, rows)
        columns = self._list_columns(quality)
        if slices:
            masks = [(name, mask * quality.judged) for name, mask in self._user_slices()]
            columns += [
                self._list_column("ndcg", quality, mask, name) for name, mask in masks if mask.any()
            ]
        figures = self._figures(subject, self.head, columns)
        spread = diversity(quality.lists, self.train, self.n_items, self.unlisted)
        return figures + [
            Figure(
                subject,
                self.head,
                f"{metric}_at_{self.cutoff}",
                "all",
                value,
                None,
                None,
                len(quality.lists),
            )
            for metric, value in spread.items()
        ]

    def deviations(
        self, subject: str, model: FactorModel, samples: PosteriorSamples
    ) -> list[Figure]:
        """How the predicted standard deviations fit the errors: the share of test ratings within a 90% interval, and their mean.

        Measured on evenly spaced test rows where there are many: the share is known well enough then.
        """
        n_test = len(self.test)
        rows = np.unique(np.linspace(0, n_test - 1, min(n_test, _MOST_DEVIATIONS)).astype(np.int64))
        test, errors = self.test.take(rows), self._errors(model)[rows]
        deviation = samples.standard_deviation(test.user, test.item)
        within = (np.abs(errors) <= _WITHIN_90 * deviation).astype(np.float64)
        columns = [mean_column("mean_sd", test.user, deviation, self.n_users, "all")]
        for name, mask in (("all", np.ones(n_test, bool)), *self._test_slices()):
            if (chosen := mask[rows]).any():
                columns.append(
                    mean_column(
                        "interval_coverage_90",
                        test.user[chosen],
                        within[chosen],
                        self.n_users,
                        name,
                    )
                )
        return self._figures(subject, "rating", columns)

    def rating_losses(self, subject: str, candidate: Heads, rival: Rival) -> list[Figure]:
        """How much the candidate's RMSE exceeds the rival's, on all common rows and on those warm for both."""
        ours, theirs = self._errors(candidate.rating), self._errors(rival.heads.rating)
        warm = rival.unseen & self._warm_rows(candidate, rival.heads)
        return [
            self._loss(
                subject,
                "rating",
                "rmse_loss",
                name,
                self._rating_column("rmse", ours, mask, name),
                self._rating_column("rmse", theirs, mask, name),
            )
            for name, mask in (("all", rival.unseen), ("warm_both", warm))
        ]

    def list_losses(self, subject: str, candidate: Heads, rival: Rival) -> list[Figure]:
        """How far the candidate's NDCG stays below the rival's, for all users and for those warm for both."""
        ours, theirs = (
            self._quality(heads.ordering, rival.unseen) for heads in (candidate, rival.heads)
        )
        warm = (candidate.warm_users & rival.heads.warm_users).astype(np.float64)
        masks = (("all", ours.judged), ("warm_both", ours.judged * warm))
        return [
            self._loss(
                subject,
                self.head,
                f"ndcg_at_{self.cutoff}_loss",
                name,
                self._list_column("ndcg", theirs, mask, name),
                self._list_column("ndcg", ours, mask, name),
            )
            for name, mask in masks
        ]

    def rmse(self, rival: Rival) -> float:
        """A rival's RMSE on the rows that it has not seen."""
        column = self._rating_column("rmse", self._errors(rival.heads.rating), rival.unseen, "all")
        return float(np.sqrt(column.numerator.sum() / max(column.n, 1)))

    def ndcg(self, rival: Rival) -> float:
        """A rival's NDCG on the rows that it has not seen."""
        quality = self._quality(rival.heads.ordering, rival.unseen)
        return float(quality.ndcg.sum() / max(quality.judged.sum(), 1.0))

    def _errors(self, model: FactorModel) -> Float64s:
        scale = self.config.data
        return (
            np.clip(
                model.predict(self.test.user, self.test.item), scale.scale_low, scale.scale_high
            )
            - self.test.value
        )

    def _quality(self, model: FactorModel, rows: Mask | None) -> ListQuality:
        test = self.test if rows is None or rows.all() else self.test.take(rows)
        relevant_from, tile_mib = self.config.data.relevant_from, self.config.recommend.tile_mib
        return list_quality(
            model, self.train, test, relevant_from, self.cutoff, tile_mib, self.unlisted
        )

    def _rating_column(self, metric: str, errors: Float64s, mask: Mask, name: str) -> Column:
        return rating_column(metric, self.test, errors, mask, self.n_users, name)

    def _list_columns(self, quality: ListQuality) -> list[Column]:
        return [
            self._list_column(metric, quality, quality.judged, "all")
            for metric in ("ndcg", "recall", "map", "hit_rate")
        ]

    def _list_column(self, metric: str, quality: ListQuality, mask: Float64s, name: str) -> Column:
        values = {
            "ndcg": quality.ndcg,
            "recall": quality.recall,
            "map": quality.average_precision,
            "hit_rate": quality.hit,
        }[metric]
        return Column(f"{metric}_at_{self.cutoff}", name, values * mask, mask, int(mask.sum()))

    def _figures(self, subject: str, head: str, columns: list[Column]) -> list[Figure]:
        measured = zip(columns, estimates(columns, self.samples, _BOOTSTRAP_SEED), strict=True)
        return [
            Figure(subject, head, c.metric, c.slice, e.value, e.low, e.high, c.n)
            for c, e in measured
        ]

    def _loss(
        self, subject: str, head: str, metric: str, name: str, worse: Column, better: Column
    ) -> Figure:
        loss = paired_loss(worse, better, self.samples, _BOOTSTRAP_SEED)
        return Figure(subject, head, metric, name, loss.value, loss.low, loss.high, worse.n)

    def _warm_rows(self, candidate: Heads, rival: Heads) -> Mask:
        user, item = self.test.user, self.test.item
        return (candidate.warm_users & rival.warm_users)[user] & (
            candidate.warm_items & rival.warm_items
        )[item]

    def _user_slices(self) -> Iterator[tuple[str, Float64s]]:
        for name, mask in _thirds("users", self.activity):
            yield name, mask.astype(np.float64)

    def _test_slices(self) -> Iterator[tuple[str, Mask]]:
        for name, mask in _thirds("users", self.activity):
            yield name, mask[self.test.user]
        for name, mask in _thirds("items", self.popularity):
            yield name, mask[self.test.item]


def _thirds(kind: str, counts: NDArray[np.int64]) -> Iterator[tuple[str, Mask]]:
    """Yield the cold rows (no training rating), and the others in three groups by their number of training ratings."""
    yield f"{kind}_cold", counts == 0
    low, high = np.percentile(counts[counts > 0], [100 / 3, 200 / 3])
    yield f"{kind}_few_ratings", (counts > 0) & (counts <= low)
    yield f"{kind}_some_ratings", (counts > low) & (counts <= high)
    yield f"{kind}_many_ratings", counts > high


def unseen_rows(test: Ratings, users: IdMap, items: IdMap, trained_on: Snapshot) -> Mask:
    """Return which test rows do not occur among another snapshot's training rows; boolean array of shape (n_test,)."""
    user, item = trained_on.users.rows(users.ids), trained_on.items.rows(items.ids)
    n_items = np.int64(len(trained_on.items))
    keys = user[test.user] * n_items + item[test.item]
    known = (user[test.user] >= 0) & (item[test.item] >= 0)
    trained_keys = trained_on.train.user * n_items + trained_on.train.item
    return ~(known & np.isin(keys, trained_keys))
