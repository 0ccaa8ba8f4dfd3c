"""A first load builds its key last, where that harms nobody; the rows are the same anyhow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import make_config
from mf_core.intake import merge
from mf_core.intake.ingest import ingest
from mf_core.intake.pairs import Pairs
from mf_core.warehouse import database_engine

from .test_ingest import NOW, forget, table
from .test_publish import publish_one
from .worlds import make_world

Rating = tuple[str, str, float, int | None]

TABLE = """
    SELECT conname, pg_get_constraintdef(c.oid), i.indisclustered, i.indisreplident
    FROM pg_constraint AS c LEFT JOIN pg_index AS i ON i.indexrelid = c.conindid
    WHERE c.conrelid = 'mf.ratings'::regclass
    UNION ALL
    SELECT attname, attnotnull::text, NULL, NULL
    FROM pg_attribute WHERE attrelid = 'mf.ratings'::regclass AND attnum > 0
    ORDER BY 1, 2
"""
ROWS: list[Rating] = [("u", "i", 4, 5), ("u", "j", 3, 6), ("v", "i", 5, 7), ("v", "i", 2, 8)]
KEPT = [("u", "i", 4.0), ("u", "j", 3.0), ("v", "i", 2.0)]


def load(engine: Engine, folder: Path, rows: list[Rating], **settings: object) -> None:
    """Ingest rows, whose times are days."""
    lines = ["user_id,item_id,rating,timestamp"]
    for user, item, rating, day in rows:
        seconds = "" if day is None else str(1_000_000_000 + 86_400 * day)
        lines.append(f"{user},{item},{rating:g},{seconds}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    wanted = {name.replace("__", "."): value for name, value in settings.items()}
    config = make_config({"source.uri": str(folder / "ratings.csv"), **wanted})
    ingest(engine, config, NOW, print, {})


@contextmanager
def recorded(engine: Engine) -> Iterator[list[str]]:
    """Give the statements of the block that change a table's constraints."""
    altered: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "CONSTRAINT" in statement and "ALTER TABLE" in statement:
            altered.append(statement)

    sa.event.listen(engine, "before_cursor_execute", record)
    yield altered
    sa.event.remove(engine, "before_cursor_execute", record)


def held_ratings(engine: Engine) -> list[tuple[object, ...]]:
    return table(engine, "SELECT user_id, item_id, rating FROM mf.ratings ORDER BY 1, 2")


def test_pairs_are_distinct_if_none_comes_twice() -> None:
    def are_distinct(*chunks: list[tuple[str, str]], room: int = 10) -> bool:
        pairs = Pairs(room)
        for rows in chunks:
            columns = {
                "user_id": pa.array([user for user, _ in rows], type=pa.string()),
                "item_id": pa.array([item for _, item in rows], type=pa.string()),
            }
            pairs.add(pa.table(columns))
        return pairs.are_distinct()

    first = [("1", "10"), ("10", "1"), ("1", "1"), ("", "a"), ("a", "")]
    assert are_distinct(first, [], [("1", "2"), ("110", "")])
    assert not are_distinct([*first, ("10", "1")])
    assert not are_distinct(first, [("2", "2"), ("1", "10")])
    # Nobody knows.
    assert not are_distinct(first, [("1", "2")], room=5)


@pytest.mark.parametrize("rows", [ROWS, ROWS[1:], ROWS[:3]])
def test_rows_that_are_distinct_are_not_sorted(
    engine: Engine, tmp_path: Path, rows: list[Rating]
) -> None:
    sorts: list[bool] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "INSERT INTO mf.ratings" in statement:
            sorts.append("DISTINCT ON" in statement)

    sa.event.listen(engine, "before_cursor_execute", record)
    load(engine, tmp_path, rows)
    assert sorts == [rows[-2:] == ROWS[-2:]]
    expected: dict[tuple[str, str], Rating] = {}
    latest(rows, expected)
    assert held_ratings(engine) == sorted(row[:3] for row in expected.values())
    [[batch]] = table(engine, "SELECT rows_duplicate FROM mf.ingest_batches")
    assert batch == len(rows) - len(expected)


def test_the_key_comes_back_as_it_was(engine: Engine, tmp_path: Path) -> None:
    before = table(engine, TABLE)
    with recorded(engine) as altered:
        load(engine, tmp_path, ROWS)
        assert len(altered) == 2
        load(engine, tmp_path, ROWS[:1])
        assert len(altered) == 2
    assert held_ratings(engine) == KEPT
    assert table(engine, TABLE) == before


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE mf.ratings CLUSTER ON ratings_pkey",
        "ALTER TABLE mf.ratings REPLICA IDENTITY USING INDEX ratings_pkey",
        "ALTER INDEX mf.ratings_pkey SET (fillfactor = 70)",
        "CREATE TABLE mf.theirs (u text, i text, FOREIGN KEY (u, i) REFERENCES mf.ratings)",
        "CREATE VIEW mf.theirs AS SELECT user_id, rating FROM mf.ratings GROUP BY user_id, item_id",
    ],
)
def test_a_key_that_others_have_changed_or_rely_on_stays(
    engine: Engine, tmp_path: Path, statement: str
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    before = table(engine, TABLE)
    with recorded(engine) as altered:
        load(engine, tmp_path, ROWS)
        assert not [done for done in altered if "ADD" in done]
    assert held_ratings(engine) == KEPT
    assert table(engine, TABLE) == before


def test_a_reader_of_the_empty_table_keeps_nobody_waiting(
    engine: Engine, warehouse_url: str, tmp_path: Path
) -> None:
    other = database_engine(warehouse_url)
    with other.connect() as connection, recorded(engine) as altered:
        connection.execute(sa.text("SELECT count(*) FROM mf.ratings"))
        load(engine, tmp_path, ROWS)
        assert altered == []
    other.dispose()
    assert held_ratings(engine) == KEPT


def test_who_reads_live_lists_never_waits_for_a_load(engine: Engine, tmp_path: Path) -> None:
    world = make_world(engine, tmp_path, log=[])
    publish_one(world, "one")
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM mf.ratings"))
    with recorded(engine) as altered:
        load(engine, tmp_path, ROWS)
        assert altered == []
    assert held_ratings(engine) == KEPT


def test_a_load_that_dies_leaves_the_key(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table(engine, TABLE)
    with monkeypatch.context() as patched, recorded(engine) as altered:
        patched.setattr(merge, "_INSERT_LATEST", f"{merge._INSERT_LATEST}; SELECT 1 / 0")
        with pytest.raises(sa.exc.DataError):
            load(engine, tmp_path, ROWS)
        assert len(altered) == 1
    assert table(engine, TABLE) == before
    load(engine, tmp_path, ROWS)
    assert held_ratings(engine) == KEPT


def later(new: Rating, old: Rating) -> bool:
    """Return whether a rating takes the place of one that came before it."""
    if new[3] is None:
        return old[3] is None
    return old[3] is None or new[3] >= old[3]


def latest(rows: list[Rating], known: dict[tuple[str, str], Rating]) -> None:
    """Bring rows into `known`, one by one."""
    for row in rows:
        pair = row[:2]
        if pair not in known or later(row, known[pair]):
            known[pair] = row


@pytest.mark.parametrize("seed", range(8))
def test_random_loads_are_what_they_are_row_by_row(
    engine: Engine, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    expected: dict[tuple[str, str], Rating] = {}
    forget(engine, "u0")
    for _ in range(5):
        rows: list[Rating] = []
        for user, item, rating, day in rng.integers(
            [0, 0, 1, 0], [4, 6, 6, 4], (rng.integers(1, 40), 4)
        ):
            rows.append((f"u{user}", f"i%'{item}", float(rating), int(day) or None))
        mode = str(rng.choice(["merge", "merge", "replace"]))
        brought: dict[tuple[str, str], Rating] = {}
        latest([row for row in rows if row[0] != "u0"], brought)
        if mode == "replace":
            expected = brought
        else:
            latest(list(brought.values()), expected)
        load(engine, tmp_path, rows, data__ingest_mode=mode, data__max_removed_share=1)
        known = sorted(row[:3] for row in expected.values())
        assert held_ratings(engine) == known
        total = table(
            engine, "SELECT total_ratings FROM mf.ingest_batches ORDER BY batch_id DESC LIMIT 1"
        )
        assert total == [(len(known),)]
