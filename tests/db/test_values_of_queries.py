"""Values that a query on a real Postgres gives: each is read as what it is, or is one bad row."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import make_config
from mf_core.sources.chunks import Chunk
from mf_core.sources.source import open_source
from mf_core.warehouse import database_engine
from mf_core.warehouse.embedded import EmbeddedServer

from .databases import url_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RATED = datetime(2020, 7, 1, 10, tzinfo=UTC)


def read(engine: Engine, query: str, **settings: Any) -> Chunk:
    """Return what the query gives."""
    named = {f"source.{name}": value for name, value in settings.items()}
    config = make_config({"source.uri": "sql", "source.query": query, **named})
    environ = {"MF_SOURCE_DATABASE_URL": url_of(engine)}
    with open_source(config, environ) as source:
        [(_, chunk)] = source.chunks(config, NOW)
    return chunk


def read_ids(engine: Engine, *values: str) -> tuple[list[str], list[str]]:
    """Return the ids that SQL expressions of one type give, and the reasons of bad rows."""
    listed = ", ".join(f"({value})" for value in values)
    chunk = read(
        engine, f"SELECT v AS user_id, 'a' AS item_id, 3 AS rating FROM (VALUES {listed}) AS x(v)"
    )
    return chunk.rows["user_id"].to_pylist(), [row.reason for row in chunk.rejected]


@pytest.mark.parametrize(
    "kind", ["integer", "bigint", "numeric", "numeric(20, 2)", "double precision", "text", "jsonb"]
)
def test_a_number_is_one_id_of_whatever_type(engine: Engine, kind: str) -> None:
    large = "10000000001" if kind != "integer" else "1000001"
    numbers = [f"'{number}'::{kind}" for number in ("7", "12", large)]
    assert read_ids(engine, *numbers) == (["7", "12", large], [])


def test_real_numbers_are_ids_while_they_are_exact(engine: Engine) -> None:
    found, reasons = read_ids(engine, "7::real", "16777215::real", "'nan'::real", "NULL")
    assert found == ["7", "16777215"]
    assert reasons == ["the user id is missing"] * 2


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("1.5::numeric", "the user id 1.5 is no whole number"),
        ("1.5::double precision", "the user id 1.5 is no whole number"),
        ("'infinity'::double precision", "the user id inf is no whole number"),
        ("9007199254740992::double precision", "is a float too large to be exact"),
        ("'nan'::numeric", "the user id is missing"),
        ("'\\N'::text", "the user id is missing"),
        ("'{\"a\": 1}'::jsonb", "the user id is no single value"),
        ("'[1.5]'::jsonb", "the user id is no single value"),
        ("'1.5'::jsonb", "the user id 1.5 is no whole number"),
        ("'null'::jsonb", "the user id is missing"),
        ("ARRAY[1, 2]", "the user id is no single value"),
        ("'\\xff00'::bytea", "the user id is not valid UTF-8"),
        ("NULL::uuid", "the user id is missing"),
    ],
)
def test_a_value_that_is_no_id_is_one_bad_row(engine: Engine, value: str, reason: str) -> None:
    kind = "numeric" if "::" not in value else value.split("::")[1]
    found, reasons = read_ids(engine, value)
    assert found == []
    assert reason in reasons[0], kind


def test_texts_of_other_types_are_ids(engine: Engine) -> None:
    uuid = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    for value in (
        f"'{uuid}'::uuid",
        f"'\"{uuid}\"'::jsonb",
        f"'{uuid}'::bytea",
        f"'{uuid}'::char(40)",
    ):
        assert read_ids(engine, value) == ([uuid], [])


TIMES = """
SELECT n AS user_id, 'a' AS item_id, 3 AS rating, t AS timestamp
FROM (VALUES {}) AS x(n, t)
"""


def read_times(engine: Engine, *values: str, **settings: Any) -> tuple[list[Any], list[str]]:
    """Return the times that SQL expressions give, and the reasons of bad rows."""
    listed = ", ".join(f"({n}, {value})" for n, value in enumerate(values))
    chunk = read(engine, TIMES.format(listed), **settings)
    found = chunk.rows["rated_us"].to_pylist()
    times = [None if us is None else datetime.fromtimestamp(us / 1e6, UTC) for us in found]
    return times, [f"{row.line}: {row.reason}" for row in chunk.rejected]


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
def test_a_time_beyond_pythons_is_one_bad_row(engine: Engine, kind: str) -> None:
    good = f"'2020-07-01 10:00:00'::{kind}"
    wrong = ("infinity", "-infinity", "20000-01-01", "0044-03-15 BC", "9999-12-31", "1985-01-01")
    with engine.begin() as connection:
        connection.execute(sa.text("SET timezone = 'UTC'"))
    values = [good, *(f"'{time}'::{kind}" for time in wrong), f"NULL::{kind}", good]
    times, reasons = read_times(engine, *values)
    assert times == [RATED, None, RATED]
    assert [reason.split(":")[0] for reason in reasons] == [str(2 + n) for n in range(len(wrong))]
    assert "'infinity' is neither" in reasons[0]
    assert reasons[-2].endswith("lies in the future")
    assert reasons[-1].endswith("lies before 1990")


def test_times_of_every_type_and_zone(engine: Engine) -> None:
    berlin = "'2020-07-01 12:00'::timestamptz AT TIME ZONE 'UTC' AT TIME ZONE 'UTC'"
    assert read_times(engine, "'2020-07-01 12:00+02'::timestamptz") == ([RATED], [])
    assert read_times(engine, "'2020-07-01 15:30:00.5+05:30'::timestamptz")[1] == []
    assert read_times(engine, "'2020-07-01'::date")[0] == [RATED.replace(hour=0)]
    assert read_times(engine, f"extract(epoch FROM {berlin})")[1] == []

    zone: dict[str, Any] = {"time_zone": "Europe/Berlin", "time_format": "%d.%m.%Y"}
    naive = "'2020-07-01 12:00'::timestamp"
    assert read_times(engine, naive, **zone) == ([RATED], [])
    assert read_times(engine, "'2020-07-01 10:00Z'::timestamptz", **zone) == ([RATED], [])
    assert read_times(engine, "'01.07.2020'", **zone)[0][0].hour == 22


def test_ratings_and_sides_of_other_types(engine: Engine) -> None:
    query = """
    SELECT n::text AS user_id, 'a' AS item_id, r AS rating, s AS fold
    FROM (VALUES (1, '3.50'::numeric, 'test'::char(8)), (2, 'nan', 'train'), (3, NULL, 'test'))
        AS x(n, r, s)
    """
    chunk = read(engine, query, side_column="fold")
    assert chunk.rows.select(["rating", "side"]).to_pylist() == [{"rating": 3.5, "side": "test"}]
    assert [row.reason for row in chunk.rejected] == [
        "the rating 'NaN' is not finite",
        "the rating is missing",
    ]


@pytest.fixture
def unchecked(server: EmbeddedServer) -> Iterator[Engine]:
    """A database that checks no encoding, as old ones are."""
    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        make = "CREATE DATABASE unchecked OWNER mf_writer ENCODING 'SQL_ASCII' LOCALE 'C'"
        connection.execute(sa.text(f"{make} TEMPLATE template0"))
    engine = database_engine(server.url("unchecked", "mf_writer"))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(sa.text("DROP DATABASE unchecked WITH (FORCE)"))


def test_a_broken_text_of_a_database_is_one_bad_row(unchecked: Engine) -> None:
    query = r"""
    SELECT u AS user_id, i AS item_id, 3 AS rating FROM (VALUES
        (E'M\xc3\xbcller', 'a'), (E'M\xfcller', 'a'), ('b', E'\xff'::varchar), ('c', 'a')
    ) AS x(u, i)
    """
    chunk = read(unchecked, query)
    assert chunk.rows["user_id"].to_pylist() == ["Müller", "c"]
    assert [(row.line, row.reason, row.raw) for row in chunk.rejected] == [
        (2, "the user id is not valid UTF-8", "M\\xfcller\ta\t3"),
        (3, "the item id is not valid UTF-8", "b\t\\xff\t3"),
    ]
