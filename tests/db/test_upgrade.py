"""A warehouse that release 0.2.0 has made: migrated, read with old queries, and taken back.

`warehouse_0.2.0.sql` is what `pg_dump` wrote there, after two published nights with planted
ratings, a refusal that was overridden, and a hidden item. It is at revision 0006.
"""

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.bootstrap import migrate
from mf_core.warehouse.embedded import EmbeddedServer
from tests.pages import commands, run

from .databases import new_database, url_of
from .test_cli import Mf
from .test_publish import as_reader, rows

DUMP = Path(__file__).parent / "warehouse_0.2.0.sql"
PAGE = "howto/upgrade.md"
REVISION = "SELECT version_num FROM mf.alembic_version"
# What the documents of 0.2.0 gave to those who read as mf_reader.
OLD_QUERIES = (
    (
        "SELECT rank, item_id, predicted_rating FROM mf.recommendations "
        "WHERE user_id = 'u07' ORDER BY rank"
    ),
    "SELECT * FROM mf.recommendations_for('somebody new', 5)",
    (
        "SELECT user_id, rank FROM mf.recommendations WHERE item_id = 'i05' AND rank <= 3 "
        "ORDER BY rank, user_id"
    ),
    (
        "SELECT model_version, published_at, went_live, rmse, ndcg, cutoff FROM mf.model_history "
        "WHERE is_live"
    ),
)
COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(:view) AND attnum > 0 ORDER BY attnum
"""


@pytest.fixture
def old(server: EmbeddedServer) -> Iterator[Engine]:
    """The warehouse as 0.2.0 has left it, as `mf_writer`."""
    with new_database(server, "old") as engine:
        subprocess.run(
            [
                *(server.bin_dir / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"),
                *("--host", server.socket_dir, "--username=mf_writer"),
                *(f"--dbname={engine.url.database}", "--file", DUMP),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        yield engine


def read(engine: Engine) -> list[list[Any]]:
    """Return what the old queries find, as a reader."""
    reader = as_reader(url_of(engine))
    try:
        return [rows(reader, query) for query in OLD_QUERIES]
    finally:
        reader.dispose()


def columns(engine: Engine, view: str) -> list[Any]:
    with transaction(engine) as connection:
        found = connection.execute(sa.text(COLUMNS), {"view": f"mf.{view}"})
        return [tuple(row) for row in found]


def content(engine: Engine, like: dict[str, list[Any]] | None = None) -> dict[str, list[Any]]:
    """Return all rows of all tables; of those in `like` only, and no columns that came later."""
    with transaction(engine) as connection:
        names = sa.inspect(connection).get_table_names("mf")
    found = {}
    for name in set(names) - {"alembic_version"} if like is None else like:
        width = len(like[name][0]) if like and like[name] else None
        all_rows = rows(engine, f"SELECT * FROM mf.{name}")
        found[name] = sorted((tuple(row)[:width] for row in all_rows), key=repr)
    return found


def upgrade(server: EmbeddedServer, engine: Engine, folder: Path) -> list[str]:
    """Run the commands of the page."""
    environ = {
        "ADMIN_URL": server.admin_url,
        "DATABASE": str(engine.url.database),
        "MF_DATABASE_URL": url_of(engine),
    }
    return [run(block, folder, environ) for block in commands(PAGE, "Upgrade")]


def test_the_dump_is_of_the_release_before(old: Engine) -> None:
    assert rows(old, REVISION) == [("0006",)]
    assert rows(old, "SELECT model_version FROM mf.live") == [(2,)]
    assert all(read(old))


def test_old_queries_find_the_same_after_the_upgrade(
    server: EmbeddedServer, old: Engine, tmp_path: Path
) -> None:
    views = ("recommendations", "model_history")
    before = read(old)
    columns_before = {view: columns(old, view) for view in views}
    content_before = content(old)

    (said,) = upgrade(server, old, tmp_path)
    assert "version 2, since" in said
    assert read(old) == before
    for view in views:
        assert columns(old, view)[: len(columns_before[view])] == columns_before[view]
    assert content(old, like=content_before) == content_before


def test_what_is_new_works_on_the_old_warehouse(
    server: EmbeddedServer, old: Engine, tmp_path: Path
) -> None:
    upgrade(server, old, tmp_path)
    mf = Mf(MF_DATABASE_URL=url_of(old), MF_ARTIFACT_ROOT=tmp_path.as_uri())
    history = {row["model_version"]: row for row in mf.json("history")}
    assert history[3]["verdict"] == "approved by an override of Ada"
    assert history[1]["went_live"] == "by the gate"
    assert mf.json("status")["hidden_items"] == 1

    monitor = database_engine(url_of(old).replace("mf_writer", "mf_monitor"))
    assert rows(monitor, "SELECT model_version FROM mf.monitoring_lists") == [(2,)]
    monitor.dispose()

    assert mf.json("rollback", "--by", "Ada")["model_version"] == 1
    assert {
        version for (version,) in rows(old, "SELECT model_version FROM mf.recommendations")
    } == {1}


def test_the_way_back_leaves_what_0_2_0_had(
    server: EmbeddedServer, old: Engine, tmp_path: Path
) -> None:
    before = (read(old), content(old), columns(old, "model_history"))
    upgrade(server, old, tmp_path)
    for block in commands(PAGE, "Downgrade"):
        run(block, tmp_path, {"MF_DATABASE_URL": url_of(old)})
    assert rows(old, REVISION) == [("0006",)]
    assert (read(old), content(old), columns(old, "model_history")) == before

    # And up again.
    migrate(url_of(old))
    assert read(old) == before[0]


def test_somebodys_own_view_on_ours_is_named(
    server: EmbeddedServer, old: Engine, tmp_path: Path
) -> None:
    upgrade(server, old, tmp_path)
    with transaction(old) as connection:
        connection.execute(sa.text("CREATE SCHEMA reports"))
        query = "CREATE VIEW reports.nights AS SELECT * FROM mf.model_history"
        connection.execute(sa.text(query))
    (now,) = rows(old, REVISION)

    mf = Mf(MF_DATABASE_URL=url_of(old))
    mf("db", "migrate", "--revision", "0006", code=10)
    assert "Traceback" not in mf.errors
    assert "view reports.nights depends on view mf.model_history" in mf.errors
    assert "drop it, run this again, and make it again" in mf.errors
    assert rows(old, REVISION) == [now]
    assert rows(old, "SELECT count(*) FROM reports.nights") != [(0,)]

    with transaction(old) as connection:
        connection.execute(sa.text("DROP VIEW reports.nights"))
    mf("db", "migrate", "--revision", "0006")
    assert rows(old, REVISION) == [("0006",)]
    mf("db", "migrate")
    with transaction(old) as connection:
        connection.execute(sa.text(query))


def test_readers_read_on_while_the_schema_is_migrated_and_taken_back(
    server: EmbeddedServer, old: Engine, tmp_path: Path
) -> None:
    before = read(old)
    rounds: list[list[list[Any]]] = []
    with ThreadPoolExecutor(1) as pool:
        stop = threading.Event()

        def read_on() -> None:
            while not stop.is_set():
                rounds.append(read(old))

        reading = pool.submit(read_on)
        upgrade(server, old, tmp_path)
        migrate(url_of(old), "0006")
        stop.set()
        reading.result()
    assert len(rounds) > 10
    assert all(found == before for found in rounds)
