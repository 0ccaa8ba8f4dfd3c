"""Train and evaluate on given files, without a database: published folds, benchmarks.

Protocol: fit on the rows of the first file, measure on those of the second; predictions clipped to the rating scale; list
metrics over the full catalogue (all items of either file; with the rating head, of the items file too),
training items left out.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mf_core.config import Config, make_config
from mf_core.data.attributes import Attributes, texts_by_row
from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.data.snapshot import Snapshot, sort_ratings
from mf_core.errors import InputError
from mf_core.figures import Figure
from mf_core.judging.evaluate import evaluate
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Models, make_heads
from mf_core.records import Progress
from mf_core.sources.metadata import Metadata, read_items, read_users
from mf_core.sources.source import open_source
from mf_core.training.process import encoded_attributes, is_worth_a_line

if TYPE_CHECKING:
    from mf_core.solvers.fit import FitResult

Head = Literal["rating", "ranking"]
Log = Callable[[str], None]


@dataclass(frozen=True)
class BacktestReport:
    """Every figure of a backtest. `fit_seconds` is the time of training, imports excluded."""

    figures: list[Figure]
    iterations: dict[str, int]
    fit_seconds: dict[str, float]
    device: str
    n_train: int
    n_test: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON: the candidate's figures by name, baselines prefixed, slices apart."""
        overall = {
            f.metric: f for f in self.figures if f.subject == "candidate" and f.slice == "all"
        }
        named: dict[str, Any] = {metric: figure.value for metric, figure in overall.items()}
        named |= {f"{m}_interval": [f.low, f.high] for m, f in overall.items() if f.low is not None}
        for f in self.figures:
            if f.subject != "candidate" and f.slice == "all":
                named[f"{f.subject}_{f.metric}"] = f.value
        slices: dict[str, dict[str, float]] = {}
        for f in self.figures:
            if f.subject == "candidate" and f.slice != "all":
                slices.setdefault(f.slice, {})[f.metric] = f.value
        return {
            **named,
            "fit_seconds": sum(self.fit_seconds.values()),
            "fit_seconds_by_head": self.fit_seconds,
            "iterations": self.iterations,
            "device": self.device,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "slices": slices,
        }


def backtest(config: Config, head: Head | None, log: Log) -> BacktestReport:
    """Fit the heads (or the one named) on `source.uri` and measure them on `source.test_uri`.

    With one head named, the lists are ordered by that head, and only a rating head has rating
    figures.

    Raises:
        InputError: a file is refused, or has a row that would be rejected: a benchmark on part of
            its rows is none.
        TrainingError: training failed.
    """
    snapshot = read_folds(config)
    log(f"{len(snapshot.train):,} training and {len(snapshot.test):,} test ratings")
    rank_by: Head = head or config.recommend.rank_by
    config = make_config({"recommend.rank_by": rank_by}, config)
    fitted = _fit(config, snapshot, head, log)

    models = Models(
        rating=fitted["rating"].model if "rating" in fitted else _no_model(snapshot),
        ranking=fitted["ranking"].model if "ranking" in fitted else _no_model(snapshot),
    )
    samples = fitted["rating"].samples if "rating" in fitted else None
    heads = make_heads(config, snapshot, models, snapshot.train, samples=samples)
    figures = evaluate(config, snapshot, heads, None, [])
    if head == "ranking":
        figures = [f for f in figures if not (f.subject == "candidate" and f.head == "rating")]
    return BacktestReport(
        figures=figures,
        iterations={name: fit.iterations for name, fit in fitted.items()},
        fit_seconds={name: fit.seconds for name, fit in fitted.items()},
        device=next(iter(fitted.values())).device,
        n_train=len(snapshot.train),
        n_test=len(snapshot.test),
    )


def _fit(config: Config, snapshot: Snapshot, head: Head | None, log: Log) -> dict[str, "FitResult"]:
    """Fit both heads on the training rows, or the one named."""
    from mf_core.solvers.fit import fit_ranking_head, fit_rating_head

    def report(progress: Progress) -> None:
        if is_worth_a_line(progress):
            log(progress.sentence())

    rows = (config, snapshot.train, snapshot.users, snapshot.items)
    fitted = {}
    if head != "ranking":
        attributes = encoded_attributes(config, snapshot, log)
        fitted["rating"] = fit_rating_head(*rows, attributes=attributes, report=report, log=log)
    if head != "rating":
        fitted["ranking"] = fit_ranking_head(*rows, report=report, log=log)
    return fitted


def read_folds(config: Config) -> Snapshot:
    """Return the rows of `source.uri` as training and those of `source.test_uri` as test side. Raises InputError."""
    files = read_files(config)
    is_test = files.is_test
    if not 0 < is_test.sum() < len(files.ratings):
        raise InputError(
            "a backtest needs rows on both sides; name two files with --train and --test."
        )
    sides = (sort_ratings(files.ratings.take(~is_test)), sort_ratings(files.ratings.take(is_test)))
    return Snapshot(files.users, files.items, *sides, files.attributes)


@dataclass(frozen=True)
class Files:
    """What the source's files hold. `is_test`: boolean array of shape (n,); `attributes`: None where they are not asked for."""

    users: IdMap
    items: IdMap
    ratings: Ratings
    is_test: NDArray[np.bool_]
    attributes: Attributes | None


def read_files(config: Config) -> Files:
    """Return the source's ratings, with the ids and attributes of its users' and items' files where named. Raises InputError."""
    with open_source(config, os.environ) as source:
        tables = [
            _all_good(name, chunk) for name, chunk in source.chunks(config, datetime.now(UTC))
        ]
        users = (
            read_users(source.users(), config.source)
            if source.users and config.source.users_uri
            else Metadata((), 0)
        )
        items = (
            read_items(source.items(), config.source)
            if source.items and config.source.items_uri
            else Metadata((), 0)
        )
    table = pa.concat_tables(tables)
    columns = {
        name: table[name].to_numpy(zero_copy_only=False)
        for name in ("user_id", "item_id", "rating", "side")
    }
    user_ids = id_map([*columns["user_id"], *(row.id for row in users.rows)])
    item_ids = id_map([*columns["item_id"], *(row.id for row in items.rows)])
    ratings = Ratings(
        user_ids.rows(columns["user_id"]),
        item_ids.rows(columns["item_id"]),
        columns["rating"].astype(np.float32),
    )
    wanted = config.rating_head.uses_attributes()
    attributes = Attributes(_texts(user_ids, users), _texts(item_ids, items)) if wanted else None
    return Files(user_ids, item_ids, ratings, columns["side"] == "test", attributes)


def _texts(ids: IdMap, metadata: Metadata) -> NDArray[np.object_]:
    return texts_by_row(
        ids, {row.id: json.dumps(row.attributes) for row in metadata.rows if row.attributes}
    )


def _all_good(name: str, chunk: Any) -> Any:
    if chunk.rejected:
        bad = chunk.rejected[0]
        raise InputError(
            f"{name}, line {bad.line}: {bad.reason} ({bad.raw[:80]!r}); a backtest uses every row, so repair the file."
        )
    return chunk.rows


def _no_model(snapshot: Snapshot) -> FactorModel:
    users, items = len(snapshot.users), len(snapshot.items)
    user_bias, item_bias = np.zeros(users, np.float32), np.zeros(items, np.float32)
    return FactorModel(
        0.0,
        user_bias,
        item_bias,
        user_bias[:, None],
        item_bias[:, None],
        snapshot.users,
        snapshot.items,
    )
