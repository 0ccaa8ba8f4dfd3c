"""What is wrong with a warehouse is said in a sentence, by every command, with its exit code."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from mf_core.errors import ConfigError, DatabaseError
from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.address import sqlalchemy_url
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import EmbeddedServer

from .test_cli import Mf

Execute = Callable[[str], None]


@pytest.fixture
def execute(server: EmbeddedServer, warehouse_url: str) -> Execute:
    """Do something to the warehouse that only its administrator may."""
    database = sa.make_url(warehouse_url).database
    admin = sa.create_engine(
        server.url(str(database), "postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )

    def run(statement: str) -> None:
        with admin.connect() as connection:
            connection.execute(sa.text(statement.replace("THIS", f'"{database}"')))

    return run


def refused(url: str, *arguments: str, code: int) -> str:
    """Run `mf` on a warehouse, check the exit code, and return its only sentence."""
    mf = Mf(MF_DATABASE_URL=url)
    mf(*arguments, code=code)
    assert "Traceback" not in mf.errors
    said = [line for line in mf.errors.splitlines() if line.startswith("mf: ")]
    assert len(said) == 1
    return said[0]


def test_a_schema_that_is_missing_or_behind(server: EmbeddedServer) -> None:
    name = f"empty_{uuid.uuid4().hex[:12]}"
    bootstrap_warehouse(server.admin_url, database=name)
    url = server.url(name, "mf_writer")
    words = r"schema mf is missing, expected revision \d+\. Run `mf db migrate`"
    said = refused(url, "run", "--key", "one", code=10)
    assert "schema mf is missing" in said
    assert "`mf db migrate`" in said
    engine = database_engine(url)
    with pytest.raises(DatabaseError, match=words), transaction(engine) as connection:
        connection.execute(sa.text("SELECT * FROM mf.recommendations"))

    migrate(url, "0006")
    said = refused(url, "run", "--key", "one", code=10)
    assert "schema mf is at revision 0006, this code needs 0" in said
    assert "`mf db migrate`" in said
    Mf()("db", "migrate", "--url", url)
    engine.dispose()


def test_a_schema_that_is_ahead(warehouse_url: str) -> None:
    engine = database_engine(warehouse_url)
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE mf.alembic_version SET version_num = '9999'"))
        connection.execute(sa.text("ALTER TABLE mf.runs ADD COLUMN new text NOT NULL"))
    for command in (("run", "--key", "one"), ("db", "migrate")):
        said = refused(warehouse_url, *command, code=10)
        assert "at revision 9999; this code is older and knows revisions up to" in said
    engine.dispose()


def test_a_revision_that_is_none(warehouse_url: str) -> None:
    said = refused(warehouse_url, "db", "migrate", "--revision", "12", code=2)
    assert "can't be brought to revision 12" in said


@pytest.mark.parametrize(
    "command",
    [("rollback",), ("hide", "i1"), ("run",), ("db", "migrate")],
    ids=" ".join,
)
def test_a_readers_url(warehouse_url: str, command: tuple[str, ...]) -> None:
    reader = warehouse_url.replace("mf_writer", "mf_reader")
    said = refused(reader, *command, code=2)
    assert "the role mf_reader lacks a right: " in said
    assert "connect as mf_writer" in said


def test_bootstrapping_as_nobody_in_particular(warehouse_url: str) -> None:
    with pytest.raises(ConfigError, match=r"`mf db bootstrap` as an administrator"):
        bootstrap_warehouse(warehouse_url, database="another")


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("postgresql://mf_writer@127.0.0.1:abc/warehouse", 2, "MF_DATABASE_URL can't be read"),
        ("postgresql://mf_writer@127.0.0.1:99999/warehouse", 2, "names port 99999"),
        ("postgresql://mf_writer@127.0.0.1/warehouse?nonsense=1", 2, "nonsense"),
        ("postgresql://mf_writer@no-such-host.invalid/warehouse", 10, "no-such-host.invalid"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, code: int, words: str) -> None:
    assert words in refused(url, "history", code=code)


def test_an_airflow_connection_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        sqlalchemy_url("postgres://mf_writer@host:abc/warehouse")


@pytest.mark.parametrize(
    ("database", "user", "words"),
    [
        ("no_such_database", "mf_writer", 'database "no_such_database" does not exist'),
        ("template_warehouse", "nobody_here", 'role "nobody_here" does not exist'),
    ],
)
def test_a_database_or_a_role_that_is_not_there(
    server: EmbeddedServer, database: str, user: str, words: str
) -> None:
    engine = database_engine(server.url(database, user))
    with pytest.raises(DatabaseError, match=words), transaction(engine):
        pass


def test_a_wrong_password(server: EmbeddedServer, execute: Execute) -> None:
    execute("CREATE ROLE with_password LOGIN PASSWORD 'right'")
    access = server.data_dir / "pg_hba.conf"
    access.write_text(f"local all with_password scram-sha-256\n{access.read_text()}")
    execute("SELECT pg_reload_conf()")
    url = server.url("template_warehouse", "with_password").replace("@", ":wrong@")
    said = refused(url, "history", code=10)
    assert 'password authentication failed for user "with_password"' in said


def test_a_server_that_takes_no_writes(warehouse_url: str, execute: Execute) -> None:
    execute("ALTER DATABASE THIS SET default_transaction_read_only = on")
    said = refused(warehouse_url, "hide", "i1", code=10)
    assert "point MF_DATABASE_URL at the primary" in said


def test_a_server_without_room_for_a_connection(warehouse_url: str, execute: Execute) -> None:
    execute("ALTER DATABASE THIS CONNECTION LIMIT 0")
    assert "too many connections for database" in refused(warehouse_url, "history", code=10)
    execute("ALTER DATABASE THIS CONNECTION LIMIT -1")


def test_a_full_disk(warehouse_url: str, execute: Execute) -> None:
    execute("""
        CREATE FUNCTION mf.fill_up() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left' USING ERRCODE = '53100'; END
        $$
    """)
    execute(
        "CREATE TRIGGER is_full BEFORE INSERT ON mf.hidden_items "
        "FOR EACH ROW EXECUTE FUNCTION mf.fill_up()"
    )
    said = refused(warehouse_url, "hide", "i1", code=10)
    assert "No space left" in said
    assert "The disk of the Postgres server is full" in said


def test_a_table_that_somebody_renamed(warehouse_url: str, execute: Execute) -> None:
    execute("ALTER TABLE mf.hidden_items RENAME TO kept_items")
    said = refused(warehouse_url, "hide", "i1", code=10)
    assert 'relation "mf.hidden_items" does not exist, though the schema mf is at rev' in said
    assert "somebody has dropped or renamed it" in said


def test_a_wait_that_nothing_would_limit_is_refused(warehouse_url: str) -> None:
    engine = database_engine(warehouse_url)
    second = timedelta(seconds=1)
    with (
        pytest.raises(ValueError, match="AUTOCOMMIT has no lock_timeout"),
        transaction(engine, isolation_level="AUTOCOMMIT", lock_timeout=second),
    ):
        pass
    engine.dispose()


def test_a_defect_stays_a_defect(warehouse_url: str) -> None:
    engine = database_engine(warehouse_url)
    with pytest.raises(sa.exc.ProgrammingError), transaction(engine) as connection:
        connection.execute(sa.text("SELEC 1"))
    engine.dispose()
