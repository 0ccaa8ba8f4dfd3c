"""Old versions leave without anybody noticing: marked first, dropped afterwards.

    mark     one short transaction under the lock of `mf.live`: what is neither live, kept nor
             readable by an open transaction is marked as retired; from its commit on no rollback
             and no publication takes such a version
    detach   without a lock that readers wait for
    drop     its table and its rows of the other lists, in one transaction

A process that dies leaves a version marked, and the next retirement goes on with it. Whatever can't
be done now (a reader's transaction is in the way, Postgres is restarted) is left for that as well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from mf_core.config import PublishConfig
from mf_core.errors import MFError
from mf_core.publishing.publish import (
    attached_versions,
    detaching_tables,
    drop_lists,
    run,
    table_name,
    versions_with_lists,
)
from mf_core.warehouse import history, retention, versions
from mf_core.warehouse.engine import cancelled_after, transaction
from mf_core.warehouse.problems import first_line
from mf_core.warehouse.schema import schema_of

Log = Callable[[str], None]

_LOCK_TIMEOUT = timedelta(seconds=5)


def retire(engine: Engine, keep: PublishConfig, log: Log) -> list[int]:
    """Drop the lists of old versions, and those that dead runs left; return the versions.

    What can't be dropped now is left for the next time, with a line in the log.

    Args:
        engine: the warehouse.
        keep: how many versions are kept, and for how many weeks one of each.
        log: takes a line for people.

    Raises:
        DatabaseError: Postgres did not answer when the versions were to be marked.
    """
    _finish_detachment(engine, log)
    with transaction(engine, lock_timeout=_LOCK_TIMEOUT) as connection:
        dead = _mark(connection, keep, log)
    with transaction(engine) as connection:
        gone = retention.marked(connection) & versions_with_lists(connection)

    dropped = [version for version in sorted(gone) if _detach_and_drop(engine, version, log)]
    for version in dead:
        _drop_dead(engine, version, log)
    return dropped


def _mark(connection: Connection, keep: PublishConfig, log: Log) -> list[int]:
    """Mark the versions that may go; return those of dead runs that nobody can have read."""
    versions.lock_live(connection)
    attached = attached_versions(connection)
    kept = retention.kept(connection, attached, keep.keep_versions, keep.keep_weeks)
    with_lists = versions_with_lists(connection)

    dead = []
    for version in retention.retirable(connection, with_lists, kept, retention.LEFTOVER_AFTER):
        promoted = history.was_promoted(connection, version)
        if not promoted and version not in attached:
            # It may still be made again (`prepare`), so it is not marked.
            dead.append(version)
        elif promoted and retention.may_be_read(connection, version):
            log(f"version {version} is kept for now: an open transaction may still read it")
        else:
            versions.retire(connection, version)
    versions.stop_dead_runs(connection, retention.LEFTOVER_AFTER)
    return dead


@contextmanager
def _left_for_later(what: str, log: Log) -> Iterator[None]:
    """Put into the log what could not be done now."""
    try:
        yield
    except (MFError, DBAPIError) as error:
        log(f"{what} for now, the next publication tries again: {first_line(error)}")


def _finish_detachment(engine: Engine, log: Log) -> None:
    """Finish a detachment that was cut off: as long as one is pending, no other can begin."""
    with transaction(engine) as connection:
        pending = detaching_tables(connection)
    for name in pending:
        with (
            _left_for_later(f"the table {schema_of(engine)}.{name} stays half detached", log),
            transaction(engine, lock_timeout=_LOCK_TIMEOUT) as connection,
        ):
            _detach(connection, name, "FINALIZE")


def _detach_and_drop(engine: Engine, version: int, log: Log) -> bool:
    """Drop the lists of a marked version; return whether they are gone."""
    dropped = False
    with _left_for_later(f"version {version} is kept", log):
        with transaction(engine, isolation_level="AUTOCOMMIT") as connection:
            if version in attached_versions(connection):
                with cancelled_after(connection, _LOCK_TIMEOUT):
                    _detach(connection, table_name(version), "CONCURRENTLY")
        with transaction(engine, lock_timeout=_LOCK_TIMEOUT) as connection:
            # Half detached: to drop it would take a lock that readers wait for.
            half_detached = table_name(version) in detaching_tables(connection)
            if not half_detached:
                drop_lists(connection, version)
        dropped = not half_detached
    return dropped


def _drop_dead(engine: Engine, version: int, log: Log) -> None:
    """Drop the lists of a dead run that were never attached, unless somebody works on them."""
    with (
        _left_for_later(f"the table of version {version}, whose run died, stays", log),
        transaction(engine, lock_timeout=_LOCK_TIMEOUT) as connection,
    ):
        unused = versions.lock(connection, version, skip_locked=True)
        # Its run may have been started over meanwhile.
        still_dead = retention.retirable(connection, [version], (), retention.LEFTOVER_AFTER)
        if unused and still_dead and version not in attached_versions(connection):
            drop_lists(connection, version)


def _detach(connection: Connection, name: str, how: str) -> None:
    statement = "ALTER TABLE {mf}.recommendation_rows DETACH PARTITION {mf}.{} " + how
    run(connection, statement, pg.Identifier(name))
