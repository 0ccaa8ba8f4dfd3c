"""One id for one user or item, whatever kind of source it comes from, and however it is written."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from mf_core.config import make_config
from mf_core.sources.chunks import Chunk
from mf_core.sources.local import LocalFile
from mf_core.sources.metadata import read_items

from .test_sources import read_chunks, refusal, rejections, sqlite  # noqa: F401

NUMBERS = [0, 7, 10, 100_000, 10_000_000_001, 9_780_000_000_007]
AS_TEXT = [str(number) for number in NUMBERS]


def ids(chunks: list[Chunk]) -> list[str]:
    """Return the user ids that were loaded."""
    return [user for chunk in chunks for user in chunk.rows["user_id"].to_pylist()]


def notes(chunks: list[Chunk]) -> list[str]:
    """Return what people are told of the last chunk, which is of the whole file."""
    return list(chunks[-1].notes)


def write_ids(path: Path, users: Any, name: str = "ratings.csv", end: str = "\n") -> Path:
    """Write a CSV of ratings of one item by `users`, and return its path."""
    lines = [f"{user},a,3" for user in users]
    file = path / name
    file.write_text("\n".join(["user_id,item_id,rating", *lines]) + end)
    return file


def frame(users: Any, **kinds: Any) -> pd.DataFrame:
    """Return a frame of ratings of one item by `users`."""
    users = pd.Series(users, **kinds)
    return pd.DataFrame({"user_id": users, "item_id": "a", "rating": 3.0})


KINDS = ("int64", "float64", "object", "string", "Int64", "decimal")


@pytest.mark.parametrize("file", ["csv", "arrow csv", "parquet"])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_give_the_same_ids_of_whatever_type_and_file(
    tmp_path: Path, kind: str, file: str
) -> None:
    users: list[Any] = list(NUMBERS)
    if kind == "string":
        users = [str(float(number)) for number in NUMBERS]
    if kind == "decimal":
        users = [Decimal(number) + Decimal("0.00") for number in NUMBERS]
        table = frame(users, dtype="object")
    else:
        table = frame(users, dtype=kind)
    path = tmp_path / f"ratings.{'parquet' if file == 'parquet' else 'csv'}"
    if file == "csv":
        table.to_csv(path, index=False)
    elif file == "arrow csv":
        # Which writes 1e+5 and 1e+10 beside numbers that it writes out.
        pacsv.write_csv(pa.Table.from_pandas(table, preserve_index=False), path)
    else:
        table.to_parquet(path)

    assert ids(read_chunks(path)) == AS_TEXT


def test_a_whole_day_of_floats_is_told(tmp_path: Path) -> None:
    chunks = read_chunks(write_ids(tmp_path, ["12.0", "", "7.0", "7.0"]))
    assert ids(chunks) == ["12", "7", "7"]
    assert rejections(chunks[0]) == [(3, "the user id is missing")]
    [note] = notes(chunks)
    assert note.startswith("the user ids are whole numbers written as floats; 12.0 is loaded as 12")


@pytest.mark.parametrize(
    "texts",
    [
        ["1.0", "1.1", "2.0"],  # versions
        ["1e5", "a7f", "3.0"],  # codes
        ["007", "7.0", "12.0"],  # padded
        ["1.0.0", "2.0"],
        ["+1.0", "2.0"],
        ["u1", "1e+10", "12.0"],
    ],
)
@pytest.mark.parametrize("n_before", [0, 20_000])
def test_an_id_of_a_column_of_texts_is_not_changed(
    tmp_path: Path, texts: list[str], n_before: int
) -> None:
    users = [*("5" for _ in range(n_before)), *texts]
    for order in (users, users[::-1]):
        chunks = read_chunks(write_ids(tmp_path, order), chunk_rows=1_000)
        assert set(ids(chunks)) == set(users)
        assert notes(chunks) == []
        assert not any(chunk.rejected for chunk in chunks)


def test_a_setting_keeps_texts_as_they_are(tmp_path: Path) -> None:
    path = write_ids(tmp_path, ["1.0", "2.0"])
    assert ids(read_chunks(path)) == ["1", "2"]
    assert ids(read_chunks(path, ids="text")) == ["1.0", "2.0"]


def test_the_column_of_items_decides_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user_id,item_id,rating\n1.0,1.0,3\n2.0,1.1,3\n")
    [chunk] = read_chunks(path)
    assert chunk.rows["user_id"].to_pylist() == ["1", "2"]
    assert chunk.rows["item_id"].to_pylist() == ["1.0", "1.1"]


@pytest.mark.parametrize(
    ("users", "reasons"),
    [
        # A spreadsheet: the twelve digits before are gone.
        (["1", "9.78E+12"], ["the user id '9.78E+12' may have lost digits"]),
        (["7", "1e+10"], ["the user id '1e+10' may have lost digits"]),
        # Beside numbers as long that are written out, nothing was rounded; nor does Java round.
        (["10000000001", "1e+10"], []),
        (["7", "1.0000000001E10", "1.0E7"], []),
        (["9007199254740993.0"], ["'9007199254740993.0' is a float too large to be exact"]),
    ],
)
def test_an_id_that_may_have_been_rounded_is_a_bad_row(
    tmp_path: Path, users: list[str], reasons: list[str]
) -> None:
    [chunk] = read_chunks(write_ids(tmp_path, users))
    found = [reason for _, reason in rejections(chunk)]
    assert len(found) == len(reasons)
    for expected, reason in zip(reasons, found, strict=True):
        assert expected in reason
        assert "write ids as whole numbers" in reason


def test_a_text_that_a_spreadsheet_may_have_rounded_is_told(tmp_path: Path) -> None:
    path = write_ids(tmp_path, ["080442957X", "9.78E+12", "9.78E+12"])
    [chunk] = read_chunks(path)
    assert ids([chunk]) == ["080442957X", "9.78E+12", "9.78E+12"]
    [note] = chunk.notes
    assert "some user ids look like numbers that a spreadsheet has rounded, such as 9.78E" in note


@pytest.mark.parametrize(
    ("users", "reason"),
    [
        (pa.array([1.0, 1.5]), "the user id 1.5 is no whole number"),
        (pa.array([1.0, float("inf")]), "the user id inf is no whole number"),
        (pa.array([Decimal("1.0"), Decimal("1.5")]), "the user id 1.5 is no whole number"),
        (pa.array([1.0, 2.0**53]), "the user id 9007199254740992 is a float too large"),
        (pa.array([1.0, 2.0**24], type=pa.float32()), "the user id 16777216 is a float too large"),
        (pa.array([1.0, None]), "the user id is missing"),
        (pa.array([1.0, float("nan")]), "the user id is missing"),
        (pa.array([Decimal("1.0"), None]), "the user id is missing"),
    ],
)
def test_a_number_that_is_no_id_is_one_bad_row(tmp_path: Path, users: Any, reason: str) -> None:
    table = pa.table({"user_id": users, "item_id": ["a", "b"], "rating": [3.0, 4.0]})
    pq.write_table(table, tmp_path / "r.parquet")
    [chunk] = read_chunks(tmp_path)
    assert ids([chunk]) == ["1"]
    [(row, said)] = rejections(chunk)
    assert row == 2
    assert said.startswith(reason)


def test_large_whole_numbers_stay_exact(tmp_path: Path) -> None:
    large = 2**63 - 1
    decimals = [Decimal(large), Decimal("12345678901234567890123")]
    for users in ([large, 1], decimals):
        table = pa.table({"user_id": users, "item_id": ["a", "b"], "rating": [3.0, 4.0]})
        pq.write_table(table, tmp_path / "r.parquet")
        assert ids(read_chunks(tmp_path)) == [str(user) for user in users]


MISSING = ["", " ", "NaN", "nan", "None", "NULL", "null", "\\N", "<NA>", "NA"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "dat", "parquet", "quoted"])
def test_what_programs_write_for_nothing_is_a_missing_id(tmp_path: Path, kind: str) -> None:
    users = [*MISSING, "Nana"]
    if kind == "parquet":
        frame(users).to_parquet(tmp_path / "r.parquet")
        path = tmp_path / "r.parquet"
    else:
        between = {"tsv": "\t", "dat": "::"}.get(kind, ",")
        around = '"' if kind == "quoted" else ""
        lines = [between.join((f"{around}{user}{around}", "a", "3")) for user in users]
        path = tmp_path / "r.csv"
        path.write_text("\n".join([between.join(("user_id", "item_id", "rating")), *lines]))
    [chunk] = read_chunks(path)
    assert ids([chunk]) == ["Nana"]
    assert [reason for _, reason in rejections(chunk)] == ["the user id is missing"] * len(MISSING)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("spaces.csv", "user_id, item_id, rating\nu 1 ,\ti1, 4 \n"),
        ("quotes.csv", 'user_id, item_id, rating\n"u 1", "i1", 4\n'),
        ("spaces-in-quotes.csv", 'user_id,item_id,rating\n" u 1 "," i1",4\n'),
        ("u.data", '"u 1"\t"i1"\t"4"\t0\n'),
        ("ratings.dat", '"u 1"::"i1"::4::0\n'),
        ("named.dat", '"user_id"::"item_id"::"rating"\n"u 1"::"i1"::"4"\n'),
        ("some.inter", 'user_id:token\titem_id:token\trating:float\n"u 1"\ti1\t4\n'),
        ("bars.csv", "user_id | item_id | rating\nu 1 | i1 | 4\n"),
    ],
)
def test_spaces_and_quotes_are_no_part_of_an_id(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    [chunk] = read_chunks(path)
    assert chunk.rejected == ()
    [row] = chunk.rows.select(["user_id", "item_id", "rating"]).to_pylist()
    assert row == {"user_id": "u 1", "item_id": "i1", "rating": 4.0}


def test_spaces_are_no_part_of_an_id_in_parquet(tmp_path: Path) -> None:
    frame([" u1", "u1\t"]).to_parquet(tmp_path / "r.parquet")
    assert ids(read_chunks(tmp_path)) == ["u1", "u1"]


def test_quotes_within_an_id_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.tsv"
    path.write_text('user_id:token\titem_id:token\trating:float\n"a"b\t12"\t4\n"a ""b"""\tc\t3\n')
    [chunk] = read_chunks(path)
    assert chunk.rows["user_id"].to_pylist() == ['"a"b', 'a "b"']
    assert chunk.rows["item_id"].to_pylist() == ['12"', "c"]


HEADERS = [
    ("user_id", "item_id", "rating", "timestamp"),
    ("userId", "movieId", "rating", "timestamp"),
    ("UserID", "MovieID", "Rating", "Timestamp"),
    ("USER_ID", "ITEM_ID", "RATING", "TIMESTAMP"),
    ("User-ID", "itemId", "rating", "timestamp"),
    ("user", "item", "rating", "timestamp"),
]


@pytest.mark.parametrize("names", HEADERS)
@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "sql"])
def test_a_column_is_known_by_its_names_in_every_kind_of_source(
    tmp_path: Path,
    names: tuple[str, ...],
    kind: str,
    sqlite: dict[str, str],  # noqa: F811
) -> None:
    row = {names[0]: "u1", names[1]: "i1", names[2]: 4, names[3]: 881250949}
    if kind == "sql":
        listed = ", ".join(f"'{value}' AS \"{name}\"" for name, value in row.items())
        [chunk] = read_chunks("sql", sqlite, query=f"SELECT {listed}", database_url_env="OTHER_URL")
    elif kind == "parquet":
        pd.DataFrame([row]).to_parquet(tmp_path / "r.parquet")
        [chunk] = read_chunks(tmp_path / "r.parquet")
    else:
        between = "," if kind == "csv" else "\t"
        pd.DataFrame([row]).to_csv(tmp_path / "r.csv", index=False, sep=between)
        [chunk] = read_chunks(tmp_path / "r.csv")
    [found] = chunk.rows.select(["user_id", "item_id", "rating", "rated_us"]).to_pylist()
    assert list(found.values()) == ["u1", "i1", 4.0, 881250949 * 10**6]


def test_an_exact_name_comes_before_another_way_to_write_it(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("userId,user_id,itemId,item,rating\nx,u1,i1,x,3\n")
    [chunk] = read_chunks(path)
    assert ids([chunk]) == ["u1"]
    assert chunk.rows["item_id"].to_pylist() == ["i1"]

    path.write_text("userId,USER_ID,item_id,rating\nx,u1,i1,3\n")
    assert "user_id more than once in userId, USER_ID" in refusal(path)


@pytest.mark.parametrize("kind", ["csv", "parquet", "sql"])
@pytest.mark.parametrize("role", ["user", "item", "rating", "time", "side"])
def test_a_column_that_was_named_and_is_not_there_is_refused(
    tmp_path: Path,
    kind: str,
    role: str,
    sqlite: dict[str, str],  # noqa: F811
) -> None:
    row = {"user_id": "u1", "userId": "u1", "item_id": "i1", "rating": 4, "time": 1}
    named: dict[str, Any] = {f"{role}_column": "misspelt"}
    if kind == "sql":
        listed = ", ".join(f"'{value}' AS \"{name}\"" for name, value in row.items())
        query: dict[str, Any] = {"query": f"SELECT {listed}", "database_url_env": "OTHER_URL"}
        said = refusal("sql", sqlite, **query, **named)
    else:
        path = tmp_path / f"r.{kind}"
        if kind == "csv":
            pd.DataFrame([row]).to_csv(path, index=False)
        else:
            pd.DataFrame([row]).to_parquet(path)
        said = refusal(path, **named)
    assert "misspelt" in said
    assert "source." in said


def test_a_broken_text_of_sqlite_is_one_bad_row(sqlite: dict[str, str]) -> None:  # noqa: F811
    values = "CAST(X'4DFC' AS TEXT), 12.0, 3", "'u1', 7.5, 3", "'u1', 12.0, 3", "X'7531', 7, 3"
    query = " UNION ALL ".join(f"SELECT {value}" for value in values)
    names = query.replace("TEXT), 12.0, 3", "TEXT) AS user_id, 12.0 AS item_id, 3 AS rating", 1)
    [chunk] = read_chunks("sql", sqlite, query=names, database_url_env="OTHER_URL")
    assert rejections(chunk) == [
        (1, "the user id is not valid UTF-8"),
        (2, "the item id 7.5 is no whole number"),
    ]
    assert ids([chunk]) == ["u1", "u1"]
    assert chunk.rows["item_id"].to_pylist() == ["12", "7"]


def test_items_have_the_ids_of_their_ratings(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text('ItemID,Title\n12.0,A\n 7.0,"B"\nNaN,C\n')
    found = read_items(LocalFile(path, path.name, "", ""), make_config().source)
    assert [(row.id, row.title) for row in found.rows] == [("12", "A"), ("7", "B")]
    assert found.skipped == 1
    assert found.notes[0].startswith("items.csv: the item ids are whole numbers written as floats")
    assert found.notes[1] == (
        "items.csv: 1 lines skipped, the first is line 4: the item id is missing"
    )


def test_one_bad_line_of_items_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    lines = [
        b"item_id,title",
        "1,Misérables".encode(),
        b'2,"Never closed',
        b"3,M\xfcller",
        "4,Amélie,1".encode(),
        "5,Ça".encode(),
        b'6,"Two\nlines"',
    ]
    path.write_bytes(b"\n".join(lines))
    found = read_items(LocalFile(path, path.name, "", ""), make_config().source)
    titles = {row.id: row.title for row in found.rows}
    assert titles == {"1": "Misérables", "5": "Ça", "6": "Two\nlines"}
    assert found.skipped == 3
    assert found.notes == (
        "items.csv: 3 lines skipped, the first is line 3: a quote is not closed",
    )
