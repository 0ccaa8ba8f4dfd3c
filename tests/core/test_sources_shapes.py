"""Shapes of text files that people have: no header, spaces, JSON lines, other encodings."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mf_core.config import make_config
from mf_core.errors import ConfigError, InputError
from mf_core.sources import splitting
from mf_core.sources.metadata import read_items
from mf_core.sources.source import open_source

from .test_sources import CSV, ROWS, U_DATA, Write, read, read_chunks, refusal, rejections, write

__all__ = ["write"]

BARE = CSV.partition("\n")[2]
NAMES = ("user_id", "item_id", "rating", "timestamp")
SWAPPED: dict[str, Any] = {"layout": "headerless", "user_column": "2", "item_column": "1"}


@pytest.mark.parametrize("name", ["r.csv", "r.txt", "ratings.csv", "u.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "|", " ", "   ", "\t", "::"])
def test_a_file_without_a_header_loads_whole(write: Write, name: str, delimiter: str) -> None:
    path = write(name, BARE.replace(",", delimiter))
    assert read(path) == ROWS


def test_a_guess_is_told(write: Write) -> None:
    """Which column is the user, no line can tell."""
    [chunk] = read_chunks(write("r.csv", BARE))
    assert "no header" in chunk.notes[0]
    assert "source.user_column=2" in chunk.notes[0]
    [chunk] = read_chunks(write("u.data", BARE.replace(",", "\t")))
    assert chunk.notes == ()
    [chunk] = read_chunks(write("r.csv", BARE), layout="headerless")
    assert chunk.notes == ()


def test_columns_without_names_are_named_by_their_number(write: Write) -> None:
    """Amazon's newer files have the item first."""
    path = write("r.csv", "".join(f"{i},{u},{r:g},{t}\n" for u, i, r, t in ROWS))
    assert read(path, **SWAPPED) == ROWS
    path = write("r.csv", "".join(f"x,{u},{i},{t},{r:g}\n" for u, i, r, t in ROWS))
    numbers: dict[str, Any] = {
        "user_column": "2",
        "item_column": "3",
        "rating_column": "5",
        "time_column": "4",
    }
    assert read(path, layout="headerless", **numbers) == ROWS
    no_time = [(user, item, rating, None) for user, item, rating, _ in ROWS]
    assert read(path, layout="headerless", **{**numbers, "time_column": ""}) == no_time
    assert "source.time_column=4" in refusal(path, layout="headerless")
    assert "5 fields" in refusal(path, layout="headerless", user_column="6", time_column="")
    assert "a place of its own" in refusal(
        path, layout="headerless", user_column="2", time_column=""
    )


UNSURE = (
    "a,b,c\nu,i,4\n",
    "u1,i1,,good\nu2,i2,4,881250949\n",
    "0,1,2\nu,i,4\n",
    "user,17,18\nu,4,5\n",
    "userId,1,2,3\nu,4,5,3\n",
    "a,b,c,d,e\n1,2,3,4,5\n",
    "1,2,3,881250949,x\n1,2,3,881250949,x\n",
    "user_id,item_id,4\nu,i,5\n",
)


@pytest.mark.parametrize("text", UNSURE)
def test_where_a_first_line_is_not_surely_a_row_both_ways_are_said(write: Write, text: str) -> None:
    said = refusal(write("r.csv", text))
    assert "If this line names the columns" in said
    assert "source.layout=headerless" in said


@pytest.mark.parametrize("text", [BARE, *UNSURE])
@pytest.mark.parametrize("layout", ["auto", "headerless", "movielens"])
def test_no_way_to_name_columns_loses_a_row_with_a_number(
    write: Write, text: str, layout: str
) -> None:
    """Whoever takes the fields of a row for names is refused, or has the row."""
    path = write("r.csv", text)
    first = text.partition("\n")[0].split(",")
    settings = zip(("user_column", "item_column", "rating_column"), first, strict=False)
    named: dict[str, Any] = {setting: name for setting, name in settings if name}
    try:
        chunks = read_chunks(path, layout=layout, time_column="", **named)
    except InputError:
        return
    is_row = any(name.isdigit() for name in first[:3]) or layout == "headerless"
    assert sum(chunk.n_read for chunk in chunks) == text.count("\n") - (not is_row)


def test_numbers_as_names_are_ambiguous_until_a_layout_says_which(write: Write) -> None:
    path = write("r.csv", "1,2,3\n7,8,4\n")
    numbers: dict[str, Any] = {"user_column": "1", "item_column": "2", "rating_column": "3"}
    said = refusal(path, **numbers)
    assert "headerless" in said
    assert "csv" in said
    assert [row[:2] for row in read(path, layout="headerless", **numbers)] == [
        ("1", "2"),
        ("7", "8"),
    ]
    assert [row[:2] for row in read(path, layout="csv", **numbers)] == [("7", "8")]


def test_names_that_somebody_gave_are_not_guessed_away(write: Write) -> None:
    path = write("r.csv", BARE)
    assert "who" in refusal(path, user_column="who")
    assert "header" in refusal(path, layout="headerless", user_column="who")
    assert "when" in refusal(path, time_column="when")


def test_quoted_rows_without_a_header(write: Write) -> None:
    path = write("r.csv", '"u,1","i ""x""",4,881250949\n"u2","i2",5,881250950\n')
    assert read(path) == [("u,1", 'i "x"', 4.0, 881250949), ("u2", "i2", 5.0, 881250950)]


SPACED = (
    "user_id item_id rating timestamp\n"
    "  1   10  4 881250949  \n"
    "1 11 3 881250950\n"
    '2 "10"     5 881250951\n'
)


@pytest.mark.parametrize("text", [SPACED, SPACED.replace("\n", "\r\n"), SPACED.replace('"', "")])
def test_any_number_of_spaces_is_one_separator(write: Write, text: str) -> None:
    assert read(write("r.txt", text)) == ROWS


def test_a_missing_field_among_spaces_is_a_bad_row(write: Write) -> None:
    path = write("r.txt", 'u i 4\nu  5\nu j 3\n"a b" k 2\n')
    [chunk] = read_chunks(path)
    assert rejections(chunk) == [(2, "expected 3 fields, got 2")]
    assert chunk.rows["user_id"].to_pylist() == ["u", "u", "a b"]


def test_excel_s_line_that_names_the_separator_is_none_of_the_rows(write: Write) -> None:
    for text in (CSV, BARE):
        path = write("r.csv", "\ufeffsep=;\r\n" + text.replace(",", ";").replace("\n", "\r\n"))
        [chunk] = read_chunks(path)
        assert chunk.n_read == 3
        assert chunk.rows["line"].to_pylist()[0] == (3 if text is CSV else 2)
    path = write("r.csv", "sep=^\n" + CSV.replace(",", "^"))
    assert read(path) == ROWS


@pytest.mark.parametrize("delimiter", [",", " ", "\t"])
@pytest.mark.parametrize("mark", ["#", "# ", "##"])
def test_a_header_may_be_a_comment(write: Write, mark: str, delimiter: str) -> None:
    assert read(write("r.txt", (mark + CSV).replace(",", delimiter))) == ROWS
    path = write("r.txt", f"#1{delimiter}10{delimiter}4\n")
    assert read(path) == [("#1", "10", 4.0, None)]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_column_may_be_called_by_that_mark(write: Write, delimiter: str) -> None:
    text = "".join(f"{n},{line}" for n, line in enumerate(CSV.splitlines(keepends=True)))
    path = write("r.txt", text.replace("0,user", "#,user").replace(",", delimiter))
    assert read(path) == ROWS


def test_blank_lines_before_the_first_count_as_lines_and_nothing_else(write: Write) -> None:
    for text in (CSV, BARE, U_DATA):
        [chunk] = read_chunks(write("r.txt", "\n \r\n\n" + text))
        assert chunk.n_read == 3
        assert chunk.rows["line"].to_pylist()[0] == (5 if text is CSV else 4)
    [chunk] = read_chunks(write("r.txt", "\n\r\n" + json_lines()))
    assert chunk.rows["line"].to_pylist() == [3, 4, 5]
    assert chunk.rejected == ()


def json_lines(rows: Any = ROWS, names: tuple[str, ...] = NAMES) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["r.jsonl", "r.ndjson", "r.json", "r.txt", "no_end"])
def test_json_lines_are_read_whatever_the_name(write: Write, name: str) -> None:
    assert read(write(name, json_lines())) == ROWS


@pytest.mark.parametrize("other", [("userId", "movieId"), ("User-ID", "ItemID"), ("user", "item")])
def test_json_keys_have_the_names_that_columns_have(write: Write, other: tuple[str, str]) -> None:
    path = write("r.jsonl", json_lines(names=(*other, "rating", "timestamp")))
    assert read(path) == ROWS
    path = write("r.jsonl", json_lines(names=("who", "what", "stars", "when")))
    named: dict[str, Any] = {"user_column": "who", "item_column": "what", "rating_column": "stars"}
    assert read(path, time_column="when", **named) == ROWS
    assert "expected the column(s) stars" in refusal(
        path, **{**named, "rating_column": "stars"}, side_column="fold"
    ).replace("fold", "stars")


BAD_JSON = {
    '{"user_id": {"id": 7}, "item_id": "i", "rating": 4}': "the user id is no single value",
    '{"user_id": "u", "item_id": ["i"], "rating": 4}': "the item id is no single value",
    '{"user_id": true, "item_id": "i", "rating": 4}': "the user id is True",
    '{"user_id": null, "item_id": "i", "rating": 4}': "the user id is missing",
    '{"item_id": "i", "rating": 4}': "the user id is missing",
    '{"user_id": 1.5, "item_id": "i", "rating": 4}': "1.5 is no whole number",
    '{"user_id": 1e300, "item_id": "i", "rating": 4}': "too large to be exact",
    '{"user_id": "u", "item_id": "i", "rating": null}': "the rating is missing",
    '{"user_id": "u", "item_id": "i", "rating": {"stars": 4}}': "the rating is no single value",
    '{"user_id": "u", "item_id": "i", "rating": NaN}': "not finite",
    '{"user_id": "u", "item_id": "i", "rating": "good"}': "is not a number",
    '{"user_id": "u", "item_id": "i", "rating": 4': "the line is no JSON",
    '{"user_id": "\\ud800", "item_id": "i", "rating": 4}': "not valid UTF-8",
    '{"user_id": "a\\u0000", "item_id": "i", "rating": 4}': "NUL",
    '["u", "i", 4]': "no JSON object",
    "null": "no JSON object",
    "u,i,4": "the line is no JSON",
    "": "the line is empty",
    '{"user_id": ' + "9" * 5000 + ', "item_id": "i", "rating": 4}': "the line is no JSON",
    '{"user_id": ' + "[" * 90_000 + ', "item_id": "i", "rating": 4}': "the line is no JSON",
}


@pytest.mark.parametrize("line", BAD_JSON, ids=range(len(BAD_JSON)))
def test_a_bad_line_of_json_is_one_bad_row(write: Write, line: str) -> None:
    first, *others = json_lines().splitlines()
    path = write("r.jsonl", "\n".join([first, line, *others]) + "\n")
    [chunk] = read_chunks(path)
    [rejected] = chunk.rejected
    assert rejected.line == 2
    assert BAD_JSON[line] in rejected.reason
    assert rejected.raw[:50] == line[:50]
    assert chunk.rows["line"].to_pylist() == [1, 3, 4]


def test_numbers_of_json_are_the_ids_that_they_are_elsewhere(write: Write) -> None:
    lines = json_lines([(10000000001.0, 7, 4, 0), (12, 9780000000007, 3, 0)])
    users = [row[:2] for row in read(write("r.jsonl", lines))]
    assert users == [("10000000001", "7"), ("12", "9780000000007")]


def test_a_later_key_counts_and_many_blocks_give_the_same_rows(write: Write) -> None:
    rows = [(n, n % 7, 3, 881250949 + n) for n in range(20_000)]
    path = write(
        "r.jsonl",
        json_lines(rows[:1], NAMES).replace(', "timestamp": 881250949', "") + json_lines(rows[1:]),
    )
    chunks = read_chunks(path, chunk_rows=1_000)
    assert len(chunks) > 5
    assert [line for chunk in chunks for line in chunk.rows["line"].to_pylist()] == list(
        range(1, 20_001)
    )
    assert read(path)[1] == ("1", "1", 3.0, 881250950)
    assert read(path)[0][3] is None


def test_what_is_called_json_is_read_as_such(write: Write) -> None:
    path = write("r.txt", "u,i,4\n" + json_lines())
    [chunk] = read_chunks(path, layout="json")
    assert [row.line for row in chunk.rejected] == [1]
    assert "no header" in str(read_chunks(write("g.csv", "{3F25},i,4\n"))[0].notes)
    assert "column" in refusal(write("one.jsonl", '{"data": [{"user_id": 1}]}\n'))
    assert "empty" in refusal(write("none.jsonl", "\n"))


TEXTS = {
    "cp1252": "Zoë",
    "latin-1": "Zoë",
    "utf-16-le": "Зоя",
    "utf-16-be": "Zoë",
    "shift_jis": "ゾエ",
    "cp1251": "Зоя",
    "utf-32-le": "Zoë",
    "UTF8": "Zoë",
    "mac-roman": "Zoë",
}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", TEXTS)
def test_each_encoding_and_each_end_of_a_line(write: Write, encoding: str, ends: str) -> None:
    user = TEXTS[encoding]
    text = CSV.replace("\n2,", f"\n{user},").replace("\n", ends)
    path = write("r.csv", text.encode(encoding))
    expected = [*ROWS[:2], (user, *ROWS[2][1:])]
    assert read(path, encoding=encoding) == expected
    [chunk] = read_chunks(path, encoding=encoding)
    assert chunk.rows["line"].to_pylist() == [2, 3, 4]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_needs_no_setting(write: Write, encoding: str) -> None:
    rows = [("Зоя", *row[1:]) for row in ROWS]
    assert (
        read(write("r.csv", CSV.replace("\n1", "\nЗоя").replace("\n2", "\nЗоя").encode(encoding)))
        == rows
    )
    assert read(write("r.jsonl", json_lines(rows).encode(encoding))) == rows
    assert read(write("r.csv", BARE.encode(encoding)), encoding="cp1252") == ROWS


def test_what_cant_be_decoded_is_a_bad_row_that_names_the_setting(write: Write) -> None:
    path = write("r.csv", (CSV + "Zoë,1,4,0\n").encode("latin-1"))
    [chunk] = read_chunks(path)
    [(line, reason)] = rejections(chunk)
    assert line == 5
    assert "source.encoding" in reason

    # Five bytes mean nothing in cp1252; half a pair of UTF-16 means nothing either.
    broken = CSV.encode() + b"a\x81b,1,4,0\n"
    assert [
        line for line, _ in rejections(read_chunks(write("r.csv", broken), encoding="cp1252")[0])
    ] == [5]
    broken = (
        (CSV + "ab").encode("utf-16-le") + b"\x00\xd8" + ",1,4,0\n9,9,4,0\n".encode("utf-16-le")
    )
    [chunk] = read_chunks(write("r.csv", broken), encoding="utf-16-le")
    assert [line for line, _ in rejections(chunk)] == [5]
    assert chunk.rows["user_id"].to_pylist()[-1] == "9"


def test_a_header_in_another_encoding_names_the_setting(write: Write) -> None:
    path = write("r.csv", CSV.replace("user_id", "Käufer").encode("latin-1"))
    assert "source.encoding" in refusal(path, user_column="Käufer")
    assert read(path, user_column="Käufer", encoding="latin-1") == ROWS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_missing_byte_order_mark_is_said(write: Write, encoding: str) -> None:
    path = write("r.csv", CSV.encode(f"{encoding}-le"))
    assert "utf-16-le" in refusal(path, encoding=encoding)
    assert read(path, encoding=f"{encoding}-le") == ROWS


def test_an_encoding_that_is_none_is_refused_by_name() -> None:
    for wrong in ("utf8000", "hex", "rot13", "a\0b", "idna", "punycode"):
        with pytest.raises(ConfigError, match=r"source\.encoding"):
            make_config({"source.encoding": wrong})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252", "utf-16-le"])
def test_items_are_read_in_the_same_encodings(write: Write, encoding: str, tmp_path: Path) -> None:
    ratings = write("r.csv", CSV.encode(encoding))
    items = write("items.csv", "item_id,title\r10,Café\r11,B\r".encode(encoding))
    config = make_config(
        {
            "source.uri": str(ratings),
            "source.items_uri": str(items),
            "source.encoding": "utf-8" if encoding == "utf-8-sig" else encoding,
        }
    )
    with open_source(config, {}) as source:
        assert source.items
        rows = read_items(source.items(), config.source).rows
        assert {row.id: row.title for row in rows} == {"10": "Café", "11": "B"}
        assert sum(chunk.n_read for _, chunk in source.chunks(config, datetime.now(UTC))) == 3


PIECES = (
    "u1",
    "i 2",
    "4",
    "3.5",
    "881250949",
    "",
    " ",
    '"',
    '""',
    '"a"',
    "é",
    "x,y",
    "#",
    "1e3",
    "\0",
)


@pytest.mark.parametrize("seed", range(12))
def test_the_fast_path_gives_the_rows_and_the_bad_rows_of_the_slow_one(
    write: Write, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On lines of anything at all, split by anything."""
    chosen = random.Random(seed)
    delimiter = chosen.choice([",", ";", "|", "\t", "::", " "])
    end = chosen.choice(["\n", "\r\n"])
    header = delimiter.join(["user_id", "item_id", "rating", "timestamp"])
    good = [delimiter.join([f"u{n}", f"i{n % 7}", "4", "881250949"]) for n in range(30)]
    odd = [
        delimiter.join(chosen.choices(PIECES, k=chosen.choice([1, 3, 4, 4, 5]))) for _ in range(10)
    ]
    lines = chosen.sample([*good, *odd], k=40)
    path = write("r.txt", end.join([header, *lines]) + chosen.choice([end, ""]))

    def outcome() -> tuple[list[Any], list[Any]]:
        """Return the rows and the bad rows."""
        chunks = read_chunks(path)
        rows = [row for chunk in chunks for row in chunk.rows.to_pylist()]
        return rows, [row for chunk in chunks for row in chunk.rejected]

    fast = outcome()
    # Each odd line by itself, too, as one costs the others the fast path.
    alone = _one_line(write, header, end)
    each = list(map(alone, odd))
    monkeypatch.setattr(splitting, "_split_fast", lambda *_: None)
    assert outcome() == fast
    assert list(map(alone, odd)) == each


def _one_line(write: Write, header: str, end: str) -> Callable[[str], Any]:
    """Return what gives the rows and bad rows of a file of one line."""

    def outcome(line: str) -> Any:
        """Return both, or what is said of the file."""
        try:
            chunks = read_chunks(write("one.txt", header + end + line + end))
        except InputError as refused:
            return str(refused)
        return [(chunk.rows.to_pylist(), chunk.rejected) for chunk in chunks]

    return outcome
