"""The roles on other servers: one of an older release, and a managed one without a superuser."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import EmbeddedServer, start_embedded

SHOWN = "SELECT count(*) FROM mf.model_history"


@pytest.fixture
def bare_server() -> Iterator[EmbeddedServer]:
    """A server that nobody has set up."""
    with tempfile.TemporaryDirectory(prefix="mf-postgres-") as folder:
        running = start_embedded(Path(folder) / "data")
        try:
            yield running
        finally:
            running.stop()


def run_as_admin(server: EmbeddedServer, *statements: str) -> None:
    """Run statements as the superuser."""
    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def count_as_console(server: EmbeddedServer) -> int | None:
    """Read something that the console shows, as its role."""
    engine = database_engine(server.url("warehouse", "mf_console"))
    try:
        with transaction(engine) as connection:
            return connection.scalar(sa.text(SHOWN))
    finally:
        engine.dispose()


def test_a_server_of_an_older_release_migrates_and_gets_the_role_later(
    bare_server: EmbeddedServer,
) -> None:
    run_as_admin(
        bare_server,
        "CREATE ROLE mf_writer LOGIN",
        "CREATE ROLE mf_reader LOGIN",
        "CREATE DATABASE warehouse OWNER mf_writer",
    )
    # Nobody has to be an administrator for a night to go on.
    migrate(bare_server.url("warehouse", "mf_writer"))

    bootstrap_warehouse(bare_server.admin_url)
    migrate(bare_server.url("warehouse", "mf_writer"))
    assert count_as_console(bare_server) == 0


def test_the_admin_of_a_managed_server_needs_no_superuser(bare_server: EmbeddedServer) -> None:
    run_as_admin(
        bare_server,
        "CREATE ROLE cloud_admin LOGIN CREATEROLE CREATEDB",
        "GRANT pg_read_all_stats TO cloud_admin WITH ADMIN OPTION",
    )
    bootstrap_warehouse(
        bare_server.url("postgres", "cloud_admin"), passwords={"console": "hunter2"}
    )
    migrate(bare_server.url("warehouse", "mf_writer"))
    assert count_as_console(bare_server) == 0
