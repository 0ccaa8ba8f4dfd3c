"""Ids of users and items: one text for one id, whatever kind of source it comes from.

An id is text. Programs that hold ids as numbers write one and the same as `12`, `12.0`, `1.00` or
`1e+10`; here it is `12` whichever way it came. Typed sources say that an id is a number. In text,
the whole column says so: see `TextIds`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mf_core.sources.problems import Cause, Problem, as_mask, quoted

MAX_ID_LENGTH = 256
"""Characters of the longest id."""

Side = Literal["user", "item"]

MISSING = pa.array(
    ["", "NaN", "nan", "None", "NULL", "Null", "null", "\\N", "<NA>", "NA", "N/A", "#N/A", "NaT"]
)
"""What programs write for a value that is not there."""

_WHOLE = r"-?(0|[1-9][0-9]*)"
_EXPONENT = r"-?[0-9](\.[0-9]+)?[eE]\+?[0-9]{1,2}"
_FLOATS = rf"^({_WHOLE}\.0+|{_EXPONENT})$"
_NUMERALS = rf"^({_WHOLE}(\.0+)?|{_EXPONENT})$"
_QUOTED = r'^\s*"(?s:(.*))"\s*$'
_QUOTED_BEHIND_SPACE = r'^\s+"(?s:(.*))"\s*$'
# From here on a float64 stands for several whole numbers.
_INEXACT_FROM = 2**53
_EXACT_DIGITS = 15
_SPREADSHEET = r"^[0-9](\.[0-9]+)?E\+[0-9]{2}$"
_WRITE_WHOLE = "write ids as whole numbers or text"


def plain_texts(texts: Any, *, unquote: bool) -> Any:
    """Return texts (an Arrow array) without spaces around them, and without quotes.

    Args:
        texts: Arrow array of strings.
        unquote: quotes stand there yet; otherwise a reader took them off, but where a space came
            before them.
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    if not _may_hold(texts, b'"'):
        return trimmed
    pattern = _QUOTED if unquote else _QUOTED_BEHIND_SPACE
    inner = pc.replace_substring_regex(texts, pattern, r"\1")
    plain = pc.utf8_trim_whitespace(pc.replace_substring(inner, '""', '"'))
    return pc.if_else(pc.match_substring_regex(texts, pattern), plain, trimmed)


def _may_hold(texts: Any, characters: bytes) -> bool:
    """Return whether a text of an Arrow array may hold one of the characters, by all its bytes."""
    buffer = texts.buffers()[2]
    data = b"" if buffer is None else buffer.to_pybytes()
    return any(character in data for character in characters)


def check_ids(ids: Any, side: Side) -> list[Problem]:
    """Return what is wrong with the ids of one side, which have no spaces around them."""
    return check_names(ids, f"{side} id", Cause.ID)


def check_names(ids: Any, what: str, cause: Cause) -> list[Problem]:
    """Return what is wrong with names that have no spaces around them; `what` they are called."""
    missing = as_mask(pc.is_in(ids, value_set=MISSING))
    too_long = as_mask(pc.greater(pc.utf8_length(ids), MAX_ID_LENGTH))

    # Postgres' text holds no NUL; a line break in an id would break other systems' files.
    has_nul = has_break = np.zeros(len(ids), dtype=bool)
    if _may_hold(ids, b"\0\r\n"):
        has_nul = as_mask(pc.match_substring(ids, "\0"))
        has_break = as_mask(pc.match_substring_regex(ids, "[\r\n]"))

    def too_long_reason(i: int) -> str:
        """Return the reason with the length, as the id itself would be cut."""
        n_characters = len(ids[i].as_py())
        return f"the {what} has {n_characters:,} characters, more than {MAX_ID_LENGTH}"

    return [
        Problem(missing, lambda i: f"the {what} is missing", cause),
        Problem(too_long, too_long_reason, cause),
        Problem(has_nul, lambda i: f"the {what} holds a NUL byte", cause),
        Problem(has_break, lambda i: f"the {what} holds a line break", cause),
    ]


def number_as_id(value: float | Decimal, exact_below: int = _INEXACT_FROM) -> tuple[str, str]:
    """Return a number of a typed source as an id, and what is wrong with it ("": nothing).

    Args:
        value: a float, or a decimal, which is exact whatever its size.
        exact_below: where a float of its type begins to stand for several whole numbers.
    """
    if value != value:  # NaN
        return "", ""
    if abs(value) == float("inf") or value != int(value):
        return str(value), f"{value} is no whole number"
    if isinstance(value, float) and abs(value) >= exact_below:
        return str(value), f"{value:.0f} is a float too large to be exact; {_WRITE_WHOLE}"
    return str(int(value)), ""


@dataclass
class _Seen:
    """What a column of ids in a text file holds.

    Attributes:
        only_numerals: all of its ids are whole numbers, as integers or floats are written.
        most_digits: of the longest one that is written without an exponent.
    """

    only_numerals: bool = True
    most_digits: int = 0

    def add(self, ids: Any) -> None:
        """Look at further ids of the column."""
        ids = ids.unique()
        missing = pc.is_in(ids, value_set=MISSING)
        numerals = pc.match_substring_regex(ids, _NUMERALS)
        if not pc.all(pc.or_(missing, numerals), min_count=0).as_py():
            self.only_numerals = False
            return
        digits = pc.replace_substring_regex(ids, r"(\..*|[eE].*)$", "")
        written_out = pc.invert(pc.match_substring_regex(ids, "[eE]"))
        longest = pc.max(pc.utf8_length(digits.filter(written_out))).as_py()
        self.most_digits = max(self.most_digits, longest or 0)


class TextIds:
    """The ids of one text file, in which floats are told from other texts by the whole column.

    A column is one of numbers if each id in it is a whole number, as integers or floats are written
    (`12`, `12.0`, `1e+05`). Otherwise it is text, and nothing in it is changed: `1.0` beside `1.1`
    is a version, `1e5` beside `a7f` a code.

    Args:
        survey: gives the ids of both columns, block by block; it is asked for only where the first
            float appears.
        as_text: nothing is told apart; ids are loaded as they stand.
    """

    def __init__(
        self, survey: Callable[[], Iterator[dict[Side, Any]]], *, as_text: bool = False
    ) -> None:
        self._survey = survey
        self._as_text = as_text
        self._seen: dict[Side, _Seen] | None = None
        self._told: dict[tuple[str, Side], str] = {}

    def notes(self) -> tuple[str, ...]:
        """Return what people should know of the ids that were read."""
        return tuple(self._told.values())

    def read(self, ids: Any, side: Side) -> tuple[Any, list[Problem]]:
        """Return ids (an Arrow array without spaces) as they are loaded, and what is wrong."""
        if self._as_text or not _may_hold(ids, b".eE"):
            return ids, []
        # Each id once: there are far fewer than rows.
        encoded = ids.dictionary_encode()
        floats = pc.match_substring_regex(encoded.dictionary, _FLOATS)
        if not pc.any(floats, min_count=0).as_py():
            return ids, []
        seen = self._seen_in(side)
        if not seen.only_numerals:
            self._note_rounded(ids, side)
            return ids, []

        texts = encoded.dictionary.to_pylist()
        read = [_read_numeral(text, seen.most_digits) for text in texts]
        reasons = [reason for _, reason in read]
        for text, (number, reason) in zip(texts, read, strict=True):
            if number != text and not reason:
                note = (
                    f"the {side} ids are whole numbers written as floats; {text} is loaded as "
                    f"{number} (source.ids=text keeps them as they are)"
                )
                self._told.setdefault(("floats", side), note)
                break

        numbers = pa.array([number for number, _ in read], type=pa.string())
        which = encoded.indices.to_numpy()
        wrong = np.array([bool(reason) for reason in reasons])[which]
        problem = Problem(
            wrong, lambda i: f"the {side} id {quoted(ids, i)} {reasons[which[i]]}", Cause.ID
        )
        return numbers.take(encoded.indices), [problem]

    def _seen_in(self, side: Side) -> _Seen:
        """Return what the whole column holds."""
        if self._seen is None:
            self._seen = {"user": _Seen(), "item": _Seen()}
            for block in self._survey():
                for column, seen in self._seen.items():
                    if seen.only_numerals:
                        seen.add(block[column])
                if not any(seen.only_numerals for seen in self._seen.values()):
                    break
        return self._seen[side]

    def _note_rounded(self, ids: Any, side: Side) -> None:
        """Say that texts look as if a spreadsheet had rounded a number, and made one of several."""
        rounded = ids.filter(pc.match_substring_regex(ids, _SPREADSHEET))
        if len(rounded):
            note = (
                f"some {side} ids look like numbers that a spreadsheet has rounded, such as "
                f"{rounded[0]}, and may stand for several"
            )
            self._told.setdefault(("rounded", side), note)


def _read_numeral(text: str, most_digits: int) -> tuple[str, str]:
    """Return a text of a column of numbers as the id that it is, and what is wrong with it.

    A number with an exponent may have been rounded, as spreadsheets do. It is exact if the column
    has a number as long that is written out; and Java's way (1.2E7) is exact always.
    """
    has_exponent = "e" in text or "E" in text
    whole, point, _ = text.partition(".")
    if not has_exponent:
        if not point:
            return text, ""
        if len(whole) <= _EXACT_DIGITS:
            return "0" if whole == "-0" else whole, ""
    value = Decimal(text)
    if value != value.to_integral_value():
        return text, "is no whole number"
    number = str(int(value))
    if abs(value) >= _INEXACT_FROM:
        return text, f"is a float too large to be exact; {_WRITE_WHOLE}"
    written_digits = max(most_digits, len(value.as_tuple().digits))
    is_java = "." in text and "+" not in text
    if has_exponent and not is_java and written_digits < len(number):
        return text, f"may have lost digits; {_WRITE_WHOLE}"
    return number, ""
