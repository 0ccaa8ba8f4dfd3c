"""Lines of a text file as records, each by itself: what is wrong with one costs no other."""

import csv
import io
from dataclasses import dataclass
from typing import Protocol

from mf_core.sources.formats import SPACE
from mf_core.sources.problems import Cause

MAX_RECORD_LINES = 100
"""A quoted field may hold line breaks; a quote that nothing closes must not swallow the file."""


class Shape(Protocol):
    """How the lines of a table are split."""

    @property
    def delimiter(self) -> str:
        """What stands between two fields."""

    @property
    def quoted(self) -> bool:
        """Whether a field may stand in quotes."""

    @property
    def n_fields(self) -> int:
        """How many fields a line has."""


@dataclass(frozen=True)
class Record:
    """One row as its fields, over how many lines it goes, and why it is bad ("": it is not)."""

    fields: list[str]
    n_lines: int
    problem: str = ""
    cause: Cause = Cause.LINE


def _bad_line(problem: str, cause: Cause = Cause.LINE) -> Record:
    """Return a line that is no row; the next line starts a row again."""
    return Record([], 1, problem, cause)


def not_utf8(error: UnicodeDecodeError) -> str:
    """Return the reason of a line that can't be decoded."""
    return f"the line is not valid UTF-8 (byte {error.start + 1}); source.encoding says what it is"


def split_record(lines: list[bytes], at: int, shape: Shape) -> Record:
    """Return the record that starts at line `at` of the lines of a file, which lack their ends."""
    line = lines[at]
    if not line:
        return _bad_line("the line is empty")
    if b"\0" in line:
        return _bad_line("the line holds a NUL byte")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return _bad_line(not_utf8(error), Cause.ENCODING)

    if shape.quoted:
        record = _split_quoted(lines, at, shape)
    else:
        record = Record(text.split(shape.delimiter), 1)
    return record if record.problem else _counted(record, shape)


def _split_quoted(lines: list[bytes], at: int, shape: Shape) -> Record:
    """Return the record that starts at line `at`, with as many further lines as its quotes need.

    If no number of further lines makes a record of it, only the line itself is bad: a stray quote
    must not cost the lines behind it.
    """
    problem = ""
    most_lines = min(1 + MAX_RECORD_LINES, len(lines) - at)
    for n_lines in range(1, 1 + most_lines):
        joined = b"\n".join(lines[at : at + n_lines])
        is_closed = joined.count(b'"') % 2 == 0

        # A record of several lines ends where its quotes are closed, so there is nothing to try.
        if n_lines > 1 and not is_closed:
            continue

        try:
            fields = _split_csv(joined, shape.delimiter)
        except (csv.Error, UnicodeDecodeError) as error:
            # All quotes are closed and it still can't be split: more lines are no help.
            if is_closed:
                return _bad_line(problem or f"the line can't be split: {error}")
            # The quote may be closed on a later line.
            problem = "a quote is not closed"
            continue

        # Lines were joined by a stray quote, not by a quoted line break.
        if n_lines > 1 and len(fields) != shape.n_fields:
            break
        return Record(fields, n_lines)
    return _bad_line(problem)


def _split_csv(record: bytes, delimiter: str) -> list[str]:
    """Return the fields of a record with quotes. Raises csv.Error or UnicodeDecodeError."""
    is_space = delimiter == SPACE
    plain = record.decode("utf-8")
    # newline="" keeps the line breaks of quoted fields as they are.
    text = io.StringIO(plain.strip(SPACE) if is_space else plain, newline="")
    rows = csv.reader(text, delimiter=delimiter, strict=True, skipinitialspace=is_space)
    return next(rows, [])


def _counted(record: Record, shape: Shape) -> Record:
    """Return `record`, marked as bad if it has another number of fields than the shape."""
    n_fields = len(record.fields)
    if n_fields == shape.n_fields:
        return record

    problem = f"expected {shape.n_fields} fields, got {n_fields}"
    return Record([], record.n_lines, problem)
