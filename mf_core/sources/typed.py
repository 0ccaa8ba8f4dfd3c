"""Values of typed sources as text, each by itself: one that has none is one bad row."""

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mf_core.errors import InputError
from mf_core.sources.ids import Side, number_as_id
from mf_core.sources.problems import Cause, Mask, Problem

# Below this a float of so many bits stands for one whole number only.
_EXACT_BELOW = {16: 2**11, 32: 2**24, 64: 2**53}
# Microseconds of a unit of Arrow's times.
_UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NS_PER_US = 1_000
# Far outside the dates allowed, and far inside of what an int64 holds.
_LARGEST_US = 10**18


def id_texts(column: Any, where: str, side: Side) -> tuple[Any, list[Problem]]:
    """Return an Arrow column of ids as strings, "" for a missing one, and what is wrong with them.

    A number is written as a whole number; one that is none, or that its type can't hold exactly, is
    wrong.

    Raises:
        InputError: ids of such a type can't be text.
    """
    column = _decoded(column)
    is_float = pa.types.is_floating(column.type)
    if not is_float and not pa.types.is_decimal(column.type):
        return texts(column, where, f"the {side} id", Cause.ID)

    exact_below = _EXACT_BELOW[column.type.bit_width] if is_float else 0
    # Each number once: there are far fewer than rows.
    encoded = column.dictionary_encode()
    numbers = encoded.dictionary.to_pylist()
    read = [("", "") if number is None else number_as_id(number, exact_below) for number in numbers]
    which = pc.fill_null(encoded.indices, len(read))
    ids = pa.array([*(text for text, _ in read), ""], type=pa.string()).take(which)

    reasons = [*(reason for _, reason in read), ""]
    at = which.to_numpy(zero_copy_only=False)
    wrong = np.array([bool(reason) for reason in reasons])[at]
    return ids, [Problem(wrong, lambda i: f"the {side} id {reasons[at[i]]}", Cause.ID)]


def texts(column: Any, where: str, what: str, cause: Cause) -> tuple[Any, list[Problem]]:
    """Return any Arrow column as strings, "" for null, and which of them are no UTF-8.

    Args:
        column: the values.
        where: what messages call the column.
        what: what its values are called in reasons.
        cause: what the reasons are about.

    Raises:
        InputError: values of such a type can't be text.
    """
    column = _decoded(column)
    if _may_be_broken(column.type):
        values, broken = _utf8(column)
        return values, [Problem(broken, lambda i: f"{what} is not valid UTF-8", cause)]
    try:
        values = pc.cast(column, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise InputError(
            f"{where}: expected numbers or text, got the type {column.type}. "
            "Check source.*_column, or write the column as text."
        ) from None
    return pc.fill_null(values, ""), []


def _decoded(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    return column


def _may_be_broken(kind: Any) -> bool:
    """Return whether a file may hold bytes of the type that are no text."""
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return is_text or is_bytes or pa.types.is_fixed_size_binary(kind)


def _utf8(column: Any) -> tuple[Any, Mask]:
    """Return texts or bytes as strings, and where they are broken, with the bytes escaped."""
    as_bytes = pc.cast(column, pa.binary())
    try:
        values = pc.cast(as_bytes, pa.string())
    except pa.ArrowInvalid:
        pass
    else:
        return pc.fill_null(values, ""), np.zeros(len(column), dtype=bool)

    decoded = []
    broken = np.zeros(len(column), dtype=bool)
    for i, value in enumerate(as_bytes.to_pylist()):
        try:
            decoded.append((value or b"").decode())
        except UnicodeDecodeError:
            decoded.append(value.decode(errors="backslashreplace"))
            broken[i] = True
    return pa.array(decoded, type=pa.string()), broken


def times(column: Any, where: str) -> tuple[Any, list[Problem]]:
    """Return an Arrow column of times as timestamps in microseconds, or as strings if it is none.

    Raises:
        InputError: values of such a type are no times.
    """
    column = _decoded(column)
    is_date = pa.types.is_date(column.type)
    if not is_date and not pa.types.is_timestamp(column.type):
        return texts(column, where, "the date", Cause.TIME)
    if is_date:
        column = pc.cast(pc.cast(column, pa.date32()), pa.timestamp("s"))

    unit = column.type.unit
    counts = pc.fill_null(pc.cast(column, pa.int64()), 0).to_numpy(zero_copy_only=False)
    if unit == "ns":
        us = counts // _NS_PER_US
    else:
        # An int64 would wrap. What is clipped is wrong anyway.
        most = _LARGEST_US // _UNIT_US[unit]
        us = np.clip(counts, -most, most) * _UNIT_US[unit]
    unknown = pc.is_null(column).to_numpy(zero_copy_only=False)
    stamps = pa.array(us, mask=unknown, type=pa.int64())
    return pc.cast(stamps, pa.timestamp("us", column.type.tz)), []


def value_as_text(value: Any) -> tuple[str, str]:
    """Return a value of any database as text ("" for NULL), and what is wrong with it.

    What is wrong ("": nothing) follows the name of the value in a reason.
    """
    if value is None:
        return "", ""
    if isinstance(value, dict | list | tuple | set):
        return str(value), "is no single value"
    if isinstance(value, bytes | bytearray | memoryview):
        text = bytes(value).decode(errors="surrogateescape")
    elif isinstance(value, datetime.date):
        text = value.isoformat()
    else:
        text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Arrow holds no lone surrogates, which stand for bytes that are no UTF-8.
        escaped = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return escaped, "is not valid UTF-8"
    return text, ""


def value_as_id(value: Any) -> tuple[str, str]:
    """Return a value of any database as an id, and what is wrong with it, as `value_as_text`."""
    if isinstance(value, float | Decimal):
        return number_as_id(value)
    return value_as_text(value)
