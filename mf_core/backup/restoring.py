"""Bringing a backup back, into empty places."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine
from upath import UPath

from mf_core.backup import manifest as parts
from mf_core.backup.manifest import Manifest
from mf_core.backup.programs import Database, run_program
from mf_core.data.store import read, store_path, write
from mf_core.errors import ConfigError
from mf_core.warehouse import database_engine, lineage, revisions, transaction
from mf_core.warehouse.schema import catalogue_of, psycopg2_cursor, schema_of

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
    again: a schema of its own, the mark, stands beside the warehouse's until all is done, so what
    lies there is known to be a beginning, unless somebody has written there since. The mark also
    says into which database Airflow's metadata have come. They come as a whole or not at all, and
    artifacts that are there already, byte by byte the same, are left alone.

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
    metadata_are_back = metadata_url is not None and _metadata_are_back(engine, metadata_url)
    _make_room(engine)
    _begin(engine)

    n_files = _copy_artifacts(folder / parts.ARTIFACTS, artifact_root)
    log(f"restore: {n_files:,} files of artifacts are in {artifact_root}")
    _load(Database.of(engine), folder / parts.WAREHOUSE)
    if metadata_url:
        if not metadata_are_back:
            _load(Database.at(metadata_url), folder / parts.METADATA)
            _note_metadata(engine, metadata_url)
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


def _make_room(engine: Engine) -> None:
    """Take away the schemas of a warehouse that holds nothing, or the beginning of a restore.

    Raises:
        ConfigError: it holds something else.
    """
    catalogue = catalogue_of(engine)
    schemas = (catalogue.schema, catalogue.tune_schema)
    with transaction(engine) as connection:
        inspector = sa.inspect(connection)
        tables = [
            sa.table(name, schema=schema)
            for schema in schemas
            for name in inspector.get_table_names(schema)
            if name not in _FILLED_BY_MIGRATIONS
        ]
        if inspector.has_schema(_mark(engine)):
            _require_one_writer(connection, tables)
        else:
            _require_no_rows(connection, tables)
        for schema in schemas:
            connection.execute(sa.schema.DropSchema(schema, cascade=True, if_exists=True))


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


def _require_no_rows(connection: Connection, tables: Iterable[sa.TableClause]) -> None:
    for table in tables:
        rows = sa.select(sa.literal(1)).select_from(table).limit(1)
        if table.name == "live":
            # A migration puts one there, without a version.
            rows = rows.where(sa.column("model_version").is_not(None))
        if connection.scalar(rows):
            raise ConfigError(
                f"expected an empty warehouse to restore into, but {table.fullname} has rows. "
                f"{_advice(connection)}"
            )


def _require_one_writer(connection: Connection, tables: Iterable[sa.TableClause]) -> None:
    """Make sure that nobody has written since an earlier restore was killed.

    What that one has loaded came in one transaction, whose number each row bears (`xmin`). So rows
    of a second one are of a night, or of a person, that has gone on without the restore.

    Raises:
        ConfigError: somebody has.
    """
    # The type of that number can't be counted.
    writer = sa.cast(sa.literal_column("xmin"), sa.Text)
    writers: set[str] = set()
    for table in tables:
        writers.update(connection.scalars(sa.select(writer).select_from(table).distinct()))
        if len(writers) > 1:
            raise ConfigError(
                "an earlier restore into this warehouse was never finished, and somebody has "
                f"worked in it since, as {table.fullname} shows. Nothing was changed. "
                f"{_advice(connection)}"
            )


def _advice(connection: Connection) -> str:
    command = catalogue_of(connection).command("db bootstrap --database NAME")
    return f"Make a new database with `{command}`."


def _metadata_are_back(engine: Engine, metadata_url: str) -> bool:
    """Say whether an earlier restore, which was killed later on, has loaded Airflow's metadata.

    Raises:
        ConfigError: the database has tables that are not known to come from there.
    """
    with _database_of_metadata(metadata_url) as connection:
        if not sa.inspect(connection).get_table_names("public"):
            return False
        found = _identity(connection)
    with transaction(engine) as connection:
        noted = connection.scalar(
            sa.text(
                "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace "
                "WHERE nspname = :mark"
            ),
            {"mark": _mark(engine)},
        )
    if noted != found:
        raise ConfigError(
            "expected an empty database for Airflow's metadata, but it has tables. "
            "Make a new one, and run no `airflow db migrate` there before the restore."
        )
    return True


def _note_metadata(engine: Engine, metadata_url: str) -> None:
    """Let the mark say into which database Airflow's metadata have come.

    Only now that they are there: tables of others may come to stand in their place until then.
    """
    with _database_of_metadata(metadata_url) as connection:
        identity = _identity(connection)
    statement = pg.SQL("COMMENT ON SCHEMA {} IS {}").format(
        pg.Identifier(_mark(engine)), pg.Literal(identity)
    )
    with transaction(engine) as connection:
        psycopg2_cursor(connection).execute(statement)


def _identity(connection: Connection) -> str:
    """Return what no other database is called, not even one that was made anew by that name."""
    identity = connection.scalar(
        sa.text(
            "SELECT format('metadata in %s, %s', system_identifier, oid) "
            "FROM pg_control_system(), pg_database WHERE datname = current_database()"
        )
    )
    return str(identity)


@contextmanager
def _database_of_metadata(metadata_url: str) -> Iterator[Connection]:
    """Give a transaction on a database for Airflow's metadata."""
    engine = database_engine(Database.at(metadata_url).url.render_as_string(hide_password=False))
    try:
        with transaction(engine) as connection:
            yield connection
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
