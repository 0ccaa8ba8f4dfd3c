"""What a study works on: the training rows, and the part of them that trials are judged on."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from sqlalchemy.engine import Engine

from mf_core.backtest import read_files
from mf_core.config import Config, make_config, settings
from mf_core.data.attributes import AttributeMatrices, Attributes, encode_sides
from mf_core.data.fading import require_times
from mf_core.data.ratings import IdMap, Ratings
from mf_core.data.relevance import is_relevant
from mf_core.data.snapshot import Snapshot, content_hash, sort_ratings
from mf_core.data.split import take_snapshot
from mf_core.data.validation import judges_by_late_rows, validation_part
from mf_core.errors import InputError, QualityError
from mf_core.training.search_rows import VALIDATION_FRACTION, VALIDATION_SEED
from mf_core.tune.space import Head, search_space
from mf_core.warehouse.engine import transaction


@dataclass(frozen=True)
class TrainingRows:
    """Training ratings alone: no test rating, and no id that occurs among test ratings only.

    Attributes:
        users: ids of the users, in row order.
        items: ids of the items, in row order.
        ratings: the ratings, sorted by (user, item).
        attributes: those of the rows of `users` and `items`; None if the settings do not use them.
    """

    users: IdMap
    items: IdMap
    ratings: Ratings
    attributes: Attributes | None = None


def training_rows(snapshot: Snapshot) -> TrainingRows:
    """Return the training side by itself."""
    warm_users, warm_items = snapshot.warm()

    # Without the others, a row's new number is the count of warm rows before it.
    user_row = np.cumsum(warm_users) - 1
    item_row = np.cumsum(warm_items) - 1
    train = snapshot.train
    ratings = Ratings(
        user=user_row[train.user].astype(np.int32),
        item=item_row[train.item].astype(np.int32),
        value=train.value,
        rated_at=train.rated_at,
    )

    known = snapshot.attributes
    attributes = None
    if known:
        attributes = Attributes(user=known.user[warm_users], item=known.item[warm_items])
    return TrainingRows(
        users=IdMap(snapshot.users.ids[warm_users]),
        items=IdMap(snapshot.items.ids[warm_items]),
        ratings=ratings,
        attributes=attributes,
    )


def read_warehouse(config: Config, engine: Engine) -> TrainingRows:
    """Return the training rows of `mf.ratings` as they stand now.

    Raises:
        QualityError: one side is empty.
        DatabaseError: Postgres broke off.
    """
    with_attributes = config.rating_head.uses_attributes()
    with transaction(engine, isolation_level="REPEATABLE READ") as connection:
        snapshot = take_snapshot(connection, config.split, with_attributes=with_attributes)
    return training_rows(snapshot)


def read_training_file(config: Config, uri: str) -> TrainingRows:
    """Return the rows of one file, without those that its side column calls test.

    Raises:
        InputError: the file is refused, or has no training row.
    """
    one_file = make_config({"source.uri": uri, "source.test_uri": ""}, config)
    files = read_files(one_file)
    if files.is_test.all():
        raise InputError(f"{uri} has no training row; name a file of training ratings.")

    train = files.ratings.take(~files.is_test)
    no_row = np.zeros(len(files.ratings), dtype=bool)
    snapshot = Snapshot(
        users=files.users,
        items=files.items,
        train=sort_ratings(train),
        test=files.ratings.take(no_row),
        attributes=files.attributes,
    )
    return training_rows(snapshot)


@dataclass(frozen=True)
class Task:
    """What every trial of a study has in common.

    Attributes:
        config: the settings that the trials' own are put over.
        head: rating or ranking.
        rows: the training rows.
        fitted: nine tenths of their ratings.
        validation: the other tenth.
        attributes: the rows' attributes as the rating head takes them; None if it takes none.
        left_alone: settings, by dotted name, that are not searched.
    """

    config: Config
    head: Head
    rows: TrainingRows
    fitted: Ratings
    validation: Ratings
    attributes: AttributeMatrices | None = None
    left_alone: frozenset[str] = frozenset()

    @property
    def metric(self) -> str:
        """Return the figure's name."""
        if self.head == "rating":
            return "RMSE"
        return f"NDCG@{self.config.gate.cutoff}"

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """Return what is searched, by the name of the setting."""
        by_time = judges_by_late_rows(self.config, self.rows.ratings)
        return search_space(self.config, self.head, self.left_alone, by_time=by_time)

    def fingerprint(self) -> str:
        """Return the sha256 (hex) over what the figures depend on, without what is searched."""
        rows = Snapshot(
            users=self.rows.users,
            items=self.rows.items,
            train=self.fitted,
            test=self.validation,
            attributes=self.rows.attributes,
        )
        parts = [content_hash(rows), self._fixed_settings(), self.head]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _fixed_settings(self) -> dict[str, Any]:
        """Return the settings that shape the figures and are not searched."""
        shaping = ("data.", f"{self.head}_head.")
        searched = self.space
        fixed: dict[str, Any] = {}
        for setting in settings(self.config):
            name = setting.name
            if name.startswith(shaping) and name not in searched:
                fixed[name] = setting.default
        fixed["seed"] = self.config.train.seed
        fixed["cutoff"] = self.config.gate.cutoff
        return fixed

    def default_study(self) -> str:
        """Return the name of the study of these very rows and settings."""
        subject: str = self.head
        if self.head == "rating":
            subject = f"rating-{self.config.rating_head.solver}"
        return f"{subject}-{self.fingerprint()[:8]}"


def make_task(
    config: Config,
    head: Head,
    rows: TrainingRows,
    part: int = 0,
    left_alone: frozenset[str] = frozenset(),
) -> Task:
    """Set a validation part aside.

    Every number `part` gives another one, with fits that are seeded with `train.seed` + `part`.
    Under a split by time the part is the latest rows whatever its number.

    Raises:
        QualityError: there are too few ratings for that, or they are to fade and none has a time.
        ConfigError: the solver has nothing to tune.
    """
    # Raises, before the work begins, if the solver has nothing to tune.
    search_space(config, head, left_alone)

    require_times(config, rows.ratings)
    fitted, validation = _set_aside(config, rows, part)
    if not (_can_be_judged(config, head, fitted) and _can_be_judged(config, head, validation)):
        raise QualityError(
            f"{len(rows.ratings):,} training ratings are too few to set a validation part aside; "
            "load more."
        )

    attributes = None
    if rows.attributes and head == "rating":
        attributes, _ = encode_sides(rows.attributes)
    return Task(
        config=make_config({"train.seed": config.train.seed + part}, config),
        head=head,
        rows=rows,
        fitted=fitted,
        validation=validation,
        attributes=attributes,
        left_alone=left_alone,
    )


def _set_aside(config: Config, rows: TrainingRows, part: int) -> tuple[Ratings, Ratings]:
    """Return the ratings to fit and those to judge by."""
    held_out = validation_part(
        config,
        rows.ratings,
        rows.users,
        rows.items,
        fraction=VALIDATION_FRACTION,
        seed=VALIDATION_SEED + part,
    )
    fitted = rows.ratings.take(~held_out)
    validation = rows.ratings.take(held_out)
    return fitted, validation


def _can_be_judged(config: Config, head: Head, ratings: Ratings) -> bool:
    """Say whether there is a rating that counts: any at all, for lists a relevant one."""
    if head == "rating":
        return len(ratings) > 0
    return bool(is_relevant(config.data, ratings.value).any())
