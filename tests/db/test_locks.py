"""Nothing waits for a lock in silence or for ever, and no reader can hold the pipeline up."""

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.config import make_config
from mf_core.errors import ConfigError, DatabaseError
from mf_core.intake import ingest as intake
from mf_core.warehouse import bootstrap, database_engine, engine, readers, transaction
from mf_core.warehouse.bootstrap import migrate
from mf_core.warehouse.embedded import EmbeddedServer

from .nights import make_ready
from .nights import publish as publish_ready
from .test_cli import MF
from .test_publish import as_reader, publish_one, rows
from .worlds import World, make_ratings, make_world


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path, log=[])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for locks for a fraction of a second only."""
    soon = timedelta(milliseconds=300)
    monkeypatch.setattr(engine, "LOCK_TIMEOUT", soon)
    monkeypatch.setattr(intake, "WAIT_FOR_ANOTHER", soon)
    monkeypatch.setattr(bootstrap, "_READERS_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(bootstrap, "_READERS_ATTEMPTS", 3)


@contextmanager
def held(url: str, statement: str) -> Iterator[None]:
    """Hold what a statement locks, in a session of somebody else's."""
    other = database_engine(url)
    with other.connect() as connection:
        connection.execute(sa.text(statement))
        yield
    other.dispose()


def load_file(place: pipeline.Workplace, folder: Path) -> None:
    """Ingest some more ratings."""
    path = folder / "ratings.csv"
    make_ratings(seed=3).rename(columns={"rated_at": "timestamp"}).to_csv(path, index=False)
    config = make_config({"source.uri": str(path)})
    intake.ingest(place.engine, config, datetime.now(UTC), place.log)


def hide(place: pipeline.Workplace) -> None:
    with transaction(place.engine) as connection:
        readers.hide(connection, "i001", reason="recalled", by="Ada")


def unhide(place: pipeline.Workplace) -> None:
    with transaction(place.engine) as connection:
        readers.unhide(connection, "i001")


def test_every_wait_for_a_lock_ends_with_the_name_of_the_table(
    world: World, warehouse_url: str, tmp_path: Path, impatient: None
) -> None:
    publish_one(world, "one")
    publish_one(world, "two")
    three = make_ready(world, "three")
    hide(world.place)
    steps: list[tuple[str, str, Callable[[], object]]] = [
        ("mf.ratings", "LOCK TABLE mf.ratings", lambda: load_file(world.place, tmp_path)),
        (
            "mf.ingest_batches",
            "LOCK TABLE mf.ingest_batches IN SHARE ROW EXCLUSIVE MODE",
            lambda: load_file(world.place, tmp_path),
        ),
        (
            "mf.live",
            "SELECT 1 FROM mf.live FOR UPDATE",
            lambda: pipeline.rollback(world.place),
        ),
        (
            "mf.live",
            "SELECT 1 FROM mf.live FOR UPDATE",
            lambda: publish_ready(world, three),
        ),
        ("mf.live", "LOCK TABLE mf.live", lambda: pipeline.rollback(world.place)),
        (
            "mf.hidden_items",
            "SELECT 1 FROM mf.hidden_items FOR UPDATE",
            lambda: hide(world.place),
        ),
        ("mf.hidden_items", "LOCK TABLE mf.hidden_items", lambda: unhide(world.place)),
        ("mf.ratings", "LOCK TABLE mf.ratings", lambda: pipeline.check(world.config, world.place)),
    ]
    for table, statement, step in steps:
        started = time.monotonic()
        with held(warehouse_url, statement), pytest.raises(DatabaseError) as refusal:
            step()
        said = str(refusal.value)
        assert time.monotonic() - started < 10, table
        assert f"{table} is locked by another session" in said
        assert "55P03" in said
        assert f"'{table}'::regclass" in said
        query = said.partition("Who holds it: ")[2].partition(". See")[0]
        assert rows(world.place.engine, query) == []
    assert publish_ready(world, three) == three.split.model_version


def test_an_ingest_says_that_it_waits_for_another_one(
    world: World, warehouse_url: str, tmp_path: Path
) -> None:
    said: list[str] = []
    place = pipeline.Workplace(world.place.engine, world.place.artifact_root, said.append)
    with held(warehouse_url, "LOCK TABLE mf.ingest_batches IN SHARE ROW EXCLUSIVE MODE"):
        loading = threading.Thread(target=load_file, args=(place, tmp_path))
        loading.start()
        while not any("is locked, by another ingest; waiting" in line for line in said):
            time.sleep(0.01)
            assert loading.is_alive()
    loading.join(30)
    assert any("the warehouse has" in line for line in said)


def test_no_reader_can_stall_ingest_or_publication(
    world: World, warehouse_url: str, tmp_path: Path, impatient: None
) -> None:
    reader = as_reader(warehouse_url)
    with reader.connect() as connection:
        # The numbers that earlier releases used.
        for number in ("1835401217", "hashtext('mf.retire')"):
            connection.execute(sa.text(f"SELECT pg_advisory_lock({number})"))
        for key in ("one", "two"):
            publish_one(world.with_settings(publish__keep_versions=1), key)
        load_file(world.place, tmp_path)
    for statement in (
        "LOCK TABLE mf.ingest_batches IN ACCESS SHARE MODE",
        "SELECT 1 FROM mf.live FOR UPDATE",
        "SELECT 1 FROM mf.recommendations FOR UPDATE",
        "COMMENT ON SCHEMA mf IS 'mine'",
    ):
        with (
            pytest.raises(ConfigError, match="lacks a right"),
            transaction(reader) as connection,
        ):
            connection.execute(sa.text(statement))
    reader.dispose()


# Migrations.


@pytest.fixture
def empty_url(server: EmbeddedServer) -> Iterator[str]:
    """URL (as `mf_writer`) of a database without the schema."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}" OWNER mf_writer'))
    yield server.url(name, "mf_writer")
    with admin.connect() as connection:
        connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))


def test_migrations_that_run_at_once_wait_for_each_other(empty_url: str) -> None:
    processes = [
        subprocess.Popen(
            [*MF, "db", "migrate", "--url", empty_url], stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    migrated = database_engine(empty_url)
    assert rows(migrated, "SELECT count(*) FROM mf.alembic_version") == [(1,)]
    migrated.dispose()


def test_a_migration_says_that_another_one_is_at_work(warehouse_url: str, impatient: None) -> None:
    with (
        held(warehouse_url, "COMMENT ON SCHEMA mf IS NULL"),
        pytest.raises(DatabaseError, match=r"another session works on the schema mf.*55P03"),
    ):
        migrate(warehouse_url)


def test_a_migration_waits_for_an_ingest_only_if_there_is_something_to_do(
    empty_url: str, impatient: None
) -> None:
    ingest = "LOCK TABLE mf.ingest_batches IN SHARE ROW EXCLUSIVE MODE"
    migrate(empty_url, "0006")
    with held(empty_url, ingest), pytest.raises(DatabaseError, match=r"mf\.ingest_batches is lock"):
        migrate(empty_url)
    migrate(empty_url)
    with held(empty_url, ingest):
        migrate(empty_url)


def test_a_migration_lets_readers_pass_and_gives_up_in_the_end(
    world: World, warehouse_url: str, impatient: None
) -> None:
    publish_one(world, "one")
    reader = as_reader(warehouse_url)
    slowest = 0.0
    with reader.connect() as connection:
        connection.execute(sa.text("SELECT count(*) FROM mf.recommendations"))
        errors: list[BaseException] = []

        def run() -> None:
            try:
                migrate(warehouse_url)
            except DatabaseError as error:
                errors.append(error)

        migrating = threading.Thread(target=run)
        migrating.start()
        while migrating.is_alive():
            started = time.monotonic()
            with reader.connect() as other:
                other.execute(sa.text("SELECT count(*) FROM mf.recommendations"))
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.01)
    reader.dispose()
    assert "a transaction that reads mf.recommendations" in str(errors[0])
    # Less than deadlock_timeout, after which Postgres might end the reader.
    assert slowest < 0.95
    migrate(warehouse_url)
