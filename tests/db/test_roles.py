"""The roles on other servers: one of an older release, and managed ones without a superuser.

`tests/systems` runs these on Debian's Postgres as well.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest
import sqlalchemy as sa

from mf_core.errors import ConfigError
from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.bootstrap import bootstrap_warehouse, create_database, migrate
from mf_core.warehouse.embedded import start_embedded
from mf_core.warehouse.needs import ReaderLimits, Unmet

from .test_cli import Mf
from .test_publish import publish_one
from .test_retirement import Beside
from .worlds import make_world

SHOWN = "SELECT count(*) FROM mf.model_history"
ADMIN = "CREATE ROLE cloud_admin LOGIN CREATEROLE CREATEDB"
STATS = "GRANT pg_read_all_stats"


class Server(Protocol):
    """A running Postgres."""

    @property
    def admin_url(self) -> str:
        """URL of the superuser."""

    def url(self, database: str, user: str) -> str:
        """Return the URL of a database for a user."""


@pytest.fixture
def bare_server() -> Iterator[Server]:
    """A server that nobody has set up."""
    with tempfile.TemporaryDirectory(prefix="mf-postgres-") as folder:
        running = start_embedded(Path(folder) / "data")
        try:
            yield running
        finally:
            running.stop()


def run_as_admin(server: Server, *statements: str) -> None:
    """Run statements as the superuser."""
    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def run_script(server: Server, script: str) -> None:
    """Run what `mf db bootstrap` prints, as a database administrator does."""
    run_as_admin(server, *(line for line in script.splitlines() if not line.startswith("--")))


def ask(
    server: Server, query: str, *, user: str = "postgres", database: str = "warehouse"
) -> object:
    """Return the one value that a query finds."""
    with connected(server, user, database) as connection:
        return connection.scalar(sa.text(query))


@contextmanager
def connected(server: Server, user: str, database: str = "warehouse") -> Iterator[sa.Connection]:
    """Connect as a user, without a pool."""
    engine = database_engine(server.url(database, user), poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


def publish_some(server: Server, folder: Path) -> list[str]:
    """Publish three versions of which one is kept, and return the tables that are left."""
    engine = database_engine(server.url("warehouse", "mf_writer"))
    world = make_world(engine, folder).with_settings(publish__keep_versions=1)
    for key in ("one", "two", "three"):
        publish_one(world, key)
    with transaction(engine) as connection:
        query = "SELECT relname FROM pg_class WHERE relname ~ '^recommendation_rows_v[0-9]+$'"
        tables = list(connection.scalars(sa.text(query)))
    engine.dispose()
    return tables


def test_a_server_of_an_older_release_migrates_and_gets_the_roles_later(
    bare_server: Server,
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
    assert ask(bare_server, SHOWN, user="mf_console") == 0
    assert ask(bare_server, "SELECT 1", user="mf_monitor") == 1
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied for view"):
        ask(bare_server, SHOWN, user="mf_monitor")


def test_the_admin_of_a_managed_server_needs_no_superuser(
    bare_server: Server, tmp_path: Path
) -> None:
    run_as_admin(bare_server, ADMIN, f"{STATS} TO cloud_admin WITH ADMIN OPTION")
    admin = bare_server.url("postgres", "cloud_admin")
    assert not bootstrap_warehouse(admin, passwords={"console": "hunter2"}).wanted
    migrate(bare_server.url("warehouse", "mf_writer"))
    assert ask(bare_server, SHOWN, user="mf_console") == 0
    assert publish_some(bare_server, tmp_path) == ["recommendation_rows_v3"]


def test_without_the_right_to_see_sessions_all_goes_on(bare_server: Server, tmp_path: Path) -> None:
    run_as_admin(bare_server, ADMIN)
    unmet = bootstrap_warehouse(bare_server.url("postgres", "cloud_admin"))
    migrate(bare_server.url("warehouse", "mf_writer"))

    # Until 15, whoever may make roles may also grant all those that are no superuser.
    version = int(str(ask(bare_server, "SHOW server_version_num")))
    assert [STATS in line for line in unmet.wanted.values()] == [True] * (version >= 160_000)

    # A session that is at rest holds nothing back, one in a transaction does.
    run_as_admin(bare_server, "REVOKE pg_read_all_stats FROM mf_writer")
    with connected(bare_server, "mf_reader") as idle:
        idle.scalar(sa.text("SELECT 1"))
        idle.rollback()
        assert publish_some(bare_server, tmp_path) == ["recommendation_rows_v3"]

    run_script(bare_server, unmet.script())
    assert not bootstrap_warehouse(bare_server.url("postgres", "cloud_admin")).needed


def test_an_admin_who_may_nothing_says_what_to_make_and_then_finds_it(
    bare_server: Server, tmp_path: Path
) -> None:
    run_as_admin(bare_server, "CREATE ROLE cloud_admin LOGIN")
    admin = bare_server.url("postgres", "cloud_admin")
    with pytest.raises(ConfigError, match="the server lacks the role mf_writer,") as refused:
        bootstrap_warehouse(admin)
    run_script(bare_server, str(refused.value).split(":\n", 1)[1])

    unmet = bootstrap_warehouse(admin)
    assert (unmet.needed, unmet.wanted) == ({}, {})
    migrate(bare_server.url("warehouse", "mf_writer"))
    assert publish_some(bare_server, tmp_path) == ["recommendation_rows_v3"]


def test_a_dba_may_make_the_schemas_and_let_nobody_make_others(
    bare_server: Server, tmp_path: Path
) -> None:
    run_as_admin(
        bare_server,
        "CREATE ROLE cloud_admin LOGIN",
        *(f"CREATE ROLE {name} LOGIN" for name in ("mf_writer", "mf_reader")),
        "CREATE DATABASE warehouse",
        "REVOKE ALL ON DATABASE warehouse FROM PUBLIC",
        "GRANT CONNECT ON DATABASE warehouse TO mf_writer, mf_reader, cloud_admin",
        "GRANT TEMPORARY ON DATABASE warehouse TO mf_writer",
    )
    with connected(bare_server, "postgres") as connection:
        for schema in ("mf", "mf_tune"):
            connection.execute(sa.text(f"CREATE SCHEMA {schema} AUTHORIZATION mf_writer"))
        connection.commit()

    unmet = bootstrap_warehouse(bare_server.url("warehouse", "cloud_admin"))
    [about_create] = [what for what in unmet.wanted if "right CREATE of mf_writer" in what]
    assert "its schemas must be made for it" in about_create
    migrate(bare_server.url("warehouse", "mf_writer"))
    assert publish_some(bare_server, tmp_path) == ["recommendation_rows_v3"]
    assert ask(bare_server, SHOWN, user="mf_reader") == 3


def test_the_command_prints_what_it_may_not_do(bare_server: Server) -> None:
    run_as_admin(bare_server, "CREATE ROLE cloud_admin LOGIN")
    admin = bare_server.url("postgres", "cloud_admin")
    mf = Mf(MF_ADMIN_DATABASE_URL=admin, MF_WRITER_PASSWORD="hunter2")
    mf("db", "bootstrap", code=2)
    assert 'CREATE ROLE "mf_writer" LOGIN;' in mf.errors
    assert "Traceback" not in mf.errors
    assert "hunter2" not in mf.errors

    bootstrap_warehouse(bare_server.admin_url)
    mf.environ |= {"MF_READER_STATEMENT_TIMEOUT": "7s", "MF_READER_CONNECTIONS": "3"}
    mf.environ |= {"MF_READER_STATEMENT_TIMEOUT_FILMS": "8s", "MF_READER_CONNECTIONS_FILMS": "4"}
    mf.environ["MF_ADMIN_DATABASE_URL"] = bare_server.admin_url
    mf("--catalogue", "films", "db", "bootstrap")
    mf("db", "bootstrap")
    limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user"
    for role, timeout, connections in (("mf_reader", "7s", 3), ("mf_reader_films", "8s", 4)):
        assert ask(bare_server, "SHOW statement_timeout", user=role) == timeout
        assert ask(bare_server, limit, user=role) == connections
    mf.environ["MF_READER_CONNECTIONS"] = "many"
    mf("db", "bootstrap", code=2)
    assert "'many' is not a valid integer" in mf.errors
    del mf.environ["MF_READER_CONNECTIONS"]

    mf.environ["MF_ADMIN_DATABASE_URL"] = admin
    printed = mf("db", "bootstrap")
    ready = "are ready, but for what is named above; now run `mf db migrate` as mf_writer"
    assert ready in printed
    assert "-- the password of mf_writer; without it it stays what it is\n" in mf.errors
    assert 'REVOKE CONNECT ON DATABASE "postgres" FROM PUBLIC;' in mf.errors
    assert "hunter2" not in mf.errors


def test_only_roles_that_there_are_are_called_ready(bare_server: Server) -> None:
    run_as_admin(
        bare_server,
        "CREATE ROLE cloud_admin LOGIN",
        *(f"CREATE ROLE {name} LOGIN" for name in ("mf_writer", "mf_reader")),
        "CREATE DATABASE warehouse OWNER mf_writer",
    )
    mf = Mf(MF_ADMIN_DATABASE_URL=bare_server.url("postgres", "cloud_admin"))
    printed = mf("db", "bootstrap")
    assert "the roles mf_writer and mf_reader are ready, but for what is named above; " in printed
    assert 'CREATE ROLE "mf_console" LOGIN;' in mf.errors

    mf.environ["MF_ADMIN_DATABASE_URL"] = bare_server.admin_url
    printed = mf("db", "bootstrap")
    every = "the roles mf_writer, mf_reader, mf_console and mf_monitor are ready; "
    assert every in printed


def test_the_sql_for_a_database_that_is_open_to_all_lets_each_role_in(bare_server: Server) -> None:
    names = ("mf_writer", "mf_reader", "mf_console", "mf_monitor")
    run_as_admin(
        bare_server,
        *(f"CREATE ROLE {name} LOGIN" for name in (*names, "cloud_admin", "other")),
        "CREATE DATABASE warehouse",
    )
    for name in (*names, "other"):
        assert ask(bare_server, "SELECT current_user", user=name) == name

    admin = bare_server.url("postgres", "cloud_admin")
    with pytest.raises(ConfigError) as refused:
        bootstrap_warehouse(admin)
    script = str(refused.value).split(":\n", 1)[1]
    assert 'REVOKE ALL ON DATABASE "warehouse" FROM PUBLIC;' in script
    run_script(bare_server, script)
    unmet = bootstrap_warehouse(admin)
    assert (unmet.needed, unmet.wanted, tuple(unmet.roles)) == ({}, {}, names)
    for name in names:
        assert ask(bare_server, "SELECT current_user", user=name) == name
    with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
        ask(bare_server, "SELECT 1", user="other")


def test_a_reader_has_limits_that_can_be_set_and_stay_as_they_are(bare_server: Server) -> None:
    bootstrap_warehouse(bare_server.admin_url)
    migrate(bare_server.url("warehouse", "mf_writer"))
    timeout = "SHOW statement_timeout"
    assert ask(bare_server, timeout, user="mf_reader") == "5min"
    assert ask(bare_server, timeout, user="mf_writer") == "0"

    bootstrap_warehouse(bare_server.admin_url, limits=ReaderLimits("300ms", 2))
    bootstrap_warehouse(bare_server.admin_url)
    assert ask(bare_server, timeout, user="mf_reader") == "300ms"
    started = time.monotonic()
    with pytest.raises(sa.exc.OperationalError, match="statement timeout"):
        ask(bare_server, "SELECT pg_sleep(20)", user="mf_reader")
    assert time.monotonic() - started < 10

    with connected(bare_server, "mf_reader"), connected(bare_server, "mf_reader"):
        with pytest.raises(sa.exc.OperationalError, match='too many connections for role "mf_re'):
            ask(bare_server, "SELECT 1", user="mf_reader")
        assert ask(bare_server, "SELECT 1", user="mf_writer") == 1

    bootstrap_warehouse(bare_server.admin_url, limits=ReaderLimits("0", -1))
    bootstrap_warehouse(bare_server.admin_url)
    assert ask(bare_server, timeout, user="mf_reader") == "0"
    limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'mf_reader'"
    assert ask(bare_server, limit) == -1
    with pytest.raises(ConfigError, match=r"statement_timeout of mf_reader can't be set: .*half"):
        bootstrap_warehouse(bare_server.admin_url, limits=ReaderLimits("half an hour"))


def test_databases_of_others_are_named_and_left_as_they_are(bare_server: Server) -> None:
    run_as_admin(bare_server, 'CREATE DATABASE "of\'others"', "CREATE ROLE other LOGIN")
    unmet = bootstrap_warehouse(bare_server.admin_url)
    assert [line.split('"')[1] for line in unmet.elsewhere] == [
        "of'others",
        "postgres",
        "template1",
    ]
    assert ask(bare_server, "SELECT 1", user="mf_reader", database="of'others") == 1

    # The SQL that is printed closes them.
    run_as_admin(bare_server, *unmet.elsewhere)
    for database in ("of'others", "postgres", "template1"):
        with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
            ask(bare_server, "SELECT 1", user="mf_reader", database=database)
    assert bootstrap_warehouse(bare_server.admin_url).elsewhere == []
    with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
        ask(bare_server, "SELECT 1", user="other")


def test_several_may_set_a_server_up_at_once(bare_server: Server) -> None:
    def set_up() -> Unmet:
        return bootstrap_warehouse(bare_server.admin_url, passwords={"writer": "hunter2"})

    beside = [Beside(set_up) for _ in range(6)]
    for one in beside:
        outcome = one.outcome()
        assert isinstance(outcome, Unmet), outcome
        assert not outcome.wanted
    migrate(bare_server.url("warehouse", "mf_writer"))


def test_a_database_of_somebody_elses_role(bare_server: Server) -> None:
    run_as_admin(bare_server, ADMIN)
    admin = bare_server.url("postgres", "cloud_admin")
    create_database(admin, "airflow", "airflow", "hunter2")
    create_database(admin, "airflow", "airflow", "hunter2")
    assert ask(bare_server, "SELECT current_user", user="airflow", database="airflow") == "airflow"
    bootstrap_warehouse(admin)
    with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
        ask(bare_server, "SELECT 1", user="mf_writer", database="airflow")
