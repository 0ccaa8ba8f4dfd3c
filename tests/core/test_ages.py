"""Ages as people write and read them."""

from datetime import timedelta

import pytest

from mf_core.ages import age_in_words, parse_age


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("26h", timedelta(hours=26)),
        ("90m", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("1.5d", timedelta(hours=36)),
        (" 0h ", timedelta()),
        ("999999999d", timedelta(days=999_999_999)),
    ],
)
def test_an_age_is_a_number_with_a_unit(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize(
    "text", ["", "26", "h", "-1h", "26 hours", "1w", "1e9h", "٣h", "nanh", "26H", "9999999999d"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_age(text)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=-5), "0 seconds"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=89), "89 seconds"),
        (timedelta(seconds=90), "1 minute"),
        (timedelta(minutes=89), "89 minutes"),
        (timedelta(hours=31), "31 hours"),
        (timedelta(days=3), "3 days"),
        (timedelta(days=1234), "1,234 days"),
    ],
)
def test_an_age_in_words_has_one_unit(age: timedelta, words: str) -> None:
    assert age_in_words(age) == words
