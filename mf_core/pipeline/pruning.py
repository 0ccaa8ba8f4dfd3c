"""What nothing needs any more goes: artifacts in the store, and rows that only tell of the past.

Kept is what a version needs that readers see or that a rollback may let them see, what later nights
are compared with, and what a run may go on with. All else goes when its time is over.

Nights run side by side, and a run may be started over at any moment. So each thing is looked at
again under the lock of its row, which whoever takes it up has to wait for, and is removed while the
lock is held. A process that is killed on the way leaves the rest to the next one.

What lies in the store and is not on record here stays: it may be another warehouse's.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sqlalchemy.engine import Connection

from mf_core.config import Config
from mf_core.data.artifacts import remove_artifact
from mf_core.data.store import exists, names_in, size_of, store_path
from mf_core.extras import TUNE
from mf_core.intake.rejects import forget_rejected
from mf_core.pipeline.place import Workplace
from mf_core.publishing.publish import attached_versions
from mf_core.training.manifest import stored_versions
from mf_core.warehouse import lineage, retention, runs, transaction, versions
from mf_core.warehouse.retention import Terms

_REFIT = "refit"
_MIB = 1 << 20
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Removed:
    """What was removed, or would be.

    Attributes:
        what: in words.
        bytes: what it took in the artifact store; None for what lies in the warehouse.
        rows: how many rows; None for artifacts and studies.
    """

    what: str
    bytes: int | None = None
    rows: int | None = None

    def sentence(self) -> str:
        """Return it in one line."""
        return self.what if self.bytes is None else f"{self.what} ({self.bytes / _MIB:,.2f} MiB)"


def prune(config: Config, place: Workplace, *, dry_run: bool = False) -> list[Removed]:
    """Remove what nothing needs any more; return what that was.

    How long things are kept is said by `publish.keep_versions`, `keep_weeks`, `keep_days` and
    `keep_history_days`, and by `gate.recent_days`.

    Args:
        config: the settings.
        place: the warehouse and the artifact store.
        dry_run: remove nothing, and return what would be.

    Raises:
        ArtifactStoreError: the store did not answer, or refuses.
        DatabaseError: Postgres did not answer.
    """
    return _Pruning(config, place, dry_run).all()


class _Pruning:
    """One round through all that may go."""

    def __init__(self, config: Config, place: Workplace, dry_run: bool) -> None:
        self._place = place
        self._dry_run = dry_run
        self._terms = Terms(config.gate.recent_days, config.publish.keep_days)
        self._left = timedelta(days=config.publish.keep_days)
        self._history = timedelta(days=config.publish.keep_history_days)
        self._removed: list[Removed] = []

    def all(self) -> list[Removed]:
        """Go through all of it, and return what has gone."""
        gone = self._versions()
        self._refits(besides=gone)
        self._snapshots()
        self._rows(forget_rejected, "rejected rows of batches", self._left)
        self._rows(runs.forget, "records of runs", self._history)
        self._studies()
        return self._removed

    def _versions(self) -> set[int]:
        """Remove the models and checkpoints of versions that are over; return which those were."""
        stored = stored_versions(self._place.artifact_root)
        gone = set()

        def over(connection: Connection) -> list[int]:
            """Return the versions of whose artifacts nothing is needed."""
            kept = attached_versions(connection)
            return retention.forgettable(connection, kept, self._terms, stored=stored)

        for version in self._asked(over):
            with transaction(self._place.engine) as connection:
                free = versions.lock(connection, version, skip_locked=True)
                if free and version in over(connection):
                    self._artifacts(f"models of version {version}", stored.get(version, ()))
                    # The record goes last: what is on record and was not removed goes next time.
                    self._forget(connection, version, lineage.STAGES)
                    gone.add(version)
        return gone

    def _refits(self, *, besides: Collection[int]) -> None:
        """Remove the refits of versions whose lists are gone; nights are compared with the rest.

        `besides` are versions of which all is gone: a dry run finds them on record still.
        """

        def without_lists(connection: Connection) -> list[int]:
            """Return the versions that have a refit and no lists any more."""
            kept = attached_versions(connection)
            return retention.with_useless_refit(connection, kept)

        for version in self._asked(without_lists):
            if version in besides:
                continue
            with transaction(self._place.engine) as connection:
                free = versions.lock(connection, version, skip_locked=True)
                if free and version in without_lists(connection):
                    refit = f"{self._place.artifact_root}/models/{version}/{_REFIT}"
                    # One who was killed may have removed it, and left it on record.
                    left = [refit] if exists(store_path(refit)) else []
                    self._artifacts(f"refit of version {version}", left)
                    self._forget(connection, version, [_REFIT])

    def _snapshots(self) -> None:
        """Remove the snapshots that no version needs."""
        folder = f"{self._place.artifact_root}/snapshots"
        stored = names_in(store_path(folder))

        def unused(connection: Connection) -> list[str]:
            """Return the snapshots that no version needs."""
            kept = attached_versions(connection)
            return retention.unused_snapshots(connection, kept, self._terms, stored=stored)

        for snapshot in self._asked(unused):
            with transaction(self._place.engine) as connection:
                free = lineage.lock_snapshot(connection, snapshot)
                if free and snapshot in unused(connection):
                    self._artifacts(f"snapshot {snapshot}", [f"{folder}/{snapshot}"])

    def _rows(
        self, forget: Callable[[Connection, timedelta], int], what: str, older_than: timedelta
    ) -> None:
        """Remove old rows; a dry run takes that back."""
        with transaction(self._place.engine) as connection:
            savepoint = connection.begin_nested()
            n_rows = forget(connection, older_than)
            if self._dry_run:
                savepoint.rollback()
            else:
                savepoint.commit()
        if n_rows:
            self._say(Removed(f"{n_rows:,} {what} older than {older_than.days} days", rows=n_rows))

    def _studies(self) -> None:
        """Remove old studies, where the package is installed that makes them."""
        if not TUNE.is_installed():
            return
        from mf_core import tune

        for name in tune.forget(self._place.engine, self._history, dry_run=self._dry_run):
            self._say(Removed(f"study {name} of `mf tune`"))

    def _asked(self, question: Callable[[Connection], list[_Found]]) -> list[_Found]:
        with transaction(self._place.engine) as connection:
            return question(connection)

    def _artifacts(self, what: str, uris: Sequence[str]) -> None:
        size = sum(size_of(store_path(uri)) for uri in uris)
        if not self._dry_run:
            for uri in uris:
                remove_artifact(uri)
        if uris:
            self._say(Removed(what, bytes=size))

    def _forget(self, connection: Connection, version: int, stages: Sequence[str]) -> None:
        if not self._dry_run:
            lineage.forget_artifacts(connection, version, stages)

    def _say(self, removed: Removed) -> None:
        verb = "would remove" if self._dry_run else "removed"
        self._place.log(f"prune: {verb} {removed.sentence()}")
        self._removed.append(removed)
