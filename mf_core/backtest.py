"""Train and evaluate on given files, without a database: published folds, benchmarks.

Protocol: fit on the rows of the first file, and measure on those of the second. Predictions are
clipped to the rating scale. List metrics are over the full catalogue, each user's training items
left out: all items of either file; with the rating head, of the items file too.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mf_core.config import Config, Head, make_config, with_found
from mf_core.data.attributes import Attributes, texts_by_row
from mf_core.data.cold import said_of_unknown, unknown_rows
from mf_core.data.fading import require_times
from mf_core.data.ratings import (
    IdMap,
    Ratings,
    Seconds,
    concatenate,
    id_map,
    known_times,
    summed,
)
from mf_core.data.snapshot import Snapshot, sort_ratings
from mf_core.errors import InputError
from mf_core.figures import Figure
from mf_core.judging.evaluate import evaluate
from mf_core.models.baselines import zero_model
from mf_core.models.heads import Heads, Models, make_heads
from mf_core.records import FoundSettings, Progress
from mf_core.sources.chunks import Chunk
from mf_core.sources.metadata import Metadata, read_items, read_users
from mf_core.sources.source import RatingsSource, open_source
from mf_core.sources.weighing import weighed
from mf_core.training.process import encoded_attributes, is_worth_a_line
from mf_core.training.search import search_settings
from mf_core.training.search_rows import SearchRows

if TYPE_CHECKING:
    from mf_core.solvers.fit import FitResult

Log = Callable[[str], None]

_NO_METADATA = Metadata((), 0)


@dataclass(frozen=True)
class BacktestReport:
    """Every figure of a backtest, and what they are of.

    `fit_seconds` is the time of training, imports and the search for settings excluded; `found` is
    what that search has found, None where `train.settings` is fixed. The heads are in the
    snapshot's rows.
    """

    figures: list[Figure]
    iterations: dict[str, int]
    fit_seconds: dict[str, float]
    device: str
    n_train: int
    n_test: int
    snapshot: Snapshot
    heads: Heads
    found: FoundSettings | None = None
    search_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON.

        The candidate's figures stand under their names, those of the baselines under their names
        with a prefix, and those of the slices apart.
        """
        return {
            **self._candidate(),
            **self._baselines(),
            "fit_seconds": sum(self.fit_seconds.values()),
            "fit_seconds_by_head": self.fit_seconds,
            "iterations": self.iterations,
            "device": self.device,
            "n_train": self.n_train,
            "n_test": self.n_test,
            **unknown_rows(self.snapshot),
            "found_settings": self.found.settings if self.found else {},
            "found_on": self.found.grounds if self.found else "",
            "search_seconds": self.search_seconds,
            "slices": self._slices(),
        }

    def _candidate(self) -> dict[str, Any]:
        """Return the candidate's figures over all test rows, and their intervals after them."""
        values = {}
        intervals = {}
        for figure in self.figures:
            if figure.subject != "candidate" or figure.slice != "all":
                continue
            values[figure.metric] = _number(figure.value)
            if figure.low is not None:
                ends = [_number(figure.low), _number(figure.high)]
                intervals[f"{figure.metric}_interval"] = ends
        return {**values, **intervals}

    def _baselines(self) -> dict[str, float | None]:
        """Return the baselines' figures, such as `biases_rmse`."""
        return {
            f"{figure.subject}_{figure.metric}": _number(figure.value)
            for figure in self.figures
            if figure.subject != "candidate" and figure.slice == "all"
        }

    def _slices(self) -> dict[str, dict[str, float | None]]:
        """Return the candidate's figures by the slice of the test rows and by name."""
        slices: dict[str, dict[str, float | None]] = {}
        for figure in self.figures:
            if figure.subject != "candidate" or figure.slice == "all":
                continue
            of_slice = slices.setdefault(figure.slice, {})
            of_slice[figure.metric] = _number(figure.value)
        return slices


def _number(value: float | None) -> float | None:
    """Return a figure, None for one that nothing could be measured by: JSON has no NaN."""
    return None if value is None or math.isnan(value) else value


def backtest(config: Config, head: Head | None, log: Log) -> BacktestReport:
    """Fit the heads (or the one named) on `source.uri` and measure them on `source.test_uri`.

    If one head is named, that head orders the lists, and only a rating head has rating figures.
    With `train.settings=found`, settings are searched for on the rows of `source.uri` first, as the
    first night of a catalogue does.

    Raises:
        InputError: a file is refused, or has a row that would be rejected. A benchmark uses every
            row.
        ConfigError: a model of these rows has no such head.
        TrainingError: training failed.
    """
    if head:
        config.require_head(head)
    snapshot = read_folds(config)
    log(f"{len(snapshot.train):,} training and {len(snapshot.test):,} test ratings")
    log(said_of_unknown(snapshot))
    rank_by: Head = head or config.recommend.rank_by
    config = make_config({"recommend.rank_by": rank_by}, config)

    began = time.monotonic()
    found = _search(config, snapshot, head, log)
    search_seconds = time.monotonic() - began
    config = with_found(config, found.settings) if found else config
    fitted = _fit(config, snapshot, head, log)
    heads = _heads_of(config, snapshot, fitted)
    figures = evaluate(config, snapshot, candidate=heads, champion=None, recent=[])
    return BacktestReport(
        figures=figures,
        iterations={name: fit.iterations for name, fit in fitted.items()},
        fit_seconds={name: fit.seconds for name, fit in fitted.items()},
        device=next(iter(fitted.values())).device,
        n_train=len(snapshot.train),
        n_test=len(snapshot.test),
        snapshot=snapshot,
        heads=heads,
        found=found,
        search_seconds=search_seconds,
    )


def _heads(config: Config, head: Head | None) -> tuple[Head, ...]:
    """Return the heads to fit: the one named, or all that the model has."""
    return (head,) if head else config.heads()


def _search(
    config: Config, snapshot: Snapshot, head: Head | None, log: Log
) -> FoundSettings | None:
    """Return what a search on the training rows finds; None where the settings are fixed."""
    if config.train.settings == "fixed":
        return None
    attributes = encoded_attributes(config, snapshot, log)
    rows = SearchRows(snapshot.train, snapshot.users, snapshot.items, attributes)
    return search_settings(config, rows, begin_at=None, log=log, heads=_heads(config, head))


def _fit(config: Config, snapshot: Snapshot, head: Head | None, log: Log) -> dict[str, "FitResult"]:
    """Fit both heads on the training rows, or the one named."""
    # TensorFlow takes seconds to import, and reading the files needs none of it.
    from mf_core.solvers.fit import fit_ranking_head, fit_rating_head

    def report(progress: Progress) -> None:
        """Say how far the fit is, now and then."""
        if is_worth_a_line(progress):
            log(progress.sentence())

    train = snapshot.train
    users = snapshot.users
    items = snapshot.items
    fitted = {}
    wanted = _heads(config, head)
    if "rating" in wanted:
        attributes = encoded_attributes(config, snapshot, log)
        fitted["rating"] = fit_rating_head(
            config,
            train,
            users,
            items,
            attributes=attributes,
            report=report,
            log=log,
        )
    if "ranking" in wanted:
        fitted["ranking"] = fit_ranking_head(config, train, users, items, report=report, log=log)
    return fitted


def _heads_of(config: Config, snapshot: Snapshot, fitted: dict[str, "FitResult"]) -> Heads:
    """Return the fitted heads, with an empty ranking head in the place of one that was not."""
    rating = fitted.get("rating")
    ranking = fitted.get("ranking")
    models = Models(
        rating=rating.model if rating else None,
        ranking=ranking.model if ranking else zero_model(snapshot),
    )
    samples = rating.samples if rating else None
    return make_heads(config, snapshot, models, snapshot.train, samples=samples)


def read_folds(config: Config) -> Snapshot:
    """Return the rows of `source.uri` as training side and those of `source.test_uri` as test side.

    Raises:
        InputError: a file is refused, has a row that would be rejected, or one side is empty.
        QualityError: ratings are to fade, and none has a time.
    """
    files = read_files(config)
    is_test = files.is_test
    if not 0 < is_test.sum() < len(files.ratings):
        raise InputError(
            "a backtest needs rows on both sides; name two files with --train and --test."
        )
    train = files.ratings.take(~is_test)
    test = files.ratings.take(is_test)
    require_times(config, train)
    return Snapshot(
        users=files.users,
        items=files.items,
        train=sort_ratings(train),
        test=sort_ratings(test),
        attributes=files.attributes,
    )


@dataclass(frozen=True)
class Files:
    """What the source's files hold.

    Attributes:
        users: ids of all users of either file, in row order; of the users file too, where named.
        items: ids of all items, likewise.
        ratings: all ratings, of shape (n,), in the order of the files; of events one row for each
            user and item of a side.
        is_test: boolean array of shape (n,).
        attributes: what is known of users and items; None if the settings have no use for them.
    """

    users: IdMap
    items: IdMap
    ratings: Ratings
    is_test: NDArray[np.bool_]
    attributes: Attributes | None


def read_files(config: Config) -> Files:
    """Return the source's ratings, and the ids and attributes of its users' and items' files.

    Raises:
        InputError: a file is refused, or has a row that would be rejected.
    """
    with open_source(config, os.environ) as source:
        table = _ratings_of(source, config)
        users = _users_of(source, config)
        items = _items_of(source, config)
    user_id = _column(table, "user_id")
    item_id = _column(table, "item_id")
    user_ids = _all_ids(user_id, users)
    item_ids = _all_ids(item_id, items)

    attributes = None
    if config.rating_head.uses_attributes():
        attributes = Attributes(user=_texts(user_ids, users), item=_texts(item_ids, items))
    ratings = Ratings(
        user=user_ids.rows(user_id),
        item=item_ids.rows(item_id),
        value=_column(table, "rating").astype(np.float32),
        rated_at=_times(table),
    )
    is_test = _column(table, "side") == "test"
    if config.data.kind == "events":
        ratings, is_test = _pairs_of(ratings, is_test, n_items=len(item_ids))
    return Files(
        users=user_ids, items=item_ids, ratings=ratings, is_test=is_test, attributes=attributes
    )


def _pairs_of(
    events: Ratings, is_test: NDArray[np.bool_], n_items: int
) -> tuple[Ratings, NDArray[np.bool_]]:
    """Return one row for each pair of user and item, as the warehouse has them, and its side.

    A pair with events on both sides is on the training side: no list holds it, since the user
    knows the item.
    """
    train = summed(events.take(~is_test))
    test = summed(events.take(is_test))

    # A pair is one number, which may pass 2^31.
    known = train.user * np.int64(n_items) + train.item
    asked = test.user * np.int64(n_items) + test.item
    test = test.take(~np.isin(asked, known))
    sides = np.repeat([False, True], [len(train), len(test)])
    return concatenate([train, test]), sides


def _ratings_of(source: RatingsSource, config: Config) -> pa.Table:
    """Return the rows of all files of ratings. Raises InputError if one would be rejected."""
    now = datetime.now(UTC)
    parts = []
    for name, chunk in source.chunks(config, now):
        _require_all_good(name, chunk)
        parts.append(chunk.rows)
    rows = pa.concat_tables(parts)
    return weighed(rows, config.data) if config.data.kind == "events" else rows


def _users_of(source: RatingsSource, config: Config) -> Metadata:
    """Return the users of the file that the settings name; none without one."""
    if not source.users or not config.source.users_uri:
        return _NO_METADATA
    return read_users(source.users(), config.source)


def _items_of(source: RatingsSource, config: Config) -> Metadata:
    """Return the items of the file that the settings name; none without one."""
    if not source.items or not config.source.items_uri:
        return _NO_METADATA
    return read_items(source.items(), config.source)


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column as an array; texts become Python's own."""
    column = table[name]
    return column.to_numpy(zero_copy_only=False)


def _times(table: pa.Table) -> Seconds | None:
    """Return when each rating was given, None where no rating says so."""
    microseconds = pc.fill_null(table["rated_us"], 0).to_numpy()
    return known_times((microseconds // 1_000_000).astype(np.uint32))


def _all_ids(rated: NDArray[Any], metadata: Metadata) -> IdMap:
    """Return the ids that have ratings, with those that only the users' or items' file has."""
    ids = list(rated)
    ids += [row.id for row in metadata.rows]
    return id_map(ids)


def _texts(ids: IdMap, metadata: Metadata) -> NDArray[np.object_]:
    """Return the attributes as JSON text for each row of `ids`, None where nothing is known."""
    known = {}
    for row in metadata.rows:
        if row.attributes:
            known[row.id] = json.dumps(row.attributes)
    return texts_by_row(ids, known)


def _require_all_good(name: str, chunk: Chunk) -> None:
    """Raise InputError if a row of the chunk would be rejected."""
    if not chunk.rejected:
        return
    bad = chunk.rejected[0]
    beginning = bad.raw[:80]
    raise InputError(
        f"{name}, line {bad.line}: {bad.reason} ({beginning!r}). "
        "A backtest uses every row, so repair the file."
    )
