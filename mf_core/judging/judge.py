"""Measures models on one snapshot's test rows: predictions, lists, intervals and losses."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from mf_core.config import Config
from mf_core.data.ratings import Float64s, Ratings
from mf_core.data.snapshot import Snapshot
from mf_core.figures import (
    HIT_RATE,
    INTERVAL_COVERAGES,
    INTERVAL_REACHES,
    LIST_METRICS,
    MAP,
    MEAN_SD,
    NDCG,
    RATING_METRICS,
    RECALL,
    RMSE,
    Figure,
    Metric,
)
from mf_core.judging.bootstrap import Bootstrap, Column
from mf_core.judging.intervals import interval_reach, normalised_errors, within_interval
from mf_core.judging.metrics import (
    ListQuality,
    MadeLists,
    diversity,
    mean_column,
    quality_of,
    rating_column,
)
from mf_core.judging.rivals import Rival
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Heads
from mf_core.models.lists import ListMaker
from mf_core.models.samples import PosteriorSamples

Mask = NDArray[np.bool_]
_BOOTSTRAP_SEED = 20160313
_MOST_DEVIATIONS = 500_000
_MOST_SAMPLED_USERS = 10_000


class Judge:
    """Measures models on one snapshot's test rows.

    Lists and errors of a model are made once, and kept as long as the model is. The figures that
    its methods return have no values and intervals yet where they wait for the bootstrap:
    `measured` gives them theirs.
    """

    def __init__(self, config: Config, snapshot: Snapshot) -> None:
        self.config = config
        self.snapshot = snapshot
        self.train = snapshot.train
        self.test = snapshot.test
        self.n_users = len(snapshot.users)
        self.n_items = len(snapshot.items)
        self.warm_users, self.warm_items = snapshot.warm()
        self.ratings_per_user = np.bincount(self.train.user, minlength=self.n_users)
        self.ratings_per_item = np.bincount(self.train.item, minlength=self.n_items)
        self.head = config.recommend.rank_by
        self.cutoff = config.gate.cutoff
        self._bootstrap = Bootstrap(config.gate.bootstrap_samples, _BOOTSTRAP_SEED)
        self._made: WeakKeyDictionary[ListMaker, MadeLists] = WeakKeyDictionary()
        self._errors_made: WeakKeyDictionary[FactorModel, Float64s] = WeakKeyDictionary()

    def measured(self, figures: Iterable[Figure]) -> list[Figure]:
        """Return figures of this judge with their values and intervals."""
        estimates = self._bootstrap.estimates()
        found = []
        for figure in figures:
            estimate = estimates.get(_key(figure))
            found.append(replace(figure, **vars(estimate)) if estimate else figure)
        return found

    def ratings(
        self,
        subject: str,
        model: FactorModel,
        *,
        rows: Mask | None = None,
        slices: bool = False,
    ) -> list[Figure]:
        """Return the rating figures of a model on all or some test rows."""
        everything = np.ones(len(self.test), bool) if rows is None else rows
        errors = self._errors(model)
        columns = [
            self._rating_column(metric, errors, everything, "all") for metric in RATING_METRICS
        ]
        if slices:
            for name, mask in self._test_slices():
                if mask.any():
                    columns.append(self._rating_column(RMSE, errors, mask, name))
        return self._figures(subject, "rating", columns)

    def lists(
        self,
        subject: str,
        lists: ListMaker,
        *,
        rows: Mask | None = None,
        slices: bool = False,
    ) -> list[Figure]:
        """Return the figures of the lists on all or some test rows."""
        quality = self._quality(lists, rows)
        columns = [
            self._list_column(metric, quality, quality.judged, "all") for metric in LIST_METRICS
        ]
        if slices:
            for name, users in self._user_slices():
                mask = users * quality.judged
                if mask.any():
                    columns.append(self._list_column(NDCG, quality, mask, name))
        figures = self._figures(subject, self.head, columns)
        return [*figures, *self._spread(subject, quality, lists)]

    def _spread(self, subject: str, quality: ListQuality, lists: ListMaker) -> Iterator[Figure]:
        spread = diversity(quality.lists, self.train, self.n_items, lists.left_out)
        for metric, value in spread.items():
            name = metric.stored(self.cutoff)
            yield _figure(subject, self.head, name, value, len(quality.lists))

    def deviations(
        self, subject: str, model: FactorModel, samples: PosteriorSamples
    ) -> list[Figure]:
        """Return how the predicted standard deviations fit the errors.

        That is how many of them an interval of 50, 80, 90 and 95% reaches, the share of test
        ratings within it, for 90% by slice too, and the mean standard deviation. Where there are
        many test rows, evenly spaced ones are measured: that is precise enough.
        """
        n_test = len(self.test)
        measured = min(n_test, _MOST_DEVIATIONS)
        rows = np.unique(np.linspace(0, n_test - 1, measured).astype(np.int64))
        test = self.test.take(rows)
        deviation = samples.standard_deviation(test.user, test.item)
        error = np.abs(self._errors(model)[rows])
        columns = [
            mean_column(MEAN_SD, test.user, deviation, n_users=self.n_users, name="all"),
        ]
        everything = {"all": np.ones(len(rows), bool)}
        by_slice = everything | {name: mask[rows] for name, mask in self._test_slices()}
        normalised = normalised_errors(error, deviation)
        reaches = []
        for percent, metric in INTERVAL_COVERAGES.items():
            share = percent / 100
            reach = interval_reach(normalised, share)
            reach_name = INTERVAL_REACHES[percent].name
            reaches.append(_figure(subject, "rating", reach_name, reach, len(rows)))
            within = within_interval(normalised, share).astype(np.float64)
            slices = by_slice if percent == 90 else everything
            for name, chosen in slices.items():
                if chosen.any():
                    user = test.user[chosen]
                    columns.append(
                        mean_column(metric, user, within[chosen], n_users=self.n_users, name=name)
                    )
        return [*self._figures(subject, "rating", columns), *reaches]

    def rating_losses(
        self, subject: str, candidate: FactorModel, model: FactorModel, rival: Rival
    ) -> list[Figure]:
        """Return how much the candidate's RMSE exceeds that of the rival's `model`.

        On all common rows, and on those warm for both.
        """
        ours = self._errors(candidate)
        theirs = self._errors(model)
        warm = rival.unseen & self._warm_rows(rival)
        figures = []
        for name, mask in (("all", rival.unseen), ("warm_both", warm)):
            worse = self._rating_column(RMSE, ours, mask, name)
            better = self._rating_column(RMSE, theirs, mask, name)
            figures.append(self._loss(subject, "rating", RMSE, worse=worse, better=better))
        return figures

    def list_losses(self, subject: str, candidate: Heads, rival: Rival) -> list[Figure]:
        """Return how far the candidate's NDCG stays below the rival's.

        For all users, and for those warm for both.
        """
        ours = self._quality(candidate.lists, rival.unseen)
        theirs = self._quality(rival.heads.lists, rival.unseen)
        warm_users = self.warm_users & rival.warm_users
        users = {
            "all": ours.judged,
            "warm_both": ours.judged * warm_users.astype(np.float64),
        }
        figures = []
        for name, mask in users.items():
            # What is better is higher here, so the rival comes first.
            worse = self._list_column(NDCG, theirs, mask, name)
            better = self._list_column(NDCG, ours, mask, name)
            loss = self._loss(subject, self.head, NDCG, worse=worse, better=better)
            figures.append(loss)
        return figures

    def baseline_losses(
        self, subject: str, lists: ListMaker, baseline: ListMaker, rows: Mask
    ) -> list[Figure]:
        """Return how far the NDCG of `lists` stays below the baseline's, on some test rows."""
        ours = self._quality(lists, rows)
        theirs = self._quality(baseline, rows)
        worse = self._list_column(NDCG, theirs, ours.judged, "all")
        better = self._list_column(NDCG, ours, ours.judged, "all")
        return [self._loss(subject, self.head, NDCG, worse=worse, better=better)]

    @cached_property
    def sampled_rows(self) -> Mask:
        """The test rows of evenly spaced users: all, or as many as tell models apart.

        A dense baseline is judged on them, and which of many rivals is the best.
        """
        users = np.unique(self.test.user)
        if len(users) <= _MOST_SAMPLED_USERS:
            return np.ones(len(self.test), dtype=bool)
        places = np.linspace(0, len(users) - 1, _MOST_SAMPLED_USERS).astype(np.int64)
        is_sampled = np.zeros(self.n_users, dtype=bool)
        is_sampled[users[places]] = True
        return is_sampled[self.test.user]

    def sampled_rmse(self, model: FactorModel, rival: Rival) -> float:
        """Return the RMSE of a rival's model on the sampled rows that it has not seen."""
        errors = self._errors_on(self.test.take(rival.unseen & self.sampled_rows), model)
        return float(np.sqrt((errors**2).sum() / max(len(errors), 1)))

    def sampled_ndcg(self, rival: Rival) -> float:
        """Return a rival's NDCG on the sampled rows that it has not seen."""
        quality = self._quality(rival.heads.lists, rival.unseen & self.sampled_rows)
        n_judged = quality.judged.sum()
        return float(quality.ndcg.sum() / max(n_judged, 1.0))

    def _errors(self, model: FactorModel) -> Float64s:
        """Return prediction minus rating of every test row, clipped as published."""
        if model not in self._errors_made:
            self._errors_made[model] = self._errors_on(self.test, model)
        return self._errors_made[model]

    def _errors_on(self, test: Ratings, model: FactorModel) -> Float64s:
        scale = self.config.data
        predicted = model.predict(test.user, test.item)
        clipped = np.clip(predicted, scale.scale_low, scale.scale_high)
        return clipped - test.value

    def _quality(self, lists: ListMaker, rows: Mask | None) -> ListQuality:
        if lists not in self._made:
            self._made[lists] = MadeLists(lists, self.cutoff, self.config.recommend.tile_mib)
        test = self.test
        if rows is not None and not rows.all():
            test = test.take(rows)
        return quality_of(self._made[lists], test, self.config.data, n_items=self.n_items)

    def _rating_column(self, metric: Metric, errors: Float64s, mask: Mask, name: str) -> Column:
        return rating_column(
            metric,
            self.test,
            errors,
            mask,
            n_users=self.n_users,
            name=name,
        )

    def _list_column(
        self, metric: Metric, quality: ListQuality, mask: Float64s, name: str
    ) -> Column:
        values = {
            NDCG: quality.ndcg,
            RECALL: quality.recall,
            MAP: quality.average_precision,
            HIT_RATE: quality.hit,
        }
        return Column(
            metric=metric.stored(self.cutoff),
            slice=name,
            numerator=values[metric] * mask,
            denominator=mask,
            n=int(mask.sum()),
        )

    def _figures(self, subject: str, head: str, columns: list[Column]) -> list[Figure]:
        """Return a figure for each column, which waits for its value."""
        figures = []
        for column in columns:
            figure = _waiting(subject, head, column.metric, column)
            self._bootstrap.add(_key(figure), column)
            figures.append(figure)
        return figures

    def _loss(
        self, subject: str, head: str, metric: Metric, worse: Column, better: Column
    ) -> Figure:
        """Return the figure of a loss, likewise."""
        figure = _waiting(subject, head, metric.stored_loss(self.cutoff), worse)
        self._bootstrap.add(_key(figure), worse, better)
        return figure

    def _warm_rows(self, rival: Rival) -> Mask:
        """Return the test rows whose user and item both models were trained on."""
        users = self.warm_users & rival.warm_users
        items = self.warm_items & rival.warm_items
        warm_user = users[self.test.user]
        warm_item = items[self.test.item]
        return warm_user & warm_item

    def _user_slices(self) -> Iterator[tuple[str, Float64s]]:
        for name, mask in _thirds("users", self.ratings_per_user):
            yield name, mask.astype(np.float64)

    def _test_slices(self) -> Iterator[tuple[str, Mask]]:
        for name, mask in _thirds("users", self.ratings_per_user):
            yield name, mask[self.test.user]
        for name, mask in _thirds("items", self.ratings_per_item):
            yield name, mask[self.test.item]


def _thirds(kind: str, counts: NDArray[np.int64]) -> Iterator[tuple[str, Mask]]:
    """Yield the cold rows, and the others in three groups by their number of training ratings."""
    cold = counts == 0
    yield f"{kind}_cold", cold

    # Thirds of the rows that have ratings; equal counts fall into the same one.
    low, high = np.percentile(counts[~cold], [100 / 3, 200 / 3])
    few = ~cold & (counts <= low)
    some = (counts > low) & (counts <= high)
    yield f"{kind}_few_ratings", few
    yield f"{kind}_some_ratings", some
    yield f"{kind}_many_ratings", counts > high


def _waiting(subject: str, head: str, metric: str, column: Column) -> Figure:
    """Return a column's figure before it is measured."""
    return replace(_figure(subject, head, metric, math.nan, column.n), slice=column.slice)


def _key(figure: Figure) -> tuple[str, str, str, str]:
    return (figure.subject, figure.head, figure.metric, figure.slice)


def _figure(subject: str, head: str, metric: str, value: float, n: int) -> Figure:
    """Return a figure over everything, without an interval."""
    return Figure(
        subject=subject,
        head=head,
        metric=metric,
        slice="all",
        value=value,
        low=None,
        high=None,
        n=n,
    )
