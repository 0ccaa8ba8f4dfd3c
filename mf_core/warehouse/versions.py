"""The life of a model version: the only writer of `mf.models`, `mf.live` and `mf.promotions`.

A version goes from state to state by `move`, which knows which states may come before which. What
readers see is one row, `mf.live`; `promote` changes it and nothing else does.

    created -> trained -> evaluated -> approved -> published -> retired
                              |         ^   |
                              v         |   v
                           refused --override   refused (the refit strayed)

    dry_run   a dry run ends here instead of in approved
    stopped   a run ended before its version was published or refused; it can still go on

Whoever changes what readers see, or takes a version's lists away, first locks the row of `mf.live`
(`lock_live`) and looks again under that lock. A version whose lists are gone, or are about to go,
is marked by `retired_at`; nothing more comes of it, whatever its state.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from mf_core.config import Config, with_found
from mf_core.errors import PromotionRaceError
from mf_core.provenance import code_version, result_fingerprint
from mf_core.records import ModelRef
from mf_core.warehouse import tables as t
from mf_core.warehouse.history import hidden_fingerprint, is_of_run, was_promoted
from mf_core.warehouse.schema import catalogue_of
from mf_core.warehouse.states import (
    JUDGED,
    NOT_PUBLISHED,
    UNFINISHED,
    is_in,
    refuse,
    require,
    standing,
)
from mf_core.warehouse.tables import State

MAY_COME_BEFORE: Mapping[State, tuple[State, ...]] = {
    "created": NOT_PUBLISHED,
    "trained": NOT_PUBLISHED,
    "evaluated": ("trained", *JUDGED),
    "refused": JUDGED,
    "approved": JUDGED,
    "dry_run": JUDGED,
    "published": ("approved", "published"),
    "retired": ("published",),
    "stopped": UNFINISHED,
}


@dataclass(frozen=True)
class Approval:
    """Who let a version pass: the gate, or a person (`overridden_by`, `reason`) against it."""

    overridden_by: str | None = None
    reason: str | None = None


def move(connection: Connection, model_version: int, to: State, **values: Any) -> None:
    """Bring a version into the state `to`, and set other columns of its row.

    A stopped version counts as being in the state that it was stopped in: its run goes on.

    Raises:
        StateError: the version is in a state that may not come before `to`.
        ConfigError: there is no such version.
    """
    m = t.models
    stops = to == "stopped"
    counted = m.c.state if stops else standing()
    moved = connection.execute(
        sa.update(m)
        .where(m.c.model_version == model_version, counted.in_(MAY_COME_BEFORE[to]))
        .values(state=to, stopped_in=m.c.state if stops else None, **values)
    )
    if moved.rowcount == 0:
        refuse(connection, model_version, f"become {to}", MAY_COME_BEFORE[to])


@dataclass(frozen=True)
class Beginning:
    """What a version's training is meant to begin with; the training corrects it.

    Attributes:
        started_from: version whose evaluated model it starts from; None: a cold start.
        found_id: found settings that hold, or that a search begins at; None: there are none.
        searches: whether it searches for settings.
    """

    started_from: int | None = None
    found_id: int | None = None
    searches: bool = False


def begin(
    connection: Connection,
    config: Config,
    *,
    run_key: str,
    snapshot_id: str,
    split_id: str,
    taken_at: datetime,
    begins: Beginning,
    attached: Collection[int],
) -> int:
    """Return the model version of a run, made now if the run has none.

    A run that is started over before anything went live keeps its version. It gets a new one if the
    old one was published; or if its lists are attached already, and were made of other data,
    settings or code than tonight's: what was cut off between attaching and going live is never
    given other figures than those of its own lists.

    Args:
        connection: a transaction on the warehouse.
        config: the settings in force, which are stored with the version.
        run_key: name of the run.
        snapshot_id: the snapshot that it works on.
        split_id: that snapshot's split.
        taken_at: when the snapshot was taken; the checks of the lists look at the ratings before.
        begins: what its training begins with.
        attached: versions whose lists are attached.
    """
    values = {
        "snapshot_id": snapshot_id,
        "split_id": split_id,
        "warm_started_from": begins.started_from,
        "found_id": begins.found_id,
        "searches": begins.searches,
        "training_fingerprint": result_fingerprint(config),
        "hidden_fingerprint": hidden_fingerprint(connection),
        "config": config.for_record(),
        "code_version": code_version(),
        "top_n": config.recommend.top_n,
        "state": "created",
        "stopped_in": None,
        "created_at": taken_at,
    }
    m = t.models
    may_begin = sa.and_(
        m.c.state.in_((*MAY_COME_BEFORE["created"], "stopped")), m.c.retired_at.is_(None)
    )
    same_again = sa.and_(
        m.c.snapshot_id == snapshot_id,
        m.c.training_fingerprint == values["training_fingerprint"],
        m.c.warm_started_from.is_not_distinct_from(begins.started_from),
    )
    started_over = sa.and_(may_begin, sa.or_(m.c.model_version.not_in(attached), same_again))
    attempt = 1
    while True:
        key = run_key if attempt == 1 else f"{run_key}#{attempt}"
        version = _begin_as(connection, key, started_over, values)
        if version is not None:
            return version
        attempt += 1


def _begin_as(
    connection: Connection, key: str, started_over: sa.ColumnElement[bool], values: dict[str, Any]
) -> int | None:
    """Return the version of the run `key`, None if it has one that can't begin again."""
    m = t.models
    of_run = m.c.run_key == key
    # An insertion takes a number, also one that finds the key taken; so it comes second.
    again = sa.update(m).where(of_run, started_over).values(values)
    version = connection.scalar(again.returning(m.c.model_version))
    if version is None and not connection.scalar(sa.select(sa.exists().where(of_run))):
        # Another process may insert it at this moment.
        anew = insert(m).values(run_key=key, **values)
        anew = anew.on_conflict_do_update(
            index_elements=["run_key"], set_=values, where=started_over
        )
        version = connection.scalar(anew.returning(m.c.model_version))
    return None if version is None else int(version)


def stop_run(connection: Connection, run_key: str) -> int | None:
    """Mark the version of a run that has ended on the way; return it, None if there is none.

    A run that ended as it should (published, refused, a dry run) is left as it is.
    """
    number = t.models.c.model_version
    newest = sa.select(sa.func.max(number)).where(is_of_run(run_key)).scalar_subquery()
    statement = _stopped().where(number == newest)
    return connection.scalar(statement.returning(number))


def stop_dead_runs(connection: Connection, older_than: timedelta) -> None:
    """Mark the versions of runs that began, and were last judged, longer ago than `older_than`."""
    connection.execute(_stopped().where(is_dead(older_than)))


def is_dead(older_than: timedelta) -> sa.ColumnElement[bool]:
    """Return whether a run began, and was last judged, longer ago than `older_than`."""
    d = t.gate_decisions
    judged_since = sa.exists().where(
        d.c.model_version == t.models.c.model_version,
        d.c.decided_at >= sa.func.now() - older_than,
    )
    return sa.and_(began_before(older_than), ~judged_since)


def began_before(older_than: timedelta) -> sa.ColumnElement[bool]:
    """Return whether a run began longer ago than `older_than`."""
    return t.models.c.created_at < sa.func.now() - older_than


def _stopped() -> sa.Update:
    m = t.models
    on_the_way = m.c.state.in_(MAY_COME_BEFORE["stopped"])
    return sa.update(m).where(on_the_way).values(state="stopped", stopped_in=m.c.state)


def record_fit(connection: Connection, model: ModelRef) -> None:
    """Store what is known of a version's evaluated fit; a version without figures is trained now.

    Raises:
        StateError: the version was published.
    """
    require(connection, model.model_version, NOT_PUBLISHED, "be trained again")
    known = {
        "device": model.device,
        "fit_seconds": model.fit_seconds,
        "warm_started_from": model.warm_started_from,
    }
    m = t.models
    connection.execute(sa.update(m).where(m.c.model_version == model.model_version).values(**known))
    if not is_in(connection, model.model_version, JUDGED):
        move(connection, model.model_version, "trained")


def record_found(
    connection: Connection, model_version: int, found_id: int, settings: Mapping[str, Any]
) -> None:
    """Store which settings a version's search has found; they are in force from now on.

    Raises:
        ConfigError: they do not fit the settings of the run.
    """
    m = t.models
    of_version = m.c.model_version == model_version
    stored = connection.execute(sa.select(m.c.config).where(of_version)).scalar_one()
    config = with_found(Config.model_validate(stored), settings)
    values = {
        "found_id": found_id,
        "searches": False,
        "config": config.for_record(),
        "training_fingerprint": result_fingerprint(config),
    }
    connection.execute(sa.update(m).where(of_version).values(**values))


def lock_live(connection: Connection) -> int | None:
    """Return the live version, and let nobody else change it until the transaction ends.

    Readers do not wait for it, and have no right to take it.
    """
    return connection.scalar(sa.select(t.live.c.model_version).with_for_update())


def lock(connection: Connection, model_version: int, *, skip_locked: bool = False) -> bool:
    """Let no other transaction work on a version's lists until this one ends.

    Returns False, with `skip_locked`, if another one does.
    """
    m = t.models
    row = sa.select(m.c.model_version).where(m.c.model_version == model_version)
    # What refers to the row, such as a decision of the gate, may still be added.
    locked = row.with_for_update(key_share=True, skip_locked=skip_locked)
    return connection.scalar(locked) is not None


def promote(
    connection: Connection,
    model_version: int,
    champion_judged: int | None,
    *,
    by: str,
    approval: Approval | None,
) -> None:
    """Let readers see `model_version`, if the live version is still the one it was judged against.

    The only writer of `mf.live`: a compare-and-swap of its one row, under its lock.

    Args:
        connection: a transaction on the warehouse.
        model_version: the version to let readers see.
        champion_judged: the version that was live when it was judged; None: there was none.
        by: who does it.
        approval: who let it pass; None: this is a rollback to a version that was live before.

    Raises:
        PromotionRaceError: another version went live in between.
        StateError: the version was not approved.
    """
    live = lock_live(connection)
    first_time = sa.func.coalesce(t.models.c.published_at, sa.func.now())
    move(connection, model_version, "published", published_at=first_time)
    if live != champion_judged:
        catalogue = catalogue_of(connection)
        raise PromotionRaceError(
            f"model version {model_version} was judged against version {champion_judged}, but "
            f"version {live} is live now: another run promoted its own. "
            f"Judge again (`{catalogue.command('evaluate')}`, `{catalogue.command('gate')}`) and "
            "publish again."
        )
    connection.execute(sa.update(t.live).values(model_version=model_version))
    connection.execute(
        sa.insert(t.promotions).values(
            model_version=model_version,
            previous_version=champion_judged,
            action="rollback" if approval is None else "publish",
            promoted_by=by,
            **_how(approval),
        )
    )


def _how(approval: Approval | None) -> dict[str, str | None]:
    if approval is None:
        return {"how": "rollback"}
    if approval.overridden_by is None:
        return {"how": "gate"}
    return {
        "how": "override",
        "overridden_by": approval.overridden_by,
        "reason": approval.reason,
    }


def retire(connection: Connection, model_version: int) -> None:
    """Mark a version: its lists are about to go, for good.

    One that was never live keeps its state, and nothing more comes of it.
    """
    now = sa.func.now()
    if was_promoted(connection, model_version):
        move(connection, model_version, "retired", retired_at=now)
        return
    m = t.models
    connection.execute(
        sa.update(m).where(m.c.model_version == model_version).values(retired_at=now)
    )
