"""Attributes as design matrices, worked by hand, and attributes that nobody should have sent."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mf_core.config import make_config
from mf_core.data.attributes import (
    MAX_COLUMNS,
    Attributes,
    Design,
    encode,
    encode_sides,
    texts_by_row,
)
from mf_core.data.ratings import Ratings, id_map
from mf_core.data.snapshot import Snapshot
from mf_core.training.process import encoded_attributes


def encoded(rows: Sequence[object], **settings: int) -> Design:
    """Encode rows given as Python objects; None stays None."""
    texts = [None if row is None else json.dumps(row) for row in rows]
    return encode(texts, **settings)


def columns(design: Design) -> dict[str, list[float]]:
    """Return the columns by name."""
    values = design.matrix.T.tolist()
    return dict(zip(design.names, values, strict=True))


def test_categories_booleans_and_lists_become_indicators() -> None:
    one = {"colour": "red", "new": True, "genres": ["War", "Drama", "War"]}
    other = {"colour": "blue", "new": False, "genres": ["Drama"]}
    design = encoded([*[one] * 5, *[other] * 5, None, {"colour": "green"}])

    assert design.matrix.dtype == np.float32
    assert columns(design) == {
        "colour=blue": [0] * 5 + [1] * 5 + [0, 0],
        "colour=red": [1] * 5 + [0] * 7,
        "genres=Drama": [1] * 10 + [0, 0],
        "genres=War": [1] * 5 + [0] * 7,
        "new=false": [0] * 5 + [1] * 5 + [0, 0],
        "new=true": [1] * 5 + [0] * 7,
    }
    assert design.note.startswith(
        "6 columns of 'colour', 'genres', 'new'; 1 values held by fewer than 5 rows"
    )


def test_a_number_is_standardised_over_the_rows_that_have_it() -> None:
    # Mean 3 and standard deviation 2.
    young = [{"age": 1}] * 5
    old = [{"age": 5}] * 5
    unknown: list[dict[str, int]] = [{}] * 2
    design = encoded([*young, *old, *unknown])

    expected = [-1.0] * 5 + [1.0] * 5 + [0.0] * 2

    assert columns(design) == {"age": expected}


def test_a_number_has_an_indicator_per_eighth_too() -> None:
    ages = [10 * decade for decade in range(1, 17) for _ in range(3)]
    design = encoded([{"age": age} for age in ages])

    middle = [f"{low}<age<={low + 20}" for low in range(20, 140, 20)]

    assert set(design.names) == {"age", "age<=20", *middle, "140<age"}

    found = columns(design)
    expected = [1.0 if age in (70, 80) else 0.0 for age in ages]

    assert found["60<age<=80"] == expected
    assert np.mean(found["age"]) == pytest.approx(0, abs=1e-6)
    assert np.std(found["age"]) == pytest.approx(1, abs=1e-6)


def test_a_date_is_a_number_of_years() -> None:
    dates = ["1990-01-01"] * 6 + ["2000-01-01"] * 6
    design = encoded([{"released": day} for day in dates])
    expected = [-1] * 6 + [1] * 6

    assert columns(design)["released"] == pytest.approx(expected)

    no_date = {"released": "1990-13-01"}
    assert encoded([no_date] * 6 + [{}]).names == ("released=1990-13-01",)


def test_values_that_are_rare_or_common_to_all_have_no_column() -> None:
    rows = []
    for row in range(9):
        address = f"https://example.org/{row}"
        zip_code = "12345" if row < 5 else str(row)
        rows.append({"kind": "user", "site": address, "zip": zip_code})

    assert encoded(rows).names == ("zip=12345",)
    assert encoded([{"n": 7}] * 9).names == ()


def test_the_most_frequent_values_stay_where_there_are_too_many() -> None:
    tags = ["often"] * 7 + ["a"] * 5 + ["b"] * 5
    design = encoded([{"tag": tag} for tag in tags], max_columns=2)

    assert design.names == ("tag=a", "tag=often")
    assert "1 beyond the 2 most frequent were left out" in design.note

    numbered = [{"tag": str(row % 2_000)} for row in range(10_000)]
    many = encoded(numbered)

    assert many.matrix.shape == (10_000, MAX_COLUMNS)
    assert many.matrix.sum() == 5 * MAX_COLUMNS


def test_the_order_of_keys_makes_no_difference() -> None:
    first = {"a": "x", "b": ["y", "z"]}
    second = {"a": "w", "b": ["z"]}
    rows = [first, second] * 5
    turned = [dict(reversed(row.items())) for row in rows]

    one = encoded(rows)
    other = encoded(turned)

    assert one.names == other.names
    assert (one.matrix == other.matrix).all()


@pytest.mark.parametrize(
    "text",
    [
        '{"n": NaN}',
        '{"n": -Infinity}',
        '{"n": 1e999}',
        '{"n": ' + "9" * 6_000 + "}",
        '{"n": {"deep": [1]}}',
        '{"n": [[1], {"a": 2}]}',
        '{"n": "' + "x" * 100_000 + '"}',
    ],
)
def test_values_that_cannot_be_used_are_left_out_and_named(text: str) -> None:
    usable = '{"kind": "a"}'
    design = encode([text] * 9 + [usable] * 6)

    assert design.names == ("kind=a",)
    assert "nested, infinite or overlong values of 'n' were left out" in design.note


@pytest.mark.parametrize("text", ["[1, 2]", '"text"', "{", "[" * 100_000])
def test_what_is_no_object_is_counted_and_left_out(text: str) -> None:
    usable = '{"kind": "a"}'
    design = encode([text] * 3 + [usable] * 6)

    assert design.matrix.sum() == 6
    assert "3 rows are no JSON object" in design.note


def test_null_and_empty_values_say_nothing() -> None:
    silent = {"a": None, "b": "", "c": [], "d": [None, ""]}
    design = encoded([silent] * 6 + [{}])

    assert design.note == "no columns"


def test_huge_numbers_neither_overflow_nor_rule() -> None:
    values = [*range(1, 200), -1.7e308, 1.7e308]
    design = encoded([{"n": value} for value in values])

    assert np.isfinite(design.matrix).all()
    assert np.abs(design.matrix).max() <= 5
    assert len(design.names) > 8

    # Multiples of the smallest number above 0.
    denormal = [{"n": value * 5e-324} for value in range(1, 20)]
    tiny = encoded(denormal)

    assert np.isfinite(tiny.matrix).all()


def test_ten_thousand_categories_and_long_names_take_no_long_time() -> None:
    rows: list[dict[str, str]] = []
    for row in range(10_000):
        key = f"key{row % 50}"
        rows.append({key: f"value {row}" * 10, "\ud800name": "x"})

    started = time.monotonic()
    design = encoded([*rows, {}])

    assert time.monotonic() - started < 10
    assert design.names == ("\ud800name=x",)

    design.note.encode()


def test_both_sides_are_encoded_with_a_line_each() -> None:
    users = id_map(f"u{row}" for row in range(7))
    known = {f"u{row}": '{"sex": "F"}' for row in range(5)}
    user_texts = texts_by_row(users, known)

    assert user_texts.tolist() == ['{"sex": "F"}'] * 5 + [None] * 2

    item_texts = texts_by_row(id_map(["i"]), {})
    matrices, lines = encode_sides(Attributes(user_texts, item_texts))

    assert matrices.user.shape == (7, 1)
    assert matrices.item.shape == (1, 0)
    assert lines == ("attributes of users: 1 columns of 'sex'", "attributes of items: no columns")


def test_a_number_and_a_word_of_one_name_live_side_by_side() -> None:
    young = [{"age": 20}] * 5
    old = [{"age": 40}] * 5
    unknown = [{"age": "unknown"}] * 5
    design = encoded([*young, *old, *unknown])

    assert columns(design) == {
        "age": [-1.0] * 5 + [1.0] * 5 + [0.0] * 5,
        "age=unknown": [0.0] * 10 + [1.0] * 5,
    }
    assert not math.isnan(design.matrix.sum())


def described_snapshot() -> Snapshot:
    """Return a snapshot without ratings that has attributes of five users out of six."""
    users = id_map(f"u{row}" for row in range(6))
    items = id_map(["i"])
    nobody = np.zeros(0, np.int32)
    nothing = Ratings(nobody, nobody, np.zeros(0, np.float32))

    known = {f"u{row}": '{"sex": "F"}' for row in range(5)}
    attributes = Attributes(texts_by_row(users, known), texts_by_row(items, {}))

    return Snapshot(users, items, nothing, nothing, attributes)


def test_attributes_are_encoded_only_where_the_settings_ask_for_them() -> None:
    lines: list[str] = []
    snapshot = described_snapshot()
    plain = replace(snapshot, attributes=None)
    on = make_config({"rating_head.bayes.side_information": True})
    other_solver = make_config({"rating_head.solver": "als"})

    assert encoded_attributes(make_config({}), snapshot, lines.append) is None
    assert encoded_attributes(on, plain, lines.append) is None
    assert encoded_attributes(other_solver, snapshot, lines.append) is None
    assert not lines

    found = encoded_attributes(on, snapshot, lines.append)
    assert found is not None
    assert found.user.shape == (6, 1)
    assert len(lines) == 2
