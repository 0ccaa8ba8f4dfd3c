"""The largest value of a column, and from where on rows are asked for."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from mf_core.errors import InputError
from mf_core.sources.watermarks import HighWater, lower_bound

BEGAN = datetime(2026, 11, 1, 12, tzinfo=UTC)


def high_water(values: list[Any], *, texts_are_text: bool = False) -> str | None:
    """Return the watermark of the values."""
    found = HighWater("changed", BEGAN, texts_are_text=texts_are_text)
    for value in values:
        found.add([value])
    return found.result()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([None, None], None),
        ([9, 100, 11], "number 100"),
        ([9.5, float("nan"), float("inf")], "number 9.5"),
        ([Decimal("1e3"), Decimal(2)], "number 1E+3"),
        ([date(2026, 1, 9), date(2026, 1, 10)], "time 2026-01-10"),
        # The hour that a clock repeats in autumn: the second time it is later.
        (["2026-10-25 02:10:00+01", "2026-10-25 02:30:00+02"], "time 2026-10-25 02:10:00+01"),
        (
            ["2026-01-01 00:00:00+00", "infinity", "2999-01-01 00:00:00+00"],
            "time 2026-01-01 00:00:00+00",
        ),
        (["0044-03-15 00:00:00 BC", "10000-01-01 00:00:00"], None),
    ],
)
def test_the_largest_value_is_the_latest_that_is_not_in_the_future(
    values: list[Any], expected: str | None
) -> None:
    assert high_water(values) == expected


def test_texts_are_compared_as_the_database_does() -> None:
    texts = ["2026-01-01T23:30:00-05:00", "2026-01-02T01:00:00+05:00"]
    assert high_water(texts, texts_are_text=True) == f"text {texts[1]}"
    assert high_water([text.encode() for text in texts]) == f"text {texts[1]}"


@pytest.mark.parametrize("values", [["v12"], [True], [b"\xff"], [[1]], [3, "2026-01-01"]])
def test_what_does_not_rise_is_refused(values: list[Any]) -> None:
    with pytest.raises(InputError, match=r"source\.watermark_column is changed, which holds"):
        high_water(values)


@pytest.mark.parametrize(
    ("watermark", "overlap", "bound"),
    [
        ("number 100", 3600, "-3500"),
        ("number 1E+3", 0.5, "999.5"),
        ("number 12345678901234567890", 1, "12345678901234567889"),
        ("time 2026-01-01 00:30:00+00", 3600, "'2025-12-31 23:30:00+00:00'"),
        ("time 2026-01-01 00:30:00.123456", 0, "'2026-01-01 00:30:00.123456'"),
        ("time 2026-01-10", 3600, "'2026-01-09 23:00:00'"),
        ("time 2026-01-10", 1e18, "'0001-01-01 00:00:00'"),
        ("text 2026-01-01T00:30:00Z", 3600, "'2025-12-31'"),
        ("text 2026-01-01T10:30:00Z", 3600, "'2026-01-01'"),
    ],
)
def test_rows_are_asked_for_from_an_overlap_before_it(
    watermark: str, overlap: float, bound: str
) -> None:
    assert lower_bound(watermark, overlap) == bound
