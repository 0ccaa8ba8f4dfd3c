"""What a study works on: the training rows, and the part of them that trials are judged on."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution
from sqlalchemy.engine import Engine

from mf_core.config import Config, make_config, settings
from mf_core.data.attributes import AttributeMatrices, Attributes, encode_sides
from mf_core.data.ratings import IdMap, Ratings, pair_draws
from mf_core.data.snapshot import Snapshot, content_hash, sort_ratings
from mf_core.data.split import take_snapshot
from mf_core.errors import InputError, QualityError
from mf_core.tune.backtest import read_files
from mf_core.tune.space import Head, search_space
from mf_core.warehouse.engine import transaction

_VALIDATION_FRACTION = 0.1
_VALIDATION_SEED = 1_000_003
"""Another one than any split's or fit's, so that their parts and this one have nothing to do with each other."""


@dataclass(frozen=True)
class TrainingRows:
    """Training ratings alone: no test rating, and no id that occurs among test ratings only. Sorted by (user, item).

    `attributes` are those of the rows of `users` and `items`; None where the settings have no use for them.
    """

    users: IdMap
    items: IdMap
    ratings: Ratings
    attributes: Attributes | None = None


def training_rows(snapshot: Snapshot) -> TrainingRows:
    """Return the training side by itself."""
    warm_users, warm_items = snapshot.warm()
    user, item = np.cumsum(warm_users) - 1, np.cumsum(warm_items) - 1
    train = snapshot.train
    rows = Ratings(
        user[train.user].astype(np.int32), item[train.item].astype(np.int32), train.value
    )
    known = snapshot.attributes
    attributes = Attributes(known.user[warm_users], known.item[warm_items]) if known else None
    return TrainingRows(
        IdMap(snapshot.users.ids[warm_users]),
        IdMap(snapshot.items.ids[warm_items]),
        rows,
        attributes,
    )


def read_warehouse(config: Config, engine: Engine) -> TrainingRows:
    """Return the training rows of `mf.ratings` as they stand now. Raises QualityError or DatabaseError."""
    with transaction(engine, isolation_level="REPEATABLE READ") as connection:
        snapshot = take_snapshot(
            connection, config.split, with_attributes=config.rating_head.uses_attributes()
        )
    return training_rows(snapshot)


def read_training_file(config: Config, uri: str) -> TrainingRows:
    """Return the rows of one file; those that its side column calls test are left out. Raises InputError."""
    files = read_files(make_config({"source.uri": uri, "source.test_uri": ""}, config))
    if files.is_test.all():
        raise InputError(f"{uri} has no training row; name a file of training ratings.")
    train = sort_ratings(files.ratings.take(~files.is_test))
    nothing = train.take(np.zeros(len(train), bool))
    return training_rows(Snapshot(files.users, files.items, train, nothing, files.attributes))


@dataclass(frozen=True)
class Task:
    """What every trial of a study has in common.

    Attributes:
        config: the settings that the trials' own are put over.
        head: rating or ranking.
        rows: the training rows.
        fitted, validation: nine tenths of their ratings, and the other tenth.
        attributes: what the rating head makes of the rows' attributes; None if nothing.
    """

    config: Config
    head: Head
    rows: TrainingRows
    fitted: Ratings
    validation: Ratings
    attributes: AttributeMatrices | None = None

    @property
    def metric(self) -> str:
        """Return the figure's name."""
        return "RMSE" if self.head == "rating" else f"NDCG@{self.config.gate.cutoff}"

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """Return what is searched."""
        return search_space(self.config, self.head)

    def fingerprint(self) -> str:
        """sha256 (hex) over all that the trials' figures depend on beside their own settings."""
        rows = content_hash(
            Snapshot(
                self.rows.users, self.rows.items, self.fitted, self.validation, self.rows.attributes
            )
        )
        mine = {
            s.name: s.default
            for s in settings(self.config)
            if s.name.startswith(("data.", f"{self.head}_head."))
        }
        mine |= {"seed": self.config.train.seed, "cutoff": self.config.gate.cutoff}
        for name in self.space:
            del mine[name]
        return hashlib.sha256(
            json.dumps([rows, mine, self.head], sort_keys=True).encode()
        ).hexdigest()

    def default_study(self) -> str:
        """Return the name of the study of these very rows and settings."""
        solver = f"-{self.config.rating_head.solver}" if self.head == "rating" else ""
        return f"{self.head}{solver}-{self.fingerprint()[:8]}"


def make_task(config: Config, head: Head, rows: TrainingRows, part: int = 0) -> Task:
    """Set a validation part aside, another one for every number `part`, and have the fits seeded with `train.seed` + `part`.

    Raises:
        QualityError: there are too few ratings for that.
        ConfigError: the solver has nothing to tune.
    """
    search_space(config, head)
    held_out = (
        pair_draws(rows.ratings, rows.users, rows.items, _VALIDATION_SEED + part)
        < _VALIDATION_FRACTION
    )
    validation = rows.ratings.take(held_out)
    fitted = rows.ratings.take(~held_out)
    needed = config.data.relevant_from if head == "ranking" else -np.inf
    if not all((part.value >= needed).any() for part in (fitted, validation)):
        raise QualityError(
            f"{len(rows.ratings):,} training ratings are too few to set a validation part aside; load more."
        )
    attributes = encode_sides(rows.attributes)[0] if rows.attributes and head == "rating" else None
    seeded = make_config({"train.seed": config.train.seed + part}, config)
    return Task(seeded, head, rows, fitted, validation, attributes)
