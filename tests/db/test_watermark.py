"""Of a query only the rows since the last load are asked for, and those that came late."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import Config, make_config
from mf_core.errors import ConfigError, InputError
from mf_core.intake.ingest import ingest
from mf_core.records import IngestReport
from mf_core.warehouse import database_engine
from tests.db.replacing import load_while_replaced

from .nights import Blow
from .test_ingest import NOW, ratings, table

VOTES = """
CREATE TABLE public.votes (
    u text, i text, r numeric, changed timestamptz, plain timestamp, day date, number bigint,
    written text
)
"""
QUERY = "SELECT u AS user_id, i AS item_id, r AS rating, {} AS changed FROM public.votes"


class Shop:
    """A database of another system, and loads of a query on it into a warehouse."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.log: list[str] = []
        self.environ = {"MF_SOURCE_DATABASE_URL": engine.url.render_as_string(hide_password=False)}
        self.execute(VOTES)

    def execute(self, statement: str, **values: Any) -> None:
        """Change something in the database."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def vote(self, user: str, rating: float, changed: str | None, item: str = "i") -> None:
        """Add a row."""
        self.execute(
            "INSERT INTO public.votes VALUES (:u, :i, :r, CAST(:c AS timestamptz), "
            "CAST(:c AS timestamptz) AT TIME ZONE 'UTC', CAST(:c AS date), "
            "CASE WHEN :c <> 'infinity' THEN extract(epoch FROM CAST(:c AS timestamptz)) END, :c)",
            u=user,
            i=item,
            r=rating,
            c=changed,
        )

    def config(self, column: str = "changed", **settings: Any) -> Config:
        """Return settings that load the query with one of the columns as the watermark."""
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        query = {
            "source.uri": "sql",
            "source.query": QUERY.format(column),
            "source.watermark_column": "changed",
        }
        return make_config({**query, **dotted})

    def load(self, column: str = "changed", **settings: Any) -> IngestReport:
        """Load what there is."""
        self.log.clear()
        config = self.config(column, **settings)
        return ingest(self.engine, config, NOW, self.log.append, self.environ)


@pytest.fixture
def shop(engine: Engine) -> Shop:
    """A shop with three votes."""
    made = Shop(engine)
    made.vote("a", 1, "2025-01-01 10:00:00+00")
    made.vote("b", 2, "2025-01-02 10:00:00+00")
    made.vote("c", 3, "2025-01-03 10:00:00.123456+00")
    return made


COLUMNS = ("changed", "plain", "day", "number", "written")


@pytest.mark.parametrize("column", COLUMNS)
def test_only_rows_since_the_last_load_are_asked_for(
    shop: Shop, engine: Engine, column: str
) -> None:
    assert shop.load(column).rows_read == 3
    shop.vote("d", 4, "2025-01-05 10:00:00+00")
    report = shop.load(column)
    # Of a column of days, those of the last two.
    assert report.rows_read == (3 if column == "day" else 2)
    assert report.rows_inserted == 1
    assert "only rows since the last watermark are read" in shop.log
    quiet = shop.load(column)
    assert (quiet.rows_read, quiet.rows_inserted, quiet.rows_updated) == (1, 0, 0)
    assert shop.load(column).already_ingested

    shop.execute(
        "UPDATE votes SET r = 5, changed = '2025-01-06', plain = '2025-01-06', "
        "day = '2025-01-06', number = 1736121600, written = '2025-01-06' WHERE u = 'a'"
    )
    shop.load(column)
    assert ratings(engine) == [("a", "i", 5), ("b", "i", 2), ("c", "i", 3), ("d", "i", 4)]


def test_a_row_that_is_committed_late_is_found_within_the_overlap(
    shop: Shop, engine: Engine
) -> None:
    shop.load()
    shop.vote("late", 4, "2025-01-03 09:30:00+00")
    shop.vote("too late", 4, "2025-01-03 08:30:00+00")
    shop.vote("at the same moment", 4, "2025-01-03 10:00:00.123456+00")
    shop.load()
    assert [row[0] for row in ratings(engine)] == ["a", "at the same moment", "b", "c", "late"]

    shop.vote("z", 4, "2025-01-03 10:00:01+00")
    shop.load(source__watermark_overlap=7200)
    assert "too late" in [row[0] for row in ratings(engine)]


def test_a_row_without_a_value_is_never_missed(shop: Shop, engine: Engine) -> None:
    shop.load()
    shop.vote("unknown", 4, None)
    assert shop.load().rows_inserted == 1


def test_a_row_of_the_future_does_not_hide_those_that_come_before_it(
    shop: Shop, engine: Engine
) -> None:
    shop.vote("f", 4, "2999-01-01 00:00:00+00")
    shop.vote("g", 4, "infinity")
    assert shop.load().rows_read == 5
    shop.vote("d", 4, "2025-01-04 10:00:00+00")
    assert shop.load().rows_inserted == 1


def test_rows_that_are_gone_from_the_source_stay_until_a_replacement(
    shop: Shop, engine: Engine
) -> None:
    shop.load()
    shop.execute("DELETE FROM public.votes WHERE u = 'a'")
    shop.vote("d", 4, "2025-01-05 10:00:00+00")
    shop.load()
    assert len(ratings(engine)) == 4
    report = shop.load(data__ingest_mode="replace")
    assert (report.rows_read, report.rows_removed) == (3, 1)
    # From there on it goes on as before.
    shop.vote("e", 4, "2025-01-06 10:00:00+00")
    assert shop.load().rows_read == 2


def test_no_row_at_all_is_nothing_new_once_there_is_a_watermark(shop: Shop, engine: Engine) -> None:
    shop.load()
    shop.execute("TRUNCATE public.votes")
    report = shop.load()
    assert (report.rows_read, report.total_ratings) == (0, 3)
    # It stays where it was.
    shop.vote("old", 4, "2025-01-01 10:00:00+00")
    shop.vote("new", 4, "2025-01-05 10:00:00+00")
    assert shop.load().rows_read == 1

    shop.execute("TRUNCATE public.votes")
    with pytest.raises(InputError, match="expected ratings, got no row"):
        shop.load(source__reload=True)


OTHERS: dict[str, dict[str, Any]] = {
    "a reload": {"source__reload": True},
    "another query": {"source__query": QUERY.format("changed") + " WHERE true"},
    "another scale": {"data__scale_high": 10.0},
    "another way of reading": {"source__time_zone": "Europe/Berlin"},
    "no watermark": {"source__watermark_column": ""},
    "a replacement": {"data__ingest_mode": "replace"},
}


@pytest.mark.parametrize("settings", OTHERS.values(), ids=OTHERS)
def test_all_rows_are_loaded_where_the_query_or_the_settings_are_others(
    shop: Shop, settings: dict[str, Any]
) -> None:
    shop.load()
    shop.vote("d", 4, "2025-01-05 10:00:00+00")
    assert shop.load(**settings).rows_read == 4


def test_the_same_query_on_another_database_is_another_source(
    shop: Shop, server: Any, engine: Engine
) -> None:
    """The environment says which it is, and may say another one tomorrow."""
    shop.load()
    with engine.connect() as connection:
        name = f"{connection.scalar(sa.text('SELECT current_database()'))}_other"
    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}" OWNER mf_writer'))
    other = database_engine(server.url(name, "mf_writer"), poolclass=sa.NullPool)
    try:
        with other.begin() as connection:
            connection.execute(sa.text(VOTES))
            connection.execute(sa.text("INSERT INTO votes VALUES ('x', 'i', 4, '2024-01-01')"))
        shop.environ["MF_SOURCE_DATABASE_URL"] = server.url(name, "mf_writer")
        assert shop.load().rows_inserted == 1
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))


def test_a_watermark_moves_with_the_rows_or_not_at_all(
    shop: Shop, engine: Engine, warehouse_url: str
) -> None:
    shop.load()
    shop.vote("d", 4, "2025-01-05 10:00:00+00")
    before = table(engine, "SELECT * FROM mf.source_parts")

    def fail(_: Any) -> None:
        raise KeyboardInterrupt

    at = 2
    while True:
        url = database_engine(warehouse_url)
        blow = Blow(at, "before", fail)
        blow.aim_at(url)
        try:
            ingest(url, shop.config(), NOW, print, shop.environ)
            break
        except KeyboardInterrupt:
            assert table(engine, "SELECT * FROM mf.source_parts") == before, at
            assert len(ratings(engine)) == 3, at
            at += 1
        finally:
            url.dispose()
    assert at > 10
    assert table(engine, "SELECT * FROM mf.source_parts") != before
    assert len(ratings(engine)) == 4


def test_a_refused_batch_does_not_move_it(shop: Shop, engine: Engine) -> None:
    shop.load()
    shop.vote("d", 9, "2025-01-05 10:00:00+00")
    with pytest.raises(InputError, match=r"1 of 4 rows \(25\.00%\) are bad"):
        shop.load()
    shop.execute("UPDATE public.votes SET r = 5 WHERE u = 'd'")
    assert shop.load().rows_inserted == 1


def test_ratings_that_were_replaced_meanwhile_are_asked_for_again(
    shop: Shop, engine: Engine
) -> None:
    shop.load()
    shop.vote("d", 4, "2025-01-05 10:00:00+00")
    load_while_replaced(engine, shop.load, shop.log)
    assert len(ratings(engine)) == 4


def test_two_ingests_at_once_lose_no_row(shop: Shop, engine: Engine) -> None:
    shop.load()
    for n in range(20):
        shop.vote(f"n{n}", 4, "2025-01-05 10:00:00+00")
    config = shop.config()
    threads = [
        threading.Thread(target=ingest, args=(engine, config, NOW, print, shop.environ))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ratings(engine)) == 23


def test_a_query_may_end_as_it_likes(shop: Shop) -> None:
    for number, end in enumerate((";", " -- the end", " ORDER BY 1;\n", " /* : %s */")):
        query = QUERY.format("changed") + end
        shop.load(source__query=query)
        shop.vote(f"n{number}", 4, f"2025-02-0{number + 1}")
        assert shop.load(source__query=query).rows_read == 2


def test_a_column_with_a_strange_name_is_quoted(shop: Shop) -> None:
    name = 'Zuletzt "geändert" %; DROP TABLE votes'
    quoted = name.replace('"', '""')
    query = f'SELECT u AS user_id, i AS item_id, r AS rating, changed AS "{quoted}" FROM votes'
    settings = {"source__query": query, "source__watermark_column": name}
    shop.load(**settings)
    shop.vote("d", 4, "2025-01-05 10:00:00+00")
    assert shop.load(**settings).rows_read == 2


@pytest.mark.parametrize(
    ("column", "shown"), [("u", "'a'"), ("r > 1", "'False'"), ("u || i", "'ai'")]
)
def test_a_column_that_does_not_rise_is_refused(shop: Shop, column: str, shown: str) -> None:
    with pytest.raises(InputError, match=rf"watermark_column is changed, which holds {shown}"):
        shop.load(column)
    assert ratings(shop.engine) == []


def test_a_column_that_is_not_there_is_refused(shop: Shop) -> None:
    with pytest.raises(InputError, match=r"has user_id, item_id, rating, changed\. Select it once"):
        shop.load(source__watermark_column="updated")


def test_events_and_files_have_no_watermark(shop: Shop) -> None:
    with pytest.raises(ConfigError, match=r"but data\.kind is events.*has to bring all"):
        shop.load(data__kind="events")
    with pytest.raises(ConfigError, match=r"watermark_column is 'changed', but source\.uri is"):
        make_config({"source.watermark_column": "changed"})


@pytest.mark.parametrize(
    "values",
    [
        ("2025-01-01 10:00:00", "2025-01-02 00:10:00", "2025-01-04 09:00:00"),
        (7, 9, 100),
        (7.5, 1e9, 2e9),
    ],
    ids=["texts", "integers", "floats"],
)
def test_sqlite_compares_as_it_stores(engine: Engine, tmp_path: Path, values: Any) -> None:
    """A number is above 9 if it is 100, and a text is a time."""
    path = tmp_path / "shop.db"
    first, second, third = values
    # The last one closes it.
    with sqlite3.connect(path) as shop:
        shop.execute("CREATE TABLE votes (user_id, item_id, rating, changed)")
        shop.execute("INSERT INTO votes VALUES ('a', 'i', 1, ?), ('b', 'i', 2, ?)", (first, second))
    config = make_config(
        {
            "source.uri": "sql",
            "source.query": "SELECT * FROM votes",
            "source.watermark_column": "changed",
            "source.watermark_overlap": 1,
        }
    )
    environ = {"MF_SOURCE_DATABASE_URL": f"sqlite:///{path}"}

    def load() -> IngestReport:
        return ingest(engine, config, NOW, print, environ)

    assert load().rows_read == 2
    with sqlite3.connect(path) as shop:
        shop.execute("INSERT INTO votes VALUES ('c', 'i', 3, ?)", (third,))
    assert load().rows_read == 2
    with sqlite3.connect(path) as shop:
        shop.execute("DELETE FROM votes")
    assert load().rows_read == 0
    shop.close()
