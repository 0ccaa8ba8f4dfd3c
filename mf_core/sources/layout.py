"""How a text file of ratings is laid out, decided from its name and its first line."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.formats import (
    ATOMIC_TYPE,
    CSV,
    DELIMITERS,
    HEADERLESS,
    HEADERLESS_FIELDS,
    MOVIELENS,
    SPACE,
    delimiter_name,
    expected_delimiters,
    is_headerless,
)
from mf_core.sources.headers import (
    NEEDED,
    ROLES,
    Columns,
    Role,
    are_there,
    events_advice,
    find_columns,
    is_chosen,
    missing_columns,
    unread_note,
    unread_notes,
)
from mf_core.sources.parts import Part

_FEWEST_FIELDS = 3
_LONGEST_SHOWN = 80
_NUMBER = re.compile(r"\s*[+-]?[0-9]+(\.[0-9]*)?\s*")
_POSITION = re.compile(r"[1-9][0-9]{0,3}")
# Excel's own first line, which names the separator.
_ANNOUNCED = re.compile(r'"?sep=(?P<delimiter>.)"?', re.IGNORECASE)


@dataclass(frozen=True)
class TextLayout:
    """Where the fields of a line are.

    Attributes:
        delimiter: the separator.
        quoted: whether a field may stand in quotes.
        header_lines: 0 or 1.
        n_fields: fields of a line.
        user, item, rating, time, side, event: positions from 0; None: there is no such column.
            From `n_fields` on, they count the `constants`. Of events, `rating` is their weight.
        constants: values that all rows have in common, as the names of the folders say.
        guessed: whether only the look of the first line says that it is a row.
        notes: what people should know of it.
    """

    delimiter: str
    quoted: bool
    header_lines: int
    n_fields: int
    user: int
    item: int
    rating: int | None
    time: int | None
    side: int | None
    event: int | None
    constants: tuple[str, ...] = ()
    guessed: bool = False
    notes: tuple[str, ...] = ()


def find_layout(
    part: Part, first_line: str, source: SourceConfig, announced: str = ""
) -> TextLayout:
    """Return the layout of a file whose first line (without its end) is `first_line`.

    Args:
        part: the file; for messages, and for what its name and its folders say.
        first_line: of the header, or of the first row.
        source: the settings.
        announced: the separator that a line before this one names; "": none does.

    Raises:
        InputError: the separator or a column is not there.
    """
    name, kind, constants = part.name, part.kind, part.constants
    if announced and not source.delimiter:
        delimiter = announced
    else:
        delimiter = _find_delimiter(name, first_line, source)
    fields = split_line(first_line, delimiter)
    if source.layout == HEADERLESS:
        return _without_header(part, delimiter, fields, source)

    # Some programs write the header as a comment.
    names = split_line(first_line.lstrip("#").lstrip(SPACE), delimiter)
    columns = [ATOMIC_TYPE.sub("", field.strip().strip('"')) for field in names]
    # What the file says of its rows comes before what its folders say.
    further = {column: constants[column] for column in constants if column not in columns}
    names = [*columns, *further]
    found = find_columns(name, names, source, kind, aliases=source.layout != CSV)
    if are_there(found, kind):
        if source.layout != CSV:
            _refuse_numbers(name, found)
        # RecBole's atomic files know no quotes; neither does '::'.
        is_atomic = any(ATOMIC_TYPE.search(field) for field in fields)
        quoted = len(delimiter) == 1 and not is_atomic
        shape = _Split(delimiter, quoted, columns)
        layout = _with_header(part, shape, found, source, further)
        return replace(layout, notes=unread_notes(name, names, found, source, kind))

    if _looks_headerless(part, fields, source):
        return _without_header(part, delimiter, fields, source)
    missing = missing_columns(found, source, kind)
    hint = events_advice(missing, source, kind)
    raise _no_header(name, first_line, _Split(delimiter, False, columns), missing, hint)


def announced_delimiter(line: str) -> str:
    """Return the separator that Excel's line `sep=;` names, "" if this is no such line."""
    match = _ANNOUNCED.fullmatch(line)
    return match["delimiter"] if match else ""


@dataclass(frozen=True)
class _Split:
    """A first line, split: by what, whether with quotes, and into which fields."""

    delimiter: str
    quoted: bool
    columns: list[str]


def _no_header(
    name: str, first_line: str, split: _Split, missing: list[str], hint: str
) -> InputError:
    """Return what is said of a first line that is neither a known header nor surely a row.

    What is advised loses nothing, whichever it is.
    """
    if "\ufffd" in first_line:
        hint = " It is not in UTF-8: set source.encoding, such as cp1252 or latin-1."
    return InputError(
        f"{name}: expected the column(s) {', '.join(missing)} in the first line, "
        f"got {shorten(first_line)} read as {len(split.columns)} field(s) "
        f"separated by {delimiter_name(split.delimiter)}.{hint} If this line names the columns, "
        "say which are meant with source.user_column, source.item_column and source.rating_column; "
        f"if it is the first row, set source.layout={HEADERLESS}. Another separator: "
        "source.delimiter."
    )


def _refuse_numbers(name: str, found: Columns) -> None:
    """Raise InputError if columns are named by numbers, which the first row may hold as well."""
    numbers = [column for column in found.values() if _NUMBER.fullmatch(column)]
    if numbers:
        raise InputError(
            f"{name}: expected names of columns, got the number(s) {', '.join(numbers)}, which a "
            f"row may hold too. If the file has no header and they are places, set "
            f"source.layout={HEADERLESS}; if it has a header of numbers, source.layout={CSV}."
        )


def split_line(line: str, delimiter: str) -> list[str]:
    """Return the fields of one line.

    Quotes are understood where the separator is a single character.
    """
    if len(delimiter) > 1:
        return line.split(delimiter)
    try:
        if delimiter == SPACE:
            # Any number of them, also at the ends.
            return next(csv.reader([line.strip(SPACE)], delimiter=SPACE, skipinitialspace=True), [])
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def shorten(text: str) -> str:
    """Return `text` quoted and cut to 80 characters, for messages."""
    if len(text) > _LONGEST_SHOWN:
        text = f"{text[: _LONGEST_SHOWN - 3]}..."
    return repr(text)


def _find_delimiter(name: str, first_line: str, source: SourceConfig) -> str:
    """Return the configured separator, or the one that the first line shows."""
    # A shell or a form passes a tab as the two characters that stand for it.
    configured = source.delimiter.replace("\\t", "\t")
    if configured and configured in first_line:
        return configured

    present = _present_delimiter(first_line)
    if present is not None and not configured:
        return present

    wanted = delimiter_name(configured) if configured else expected_delimiters()
    seen = f"; it looks separated by {delimiter_name(present)}" if present else ""
    raise InputError(
        f"{name}: expected fields separated by {wanted}, "
        f"got the first line {shorten(first_line)}{seen}. "
        "Set source.delimiter (empty: decided from the first line) or correct the file."
    )


def _present_delimiter(first_line: str) -> str | None:
    """Return the separator that the line shows, None if it shows none."""
    candidates = [known.text for known in DELIMITERS if known.text in first_line]

    # An id may hold another separator; the one that makes three fields or more is meant.
    for delimiter in candidates:
        fields = split_line(first_line, delimiter)
        if len(fields) >= _FEWEST_FIELDS:
            return delimiter
    # A space in a line of two words separates nothing.
    return next((delimiter for delimiter in candidates if delimiter != SPACE), None)


def _with_header(
    part: Part,
    split: _Split,
    found: Columns,
    source: SourceConfig,
    constants: Mapping[str, str],
) -> TextLayout:
    columns = [*split.columns, *constants]
    missing = missing_columns(found, source, part.kind)
    if missing:
        raise InputError(
            f"{part.name}: expected every named column once, got no column {', '.join(missing)} in "
            f"{columns}. Check source.*_column."
        )
    at = {role: columns.index(column) for role, column in found.items()}
    return TextLayout(
        delimiter=split.delimiter,
        quoted=split.quoted,
        header_lines=1,
        n_fields=len(split.columns),
        user=at["user"],
        item=at["item"],
        rating=at.get("rating", at.get("weight")),
        time=at.get("time"),
        side=at.get("side"),
        event=at.get("event"),
        constants=tuple(constants.values()),
    )


def _looks_headerless(part: Part, fields: list[str], source: SourceConfig) -> bool:
    """Return whether the first line is surely a rating, by the file's name or by the line."""
    if source.layout == CSV:
        return False
    if is_headerless(PurePosixPath(part.name).name):
        return True
    # The third field of events might be a number of them, or a time.
    if part.kind == "events" and source.layout != MOVIELENS:
        return False

    # The time may be absent.
    if len(fields) not in (HEADERLESS_FIELDS - 1, HEADERLESS_FIELDS):
        return False
    if source.layout == MOVIELENS:
        return True

    # Somebody says what the columns are called, or the line does: so they have names.
    if any(is_chosen(role, source) for role in NEEDED[part.kind]):
        return False
    if find_columns(part.name, fields, source, part.kind):
        return False

    # A header has words where these files have a rating and a time. One that pandas writes of a
    # table without names has 0, 1, 2, which may as well be a row.
    if fields == ["0", "1", "2", "3"][: len(fields)]:
        return False
    return any(_NUMBER.fullmatch(field) for field in fields[2:])


# Where the columns are if nothing else is said, counted from 1.
_PLACES: dict[Role, int] = {"user": 1, "item": 2, "rating": 3, "time": 4}


def _without_header(
    part: Part, delimiter: str, fields: list[str], source: SourceConfig
) -> TextLayout:
    """Return the layout of a file whose columns have no names."""
    name, kind, constants = part.name, part.kind, part.constants
    is_known = is_headerless(PurePosixPath(name).name) and source.layout != HEADERLESS
    # A first line that is itself broken must not decide how many fields the known files have.
    n_fields = HEADERLESS_FIELDS if is_known else len(fields)
    at: dict[Role, int] = {}
    for role in ROLES[kind]:
        said: str = getattr(source, f"{role}_column")
        # These have their columns whatever those of other files are called.
        if is_known and role in _PLACES and said and said not in constants:
            place: int | None = _PLACES[role] - 1
        else:
            place = _place(part, role, source, n_fields)
        if place is not None:
            at[role] = place

    if len(set(at.values())) < len(at):
        raise InputError(
            f"{name}: expected each column at a place of its own, got the same twice. Without a "
            "header, the columns are user, item, rating, time in this order unless "
            "source.user_column=2 and the like say their places. Check source.*_column."
        )
    is_unread = is_known and kind == "events" and "weight" not in at
    return TextLayout(
        delimiter=delimiter,
        # Neither '::' nor tabs come with quotes.
        quoted=len(delimiter) == 1 and delimiter != "\t",
        header_lines=0,
        n_fields=n_fields,
        user=at["user"],
        item=at["item"],
        rating=at.get("rating", at.get("weight")),
        time=at.get("time"),
        side=at.get("side"),
        event=at.get("event"),
        constants=tuple(constants.values()),
        guessed=not is_known and source.layout not in (HEADERLESS, MOVIELENS),
        notes=(unread_note("rating"),) if is_unread else (),
    )


def _place(part: Part, role: Role, source: SourceConfig, n_fields: int) -> int | None:
    """Return the position of a column of a file without a header, None if there is none."""
    said: str = getattr(source, f"{role}_column")
    if said in part.constants:
        return n_fields + list(part.constants).index(said)
    if not said:
        return None
    if is_chosen(role, source):
        number = said
    elif role == "time" and n_fields <= len(NEEDED[part.kind]):
        return None
    elif role == "time" and (n_fields > HEADERLESS_FIELDS or part.kind == "events"):
        raise InputError(
            f"{part.name}: expected {', '.join(NEEDED[part.kind])} and perhaps a time, got "
            f"{n_fields} fields without a header. Say which is the time: source.time_column=4, or "
            "empty for none."
        )
    else:
        number = str(_PLACES[role])
    if not _POSITION.fullmatch(number) or int(number) > n_fields:
        raise InputError(
            f"{part.name}: expected a header that names {said!r:.80} (source.{role}_column), got a "
            f"file without one and with {n_fields} fields. Name the column by its number, such as "
            f"source.{role}_column={_PLACES.get(role, 5)}, or leave the setting as it comes."
        )
    return int(number) - 1
