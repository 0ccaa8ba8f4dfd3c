"""What the pages say of the tables is true."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.warehouse import database_engine, tables, transaction

from .test_publish import publish_one
from .worlds import make_ratings, make_world

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_has_twelve_queries() -> None:
    assert len(QUERIES) == 12


@pytest.mark.parametrize("number", range(12))
def test_each_query_of_the_page_runs_and_finds_something(
    engine: Engine, warehouse_url: str, tmp_path: Path, number: int
) -> None:
    ratings = make_ratings()
    publish_one(make_world(engine, tmp_path, ratings).with_settings(gate__cutoff=10), "one")

    with transaction(engine) as connection:
        batch = connection.scalar(sa.text("SELECT max(batch_id) FROM mf.ingest_batches"))
        rejected = {
            "batch_id": batch,
            "file": "r.csv",
            "line": 3,
            "raw": "x,,",
            "reason": "the item id is missing",
        }
        connection.execute(sa.insert(tables.rejected_ratings), rejected)
        comedies = ratings["item_id"].unique()[:9]
        described = [{"item_id": name, "attributes": {"genres": ["Comedy"]}} for name in comedies]
        connection.execute(sa.insert(tables.items), described)
        [(item,)] = connection.execute(
            sa.text("SELECT item_id FROM mf.recommendations WHERE rank = 1 LIMIT 1")
        )

    # The page's examples are of MovieLens; this world has other ids.
    query = QUERIES[number].replace("'42'", "'u042'").replace("'50'", f"'{item}'")
    role = "mf_reader" if number < 7 else "mf_writer"
    user = database_engine(warehouse_url.replace("mf_writer", role))

    with transaction(user) as connection:
        assert connection.execute(sa.text(query.replace(":", "\\:"))).all()

    user.dispose()


def test_the_page_names_every_table() -> None:
    for name in tables.metadata.tables:
        assert f"`{name.removeprefix('mf.')}`" in PAGE, name


def test_the_page_names_every_column_of_the_views_for_monitoring(engine: Engine) -> None:
    listed = dict(re.findall(r"^\| `mf\.(monitoring_\w+)` \|.*\| (.*) \|$", PAGE, re.MULTILINE))
    assert len(listed) == 5
    for view, columns in listed.items():
        with transaction(engine) as connection:
            there = list(connection.execute(sa.text(f"SELECT * FROM mf.{view}")).keys())
            commented = connection.scalars(
                sa.text(
                    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:view) "
                    "AND attnum > 0 AND col_description(attrelid, attnum) IS NOT NULL"
                ),
                {"view": f"mf.{view}"},
            ).all()
        assert re.findall(r"`(\w+)`", columns) == there
        assert set(commented) == set(there)


def test_the_page_names_every_column_of_the_view(engine: Engine) -> None:
    with transaction(engine) as connection:
        columns = list(connection.execute(sa.text("SELECT * FROM mf.recommendations")).keys())
    assert (
        re.findall(
            r"^\| `(\w+)` \| (?:text|integer|double precision|bigint|timestamptz) \|",
            PAGE,
            flags=re.MULTILINE,
        )
        == columns
    )
