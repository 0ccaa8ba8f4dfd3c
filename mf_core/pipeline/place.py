"""Where a run works, and for whom."""

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Engine

from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.sources.reach import Reach
from mf_core.training.launcher import ShowProgress
from mf_core.warehouse import (
    database_engine,
    warehouse_url,
)
from mf_core.warehouse.schema import catalogue_of

Log = Callable[[str], None]


@dataclass(frozen=True)
class Workplace:
    """Where a run works, and for whom.

    Attributes:
        engine: the warehouse.
        artifact_root: URI under which snapshots and models lie.
        log: where lines for people go.
        actor: who does it, as it is put on record.
        progress: called with how far a fit is; None: that is a line of the log as well.
        reach: what its sources may reach; None: anything, as they are the operator's.
    """

    engine: Engine
    artifact_root: str
    log: Log = print
    actor: str = "mf"
    progress: ShowProgress | None = None
    reach: Reach | None = None

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue whose lists it makes: that of the engine."""
        return catalogue_of(self.engine)


def workplace(
    database_url: str | None = None,
    artifact_root: str | None = None,
    log: Log = print,
    actor: str | None = None,
    *,
    progress: ShowProgress | None = None,
    reach: Reach | None = None,
    catalogue: Catalogue = DEFAULT,
) -> Workplace:
    """Return the workplace of the given places, or of MF_DATABASE_URL and MF_ARTIFACT_ROOT.

    Without an `actor` it is the user of the operating system. `artifact_root` is the one that all
    catalogues share: what a named catalogue makes lies in a folder of its own below it.

    Raises:
        ConfigError: no database is named, or it is not Postgres.
    """
    # Not percent-encoded: fsspec takes a path as it stands.
    here = f"file://{Path.cwd()}/var/artifacts"
    root = artifact_root or os.environ.get("MF_ARTIFACT_ROOT") or here
    url = database_url or warehouse_url(os.environ, catalogue=catalogue)
    return Workplace(
        engine=database_engine(url, catalogue=catalogue),
        artifact_root=catalogue.artifacts(root),
        log=log,
        actor=actor or operating_system_user(),
        progress=progress,
        reach=reach,
    )


def operating_system_user() -> str:
    """Return the name of the user who runs this process, or its number where it has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"
