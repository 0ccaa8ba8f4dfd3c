"""Sets of ratings as files, parted by every protocol: what ours and the peers read."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from benchmarks.environments import cache_folder
from benchmarks.events import EVENTS, draw_events
from benchmarks.lecturers import read_lecturers
from benchmarks.ml100k import FOLDS, folds_folder
from benchmarks.ml100k_features import item_features, user_features
from benchmarks.planted import Rated, Scale, columns_of, draw_ratings
from benchmarks.protocols import PROTOCOLS, Mask
from benchmarks.shapes import ALL, SHAPES

ML100K = "ml100k"
LECTURERS = "lecturers"
# The pairs of MovieLens 100K, without what they were rated.
EVENTS_ML100K = "events_ml100k"
EVENT_SETS = (EVENTS_ML100K, *EVENTS)
# Of events every positive weight is relevant; what else stands here is wide enough for all.
_WEIGHTS = Scale(-1e6, 1e6, 1, relevant_from=1e-6, centre=0, spread=1)
_SCALES = {
    ML100K: Scale(1, 5, 1, relevant_from=4, centre=3.5, spread=1.1),
    LECTURERS: Scale(1, 5, 1, relevant_from=5, centre=3.2, spread=1.3),
    **{name: shape.scale for name, shape in ALL.items()},
    **dict.fromkeys(EVENT_SETS, _WEIGHTS),
}
# Sets of people, and those for work that are drawn.
DEFAULT = (ML100K, LECTURERS, *SHAPES)
EVERY = (*_SCALES,)

_FOLDS = tuple(f"u{fold}" for fold in FOLDS)
_IN_TIME = ("last_fifth", "last_10", "last_1")
_FEW = ("few_1", "few_2", "few_3", "few_5")
# A part of the training rows is taken as the test side was; folds are random parts.
_SPLITS = {"last_fifth": "temporal", "last_10": "leave_last", "last_1": "leave_last"}


@dataclass(frozen=True)
class Case:
    """One set by one protocol.

    Attributes:
        set, protocol: their names.
        train, test: CSV with the columns user_id, item_id, rating and timestamp.
        arrays: the same for the peers: columns tru, tri, trr, trs and teu, tei, ter, tes (user and
            item row, rating, second), `user_ids` and `item_ids`, the training rows that are for
            validation, and user_features and item_features where there are any.
        scale: of the set.
    """

    set: str
    protocol: str
    train: Path
    test: Path
    arrays: Path
    scale: Scale

    @property
    def name(self) -> str:
        """What files and tables call it."""
        return f"{self.set}/{self.protocol}"

    @property
    def kind(self) -> str:
        """Return what its rows are: ratings or events."""
        return "events" if self.set in EVENT_SETS else "ratings"

    def settings(self) -> dict[str, Any]:
        """Return what the product is told: the scale, and how the nightly run parts the rows."""
        of_rows: dict[str, Any] = {
            "data.scale_low": self.scale.low,
            "data.scale_high": self.scale.high,
            "data.relevant_from": self.scale.relevant_from,
        }
        if self.kind == "events":
            of_rows["data.kind"] = self.kind
            # The files have what a pair weighs in the place of a rating.
            of_rows["source.weight_column"] = "rating"
        return {**of_rows, "split.protocol": _SPLITS.get(self.protocol, "hash")}


def protocols_of(name: str) -> tuple[str, ...]:
    """Return the protocols by which a set is measured."""
    kind = name.removeprefix("held_back_")
    if kind == ML100K:
        return (*_FOLDS, *_IN_TIME, *_FEW)
    if kind == EVENTS_ML100K:
        return _FOLDS
    if kind == "drifting":
        return ("random", *_IN_TIME)
    if kind == "square":
        return ("random", *_FEW)
    return ("random",)


def write_set(name: str) -> Path:
    """Return the folder of a set, after writing it and all of its cases."""
    for protocol in protocols_of(name):
        write_case(name, protocol)
    return _folder(name)


def write_case(name: str, protocol: str) -> Case:
    """Return the files of a case, written if they are not there as they are defined.

    Raises:
        PeerUnavailableError: the set cannot be had here.
    """
    folder = _folder(name)
    case = Case(
        set=name,
        protocol=protocol,
        train=folder / f"{protocol}.train.csv",
        test=folder / f"{protocol}.test.csv",
        arrays=folder / f"{protocol}.npz",
        scale=_SCALES[name],
    )

    # Written last, so that a half-written case, or one of an older definition, is written again.
    stamp = folder / f"{protocol}.json"
    about = json.dumps({"settings": case.settings(), "set": _definition(name)}, indent=1) + "\n"
    if stamp.exists() and stamp.read_text() == about:
        return case
    stamp.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)

    train, test = _parts(name, protocol)
    csv.write_csv(pa.table(columns_of(train)), case.train)
    csv.write_csv(pa.table(columns_of(test)), case.test)
    _write_arrays(case, train, test)
    stamp.write_text(about)
    return case


def _folder(name: str) -> Path:
    return cache_folder() / "shapes" / name


def _definition(name: str) -> Any:
    """Return what decides the bits of a set."""
    if name in EVENTS:
        return asdict(EVENTS[name])
    return asdict(ALL[name]) if name in ALL else name


def _parts(name: str, protocol: str) -> tuple[Rated, Rated]:
    """Return the training and the test rows."""
    if protocol in _FOLDS:
        folder = folds_folder()
        sides = [_movielens(folder / f"{protocol}.{side}") for side in ("base", "test")]
        if name == EVENTS_ML100K:
            sides = [replace(side, value=np.ones(len(side.value))) for side in sides]
        return sides[0], sides[1]

    rated = _read(name)
    train, test = PROTOCOLS[protocol](rated)
    return rated.take(train), rated.take(test)


def _read(name: str) -> Rated:
    if name == ML100K:
        return _movielens(folds_folder() / "u.data")
    if name == LECTURERS:
        return read_lecturers(_folder(name))
    return draw_events(EVENTS[name]) if name in EVENTS else draw_ratings(ALL[name])


def _movielens(path: Path) -> Rated:
    user, item, value, second = np.loadtxt(path, dtype=np.int64, unpack=True)
    return Rated(user - 1, item - 1, value.astype(float), second)


def _write_arrays(case: Case, train: Rated, test: Rated) -> None:
    """Write the rows for the peers, over the users and items of either side."""
    user_ids, user = np.unique(np.concatenate([train.user, test.user]), return_inverse=True)
    item_ids, item = np.unique(np.concatenate([train.item, test.item]), return_inverse=True)
    n = len(train.user)
    sides = {
        "tr": Rated(user[:n], item[:n], train.value, train.second),
        "te": Rated(user[n:], item[n:], test.value, test.second),
    }
    columns: dict[str, Any] = {
        f"{side}{column}": array
        for side, rows in sides.items()
        for column, array in zip("uirs", _arrays_of(rows), strict=True)
    }
    if case.set == ML100K:
        columns["user_features"] = user_features(folds_folder(), user_ids + 1)
        columns["item_features"] = item_features(folds_folder(), item_ids + 1)
    np.savez(
        case.arrays,
        **columns,
        user_ids=user_ids + 1,
        item_ids=item_ids + 1,
        validation=_validation(case.protocol, sides["tr"]),
    )


def _arrays_of(rows: Rated) -> Iterator[NDArray[Any]]:
    yield from (rows.user, rows.item, rows.value, rows.second)


def _validation(protocol: str, train: Rated) -> Mask:
    """Return which training rows are for validation: parted off as the test side was."""
    kind = protocol if protocol in _IN_TIME else "random"
    _, held_out = PROTOCOLS[kind](train)
    return held_out
