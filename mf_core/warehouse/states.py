"""The state that a version is in: questions, and the refusal of what it does not allow.

`mf_core.warehouse.versions` says what the states are, and changes them.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.errors import ConfigError, StateError
from mf_core.warehouse import tables as t
from mf_core.warehouse.schema import catalogue_of
from mf_core.warehouse.tables import State

JUDGED: tuple[State, ...] = ("evaluated", "refused", "approved", "dry_run")
"""States of a version that has figures and was not published."""

NOT_PUBLISHED: tuple[State, ...] = ("created", "trained", *JUDGED)
"""States of a version that readers have never seen; `stopped` stands for one of them."""

UNFINISHED: tuple[State, ...] = ("created", "trained", "evaluated", "approved")
"""States in which a run is on its way."""

_WHAT_TO_DO: Mapping[str, str] = {
    "created": "Train it first (`{mf} train`).",
    "trained": "Evaluate it first (`{mf} evaluate`).",
    "evaluated": "Let the gate judge it first (`{mf} gate`).",
    "refused": "Read why in `{mf} status`; a person may let it pass (`{mf} override`).",
    "approved": "Write its lists (`{mf} recommend`) and publish it (`{mf} publish`).",
    "dry_run": "Let the gate judge it again without run.dry_run (`{mf} gate`).",
    "published": "A published version stays: start a new run, or go back (`{mf} rollback`).",
    "retired": "Its lists are gone: start a new run.",
    "stopped": "Start its run again (`{mf} run --key`), or start a new one.",
}


def require(
    connection: Connection, model_version: int, states: Sequence[State], purpose: str
) -> None:
    """Make sure that a version is in one of `states`, before a step works on it.

    Raises:
        StateError: it is in another state. `purpose` ends the sentence "it can't ...".
        ConfigError: there is no such version.
    """
    if not is_in(connection, model_version, states):
        refuse(connection, model_version, purpose, states)


def is_in(connection: Connection, model_version: int, states: Sequence[State]) -> bool:
    """Say whether a version is in one of `states`, or was when its run was stopped."""
    found = sa.exists().where(t.models.c.model_version == model_version, standing().in_(states))
    return connection.scalar(sa.select(found)) is True


def standing() -> sa.ColumnElement[str]:
    """Return the state that a version counts as being in."""
    m = t.models
    reached = sa.func.coalesce(m.c.stopped_in, m.c.state)
    return sa.case((m.c.retired_at.is_not(None), "retired"), else_=reached)


def refuse(
    connection: Connection, model_version: int, purpose: str, states: Sequence[State]
) -> NoReturn:
    """Raise the StateError that names the state of a version and says what to do.

    Raises:
        StateError: always, unless there is no such version.
        ConfigError: there is none.
    """
    state = state_of(connection, model_version)
    m = t.models
    marked = sa.select(m.c.retired_at).where(m.c.model_version == model_version)
    is_marked = connection.scalar(marked) is not None
    counts_as = "retired" if is_marked else state
    advice = _WHAT_TO_DO[counts_as].format(mf=catalogue_of(connection).command("").strip())
    raise StateError(
        f"model version {model_version} is {counts_as}, so it can't {purpose}; "
        f"that takes one that is {' or '.join(states)}. {advice}"
    )


def state_of(connection: Connection, model_version: int) -> State:
    """Return the state of a version. Raises ConfigError if there is none of that number."""
    m = t.models
    statement = sa.select(m.c.state).where(m.c.model_version == model_version)
    state: State | None = connection.scalar(statement)
    if state is None:
        command = catalogue_of(connection).command("history")
        raise ConfigError(f"there is no model version {model_version}; `{command}` lists them.")
    return state


def latest_version(connection: Connection, states: Sequence[State]) -> int:
    """Return the newest version that is in one of `states`.

    Raises:
        ConfigError: there is none.
    """
    newest = sa.func.max(t.models.c.model_version)
    version = connection.scalar(sa.select(newest).where(standing().in_(states)))
    if version is None:
        command = catalogue_of(connection).command("history")
        raise ConfigError(
            f"no model version is {' or '.join(states)}; "
            f"run the step before this one first (`{command}`)."
        )
    return int(version)
