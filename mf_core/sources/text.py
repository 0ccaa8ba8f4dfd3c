"""Delimited text in blocks of whole lines.

A block takes the fast path (Arrow's CSV reader) if that gives exactly one row a line. Where it does
not (a missing field, a stray quote, a NUL, broken UTF-8, a quoted line break) the block is read
again line by line, so that every bad line gets its own line number, text and reason.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import Block, RawRows, RejectedRow, printable, repeated
from mf_core.sources.formats import HEADERLESS, SPACE
from mf_core.sources.ids import plain_texts
from mf_core.sources.layout import TextLayout, announced_delimiter, find_layout
from mf_core.sources.lines import MAX_RECORD_LINES, split_record
from mf_core.sources.parts import Part

_SAMPLE_BYTES = 1 << 16
_MIN_BLOCK_BYTES = 1 << 16
_MAX_BLOCK_BYTES = 1 << 28
_MAX_LINE_BYTES = 1 << 20
# Stands for '::' on the fast path, which splits at one byte.
_UNIT_SEPARATOR = b"\x1f"
_BOM = b"\xef\xbb\xbf"
_ENDS_OF_LINE = re.compile(rb"(?m)^ +| +(?=\r?$)")
# The order of users and items can't be told from a line.
_GUESSED = (
    "no header, so the columns are taken as user, item, rating and, if there, time "
    f"(source.layout={HEADERLESS} with source.user_column=2, source.item_column=1: another order)"
)
_SPACES = re.compile(rb" {2,}")


def read_text(part: Part, source: SourceConfig) -> Iterator[Block]:
    """Yield the rows of a delimited text file in blocks of about `source.chunk_rows`.

    Raises:
        InputError: the file is empty, or lacks the separator or a column.
    """
    with part.path.open("rb") as file:
        content = content_of(file, part)
        if content is None:
            return
        position, line = content.start, content.first_line
        first_line = _line(content, position)
        announced = announced_delimiter(_shown(first_line))
        if announced:
            position += len(first_line)
            line += 1
            first_line = _line(content, position)
        layout = find_layout(part, _shown(first_line), source, announced)
        part.siblings.meet(part.name, has_header=bool(layout.header_lines), guessed=layout.guessed)

        position += len(first_line) * layout.header_lines
        if position >= content.end:
            if part.siblings.several:
                return
            raise InputError(
                f"{part.name}: expected ratings, got a file with a header only. "
                "Check what writes the file."
            )

        line += layout.header_lines
        notes = (_GUESSED, *layout.notes) if layout.guessed else layout.notes
        for data in blocks(content, position, source.chunk_rows, quoted=layout.quoted):
            block = _split_block(_Lines(data, line), layout)
            yield replace(block, notes=notes)
            line += data.count(b"\n")


def _shown(line: bytes) -> str:
    """Return a line without its end; what is no UTF-8 is replaced."""
    return line.decode("utf-8", errors="replace").rstrip("\r\n")


@dataclass(frozen=True)
class Content:
    """An open file of text.

    Attributes:
        file: the file.
        name: its name for messages.
        start: where its first line begins that is not blank.
        end: where its last one ends.
        first_line: the number of that first line.
    """

    file: BinaryIO
    name: str
    start: int
    end: int
    first_line: int


class _Lines:
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


def content_of(file: BinaryIO, part: Part) -> Content | None:
    """Return the text of a file, without a byte order mark and blank lines around.

    None: there is none, which one of several parts may have. The file is read from the text on.

    Raises:
        InputError: the only file is empty.
    """
    head = file.read(len(_BOM))
    start = len(_BOM) if head == _BOM else 0

    # From the end towards the start, until something stands there.
    end = file.seek(0, io.SEEK_END)
    while end > start:
        step = min(_SAMPLE_BYTES, end - start)
        file.seek(end - step)
        found = file.read(step).rstrip(b"\r\n")
        if found:
            return _from_first_line(file, part.name, start, end - step + len(found))
        end -= step
    if part.siblings.several:
        return None
    raise InputError(
        f"{part.name}: expected ratings, got an empty file. Check what writes the file."
    )


def _from_first_line(file: BinaryIO, name: str, start: int, end: int) -> Content:
    """Return the text between two positions from its first line on that is not blank."""
    number = 1
    file.seek(start)
    while not (line := file.readline(_MAX_LINE_BYTES)).strip() and start + len(line) < end:
        start += len(line)
        number += 1
    file.seek(start)
    return Content(file, name, start, end, number)


def _block_bytes(file: BinaryIO, position: int, chunk_rows: int) -> int:
    """Return about how many bytes `chunk_rows` lines take, judged by the first ones."""
    file.seek(position)
    sample = file.read(_SAMPLE_BYTES)
    n_lines = max(1, sample.count(b"\n"))

    wanted = chunk_rows * (len(sample) / n_lines)
    wanted = max(wanted, _MIN_BLOCK_BYTES)
    return int(min(wanted, _MAX_BLOCK_BYTES))


def blocks(content: Content, position: int, chunk_rows: int, *, quoted: bool) -> Iterator[bytes]:
    """Yield the text from `position` on in blocks of whole lines and, as far as possible, rows."""
    block_bytes = _block_bytes(content.file, position, chunk_rows)
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


def _line(content: Content, position: int) -> bytes:
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


def _split_block(block: _Lines, layout: TextLayout) -> Block:
    """Split a block on the fast path, or line by line where that is not possible."""
    columns = _split_fast(block, layout)
    if columns is None:
        return _split_lines(block, layout)

    # One row a line, so the i-th row is the i-th line.
    n_rows = block.data.count(b"\n")
    end = block.first_line + n_rows
    line_numbers = np.arange(block.first_line, end, dtype=np.int64)
    return Block(_raw_rows(columns, layout, line_numbers, lambda i: block.lines[i]))


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


def _split_fast(block: _Lines, layout: TextLayout) -> dict[int, Any] | None:
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


def _split_lines(block: _Lines, layout: TextLayout) -> Block:
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
    rows = _raw_rows(columns, layout, line_numbers, lambda i: raws[i])
    return Block(rows, tuple(rejected))
