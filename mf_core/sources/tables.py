"""Ratings from Parquet files, which a query's result comes as, too."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mf_core.config import Kind, SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import Block, RawRows, printable, repeated
from mf_core.sources.headers import (
    Columns,
    Role,
    events_advice,
    find_columns,
    missing_columns,
    unread_notes,
)
from mf_core.sources.ids import Side, plain_texts
from mf_core.sources.parts import Part
from mf_core.sources.problems import Cause, Problem, as_mask, shown
from mf_core.sources.typed import id_texts, texts, times

PROBLEM = "mf_retrain: why the row is bad"
"""A column of a query's result: what was wrong with a row before its values became text."""


def read_parquet(part: Part, source: SourceConfig, count: Callable[[int], None]) -> Iterator[Block]:
    """Yield the rows of a Parquet file in blocks of `source.chunk_rows`.

    A row's line is its number in the file, from 1. `count` is told the bytes of each block.

    Raises:
        InputError: it is no whole Parquet file, lacks a column, or holds more than the limits.
    """
    name = part.name
    try:
        with _opened(part.path) as file:
            names = _column_names(file, name)
            # What the file says of its rows comes before what its folders say.
            constants = {
                column: value for column, value in part.constants.items() if column not in names
            }
            columns = wanted_columns([*names, *constants], name, source, part.kind)
            notes = unread_notes(name, names, columns, source, part.kind)
            table = _Table(name, columns, constants, PROBLEM in names)
            batches = file.iter_batches(batch_size=source.chunk_rows, columns=table.in_file())
            line = 1
            for batch in batches:
                # A file may hold a billion equal rows in a few bytes.
                count(batch.nbytes)
                yield Block(table.raw_rows(batch, line), notes=notes)
                line += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name}: expected a whole Parquet file, got {printable(str(error))}. "
            "Write or fetch it again."
        ) from None


def _opened(path: Path) -> Any:
    """Return an opened Parquet file. Spark's old times would wrap after 2262 as nanoseconds."""
    return pq.ParquetFile(path, coerce_int96_timestamp_unit="us")


def _column_names(file: Any, name: str) -> list[str]:
    """Return the names of a Parquet file's columns. Raises InputError if one stands there twice."""
    names: list[str] = file.schema_arrow.names
    repeated = sorted({column for column in names if names.count(column) > 1})
    if repeated:
        listing = ", ".join(map(printable, repeated))
        raise InputError(f"{name}: expected each column once, got {listing} more than once.")
    return names


def wanted_columns(
    names: Sequence[str], name: str, source: SourceConfig, kind: Kind = "ratings"
) -> Columns:
    """Return which of the columns `names` are read.

    Raises:
        InputError: one that is needed, or that a setting names, is not there.
    """
    columns = find_columns(name, names, source, kind)
    missing = missing_columns(columns, source, kind)
    if missing:
        raise InputError(
            f"{name}: expected the column(s) {', '.join(missing)}, "
            f"got {', '.join(map(printable, names))}. "
            f"Check source.*_column.{events_advice(missing, source, kind)}"
        )
    return columns


# Columns that are read as text, and what a reason is about that is given to one of them.
_TEXTS: dict[Role, Cause] = {
    "rating": Cause.RATING,
    "weight": Cause.EVENT,
    "side": Cause.SIDE,
    "event": Cause.EVENT,
}


@dataclass(frozen=True)
class _Table:
    """A Parquet file: its name and columns, those that its folders give, and `PROBLEM` if there."""

    name: str
    columns: Columns
    constants: Mapping[str, str]
    has_problems: bool

    def in_file(self) -> list[str]:
        """Return the names of the columns that are read of the file, each once."""
        wanted = dict.fromkeys(self.columns.values())
        names = [name for name in wanted if name not in self.constants]
        return [*names, PROBLEM] if self.has_problems else names

    def _column(self, batch: Any, role: Role) -> Any:
        """Return the values of a column, which may be the same in all rows."""
        name = self.columns[role]
        if name in self.constants:
            return repeated(self.constants[name], batch.num_rows)
        return batch.column(name)

    def ids(self, batch: Any, side: Side) -> tuple[Any, list[Problem]]:
        """Return the ids of one side as text, and what is wrong with them."""
        ids, problems = id_texts(self._column(batch, side), self._where(side), side)
        return plain_texts(ids, unquote=False), problems

    def raw_rows(self, batch: Any, first_line: int) -> RawRows:
        """Return a batch of rows as text, its first row being the row `first_line` of the file."""
        users, user_problems = self.ids(batch, "user")
        items, item_problems = self.ids(batch, "item")
        found = {"user": users, "item": items}
        problems = [*_told(batch), *user_problems, *item_problems]
        if "time" in self.columns:
            column = self._column(batch, "time")
            found["time"], time_problems = times(column, self._where("time"))
            problems += time_problems
        for role, cause in _TEXTS.items():
            if role in self.columns:
                found[role], text_problems = self._texts(batch, role, f"the {role}", cause)
                problems += text_problems

        def raw(i: int) -> str:
            """Return a row as a text file would hold it."""
            return "\t".join(shown(values, i) for values in found.values())

        return RawRows(
            user=found["user"],
            item=found["item"],
            rating=found.get("rating", found.get("weight")),
            time=found.get("time"),
            side=found.get("side"),
            event=found.get("event"),
            line=np.arange(first_line, first_line + batch.num_rows, dtype=np.int64),
            raw=raw,
            problems=tuple(problems),
        )

    def _texts(self, batch: Any, role: Role, what: str, cause: Cause) -> tuple[Any, list[Problem]]:
        column = self._column(batch, role)
        values, problems = texts(column, self._where(role), what, cause)
        return plain_texts(values, unquote=False), problems

    def _where(self, role: Role) -> str:
        """Return what messages call a column."""
        return f"{self.name}, column {printable(self.columns[role])}"


def _told(batch: Any) -> list[Problem]:
    """Return what a query's result itself says of its rows."""
    if PROBLEM not in batch.schema.names:
        return []
    told = batch.column(PROBLEM)
    wrong = as_mask(pc.is_valid(told))
    # What was wrong before it became text was an id, in all but a few rows.
    return [Problem(wrong, lambda i: str(told[i].as_py()), Cause.ID)]
