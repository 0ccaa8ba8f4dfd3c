"""Delimited text in blocks of whole lines.

A block takes the fast path (Arrow's CSV reader) if that gives exactly one row a line. Where it does not (a missing field, a
stray quote, a NUL, broken UTF-8, a quoted line break) the block is read again line by line, so that every bad line gets its
own line number, text and reason.
"""

import csv
import io
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import Chunk, RawRows, RejectedRow, Rules, check_rows, printable
from mf_core.sources.layout import TextLayout, find_layout

_SAMPLE_BYTES = 1 << 16
_MIN_BLOCK_BYTES = 1 << 16
_MAX_BLOCK_BYTES = 1 << 28
_MAX_LINE_BYTES = 1 << 20
# A quoted field may hold line breaks; a quote that nothing closes must not swallow the file.
_MAX_RECORD_LINES = 100
# Stands for '::' on the fast path, which splits at one byte.
_UNIT_SEPARATOR = b"\x1f"
_BOM = b"\xef\xbb\xbf"


def read_text(path: Path, name: str, source: SourceConfig, rules: Rules) -> Iterator[Chunk]:
    """Yield the rows of a delimited text file in chunks of about `source.chunk_rows`.

    Raises:
        InputError: the file is empty, is no UTF-8 text, or lacks the separator or a column.
    """
    with path.open("rb") as file:
        start, end = _content_bounds(file, name)
        file.seek(start)
        first_line = file.readline(_MAX_LINE_BYTES)
        layout = find_layout(
            name, first_line.decode("utf-8", errors="replace").rstrip("\r\n"), source
        )
        line = 1 + layout.header_lines
        position = start + len(first_line) * layout.header_lines
        if position >= end:
            raise InputError(
                f"{name}: expected ratings, got a file with a header only. Check what writes the file."
            )
        for block in _blocks(
            file,
            name,
            position,
            end,
            _block_bytes(file, position, source.chunk_rows),
            layout.quoted,
        ):
            yield _read_block(_Block(block, line), layout, rules)
            line += block.count(b"\n")


class _Block:
    """Whole lines of a file, the first of which is `first_line`."""

    def __init__(self, data: bytes, first_line: int) -> None:
        self.data = data if data.endswith(b"\n") else data + b"\n"
        self.first_line = first_line

    @cached_property
    def lines(self) -> list[bytes]:
        return [line.removesuffix(b"\r") for line in self.data.split(b"\n")[:-1]]


def _content_bounds(file: BinaryIO, name: str) -> tuple[int, int]:
    """Return where the text starts (after a byte order mark) and ends (before blank lines at the end)."""
    head = file.read(4)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{name}: expected UTF-8 text, got UTF-16. Save the file as UTF-8.")
    start = len(_BOM) if head.startswith(_BOM) else 0
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
    file.seek(position)
    sample = file.read(_SAMPLE_BYTES)
    line_bytes = len(sample) / max(1, sample.count(b"\n"))
    return int(min(max(chunk_rows * line_bytes, _MIN_BLOCK_BYTES), _MAX_BLOCK_BYTES))


def _blocks(
    file: BinaryIO, name: str, position: int, end: int, block_bytes: int, quoted: bool
) -> Iterator[bytes]:
    file.seek(position)
    while position < end:
        block = file.read(min(block_bytes, end - position))
        position += len(block)
        if not block.endswith(b"\n"):
            tail = _line(file, name, position, end)
            block, position = block + tail, position + len(tail)
        lines = 0
        while quoted and block.count(b'"') % 2 and position < end and lines < _MAX_RECORD_LINES:
            # The block ends inside a quoted field, or there is a stray quote in it.
            tail = _line(file, name, position, end)
            block, position, lines = block + tail, position + len(tail), lines + 1
        yield block


def _line(file: BinaryIO, name: str, position: int, end: int) -> bytes:
    line = file.readline(min(_MAX_LINE_BYTES, end - position))
    if not line.endswith(b"\n") and position + len(line) < end:
        raise InputError(
            f"{name}: expected lines of text, got {_MAX_LINE_BYTES:,} bytes without a line end. Is it a text file?"
        )

    return line


def _read_block(block: _Block, layout: TextLayout, rules: Rules) -> Chunk:
    columns = _split_fast(block, layout)
    if columns is None:
        return _read_lines(block, layout, rules)
    n = len(columns[layout.user])
    lines = np.arange(block.first_line, block.first_line + n, dtype=np.int64)
    rows = _raw_rows(columns, layout, lines, lambda i: block.lines[i])
    return check_rows(rows, rules)


def _raw_rows(columns: dict[int, Any], layout: TextLayout, lines: Any, raw: Any) -> RawRows:
    return RawRows(
        user=columns[layout.user],
        item=columns[layout.item],
        rating=columns[layout.rating],
        time=None if layout.time is None else columns[layout.time],
        side=None if layout.side is None else columns[layout.side],
        line=lines,
        raw=lambda i: printable(raw(i)),
    )


def _positions(layout: TextLayout) -> list[int]:
    wanted = {layout.user, layout.item, layout.rating, layout.time, layout.side}
    return sorted(position for position in wanted if position is not None)


def _split_fast(block: _Block, layout: TextLayout) -> dict[int, Any] | None:
    """Return the wanted columns by position, or None if the block is not one clean row a line."""
    data, delimiter = block.data, layout.delimiter
    # Arrow takes an empty line for a row of empty fields.
    if b"\0" in data or b"\n\n" in data or b"\n\r\n" in data or data.startswith((b"\n", b"\r\n")):
        return None
    if len(delimiter.encode()) > 1:
        if _UNIT_SEPARATOR in data:
            return None
        data, delimiter = (
            data.replace(delimiter.encode(), _UNIT_SEPARATOR),
            _UNIT_SEPARATOR.decode(),
        )
    positions = _positions(layout)
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            pacsv.ReadOptions(
                column_names=[str(i) for i in range(layout.n_fields)],
                block_size=4 * _MAX_LINE_BYTES,
            ),
            pacsv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if layout.quoted else False,
                ignore_empty_lines=False,
            ),
            pacsv.ConvertOptions(
                include_columns=[str(i) for i in positions],
                column_types={str(i): pa.string() for i in positions},
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != block.data.count(b"\n"):
        return None
    return {i: table.column(str(i)).combine_chunks() for i in positions}


def _read_lines(block: _Block, layout: TextLayout, rules: Rules) -> Chunk:
    """Read a block line by line."""
    records: list[list[str]] = []
    lines: list[int] = []
    raws: list[bytes] = []
    rejected: list[RejectedRow] = []
    at = 0
    while at < len(block.lines):
        fields, used, reason = _split_record(block.lines, at, layout)
        raw = b"\n".join(block.lines[at : at + used])
        if reason:
            rejected.append(RejectedRow(block.first_line + at, printable(raw), reason))
        else:
            records.append(fields)
            lines.append(block.first_line + at)
            raws.append(raw)
        at += used
    columns = {
        i: pa.array([record[i] for record in records], type=pa.string()) for i in _positions(layout)
    }
    rows = _raw_rows(columns, layout, np.array(lines, dtype=np.int64), lambda i: raws[i])
    return check_rows(rows, rules, tuple(rejected))


def _split_record(lines: list[bytes], at: int, layout: TextLayout) -> tuple[list[str], int, str]:
    """Return the fields of the record that starts at line `at`, how many lines it takes, and why it is bad ("": it is not)."""
    line = lines[at]
    if not line:
        return [], 1, "the line is empty"
    if b"\0" in line:
        return [], 1, "the line holds a NUL byte"
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return [], 1, f"the line is not valid UTF-8 (byte {error.start + 1})"
    if not layout.quoted:
        return _counted(text.split(layout.delimiter), 1, layout)
    fields, used, reason = _split_quoted(lines, at, layout)
    return (fields, used, reason) if reason else _counted(fields, used, layout)


def _split_quoted(lines: list[bytes], at: int, layout: TextLayout) -> tuple[list[str], int, str]:
    reason = ""
    for used in range(1, 2 + min(_MAX_RECORD_LINES, len(lines) - at - 1)):
        record = b"\n".join(lines[at : at + used])
        if used > 1 and record.count(b'"') % 2:
            continue
        try:
            fields = next(
                csv.reader(
                    io.StringIO(record.decode("utf-8"), newline=""),
                    delimiter=layout.delimiter,
                    strict=True,
                )
            )
        except (csv.Error, UnicodeDecodeError) as error:
            if record.count(b'"') % 2 == 0:
                return [], 1, reason or f"the line can't be split: {error}"
            reason = "a quote is not closed"
            continue
        if used > 1 and len(fields) != layout.n_fields:
            break
        return fields, used, ""
    return [], 1, reason


def _counted(fields: list[str], used: int, layout: TextLayout) -> tuple[list[str], int, str]:
    if len(fields) != layout.n_fields:
        return [], used, f"expected {layout.n_fields} fields, got {len(fields)}"
    return fields, used, ""
