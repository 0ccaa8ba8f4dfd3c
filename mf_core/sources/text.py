"""Delimited text in blocks of whole lines, which `splitting` makes rows of."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import Block
from mf_core.sources.formats import HEADERLESS
from mf_core.sources.layout import announced_delimiter, find_layout
from mf_core.sources.lines import MAX_RECORD_LINES
from mf_core.sources.parts import Part
from mf_core.sources.splitting import MAX_LINE_BYTES, Lines, split_block

_SAMPLE_BYTES = 1 << 16
_MIN_BLOCK_BYTES = 1 << 16
_MAX_BLOCK_BYTES = 1 << 28
_BOM = b"\xef\xbb\xbf"
# The order of users and items can't be told from a line.
_GUESSED = (
    "no header, so the columns are taken as user, item, rating and, if there, time "
    f"(source.layout={HEADERLESS} with source.user_column=2, source.item_column=1: another order)"
)


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
            block = split_block(Lines(data, line), layout)
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
    while not (line := file.readline(MAX_LINE_BYTES)).strip() and start + len(line) < end:
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
    most_bytes = min(MAX_LINE_BYTES, content.end - position)
    line = content.file.readline(most_bytes)
    is_last = position + len(line) >= content.end
    if not line.endswith(b"\n") and not is_last:
        raise InputError(
            f"{content.name}: expected lines of text, got {MAX_LINE_BYTES:,} bytes "
            "without a line end. Is it a text file?"
        )
    return line
