"""The result of a query as a Parquet file of texts, so many rows at a time."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mf_core.config import Kind, SourceConfig
from mf_core.errors import InputError
from mf_core.sources.headers import Columns, find_column
from mf_core.sources.spool import Spool
from mf_core.sources.tables import PROBLEM, wanted_columns
from mf_core.sources.typed import value_as_id, value_as_text
from mf_core.sources.watermarks import HighWater

Portion = tuple[list[str], Sequence[Any]]
"""The names of a result's columns, and some of its rows."""

# What reasons call the value of a column.
_CALLED = {"user": "user id", "item": "item id", "time": "date"}


def write_rows(
    portions: Iterator[Portion],
    source: SourceConfig,
    kind: Kind,
    *,
    spool: Spool,
    path: Path,
    high_water: HighWater | None,
) -> None:
    """Write the wanted columns of a query's result to `path`, so many rows at a time.

    `high_water` looks at its column on the way.
    """
    names, rows = next(portions, ([], ()))
    where = "the query's result"
    columns = wanted_columns(names, where, source, kind)
    # Two settings may name one column.
    positions = {column: names.index(column) for column in columns.values()}
    # A column of ratings among events stays empty, and is there to be told of.
    ratings = find_column(where, names, [source.rating_column]) if kind == "events" else None
    unread = [] if ratings is None or ratings in positions else [ratings]
    marks = _position_of_marks(names, source)
    schema = pa.schema([(name, pa.string()) for name in (*positions, *unread, PROBLEM)])

    with spool.writing(), pq.ParquetWriter(path, schema) as writer:
        while rows:
            if high_water is not None:
                high_water.add(row[marks] for row in rows)
            empty: dict[str, list[str | None]] = {name: [None] * len(rows) for name in unread}
            table = pa.table({**_texts(rows, columns, positions), **empty}, schema=schema)
            spool.count(table.nbytes)
            writer.write_table(table)
            _, rows = next(portions, (names, ()))


def _position_of_marks(names: list[str], source: SourceConfig) -> int:
    """Return where the watermark column stands among the columns, if one is named."""
    column = source.watermark_column
    if column and names.count(column) != 1:
        raise InputError(
            f"source.watermark_column is {column}, but the query's result has {', '.join(names)}"
            ". Select it once, under this very name."
        )
    return names.index(column) if column else 0


def _texts(
    rows: Sequence[Any], columns: Columns, positions: Mapping[str, int]
) -> dict[str, list[str | None]]:
    """Return rows as text by column, and why a row is bad (None: it is not, or not yet)."""
    table: dict[str, list[str | None]] = {}
    problems: list[str | None] = [None] * len(rows)
    for role, column in columns.items():
        read = value_as_id if role in ("user", "item") else value_as_text
        values = []
        for i, row in enumerate(rows):
            text, problem = read(row[positions[column]])
            values.append(text)
            if problem and problems[i] is None:
                problems[i] = f"the {_CALLED.get(role, role)} {problem}"
        table[column] = [*values]
    return {**table, PROBLEM: problems}
