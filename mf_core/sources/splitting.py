"""Lines of text into rows.

A block takes the fast path (Arrow's CSV reader) if that gives exactly one row a line. Where it does
not (a missing field, a stray quote, a NUL, broken UTF-8, a quoted line break) the block is cut into
pieces, and those again, until the piece that is odd is small. It is read line by line, so that
every bad line gets its own line number, text and reason.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from mf_core.sources.chunks import Block, RawRows, RejectedRow, printable, repeated
from mf_core.sources.formats import SPACE
from mf_core.sources.ids import plain_texts
from mf_core.sources.layout import TextLayout
from mf_core.sources.lines import MAX_RECORD_LINES, split_record

MAX_LINE_BYTES = 1 << 20
"""No line of a table is longer."""

# An odd block is cut into so many pieces, and a smaller one is read line by line.
_PIECES = 16
_MIN_PIECE_BYTES = 1 << 13
# Stands for '::' on the fast path, which splits at one byte.
_UNIT_SEPARATOR = b"\x1f"
_ENDS_OF_LINE = re.compile(rb"(?m)^ +| +(?=\r?$)")
_SPACES = re.compile(rb" {2,}")


class Lines:
    """Whole lines of a file, the first of which is `first_line`."""

    def __init__(self, data: bytes, first_line: int) -> None:
        # The last line of a file may lack its end.
        self.data = data if data.endswith(b"\n") else data + b"\n"
        self.first_line = first_line

    @cached_property
    def lines(self) -> list[bytes]:
        """The lines without their ends."""
        # The data end with a line break, behind which nothing stands.
        lines = self.data.split(b"\n")[:-1]

        # Files from Windows.
        return [line.removesuffix(b"\r") for line in lines]


@dataclass(frozen=True)
class _Piece:
    """Lines that were split.

    Attributes:
        columns: the wanted fields by position, Arrow string arrays of shape (n,).
        lines: int64 array of shape (n,), the lines where the rows begin.
        raw: gives the text of the i-th row.
        rejected: the lines that are no rows.
    """

    columns: dict[int, Any]
    lines: NDArray[np.int64]
    raw: Callable[[int], bytes]
    rejected: tuple[RejectedRow, ...] = ()


def split_block(block: Lines, layout: TextLayout) -> Block:
    """Split a block on the fast path, and line by line where that is not possible."""
    piece = _joined(list(_pieces(block, layout)))
    rows = _raw_rows(piece.columns, layout, piece.lines, piece.raw)
    return Block(rows, piece.rejected)


def _pieces(block: Lines, layout: TextLayout) -> Iterator[_Piece]:
    """Yield the rows of a block, in one piece if it is split on the fast path."""
    columns = _split_fast(block, layout)
    if columns is not None:
        # One row a line, so the i-th row is the i-th line.
        n_rows = block.data.count(b"\n")
        lines = np.arange(block.first_line, block.first_line + n_rows, dtype=np.int64)
        yield _Piece(columns, lines, lambda i: block.lines[i])
        return

    parts = list(_cut(block, layout))
    if len(parts) == 1:
        yield _split_lines(block, layout)
        return
    for part in parts:
        yield from _pieces(part, layout)


def _cut(block: Lines, layout: TextLayout) -> Iterator[Lines]:
    """Yield the lines of a block in parts that no record goes beyond."""
    data = block.data
    may_span = layout.quoted and b'"' in data
    step = max(len(data) // _PIECES, _MIN_PIECE_BYTES)
    start = 0
    line = block.first_line
    while start < len(data):
        end = _end_of_lines(data, start + step)
        if may_span:
            end = _end_of_records(data, end)
        part = data[start:end]
        yield Lines(part, line)
        line += part.count(b"\n")
        start = end


def _end_of_lines(data: bytes, at: int) -> int:
    """Return where the line ends that `at` is in, or the data, whose last byte is a line end."""
    return data.index(b"\n", at) + 1 if at < len(data) else len(data)


def _end_of_records(data: bytes, end: int) -> int:
    """Return the first end of a line from `end` on that is the end of a record for certain.

    A record goes over several lines only if its first one has an odd number of quotes, and no
    further than `MAX_RECORD_LINES`. So none goes beyond that many lines with even numbers.
    """
    n_even = 0
    while n_even <= MAX_RECORD_LINES and end < len(data):
        line_end = _end_of_lines(data, end)
        is_even = data.count(b'"', end, line_end) % 2 == 0
        n_even = n_even + 1 if is_even else 0
        end = line_end
    return end


def _joined(pieces: list[_Piece]) -> _Piece:
    """Return the pieces of a block as one."""
    if len(pieces) == 1:
        return pieces[0]
    starts = np.cumsum([0, *(len(piece.lines) for piece in pieces)])

    def raw(i: int) -> bytes:
        """Return the text of the i-th row of all pieces."""
        which = int(np.searchsorted(starts, i, side="right")) - 1
        return pieces[which].raw(i - int(starts[which]))

    columns = {
        position: pa.concat_arrays([piece.columns[position] for piece in pieces])
        for position in pieces[0].columns
    }
    lines = np.concatenate([piece.lines for piece in pieces])
    rejected = tuple(row for piece in pieces for row in piece.rejected)
    return _Piece(columns, lines, raw, rejected)


def _raw_rows(
    columns: dict[int, Any],
    layout: TextLayout,
    lines: NDArray[np.int64],
    raw: Callable[[int], bytes],
) -> RawRows:
    """Return rows given by the position of their fields; `raw` gives the text of the i-th one."""
    plain = {
        position: plain_texts(texts, unquote=not layout.quoted)
        for position, texts in columns.items()
    }

    def column(position: int | None) -> Any:
        """Return the texts at a position, which may be the same in all rows."""
        if position is None:
            return None
        if position < layout.n_fields:
            return plain[position]
        return repeated(layout.constants[position - layout.n_fields], len(lines))

    return RawRows(
        user=column(layout.user),
        item=column(layout.item),
        rating=column(layout.rating),
        time=column(layout.time),
        side=column(layout.side),
        line=lines,
        raw=lambda i: printable(raw(i)),
        event=column(layout.event),
    )


def _positions(layout: TextLayout) -> list[int]:
    """Return the positions of the fields that are read, in order."""
    # A set: two settings may name the same column.
    optional = (layout.rating, layout.time, layout.side, layout.event)
    positions = {layout.user, layout.item, *(at for at in optional if at is not None)}
    return sorted(position for position in positions if position < layout.n_fields)


def _split_fast(block: Lines, layout: TextLayout) -> dict[int, Any] | None:
    """Return the wanted columns by position, or None if the block is not one clean row a line."""
    data = block.data
    if layout.delimiter == SPACE:
        # Within quotes, a space is a part of an id.
        if b'"' in data:
            return None
        data = _SPACES.sub(b" ", _ENDS_OF_LINE.sub(b"", data))
    # A NUL has a reason of its own, and Arrow takes an empty line for a row of empty fields.
    if b"\0" in data or _has_empty_line(data):
        return None
    # Arrow closes a quote that nothing closes at the end of the block.
    if layout.quoted and data.count(b'"') % 2:
        return None

    # Arrow splits at one byte; '::' becomes a control character that no line may hold by itself.
    delimiter = layout.delimiter.encode()
    if len(delimiter) > 1:
        if _UNIT_SEPARATOR in data:
            return None
        data = data.replace(delimiter, _UNIT_SEPARATOR)
        delimiter = _UNIT_SEPARATOR

    # A line with more or fewer fields than the layout has is refused by Arrow.
    try:
        table = _arrow_table(data, delimiter.decode(), layout)
    except pa.ArrowInvalid:
        return None

    # A quoted line break: fewer rows than lines.
    if table.num_rows != block.data.count(b"\n"):
        return None
    return {i: table.column(str(i)).combine_chunks() for i in _positions(layout)}


def _has_empty_line(data: bytes) -> bool:
    """Return whether a line of `data` is empty, the first one included."""
    if data.startswith((b"\n", b"\r\n")):
        return True
    return b"\n\n" in data or b"\n\r\n" in data


def _arrow_table(data: bytes, delimiter: str, layout: TextLayout) -> Any:
    """Return the wanted fields as string columns named by their position. Raises ArrowInvalid."""
    wanted = [str(position) for position in _positions(layout)]
    return pacsv.read_csv(
        pa.BufferReader(data),
        read_options=pacsv.ReadOptions(
            column_names=[str(position) for position in range(layout.n_fields)],
            block_size=4 * MAX_LINE_BYTES,
        ),
        parse_options=pacsv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if layout.quoted else False,
            ignore_empty_lines=False,
        ),
        convert_options=pacsv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(wanted, pa.string()),
            strings_can_be_null=False,
        ),
    )


def _split_lines(block: Lines, layout: TextLayout) -> _Piece:
    """Split a block line by line."""
    records: list[list[str]] = []
    lines: list[int] = []
    raws: list[bytes] = []
    rejected: list[RejectedRow] = []
    at = 0
    while at < len(block.lines):
        record = split_record(block.lines, at, layout)
        line = block.first_line + at
        raw = b"\n".join(block.lines[at : at + record.n_lines])
        if record.problem:
            rejected.append(RejectedRow(line, printable(raw), record.problem, record.cause))
        else:
            records.append(record.fields)
            lines.append(line)
            raws.append(raw)
        at += record.n_lines

    columns = {}
    for position in _positions(layout):
        fields = [record[position] for record in records]
        columns[position] = pa.array(fields, type=pa.string())
    line_numbers = np.array(lines, dtype=np.int64)
    return _Piece(columns, line_numbers, lambda i: raws[i], tuple(rejected))
