"""What a load costs grows with its rows, whatever Postgres believes of the tables that it fills."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import make_config
from mf_core.intake.ingest import ingest
from mf_core.records import IngestReport

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# Small enough for a test, and large enough that a load of nested loops takes ten times too long.
FEW, TEN_TIMES = 6_000, 60_000
# A machine that does other things too may stop for so long.
PAUSE_SECONDS = 4.0

Before = Callable[[Engine, str], None]


def as_it_comes(engine: Engine, table: str) -> None:
    """Leave the statistics to the ingest itself."""


def analysed_empty(engine: Engine, table: str) -> None:
    """Have them say that the table is empty; of one that is filled, that its pages are."""
    with engine.begin() as connection:
        for statement in (
            f"CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM {table}",
            f"DELETE FROM {table}",
            f"ANALYZE {table}",
            f"INSERT INTO {table} SELECT * FROM kept",
        ):
            connection.execute(sa.text(statement))


def analysed_small(engine: Engine, table: str) -> None:
    """Have them say what a single row said."""
    [columns, values] = {
        "mf.ratings": ("user_id, item_id, rating, batch_id", "'only', 'one', 3, 1"),
        "mf.events": ("user_id, item_id, event, source_id, amount", "'only', 'one', '', 99, 3"),
    }[table]
    with engine.begin() as connection:
        for statement in (
            f"CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM {table}",
            f"TRUNCATE {table}",
            f"INSERT INTO {table} ({columns}) VALUES ({values})",
            f"ANALYZE {table}",
            f"DELETE FROM {table}",
            f"INSERT INTO {table} SELECT * FROM kept",
        ):
            connection.execute(sa.text(statement))


BEFORE = [as_it_comes, analysed_empty, analysed_small]
SETTINGS: dict[str, dict[str, object]] = {
    "merge": {"data.ingest_mode": "merge"},
    "replace": {"data.ingest_mode": "replace"},
    "events": {
        "data.kind": "events",
        "data.max_repeated_share": 1,
        "data.max_removed_share": 1,
    },
    "added events": {
        "data.kind": "events",
        "data.ingest_mode": "add",
        "data.max_repeated_share": 1,
    },
}


def rows(n: int, seed: int) -> pd.DataFrame:
    """Return ratings of `n` pairs; with another seed a tenth of them are other pairs."""
    pairs = np.arange(n) + (seed > 1) * n // 10
    table = pd.DataFrame(
        {
            "user_id": [f"u{pair % (n // 20)}" for pair in pairs],
            "item_id": [f"i{pair // (n // 20)}" for pair in pairs],
            "rating": 1 + (pairs * seed) % 5,
            "timestamp": 1_000_000_000 + 1_000_000 * seed + pairs,
        }
    )
    return table.sample(frac=1, random_state=seed)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("kind", SETTINGS)
def test_ten_times_the_rows_take_ten_times_as_long(
    engine: Engine, tmp_path: Path, kind: str, before: Before
) -> None:
    source = tmp_path / "ratings.csv"
    tables = ["mf.ratings", "mf.events"] if "events" in kind else ["mf.ratings"]

    def load(n: int, seed: int) -> tuple[float, IngestReport]:
        rows(n, seed).to_csv(source, index=False)
        for table in tables:
            before(engine, table)
        config = make_config({"source.uri": str(source)} | SETTINGS[kind])
        started = time.monotonic()
        report = ingest(engine, config, NOW, print, {})
        return time.monotonic() - started, report

    taken: dict[int, list[float]] = {}
    for n in (FEW, TEN_TIMES):
        first, into_empty = load(n, 1)
        second, into_full = load(n, 3)
        taken[n] = [first, second]
        assert into_empty.rows_inserted == n
        assert into_full.rows_inserted == n // 10
        with engine.begin() as connection:
            connection.execute(sa.text("TRUNCATE mf.ratings, mf.events, mf.event_sources"))
            connection.execute(sa.text("DELETE FROM mf.ingest_batches"))

    for small, large in zip(*taken.values(), strict=True):
        assert large < 12 * small + PAUSE_SECONDS, taken
