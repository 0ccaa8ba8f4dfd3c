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
from mf_core.warehouse import database_engine, lineage, revisions, transaction
from mf_core.warehouse.schema import catalogue_of, schema_of

_FILLED_BY_MIGRATIONS = ("alembic_version",)


def restore(
    engine: Engine,
    artifact_root: str,
    folder: Path,
    metadata_url: str | None,
    log: Callable[[str], None],
) -> Manifest:
    """Bring a backup back: the artifacts, then the warehouse, then Airflow's metadata.

    All of it goes into empty places: nothing is overwritten. A restore that was killed can be made
    again: a schema of its own stands beside the warehouse's until all is done, so what lies there
    is known to be a beginning. Airflow's metadata come as a whole or not at all, and artifacts that
    are there already, byte by byte the same, are left alone.

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
    goes_on = _make_room(engine)
    metadata_are_back = _has_tables(metadata_url) if metadata_url else False
    if metadata_are_back and not goes_on:
        raise ConfigError(
            "expected an empty database for Airflow's metadata, but it has tables. "
            "Make a new one, and run no `airflow db migrate` there before the restore."
        )
    _begin(engine)

    n_files = _copy_artifacts(folder / parts.ARTIFACTS, artifact_root)
    log(f"restore: {n_files:,} files of artifacts are in {artifact_root}")
    _load(Database.of(engine), folder / parts.WAREHOUSE)
    if metadata_url:
        if not metadata_are_back:
            _load(Database.at(metadata_url), folder / parts.METADATA)
        log("restore: Airflow's metadata are back")
    _finish(engine, manifest.artifact_root, artifact_root)
    log(f"restore: the warehouse is as it was at {manifest.made_at}")
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


def _make_room(engine: Engine) -> bool:
    """Take away the schemas of a warehouse that holds nothing, or the beginning of a restore.

    Returns whether there was such a beginning.

    Raises:
        ConfigError: it holds something.
    """
    catalogue = catalogue_of(engine)
    schemas = (catalogue.schema, catalogue.tune_schema)
    with transaction(engine) as connection:
        inspector = sa.inspect(connection)
        goes_on = inspector.has_schema(_mark(engine))
        for schema in () if goes_on else schemas:
            for name in inspector.get_table_names(schema):
                _require_no_rows(connection, sa.table(name, schema=schema))
        for schema in schemas:
            connection.execute(sa.schema.DropSchema(schema, cascade=True, if_exists=True))
    return goes_on


def _mark(engine: Engine) -> str:
    """Return the schema that says that a restore is under way; no catalogue can be called so."""
    return f"{schema_of(engine)} is being restored"


def _begin(engine: Engine) -> None:
    with transaction(engine) as connection:
        if not sa.inspect(connection).has_schema(_mark(engine)):
            connection.execute(sa.schema.CreateSchema(_mark(engine)))


def _finish(engine: Engine, root_before: str, root: str) -> None:
    """Let the rows name the artifacts where they lie now; with that the restore is done."""
    with transaction(engine) as connection:
        lineage.move_artifacts(connection, root_before, root)
        connection.execute(sa.schema.DropSchema(_mark(engine)))


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


def _has_tables(metadata_url: str) -> bool:
    """Say whether a database for Airflow's metadata holds some already."""
    engine = database_engine(Database.at(metadata_url).url.render_as_string(hide_password=False))
    try:
        with transaction(engine) as connection:
            return bool(sa.inspect(connection).get_table_names("public"))
    finally:
        engine.dispose()


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
