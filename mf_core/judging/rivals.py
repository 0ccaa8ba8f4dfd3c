"""Versions that a candidate is compared with: the live one, and those of the last days."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Engine

from mf_core.config import Config
from mf_core.data.ratings import IdMap, Ratings
from mf_core.data.snapshot import Snapshot, read_snapshot
from mf_core.errors import ArtifactError
from mf_core.models.heads import Heads, load_models, make_heads
from mf_core.records import SplitRef
from mf_core.warehouse import lineage, transaction

Mask = NDArray[np.bool_]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Rival:
    """A version to compare with, in the rows of the candidate's snapshot.

    Attributes:
        model_version: its number.
        heads: its evaluated models.
        unseen: boolean array of shape (n_test,), test rows that it was not trained on.
        warm_users, warm_items: boolean arrays, rows with a rating among those it was trained on.
    """

    model_version: int
    heads: Heads
    unseen: Mask
    warm_users: Mask
    warm_items: Mask


def load_rival(
    config: Config, engine: Engine, snapshot: Snapshot, split: SplitRef, version: int, *, log: Log
) -> Rival | None:
    """Return the evaluated models of a version, with the test rows that they have not seen.

    None where its artifacts are gone or damaged, and the log says so.
    """
    try:
        return _load_rival(config, engine, snapshot, split=split, version=version)
    except ArtifactError as error:
        log(f"version {version} can't be compared with: {error}")
        return None


def _load_rival(
    config: Config, engine: Engine, snapshot: Snapshot, split: SplitRef, version: int
) -> Rival:
    with transaction(engine) as connection:
        theirs = lineage.load_split_ref(connection, version)
        model = lineage.load_model_ref(connection, version, "evaluated")
    trained_on = read_snapshot(theirs.uri, theirs.sha256)
    warm_users, warm_items = trained_on.warm()
    if theirs.split_id == split.split_id and config.split.protocol == "hash":
        # A pair's side never changes, so none of these rows was a training row.
        unseen = np.ones(len(snapshot.test), dtype=bool)
    else:
        unseen = unseen_rows(snapshot.test, snapshot.users, snapshot.items, trained_on)
    return Rival(
        model_version=version,
        heads=make_heads(config, snapshot, load_models(model), snapshot.train),
        unseen=unseen,
        warm_users=_in_other_rows(warm_users, trained_on.users, snapshot.users),
        warm_items=_in_other_rows(warm_items, trained_on.items, snapshot.items),
    )


def _in_other_rows(mask: Mask, ids: IdMap, wanted: IdMap) -> Mask:
    """Return `mask` over the rows of `ids` as one over those of `wanted`; False for a new id."""
    rows = ids.rows(wanted.ids)
    return mask[rows] & (rows >= 0)


def unseen_rows(test: Ratings, users: IdMap, items: IdMap, trained_on: Snapshot) -> Mask:
    """Return which test rows are not among another snapshot's training rows; shape (n_test,)."""
    user = trained_on.users.rows(users.ids)[test.user]
    item = trained_on.items.rows(items.ids)[test.item]
    known = (user >= 0) & (item >= 0)

    # A pair is one number, which may pass 2^31.
    n_items = np.int64(len(trained_on.items))
    keys = user * n_items + item
    trained_keys = trained_on.train.user * n_items + trained_on.train.item
    return ~(known & np.isin(keys, trained_keys))
