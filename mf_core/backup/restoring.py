"""Bringing a backup back, into empty places."""

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from upath import UPath

from mf_core.backup import manifest as parts
from mf_core.backup.manifest import Manifest
from mf_core.backup.programs import Database, run_program
from mf_core.data.store import read, store_path, write
from mf_core.errors import ConfigError
from mf_core.warehouse import lineage, revisions, transaction
from mf_core.warehouse.schema import catalogue_of, schema_of

_FILLED_BY_MIGRATIONS = ("alembic_version",)
_COUNT_TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


def restore(
    engine: Engine,
    artifact_root: str,
    folder: Path,
    metadata_url: str | None,
    log: Callable[[str], None],
) -> Manifest:
    """Bring a backup back: the artifacts, then the warehouse, then Airflow's metadata.

    All of it goes into empty places: nothing is overwritten. Each database is restored as a whole
    or not at all; artifacts that are there already, byte by byte the same, are left alone. So a
    restore that was killed can be made again.

    Args:
        engine: the new warehouse, as its owner.
        artifact_root: URI where the artifacts go; rows of the warehouse that name them are changed.
        folder: the backup.
        metadata_url: URL of a new, empty metadata database; None: they are left out.
        log: called with what is done.

    Raises:
        ConfigError: the backup was never finished or has no metadata, or a place is not empty.
        ArtifactError: the backup is damaged.
        DatabaseError: a database can't be reached or restored.
        ArtifactStoreError: the store can't be written to.
    """
    manifest = parts.read(folder)
    parts.require_whole(folder, manifest)
    _refuse_what_does_not_fit(manifest, schema_of(engine), metadata_url)
    _empty_warehouse(engine)
    if metadata_url:
        _require_empty_metadata(metadata_url)

    n_files = _copy_artifacts(folder / parts.ARTIFACTS, artifact_root)
    log(f"restore: {n_files:,} files of artifacts are in {artifact_root}")
    _load(Database.of(engine), folder / parts.WAREHOUSE)
    with transaction(engine) as connection:
        lineage.move_artifacts(connection, manifest.artifact_root, artifact_root)
    log(f"restore: the warehouse is as it was at {manifest.made_at}")
    if metadata_url:
        _load(Database.at(metadata_url), folder / parts.METADATA)
        log("restore: Airflow's metadata are back")
    return manifest


def _refuse_what_does_not_fit(manifest: Manifest, schema: str, metadata_url: str | None) -> None:
    if manifest.schema != schema:
        raise ConfigError(
            f"the backup is of the schema {manifest.schema}, expected {schema}: "
            "restore it as the catalogue that it was taken of."
        )
    if manifest.revision not in revisions.known():
        raise ConfigError(
            f"the backup is at revision {manifest.revision}; this code is older and knows "
            f"revisions up to {revisions.known()[0]}. Restore it with the release that made it."
        )
    if metadata_url and not manifest.has_metadata:
        raise ConfigError("the backup has no metadata of Airflow; leave --metadata-url out.")


def _empty_warehouse(engine: Engine) -> None:
    """Take away the schemas of a warehouse that holds nothing. Raises ConfigError if it does."""
    catalogue = catalogue_of(engine)
    schemas = (catalogue.schema, catalogue.tune_schema)
    with transaction(engine) as connection:
        for schema in schemas:
            for name in sa.inspect(connection).get_table_names(schema):
                _require_no_rows(connection, sa.table(name, schema=schema))
        for schema in schemas:
            connection.execute(sa.schema.DropSchema(schema, cascade=True, if_exists=True))


def _require_no_rows(connection: Connection, table: sa.TableClause) -> None:
    rows = sa.select(sa.literal(1)).select_from(table).limit(1)
    if table.name == "live":
        # A migration puts one there, without a version.
        rows = rows.where(sa.column("model_version").is_not(None))
    if table.name not in _FILLED_BY_MIGRATIONS and connection.scalar(rows):
        raise ConfigError(
            f"expected an empty warehouse to restore into, but {table.fullname} has rows. "
            "Make a new database with `mf db bootstrap --database NAME`."
        )


def _require_empty_metadata(url: str) -> None:
    database = Database.at(url)
    engine = sa.create_engine(database.url.set(drivername="postgresql+psycopg2"))
    try:
        with transaction(engine) as connection:
            n_tables = connection.scalar(sa.text(_COUNT_TABLES))
    finally:
        engine.dispose()
    if n_tables:
        raise ConfigError(
            f"expected an empty database for Airflow's metadata, but it has {n_tables} tables. "
            "Make a new one, and run no `airflow db migrate` there before the restore."
        )


def _copy_artifacts(source: Path, artifact_root: str) -> int:
    """Copy the artifacts into the store; return how many files they are."""
    n_files = 0
    for file in parts.files_of(source):
        _copy_file(file, store_path(artifact_root) / file.relative_to(source).as_posix())
        n_files += 1
    return n_files


def _copy_file(file: Path, target: UPath) -> None:
    """Copy one file into the store, unless the same stands there, of an earlier restore.

    Raises:
        ConfigError: something else stands there.
    """
    data = file.read_bytes()
    present = read(target)
    if present not in (None, data):
        raise ConfigError(
            f"expected an empty store to restore into, but {target} is there and differs. "
            "Set MF_ARTIFACT_ROOT to a place of its own."
        )
    if present is None:
        write(target, data)


def _load(database: Database, file: Path) -> None:
    options = ["--no-owner", "--exit-on-error", "--single-transaction"]
    run_program("pg_restore", database, [*options, str(file)])
