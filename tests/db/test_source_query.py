"""`source.query` on a real Postgres: it reads, whatever is tried.

The role is the one that owns the warehouse, so nothing but the transaction stands in its way.
"""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import make_config
from mf_core.deployment import Deployment, Limits, TriggerRules
from mf_core.errors import ConfigError, DatabaseError, InputError
from mf_core.sources.reach import Reach
from mf_core.sources.source import open_source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = "SELECT u AS user_id, i AS item_id, r AS rating FROM public.votes ORDER BY u"
PREPARE = """
CREATE TABLE public.votes (u text, i text, r numeric);
INSERT INTO public.votes SELECT n::text, 'a', 3 FROM generate_series(1, 2500) AS n;
CREATE SEQUENCE public.counter;
CREATE FUNCTION public.write_a_vote() RETURNS text LANGUAGE sql VOLATILE
    AS $$ INSERT INTO public.votes VALUES ('x', 'x', 1) RETURNING u $$;
CREATE FUNCTION public.read_write() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('transaction_read_only', 'off', true);
    INSERT INTO public.votes VALUES ('x', 'x', 1);
    RETURN 'x';
END $$;
CREATE PROCEDURE public.commit_and_write(INOUT done text) LANGUAGE plpgsql AS $$
BEGIN
    COMMIT;
    INSERT INTO public.votes VALUES ('x', 'x', 1);
END $$;
"""
COLUMNS = "'u' AS user_id, 'i' AS item_id, 3 AS rating"


@pytest.fixture
def database(engine: Engine) -> Engine:
    """A warehouse with votes in it, which a query could change."""
    with engine.begin() as connection:
        connection.exec_driver_sql(PREPARE)
    return engine


def run(engine: Engine, query: str, reach: Reach | None = None, **settings: Any) -> int:
    """Run `query` as the operator does, and return how many rows came."""
    config = make_config({"source.uri": "sql", "source.query": query, **settings})
    environ = {"MF_SOURCE_DATABASE_URL": engine.url.render_as_string(hide_password=False)}
    with open_source(config, environ, reach) as source:
        return sum(chunk.rows.num_rows for _, chunk in source.chunks(config, NOW))


def state(engine: Engine) -> Any:
    """Return what an attack would change."""
    figures = """
    SELECT (SELECT count(*) FROM public.votes), (SELECT last_value FROM public.counter),
        (SELECT count(*) FROM mf.live), (SELECT count(*) FROM pg_class), (
            SELECT array_agg(setconfig::text ORDER BY setconfig::text) FROM pg_db_role_setting
        )
    """
    with engine.connect() as connection:
        return connection.execute(sa.text(figures)).one()


@pytest.mark.parametrize("chunk_rows", [1_000, 500_000])
def test_a_query_reads_all_rows_in_portions(database: Engine, chunk_rows: int) -> None:
    assert run(database, GOOD, **{"source.chunk_rows": chunk_rows}) == 2500
    assert run(database, f"{GOOD};") == 2500
    assert run(database, f"WITH v AS ({GOOD}) SELECT * FROM v WHERE user_id LIKE '1%'") > 1000
    assert (
        run(
            database,
            f"VALUES ('%s', ':x', 3) -- no {COLUMNS}",
            **{
                "source.user_column": "column1",
                "source.item_column": "column2",
                "source.rating_column": "column3",
            },
        )
        == 1
    )


ATTACKS = {
    "two statements": "SELECT 1; COMMIT; DELETE FROM public.votes",
    "commit and chain": f"SELECT {COLUMNS}; COMMIT AND CHAIN; DELETE FROM public.votes",
    "commit alone": "COMMIT",
    "rollback alone": "ROLLBACK",
    "end of the block": "SELECT 1 $$; END $$; COMMIT; DELETE FROM public.votes; --",
    "end of the text": "SELECT 1'; COMMIT; DELETE FROM public.votes; --",
    "insert": "INSERT INTO public.votes VALUES ('x', 'x', 1)",
    "insert returning": f"INSERT INTO public.votes VALUES ('x', 'x', 1) RETURNING {COLUMNS}",
    "writing with": f"WITH d AS (DELETE FROM public.votes RETURNING 1) SELECT {COLUMNS} FROM d",
    "function that writes": f"SELECT public.write_a_vote(), {COLUMNS}",
    "function that sets": f"SELECT public.read_write(), {COLUMNS}",
    "procedure that commits": "CALL public.commit_and_write(NULL)",
    "set in the query": (
        f"SELECT set_config('transaction_read_only', 'off', true), public.write_a_vote(), {COLUMNS}"
    ),
    "set": "SET transaction_read_only = off",
    "set transaction": "SET TRANSACTION READ WRITE",
    "session": "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "default": "SET default_transaction_read_only = off",
    "role setting": "ALTER ROLE CURRENT_USER SET search_path = evil",
    "sequence": f"SELECT nextval('public.counter'), {COLUMNS}",
    "set sequence": f"SELECT setval('public.counter', 99), {COLUMNS}",
    "large object": f"SELECT lo_create(0), {COLUMNS}",
    "large object of bytes": f"SELECT lo_from_bytea(0, 'x'), {COLUMNS}",
    "copy to a program": "COPY (SELECT 1) TO PROGRAM 'touch /tmp/x'",
    "copy": "COPY public.votes TO STDOUT",
    "select into": f"SELECT {COLUMNS} INTO public.stolen",
    "temporary table": f"SELECT {COLUMNS} INTO TEMPORARY stolen",
    "create as": f"CREATE TABLE public.stolen AS SELECT {COLUMNS}",
    "explain analyze": "EXPLAIN ANALYZE DELETE FROM public.votes",
    "lock": f"SELECT {COLUMNS} FROM public.votes FOR UPDATE",
    "do": "DO $x$ BEGIN DELETE FROM public.votes; END $x$",
    "prepare": "PREPARE p AS DELETE FROM public.votes",
    "notify": "NOTIFY everybody",
    "refresh": "UPDATE mf.live SET model_version = 1",
    "read a file": f"SELECT pg_read_file('/etc/passwd'), {COLUMNS}",
    "nothing": "-- nothing",
}


def test_a_query_that_writes_changes_nothing(database: Engine) -> None:
    before = state(database)
    for name, query in ATTACKS.items():
        with pytest.raises(InputError) as refusal:
            run(database, query)
        assert "source.query was refused" in str(refusal.value), name
        assert state(database) == before, name


def test_a_query_that_changes_its_session_is_followed_by_no_other(database: Engine) -> None:
    """Settings that a query may change end with it: its connection is used once."""
    before = state(database)
    sets = f"SELECT set_config('default_transaction_read_only', 'off', false), {COLUMNS}"
    assert run(database, sets) == 1
    assert run(database, f"SELECT pg_advisory_lock(42), {COLUMNS}") == 1

    assert state(database) == before
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT pg_try_advisory_lock(42)"))


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT pg_sleep(60), {COLUMNS}",
        f"SELECT set_config('statement_timeout', '0', false), pg_sleep(60), {COLUMNS}",
        # The first row comes at once, the second never, in a portion of its own.
        """
        SELECT set_config('statement_timeout', '0', false) AS item_id, n::text AS user_id,
            3 + length(pg_sleep(CASE WHEN n > 1000 THEN 60 ELSE 0 END)::text) AS rating
        FROM generate_series(1, 2000) AS n
        """,
    ],
)
def test_a_query_that_takes_too_long_is_ended(database: Engine, query: str) -> None:
    reach = Reach(Deployment(limits=Limits(query_seconds=1)))
    started = time.monotonic()
    with pytest.raises(InputError, match="statement timeout"):
        run(database, query, reach, **{"source.chunk_rows": 1_000})
    assert time.monotonic() - started < 10


def test_a_result_beyond_the_limit_is_refused(database: Engine) -> None:
    reach = Reach(Deployment(limits=Limits(max_gib=1e-5)))
    with pytest.raises(InputError, match=r"at most 1e-05 GiB.*limits.max_gib"):
        run(database, GOOD, reach)


def _triggered(engine: Engine, rules: TriggerRules) -> Reach:
    url = engine.url.set(drivername="postgres")
    known = {
        "replica": url.render_as_string(hide_password=False),
        "superuser": url.set(username="postgres").render_as_string(hide_password=False),
        "other": "mysql://h/db",
    }
    return Reach(Deployment(trigger=rules), by_trigger=True, find_connection=known.get)


def test_a_trigger_queries_a_listed_connection_and_no_other(database: Engine) -> None:
    closed = _triggered(database, TriggerRules())
    names = ("replica", "superuser", "other", "gone")
    listed = _triggered(database, TriggerRules(connections=names))
    on_replica = {"source.connection": "replica"}

    assert run(database, GOOD, listed, **on_replica) == 2500
    with pytest.raises(ConfigError, match=r"source.query of a trigger needs source.connection"):
        run(database, GOOD, listed)
    with pytest.raises(ConfigError, match=r"none of trigger\.connections"):
        run(database, GOOD, closed, **on_replica)
    with pytest.raises(ConfigError, match=r"source.database_url_env can't be set by a trigger"):
        run(database, GOOD, listed, **on_replica, **{"source.database_url_env": "MF_DATABASE_URL"})
    with pytest.raises(ConfigError, match="role is a superuser"):
        run(database, GOOD, listed, **{"source.connection": "superuser"})
    for connection in ("other", "gone"):
        with pytest.raises(ConfigError, match="expected an Airflow connection to Postgres"):
            run(database, GOOD, listed, **{"source.connection": connection})


def test_a_password_does_not_show_where_a_url_is_written_wrongly(database: Engine) -> None:
    config = make_config({"source.uri": "sql", "source.query": GOOD})
    for password in ("hush/hush", "hu@sh", "hush#1", "hush?x"):
        environ = {"MF_SOURCE_DATABASE_URL": f"postgresql+psycopg2://me:{password}@127.0.0.1:1/db"}
        with (
            pytest.raises((InputError, DatabaseError)) as refusal,
            open_source(config, environ),
        ):
            pass
        assert "hush" not in str(refusal.value)
        assert "sh@" not in str(refusal.value)
