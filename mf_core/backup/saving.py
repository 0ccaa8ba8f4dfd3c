"""Taking a backup."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mf_core.backup import manifest as parts
from mf_core.backup.manifest import Manifest
from mf_core.backup.programs import Database, run_program
from mf_core.data.artifacts import check_artifact
from mf_core.data.store import files_below, read, store_path, write
from mf_core.errors import ArtifactError, ConfigError, DatabaseError
from mf_core.provenance import code_version
from mf_core.warehouse import lineage, revisions, transaction
from mf_core.warehouse.lineage import StoredArtifact
from mf_core.warehouse.schema import catalogue_of

# Checkpoints are left out: a training without one begins again.
_FOLDERS = ("snapshots", "models")
_SHOWN = 5


def save(
    engine: Engine,
    artifact_root: str,
    folder: Path,
    metadata_url: str | None,
    log: Callable[[str], None],
) -> Manifest:
    """Take a backup into `folder`, which is made; nights may run meanwhile.

    Args:
        engine: the warehouse, as its owner.
        artifact_root: URI of the artifacts.
        folder: where to; it holds ratings and passwords, so only its owner may enter.
        metadata_url: URL of Airflow's metadata database; None: they are left out.
        log: called with what is done.

    Raises:
        ConfigError: the folder is in use, or there is no `pg_dump` that suits the server.
        DatabaseError: a database can't be reached or saved.
        ArtifactStoreError: the store can't be read.
        ArtifactError: an artifact could not be copied whole, though it is whole in the store.
    """
    _make_folder(folder)
    if metadata_url:
        _dump(Database.at(metadata_url), folder / parts.METADATA, "--no-privileges")
        log("backup: Airflow's metadata are saved")

    copy = folder / parts.ARTIFACTS
    n_files = _copy_all(artifact_root, copy)
    log(f"backup: {n_files:,} files of artifacts are copied")

    saved = _save_warehouse(engine, folder / parts.WAREHOUSE)
    log("backup: the warehouse is saved")

    lost = _lost(artifact_root, copy, saved.named)
    if lost:
        shown = ", ".join(lost[:_SHOWN]) + (", ..." if len(lost) > _SHOWN else "")
        log(
            f"backup: note: {len(lost)} artifacts that the warehouse names are missing or damaged "
            f"in the store: {shown}"
        )
    return _finish(
        folder,
        Manifest(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            code_version=code_version(),
            schema=saved.schema,
            revision=saved.revision,
            artifact_root=artifact_root,
            has_metadata=bool(metadata_url),
            lost=lost,
            files=parts.checksums(folder),
        ),
    )


@dataclass(frozen=True)
class _SavedWarehouse:
    """What was dumped: schema, revision, and the artifacts that its rows name."""

    schema: str
    revision: str
    named: list[StoredArtifact]


def _save_warehouse(engine: Engine, file: Path) -> _SavedWarehouse:
    """Dump both schemas of the catalogue, as one transaction sees them."""
    with _snapshot(engine) as (connection, snapshot):
        catalogue = catalogue_of(connection)
        revision = revisions.present(connection)
        if revision is None:
            raise DatabaseError(f"{revisions.difference(connection)} There is nothing to save.")
        named = lineage.stored_artifacts(connection)
        _dump(
            Database.of(engine),
            file,
            f"--snapshot={snapshot}",
            f"--schema={catalogue.schema}",
            f"--schema={catalogue.tune_schema}",
        )
    return _SavedWarehouse(catalogue.schema, revision, named)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        in_use = any(folder.iterdir())
        if not in_use:
            folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"the folder {folder} can't be used: {error.strerror}.") from error
    if in_use:
        raise ConfigError(
            f"expected a new or an empty folder for the backup, but {folder} holds something. "
            f"Name another one; an earlier try without {parts.NAME} may be removed."
        )


def _dump(database: Database, file: Path, *options: str) -> None:
    """Save a database, or some of its schemas, in the form that `pg_restore` reads."""
    run_program("pg_dump", database, ["--format=custom", "--no-owner", f"--file={file}", *options])


@contextmanager
def _snapshot(engine: Engine) -> Iterator[tuple[Connection, str]]:
    """Give a transaction, and the name by which `pg_dump` sees what that one sees."""
    with transaction(engine, isolation_level="REPEATABLE READ") as connection:
        name = connection.scalar(sa.text("SELECT pg_export_snapshot()"))
        yield connection, str(name)


def _copy_all(artifact_root: str, copy: Path) -> int:
    """Copy all artifacts; return how many files those are."""
    return sum(_copy_folder(f"{artifact_root}/{folder}", copy / folder) for folder in _FOLDERS)


def _copy_folder(uri: str, target: Path) -> int:
    """Copy a folder of the store over what stands at `target`; return how many files those are."""
    source = store_path(uri)
    n_files = 0
    for name in files_below(source):
        # A publication beside this may be removing old versions; a writer knows its own files.
        data = None if "/." in f"/{name}" else read(source / name)
        if data is not None:
            write(store_path(str(target / name)), data)
            n_files += 1
    return n_files


def _lost(artifact_root: str, copy: Path, named: list[StoredArtifact]) -> tuple[str, ...]:
    """Make sure that the copy has each artifact that a row names; return those that nobody has.

    Raises:
        ArtifactError: one is whole in the store, and not in the copy.
    """
    lost = []
    for artifact in named:
        here = copy / artifact.uri.removeprefix(f"{artifact_root}/")
        is_below = artifact.uri.startswith(f"{artifact_root}/")
        if is_below and _is_whole(str(here), artifact.sha256):
            continue
        # It came in since, or was being written.
        if not _is_whole(artifact.uri, artifact.sha256):
            lost.append(artifact.uri)
            continue
        if not is_below:
            raise ArtifactError(
                f"the warehouse names {artifact.uri}, which does not lie under {artifact_root}. "
                "Set MF_ARTIFACT_ROOT to where the artifacts lie."
            )
        _copy_folder(artifact.uri, here)
        check_artifact(str(here), artifact.sha256)
    return tuple(lost)


def _is_whole(uri: str, sha256: str) -> bool:
    try:
        check_artifact(uri, sha256)
    except ArtifactError:
        return False
    return True


def _finish(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest, all of it or nothing."""
    unfinished = folder / f".{parts.NAME}"
    unfinished.write_text(manifest.to_json(), encoding="utf-8")
    unfinished.replace(folder / parts.NAME)
    return manifest
