"""Ratings from JSON lines: one object a line, whose keys are the columns."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mf_core.config import SourceConfig
from mf_core.sources.chunks import Block, RawRows, RejectedRow, printable, repeated
from mf_core.sources.headers import Columns, Role, unread_notes
from mf_core.sources.ids import plain_texts
from mf_core.sources.lines import not_utf8
from mf_core.sources.parts import Part
from mf_core.sources.problems import Cause, Problem
from mf_core.sources.tables import wanted_columns
from mf_core.sources.text import blocks, content_of
from mf_core.sources.typed import value_as_id, value_as_text

_MAX_KEYS = 1_000
_HALF = re.compile("[\ud800-\udfff]")

Read = Callable[[Any], tuple[str, str]]
"""Returns a value as text, and what is wrong with it."""


@dataclass(frozen=True)
class _Kind:
    """How the values of a column are read, what they are called in reasons, what those are about.

    Where all of them are of one of the sets `at_once`, Python's own words for them are their texts.
    """

    read: Read
    what: str
    cause: Cause
    at_once: tuple[set[type], ...]


_IDS: tuple[set[type], ...] = ({int}, {str})
_VALUES: tuple[set[type], ...] = ({int}, {str}, {int, float}, {float})
_KINDS: dict[Role, _Kind] = {
    "user": _Kind(value_as_id, "the user id", Cause.ID, _IDS),
    "item": _Kind(value_as_id, "the item id", Cause.ID, _IDS),
    "rating": _Kind(value_as_text, "the rating", Cause.RATING, _VALUES),
    "time": _Kind(value_as_text, "the date", Cause.TIME, _VALUES),
    "side": _Kind(value_as_text, "the side", Cause.SIDE, _IDS),
    "weight": _Kind(value_as_text, "the weight", Cause.EVENT, _VALUES),
    "event": _Kind(value_as_text, "the event", Cause.EVENT, _IDS),
}


@dataclass(frozen=True)
class _Lines:
    """The lines of a block that are objects, and those that are none."""

    found: list[dict[str, Any]]
    numbers: list[int]
    raws: list[bytes]
    rejected: list[RejectedRow]


def read_json_lines(part: Part, source: SourceConfig) -> Iterator[Block]:
    """Yield the rows of a file of JSON lines in blocks of about `source.chunk_rows`.

    Raises:
        InputError: the file is empty, or the objects lack a column.
    """
    with part.path.open("rb") as file:
        content = content_of(file, part)
        if content is None:
            return
        columns: Columns | None = None
        notes: tuple[str, ...] = ()
        number = content.first_line
        for data in blocks(content, content.start, source.chunk_rows, quoted=False):
            lines = _parsed(data, number)
            # The keys of the first objects are the header.
            if columns is None and lines.found:
                keys = _keys(lines, part)
                columns = wanted_columns(keys, part.name, source, part.kind)
                notes = unread_notes(part.name, keys, columns, source, part.kind)
            yield replace(_rows(lines, columns or {}, part), notes=notes)
            number += data.count(b"\n")


def _parsed(data: bytes, first_line: int) -> _Lines:
    """Return the lines of a block, parsed."""
    lines = _Lines([], [], [], [])
    texts = data.removesuffix(b"\n").split(b"\n")
    for number, text in enumerate(texts, start=first_line):
        raw = text.removesuffix(b"\r")
        found, problem, cause = _object(raw)
        if problem:
            lines.rejected.append(RejectedRow(number, printable(raw), problem, cause))
        else:
            lines.found.append(found)
            lines.numbers.append(number)
            lines.raws.append(raw)
    return lines


def _object(raw: bytes) -> tuple[dict[str, Any], str, Cause]:
    """Return the object of a line, and what is wrong with it."""
    if not raw.strip():
        return {}, "the line is empty", Cause.LINE
    try:
        found = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return {}, not_utf8(error), Cause.ENCODING
    except (ValueError, RecursionError) as error:
        return {}, f"the line is no JSON: {error}", Cause.LINE
    if not isinstance(found, dict):
        return {}, "the line is no JSON object", Cause.LINE
    return found, "", Cause.LINE


def _keys(lines: _Lines, part: Part) -> list[str]:
    """Return the keys of some objects and the columns of the folders, in order, each once."""
    keys = dict.fromkeys(key for found in lines.found for key in found)
    names = list(keys)[:_MAX_KEYS]
    return [*names, *(column for column in part.constants if column not in keys)]


def _rows(lines: _Lines, columns: Columns, part: Part) -> Block:
    """Return the rows of a block, with what was wrong with values before they became text."""
    n_rows = len(lines.found)
    texts: dict[Role, Any] = {}
    problems = []
    for role, name in columns.items():
        given = part.constants.get(name)
        # What the file says of its rows comes before what its folders say.
        if given is not None and not any(name in found for found in lines.found):
            texts[role] = repeated(given, n_rows)
            continue
        kind = _KINDS[role]
        read, reasons = _column([found.get(name) for found in lines.found], kind)
        texts[role] = plain_texts(pa.array(read, type=pa.string()), unquote=False)
        if reasons:
            problems.append(_problem(kind, reasons, n_rows))

    nothing = pa.array([], type=pa.string())
    rows = RawRows(
        user=texts.get("user", nothing),
        item=texts.get("item", nothing),
        rating=texts.get("rating", nothing) if part.kind == "ratings" else texts.get("weight"),
        time=texts.get("time"),
        side=texts.get("side"),
        line=np.array(lines.numbers, dtype=np.int64),
        raw=lambda i: printable(lines.raws[i]),
        problems=tuple(problems),
        event=texts.get("event"),
    )
    return Block(rows, tuple(lines.rejected))


def _column(values: list[Any], kind: _Kind) -> tuple[list[str], dict[int, str]]:
    """Return the values of a column as texts, and what is wrong with some of them."""
    found = set(map(type, values))
    if any(found <= types for types in kind.at_once):
        texts = values if found == {str} else list(map(str, values))
        if not _HALF.search("".join(texts)):
            return texts, {}

    texts = []
    reasons = {}
    for i, value in enumerate(values):
        text, reason = _text(value, kind.read)
        texts.append(text)
        if reason:
            reasons[i] = reason
    return texts, reasons


def _text(value: Any, read: Read) -> tuple[str, str]:
    """Return a value as text, and what is wrong with it."""
    if isinstance(value, bool):
        return "", f"is {value}, and neither text nor a number"
    # Half of a pair (`\\ud800`), which no text may hold.
    if isinstance(value, str) and _HALF.search(value):
        return "", "is not valid UTF-8"
    text, reason = read(value)
    return ("", "is no single value") if _HALF.search(text) else (text, reason)


def _problem(kind: _Kind, reasons: dict[int, str], n_rows: int) -> Problem:
    """Return what is wrong with some rows."""
    mask = np.zeros(n_rows, dtype=bool)
    mask[list(reasons)] = True
    return Problem(mask, lambda i: f"{kind.what} {reasons[i]}", kind.cause)
