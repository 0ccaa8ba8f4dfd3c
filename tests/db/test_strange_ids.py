"""Ids are any text: whatever one holds, a night gives its user a list and finds it again."""

import csv
import os
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import make_config
from mf_core.intake.ingest import ingest
from mf_core.pipeline import Workplace
from mf_core.warehouse import readers, transaction

from .test_cli import Mf
from .test_publish import as_reader, publish_one, rows
from .worlds import N_ITEMS, N_USERS, SETTINGS, World, make_ratings

STRANGE = (
    "100%",
    "%s",
    "%(name)s",
    "%%",
    "50% off, 'today'",
    "it's",
    '"half',
    'a"b',
    "back\\slash",
    "ends with \\",
    "\\Nobody",
    "\\.",
    "\\n",
    "\\r\\n",
    "next\u2028line",
    "next\u0085line",
    "a\tb",
    "NULLs",
    "null and void",
    "NaNa",
    "None%",
    ":name",
    "::text",
    "$1",
    "{}",
    "{mf}",
    "{user_id}",
    "--x",
    "'; DROP TABLE mf.ratings; --",
    "👩‍🚀🚀",
    "שלום",
    "\u202eright to left",
    "é",
    "e\u0301",
    "007",
    "7",
    "7.0",
    "1e5",
    "0",
    "-1",
    "true",
    "two  spaces",
    "%trailing%",
    "a,b",
    "a;b",
    "x" * 256,
    "字" * 256,
    "\U0010ffff",
    "\x7f",
    "!",
    "<b>bold</b>",
    "#",
    "../up",
    "C:\\users",
)
USERS = [STRANGE[n] if n < len(STRANGE) else f"u{n:03d}" for n in range(N_USERS)]
ITEMS = [STRANGE[-1 - n] for n in range(N_ITEMS)]


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ratings of such users for such items, as a file."""
    ratings = make_ratings()
    ratings["user_id"] = [USERS[int(name[1:])] for name in ratings["user_id"]]
    ratings["item_id"] = [ITEMS[int(name[1:])] for name in ratings["item_id"]]
    path = tmp_path_factory.mktemp("strange") / "ratings.csv"
    columns = ratings.rename(columns={"rated_at": "timestamp"})
    columns["timestamp"] = pd.to_datetime(columns["timestamp"]).map(lambda at: int(at.timestamp()))
    columns.to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    return path


@pytest.fixture
def world(engine: Engine, tmp_path: Path, csv_file: Path) -> World:
    """A world of them, in which every user stands at both edges of a shard."""
    source = {"source.uri": str(csv_file), "recommend.shards": N_USERS}
    config = make_config(SETTINGS | source)
    report = ingest(engine, config, datetime.now(UTC), print, os.environ)
    assert report.rows_rejected == 0
    return World(Workplace(engine, tmp_path.as_uri(), print), config)


def test_every_user_gets_a_list_whatever_the_ids_are(world: World, engine: Engine) -> None:
    publish_one(world, "100% 'sure' :run")
    # Again, from the first shard on: the rows of the run before are replaced.
    publish_one(world, "again")

    lists = "SELECT user_id, count(*), min(rank), max(rank) FROM mf.recommendations GROUP BY 1"
    listed = rows(engine, lists)
    assert sorted(row.user_id for row in listed) == sorted(USERS)
    assert {tuple(row[1:]) for row in listed} == {(5, 1, 5)}
    items = "SELECT item_id FROM mf.recommendations UNION SELECT item_id FROM mf.popular_items"
    assert {item for (item,) in rows(engine, items)} <= set(ITEMS)


def test_every_user_and_item_is_found_again(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    reader = as_reader(engine.url.render_as_string(hide_password=False))
    own = sa.text("SELECT item_id, source FROM mf.recommendations_for(:user, 5)")
    with transaction(reader) as connection:
        found = {user: list(connection.execute(own, {"user": user})) for user in USERS}
    reader.dispose()
    likes_nothing = USERS[0]
    for user, its_list in found.items():
        assert {row.source for row in its_list} == {"popular" if user == likes_nothing else "model"}

    with transaction(engine) as connection:
        for item in ITEMS[:-5]:
            assert readers.hide(connection, item, reason="100%", by="%s")["known"]
    visible = {item for (item,) in rows(engine, "SELECT item_id FROM mf.recommendations")}
    assert visible <= set(ITEMS[-5:])


def test_the_command_takes_and_shows_such_ids(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    url = engine.url.render_as_string(hide_password=False)
    mf = Mf(MF_DATABASE_URL=url, MF_ARTIFACT_ROOT=world.place.artifact_root)
    for user in ("100%", "%(name)s", "'; DROP TABLE mf.ratings; --", "👩‍🚀🚀", "\\Nobody"):
        shown = mf.json("recommend", user)
        assert len(shown) == 5
        assert {row["source"] for row in shown} <= {"model", "popular"}
