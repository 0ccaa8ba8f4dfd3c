"""A real Postgres for the tests: the embedded server, and a freshly migrated warehouse per test."""

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import EmbeddedServer, start_embedded
from mf_core.warehouse.engine import database_engine


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """An embedded server with a migrated template database.

    Its folder is not below pytest's own: another run of pytest closes that one to the server's
    user, who isn't root even where the tests are.
    """
    with tempfile.TemporaryDirectory(prefix="mf-postgres-") as folder:
        running = start_embedded(Path(folder) / "data")
        try:
            _do_not_wait_for_the_disk(running)
            bootstrap_warehouse(running.admin_url, database="template_warehouse")
            migrate(running.url("template_warehouse", "mf_writer"))
            yield running
        finally:
            running.stop()


def _do_not_wait_for_the_disk(server: EmbeddedServer) -> None:
    """No test crashes the machine; every new database would wait for a checkpoint."""
    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))


@pytest.fixture
def warehouse_url(server: EmbeddedServer) -> Iterator[str]:
    """URL (as `mf_writer`) of an empty, migrated warehouse that lives as long as the test."""
    name = f"warehouse_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    statements = [
        f'CREATE DATABASE "{name}" OWNER mf_writer TEMPLATE template_warehouse',
        f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC',
        f'GRANT CONNECT ON DATABASE "{name}" TO mf_reader, mf_console, mf_monitor',
    ]
    with admin.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))

    yield server.url(name, "mf_writer")

    with admin.connect() as connection:
        connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def engine(warehouse_url: str) -> Iterator[Engine]:
    """Engine (as `mf_writer`) on an empty, migrated warehouse."""
    made = database_engine(warehouse_url)
    yield made
    made.dispose()
