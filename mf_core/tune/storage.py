"""Optuna's storage in the warehouse, in the schema of the catalogue's studies."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import optuna
import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine

from mf_core.errors import ConfigError, DatabaseError, TrainingError
from mf_core.tune.trials import put_in_line_again
from mf_core.warehouse.address import VARIABLE
from mf_core.warehouse.engine import LOCK_TIMEOUT, lock_schema, transaction, translated_errors
from mf_core.warehouse.schema import catalogue_of

# A trial counts as killed after so many heartbeats that did not come.
_GRACE = 4


@contextmanager
def stored_studies(
    engine: Engine, heartbeat_seconds: int | None = None
) -> Iterator[optuna.storages.RDBStorage]:
    """Give Optuna's storage in the warehouse; no connection is left open after the block.

    Raises:
        ConfigError: the schema is missing.
        DatabaseError: Postgres broke off.
        TrainingError: another process took this one for killed.
    """
    with _session(engine):
        storage = _storage(engine, heartbeat_seconds)
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _storage(engine: Engine, heartbeat_seconds: int | None) -> optuna.storages.RDBStorage:
    """Return the storage, its tables made where they are missing."""
    with transaction(engine) as connection:
        schema = catalogue_of(connection).tune_schema
        if not connection.scalar(sa.select(sa.func.to_regnamespace(schema))):
            raise ConfigError(
                f"the warehouse has no schema {schema}; bring it up to date with "
                f"`{catalogue_of(connection).command('db migrate')}`."
            )
        # Two processes that make the tables at once would get in each other's way.
        lock_studies(connection)
        with warnings.catch_warnings():
            # Optuna has called heartbeats experimental since 2021.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                # Where to is known to the pool.
                "postgresql+psycopg2://",
                engine_kwargs={"pool": _pool(engine)},
                heartbeat_interval=heartbeat_seconds,
                grace_period=heartbeat_seconds and _GRACE * heartbeat_seconds,
                heartbeat_stale_trial_callback=put_in_line_again,
            )


def _pool(engine: Engine) -> sa.Pool:
    """Return connections whose every transaction works in the schema of the studies.

    Optuna names no schema, and takes a connection anew for each transaction. A pooler refuses
    settings at the start of a connection, and hands on those of a session: so these begin the
    transaction, and end with it.
    """
    schema = catalogue_of(engine).tune_schema
    milliseconds = round(LOCK_TIMEOUT / timedelta(milliseconds=1))
    settings = pg.SQL("SET LOCAL search_path = {}; SET LOCAL lock_timeout = {}").format(
        pg.Identifier(schema), pg.Literal(milliseconds)
    )
    pool = engine.pool.recreate()

    @sa.event.listens_for(pool, "checkout")
    def _begin(connection: Any, _record: Any, _proxy: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(settings)

    return pool


def lock_studies(connection: Connection) -> None:
    """Wait until no other process makes tables or begins a study, to the transaction's end."""
    lock_schema(connection, catalogue_of(connection).tune_schema)


@contextmanager
def _session(engine: Engine) -> Iterator[None]:
    """Keep Optuna's own log lines back, and turn its errors into ours.

    Raises:
        DatabaseError: Postgres broke off.
        TrainingError: another process took this one for killed.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with translated_errors(engine):
            yield
    except optuna.exceptions.StorageInternalError as error:
        variable = catalogue_of(engine).variable(VARIABLE)
        raise DatabaseError(
            f"Postgres broke off in a study: {error.__cause__ or error}. Check {variable}."
        ) from error
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise TrainingError(
            "this process gave no sign of life for so long that another one took its trial for "
            "killed. Start it again: the study goes on."
        ) from error
    finally:
        optuna.logging.set_verbosity(before)


def forget(engine: Engine, older_than: timedelta, *, dry_run: bool = False) -> list[str]:
    """Drop the studies whose last trial began or ended longer ago; return their names.

    `dry_run`: drop none.

    Raises:
        DatabaseError: Postgres did not answer.
    """
    with transaction(engine) as connection:
        schema = catalogue_of(connection).tune_schema
        # Nobody has begun one, and none is begun by looking.
        if connection.scalar(sa.select(sa.func.to_regclass(f"{schema}.studies"))) is None:
            return []
    with stored_studies(engine) as storage:
        # Optuna knows times of this machine without a zone.
        newest = datetime.now() - older_than
        old = []
        for name in optuna.get_all_study_names(storage):
            last = _last_change(storage, name)
            if last is not None and last < newest:
                old.append(name)
        for name in () if dry_run else old:
            optuna.delete_study(study_name=name, storage=storage)
    return old


def _last_change(storage: optuna.storages.RDBStorage, name: str) -> datetime | None:
    """Return when a trial of a study last began or ended; None for a study without trials."""
    trials = storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
    times = [trial.datetime_complete or trial.datetime_start for trial in trials]
    return max((moment for moment in times if moment), default=None)
