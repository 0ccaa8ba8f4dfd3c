"""Delimited text in blocks of whole lines.

A block takes the fast path (Arrow's CSV reader) if that gives exactly one row a line. Where it does
not (a missing field, a stray quote, a NUL, broken UTF-8, a quoted line break) the block is read
again line by line, so that every bad line gets its own line number, text and reason.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import Chunk, RawRows, RejectedRow, Rules, check_rows, printable
from mf_core.sources.ids import Side, TextIds, plain_texts
from mf_core.sources.layout import TextLayout, find_layout
from mf_core.sources.lines import MAX_RECORD_LINES, split_record

_SAMPLE_BYTES = 1 << 16
_MIN_BLOCK_BYTES = 1 << 16
_MAX_BLOCK_BYTES = 1 << 28
_MAX_LINE_BYTES = 1 << 20
# Stands for '::' on the fast path, which splits at one byte.
_UNIT_SEPARATOR = b"\x1f"
_BOM = b"\xef\xbb\xbf"
_UTF_16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path, name: str, source: SourceConfig, rules: Rules) -> Iterator[Chunk]:
    """Yield the rows of a delimited text file in chunks of about `source.chunk_rows`.

    Raises:
        InputError: the file is empty, is no UTF-8 text, or lacks the separator or a column.
    """
    with path.open("rb") as file:
        start, end = _content_bounds(file, name)
        file.seek(start)
        first_line = file.readline(_MAX_LINE_BYTES)
        shown_line = first_line.decode("utf-8", errors="replace").rstrip("\r\n")
        layout = find_layout(name, shown_line, source)

        position = start + len(first_line) * layout.header_lines
        if position >= end:
            raise InputError(
                f"{name}: expected ratings, got a file with a header only. "
                "Check what writes the file."
            )

        content = _Content(file, name, end)
        block_bytes = _block_bytes(file, position, source.chunk_rows)
        first_row = 1 + layout.header_lines

        def split(file: BinaryIO) -> Iterator[_Split]:
            """Yield the rows of the file, or of the same one opened again."""
            line = first_row
            again = replace(content, file=file)
            for block in _blocks(again, position, block_bytes, quoted=layout.quoted):
                yield _split_block(_Block(block, line), layout)
                line += block.count(b"\n")

        def survey() -> Iterator[dict[Side, Any]]:
            """Yield the ids of the whole file."""
            with path.open("rb") as again:
                for block in split(again):
                    yield {"user": block.rows.user, "item": block.rows.item}

        ids = TextIds(survey, as_text=source.ids == "text")
        for block in split(file):
            yield check_rows(block.rows, rules, ids, block.rejected)


@dataclass(frozen=True)
class _Content:
    """An open file, its name for messages, and the position where its text ends."""

    file: BinaryIO
    name: str
    end: int


class _Block:
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


def _content_bounds(file: BinaryIO, name: str) -> tuple[int, int]:
    """Return where the text starts (after a byte order mark) and ends (before blank lines)."""
    head = file.read(4)
    if head.startswith(_UTF_16_BOMS):
        raise InputError(f"{name}: expected UTF-8 text, got UTF-16. Save the file as UTF-8.")
    start = len(_BOM) if head.startswith(_BOM) else 0

    # From the end towards the start, until something stands there.
    end = file.seek(0, io.SEEK_END)
    while end > start:
        step = min(_SAMPLE_BYTES, end - start)
        file.seek(end - step)
        content = file.read(step).rstrip(b"\r\n")
        if content:
            return start, end - step + len(content)
        end -= step
    raise InputError(f"{name}: expected ratings, got an empty file. Check what writes the file.")


def _block_bytes(file: BinaryIO, position: int, chunk_rows: int) -> int:
    """Return about how many bytes `chunk_rows` lines take, judged by the first ones."""
    file.seek(position)
    sample = file.read(_SAMPLE_BYTES)
    n_lines = max(1, sample.count(b"\n"))

    wanted = chunk_rows * (len(sample) / n_lines)
    wanted = max(wanted, _MIN_BLOCK_BYTES)
    return int(min(wanted, _MAX_BLOCK_BYTES))


def _blocks(content: _Content, position: int, block_bytes: int, *, quoted: bool) -> Iterator[bytes]:
    """Yield the text from `position` on in blocks of whole lines and, as far as possible, rows."""
    content.file.seek(position)
    while position < content.end:
        block = content.file.read(min(block_bytes, content.end - position))
        position += len(block)

        # The last line of the block is completed.
        if not block.endswith(b"\n"):
            tail = _line(content, position)
            block += tail
            position += len(tail)

        # An odd number of quotes: the block ends inside a quoted field, or a stray quote is in it.
        lines = 0
        while quoted and block.count(b'"') % 2:
            if position >= content.end or lines >= MAX_RECORD_LINES:
                break
            tail = _line(content, position)
            block += tail
            position += len(tail)
            lines += 1
        yield block


def _line(content: _Content, position: int) -> bytes:
    """Return the rest of the line at `position`, which is where the file is read."""
    most_bytes = min(_MAX_LINE_BYTES, content.end - position)
    line = content.file.readline(most_bytes)
    is_last = position + len(line) >= content.end
    if not line.endswith(b"\n") and not is_last:
        raise InputError(
            f"{content.name}: expected lines of text, got {_MAX_LINE_BYTES:,} bytes "
            "without a line end. Is it a text file?"
        )
    return line


@dataclass(frozen=True)
class _Split:
    """A block as rows, and the lines of it that could not be split."""

    rows: RawRows
    rejected: tuple[RejectedRow, ...] = ()


def _split_block(block: _Block, layout: TextLayout) -> _Split:
    """Split a block on the fast path, or line by line where that is not possible."""
    columns = _split_fast(block, layout)
    if columns is None:
        return _split_lines(block, layout)

    # One row a line, so the i-th row is the i-th line.
    n_rows = len(columns[layout.user])
    end = block.first_line + n_rows
    line_numbers = np.arange(block.first_line, end, dtype=np.int64)
    return _Split(_raw_rows(columns, layout, line_numbers, lambda i: block.lines[i]))


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
    return RawRows(
        user=plain[layout.user],
        item=plain[layout.item],
        rating=plain[layout.rating],
        time=None if layout.time is None else plain[layout.time],
        side=None if layout.side is None else plain[layout.side],
        line=lines,
        raw=lambda i: printable(raw(i)),
    )


def _positions(layout: TextLayout) -> list[int]:
    """Return the positions of the fields that are read, in order."""
    # A set: two settings may name the same column.
    positions = {layout.user, layout.item, layout.rating}
    if layout.time is not None:
        positions.add(layout.time)
    if layout.side is not None:
        positions.add(layout.side)
    return sorted(positions)


def _split_fast(block: _Block, layout: TextLayout) -> dict[int, Any] | None:
    """Return the wanted columns by position, or None if the block is not one clean row a line."""
    data = block.data
    # A NUL has a reason of its own, and Arrow takes an empty line for a row of empty fields.
    if b"\0" in data or _has_empty_line(data):
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
            block_size=4 * _MAX_LINE_BYTES,
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


def _split_lines(block: _Block, layout: TextLayout) -> _Split:
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
            rejected.append(RejectedRow(line, printable(raw), record.problem))
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
    rows = _raw_rows(columns, layout, line_numbers, lambda i: raws[i])
    return _Split(rows, tuple(rejected))
