"""Every layout and container of ratings, and what is said of the broken ones."""

import functools
import gzip
import hashlib
import http.server
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from upath import UPath

from mf_core.config import make_config
from mf_core.deployment import Deployment, Limits
from mf_core.errors import DatabaseError, InputError
from mf_core.redaction import redacted
from mf_core.sources.chunks import Chunk
from mf_core.sources.demo import U_DATA_SHA256, fetch_ml100k
from mf_core.sources.reach import Reach
from mf_core.sources.source import open_source
from mf_core.sources.spool import SourceUnavailableError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
U_DATA = "1\t10\t4\t881250949\n1\t11\t3\t881250950\n2\t10\t5\t881250951\n"
ROWS = [("1", "10", 4.0, 881250949), ("1", "11", 3.0, 881250950), ("2", "10", 5.0, 881250951)]
CSV = "user_id,item_id,rating,timestamp\n1,10,4,881250949\n1,11,3,881250950\n2,10,5,881250951\n"
Write = Callable[[str, str | bytes], Path]


def read_chunks(
    uri: Path | str, environ: dict[str, str] | None = None, **overrides: Any
) -> list[Chunk]:
    """Return the chunks of a source; `scale_high` is a setting of the data, the others of it."""
    settings: dict[str, Any] = {"source.uri": str(uri)}
    for key, value in overrides.items():
        section = "data" if key == "scale_high" else "source"
        settings[f"{section}.{key}"] = value
    config = make_config(settings)

    with open_source(config, environ or {}) as source:
        return [chunk for _, chunk in source.chunks(config, NOW)]


def read(
    uri: Path | str, environ: dict[str, str] | None = None, **overrides: Any
) -> list[tuple[Any, ...]]:
    """Return the rows of a source: user, item, rating, seconds since 1970 or None."""
    found = []
    for chunk in read_chunks(uri, environ, **overrides):
        for row in chunk.rows.to_pylist():
            rated_us = row["rated_us"]
            seconds = None if rated_us is None else rated_us // 10**6
            found.append((row["user_id"], row["item_id"], row["rating"], seconds))

    return found


def refusal(uri: Path | str, environ: dict[str, str] | None = None, **overrides: Any) -> str:
    """Return what is said of a source that can't be read."""
    with pytest.raises(InputError) as raised:
        read(uri, environ, **overrides)

    return str(raised.value)


def rejections(chunk: Chunk) -> list[tuple[int, str]]:
    """Return line and reason of each rejected row."""
    return [(row.line, row.reason) for row in chunk.rejected]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file to the test's folder and return its path."""

    def run(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(data)

        return path

    return run


LAYOUTS = {
    "u.data": U_DATA,
    "u1.base": U_DATA,
    "ratings.dat": U_DATA.replace("\t", "::"),
    "ratings.csv": CSV.replace("user_id,item_id", "userId,movieId"),
    "named.csv": CSV,
    "semicolons.csv": CSV.replace(",", ";"),
    "named.tsv": CSV.replace(",", "\t"),
    "named.dat": CSV.replace(",", "::"),
    "other-order.csv": (
        "extra,rating,timestamp,item_id,user_id\n"
        "x,4,881250949,10,1\n"
        ",3,881250950,11,1\n"
        '"a,b",5,881250951,10,2\n'
    ),
    "quoted.csv": (
        '"user_id","item_id","rating","timestamp"\n'
        '"1","10","4","881250949"\n'
        '"1","11",3,881250950\n'
        '2,"10",5,"881250951"\n'
    ),
    "iso.csv": CSV.replace("881250949", "1997-12-04T15:55:49Z").replace(
        "881250950", "1997-12-04 16:55:50+01:00"
    ),
    "milliseconds.csv": CSV.replace("8812509", "8812509").replace("881250949", "881250949000"),
    "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + U_DATA,
    "crlf.csv": CSV.replace("\n", "\r\n"),
    "bom.csv": "\ufeff" + CSV,
    "blank-end.csv": CSV + "\n\r\n\n",
    "no-end.csv": CSV.rstrip("\n"),
    "plus.csv": CSV.replace(",4,", ", +4.0 ,").replace(",5,", ",.5e1,"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_gives_the_same_rows(write: Write, name: str) -> None:
    path = write(name, LAYOUTS[name])

    assert read(path) == ROWS


@pytest.mark.parametrize("chunk_rows", [1_000, 500_000])
def test_blocks_of_any_size_give_the_same_rows_and_lines(write: Write, chunk_rows: int) -> None:
    header = "user_id,item_id,rating\n"
    rows = [f'{n},"a ""quoted"", {n}",3\n' for n in range(30_000)]
    path = write("r.csv", header + "".join(rows))
    chunks = read_chunks(path, chunk_rows=chunk_rows)

    lines = [line for chunk in chunks for line in chunk.rows["line"].to_pylist()]
    last = chunks[-1].rows["item_id"][-1].as_py()

    assert lines == list(range(2, 30_002))
    assert last == 'a "quoted", 29999'
    assert (len(chunks) > 5) == (chunk_rows == 1_000)


def test_other_column_names_and_no_dates(write: Write) -> None:
    path = write("r.csv", "who,what,stars,when\na,b,4,881250949\n")
    names: dict[str, Any] = {
        "user_column": "who",
        "item_column": "what",
        "rating_column": "stars",
    }

    assert read(path, **names) == [("a", "b", 4.0, None)]
    assert read(path, **names, time_column="when") == [("a", "b", 4.0, 881250949)]


def test_a_quoted_line_break_is_one_row(write: Write) -> None:
    text = 'user_id,item_id,rating,review\na,b,4,"two\nlines"\nc,d,x,"\n"\ne,f,5,ok\n'
    path = write("r.csv", text)
    (chunk,) = read_chunks(path)
    (rejected,) = chunk.rejected

    assert chunk.rows["user_id"].to_pylist() == ["a", "e"]
    assert rejected.line == 4
    assert rejected.raw == 'c,d,x,"\\n"'


def test_a_stray_quote_costs_its_own_line_only(write: Write) -> None:
    path = write("r.csv", 'user_id,item_id,rating\na,b,4\n"c,d,4\ne,f,5\ng,h,3\n')
    (chunk,) = read_chunks(path)

    assert chunk.rows["user_id"].to_pylist() == ["a", "e", "g"]
    assert rejections(chunk) == [(3, "a quote is not closed")]


def test_quotes_mean_nothing_in_movielens_files(write: Write) -> None:
    path = write("u.data", '"1\t1"0\t4\t0\n')
    user, item, *_ = read(path)[0]

    assert user == '"1'
    assert item == '1"0'


def write_archive(path: Path, folder: str) -> None:
    """Write a zip of u.data, and of files beside it that are not to be read, below `folder`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}README", "read me")
        archive.writestr(f"{folder}u1.base", "9\t9\t9\t9\n")
        archive.writestr(f"{folder}u.data", U_DATA)
        archive.writestr(f"{folder}u.item", "1|T")
        archive.writestr("__MACOSX/ml-100k/._u.data", "x")


@pytest.mark.parametrize(
    "container", ["folder", "gz", "zip", "zip with a folder", "folder with gz"]
)
def test_containers(tmp_path: Path, container: str) -> None:
    uri = tmp_path
    if container == "folder":
        (tmp_path / "u.data").write_text(U_DATA)
    elif container == "zip":
        uri = tmp_path / "a.zip"
        write_archive(uri, "")
    elif container == "zip with a folder":
        uri = tmp_path / "a.zip"
        write_archive(uri, "ml-100k/")
    else:
        packed = tmp_path / "u.data.gz"
        packed.write_bytes(gzip.compress(U_DATA.encode()))
        uri = packed if container == "gz" else tmp_path

    assert read(uri) == ROWS


def test_a_packed_file_has_the_checksum_of_its_content(write: Write) -> None:
    content = CSV.encode()
    packed = write("r.csv.gz", gzip.compress(content))
    config = make_config({"source.uri": str(packed)})
    expected = hashlib.sha256(content).hexdigest()

    with open_source(config, {}) as source:
        assert source.content_sha256 == expected


def test_metadata_beside_the_ratings_are_found(tmp_path: Path) -> None:
    texts = {"u.data": U_DATA, "u.item": "x", "u.user": "y"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)

    for uri in (tmp_path, tmp_path / "u.data"):
        config = make_config({"source.uri": str(uri)})
        with open_source(config, {}) as source:
            assert source.items is not None
            assert source.users is not None
            assert source.items().name == "u.item"
            assert source.users().name == "u.user"


@pytest.mark.parametrize("kind", ["whole numbers", "text", "dates", "categories", "float32"])
def test_parquet(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame(ROWS, columns=["user_id", "item_id", "rating", "timestamp"])
    if kind == "whole numbers":
        frame = frame.astype({"user_id": int, "item_id": int, "rating": int})
    if kind == "dates":
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s")
    if kind == "categories":
        frame["user_id"] = frame["user_id"].astype("category")
    if kind == "float32":
        frame = frame.astype({"rating": "float32"})

    path = tmp_path / "ratings.parquet"
    frame.to_parquet(path)

    assert read(path, chunk_rows=1_000) == ROWS
    assert read(tmp_path) == ROWS


def test_bad_rows_of_parquet_have_their_row_number(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["1", None, "\0", "4"],
            "item_id": ["10"] * 4,
            "rating": [4.0, 4.0, 4.0, float("inf")],
        }
    )
    path = tmp_path / "r.parquet"
    frame.to_parquet(path)
    (chunk,) = read_chunks(path)

    assert rejections(chunk) == [
        (2, "the user id is missing"),
        (3, "the user id holds a NUL byte"),
        (4, "the rating 'inf' is not finite"),
    ]


@pytest.fixture
def sqlite(tmp_path: Path) -> dict[str, str]:
    """The environment that names another database with a table of votes, two of them bad."""
    url = f"sqlite:///{tmp_path / 'other.db'}"
    rows = [
        {"u": "007", "i": 1, "r": 4, "t": 881250949},
        {"u": "ü", "i": 2, "r": None, "t": ""},
        {"u": "\n", "i": 3, "r": 3, "t": ""},
    ]
    create = sa.text("CREATE TABLE votes (u text, i integer, r real, t text)")
    insert = sa.text("INSERT INTO votes VALUES (:u, :i, :r, :t)")

    engine = sa.create_engine(url)

    with engine.begin() as connection:
        connection.execute(create)
        connection.execute(insert, rows)
    engine.dispose()

    return {"OTHER_URL": url}


QUERY = """
SELECT u AS user_id, i AS item_id, r AS rating, t AS timestamp
FROM votes
WHERE u NOT LIKE '%:x'
ORDER BY i
"""


def test_a_query_on_another_database(sqlite: dict[str, str]) -> None:
    (chunk,) = read_chunks("sql", sqlite, query=QUERY, database_url_env="OTHER_URL")
    rows = chunk.rows.drop_columns(["rated_us", "side"]).to_pylist()

    assert rows == [{"user_id": "007", "item_id": "1", "rating": 4.0, "line": 1}]
    assert rejections(chunk) == [
        (2, "the rating is missing"),
        (3, "the user id is missing"),
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT u FROM votes", "item_id, rating"),
        ("SELECT * FROM missing", "no such table"),
        ("SELEKT", "syntax error"),
    ],
)
def test_a_wrong_query_is_refused(sqlite: dict[str, str], query: str, said: str) -> None:
    found = refusal("sql", sqlite, query=query, database_url_env="OTHER_URL")

    assert said in found


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM votes",
        "INSERT INTO votes SELECT * FROM votes RETURNING 1 AS user_id, 2 AS item_id, 3 AS rating",
        "SELECT 1; DELETE FROM votes",
        "DROP TABLE votes",
        "PRAGMA query_only = OFF",
        "ATTACH DATABASE 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "CREATE TABLE stolen AS SELECT * FROM votes",
    ],
)
def test_a_query_on_sqlite_only_reads(
    sqlite: dict[str, str], query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    said = refusal("sql", sqlite, query=query, database_url_env="OTHER_URL")

    assert "refused by the source database" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_query_on_sqlite_is_ended_in_time(sqlite: dict[str, str]) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n"
    config = make_config(
        {"source.uri": "sql", "source.query": endless, "source.database_url_env": "OTHER_URL"}
    )
    reach = Reach(Deployment(limits=Limits(query_seconds=0.5)))
    with pytest.raises(InputError, match="interrupted"), open_source(config, sqlite, reach):
        pass


def test_source_database_settings_are_checked(tmp_path: Path) -> None:
    assert "MF_SOURCE_DATABASE_URL is empty" in refusal("sql", {}, query="SELECT 1")

    unusable = {"MF_SOURCE_DATABASE_URL": "nonsense://me:secret@host/db"}
    said = refusal("sql", unusable, query="SELECT 1")

    assert "can't be used" in said
    assert "secret" not in said

    url = f"postgresql+psycopg2://me:secret@/db?host={tmp_path}"
    silent = {"MF_SOURCE_DATABASE_URL": url}

    with pytest.raises(DatabaseError, match="did not answer"):
        read("sql", silent, query="SELECT 1")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """URL of a web server that serves `tmp_path`."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_web(web: str, write: Write) -> None:
    packed = gzip.compress(CSV.encode())
    write("r.csv.gz", packed)

    assert read(f"{web}/r.csv.gz") == ROWS
    assert "nothing is there" in refusal(f"{web}/no.csv")


def test_a_web_server_that_does_not_answer_may_do_so_later() -> None:
    with pytest.raises(SourceUnavailableError, match="could not be read"):
        read("http://127.0.0.1:9/r.csv")


def test_any_fsspec_uri(write: Write) -> None:
    UPath("memory://sources-test/r.csv").write_text(CSV)
    local = write("r.csv", CSV)

    assert read("memory://sources-test/r.csv") == ROWS
    assert read("memory://sources-test/") == ROWS
    assert read(local.as_uri()) == ROWS


BROKEN: dict[str, tuple[str, str | bytes, dict[str, Any], str]] = {
    "empty": ("r.csv", "", {}, "empty file"),
    "blank lines only": ("u.data", "\n\n\n", {}, "empty file"),
    "header only": ("r.csv", "user_id,item_id,rating\n", {}, "header only"),
    "wrong delimiter": (
        "r.csv",
        CSV,
        {"delimiter": ";"},
        "expected fields separated by semicolons.*looks separated by commas",
    ),
    "no delimiter": ("r.csv", "hello\nworld\n", {}, "expected fields separated by tabs, commas"),
    "missing column": (
        "r.csv",
        "user_id,item_id,stars\n1,2,3\n",
        {},
        "column.s. rating in the first line",
    ),
    "missing side column": ("r.csv", CSV, {"side_column": "fold"}, "no column fold"),
    "repeated column": (
        "r.csv",
        "user_id,item_id,rating,rating\n1,2,3,4\n",
        {},
        "rating more than once",
    ),
    "no header": (
        "r.csv",
        "1,10,good,then\n",
        {},
        "column.s. user_id, item_id, rating in the first line",
    ),
    "unknown header": (
        "r.tsv",
        "who\twhat\tstars\twhen\na\tb\t3\t0\n",
        {},
        "column.s. user_id, item_id, rating",
    ),
    "utf-16": ("r.csv", CSV.encode("utf-16-le"), {}, "source.encoding .utf-16-le"),
    "truncated gz": (
        "r.csv.gz",
        gzip.compress(CSV.encode() * 1000, mtime=0)[:-20],
        {},
        "truncated or damaged",
    ),
    "damaged gz": (
        "r.csv.gz",
        gzip.compress(CSV.encode())[:-8] + b"damaged!",
        {},
        "truncated or damaged",
    ),
    "truncated zip": (
        "r.zip",
        b"PK\x03\x04" + b"x" * 100,
        {},
        "whole zip, but it is truncated or damaged",
    ),
    "truncated parquet": ("r.parquet", b"PAR1" + b"x" * 100, {}, "whole Parquet file"),
    "wrong checksum": ("r.csv", CSV, {"sha256": "0" * 64}, "expected sha256 0{64}"),
    "no line end": ("u.data", b"x" * (3 << 20), {}, "expected"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_in_words(write: Write, case: str) -> None:
    name, content, overrides, said = BROKEN[case]
    path = write(name, content)

    with pytest.raises(InputError, match=said) as raised:
        read(path, **overrides)

    assert raised.value.exit_code == 3


def test_missing_and_unreadable_places_are_refused_in_words(tmp_path: Path) -> None:
    assert "nothing is there" in refusal(tmp_path / "no.csv")
    assert "got no file" in refusal(tmp_path)
    assert "Install its package" in refusal("nosuch://bucket/file")

    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "b.csv").write_text(CSV)

    assert "got a.csv, b.csv" in refusal(tmp_path)

    archive_path = tmp_path / "no.zip"
    with zipfile.ZipFile(archive_path, "w") as archive:
        archive.writestr("readme.txt", "x")

    assert "got readme.txt" in refusal(archive_path)


def test_a_damaged_zip_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("u.data", U_DATA)

    damaged = path.read_bytes().replace(b"881250950", b"881250955")
    path.write_bytes(damaged)

    assert "Bad CRC-32" in refusal(path)


def test_a_right_checksum_passes(write: Write) -> None:
    content = CSV.encode()
    path = write("r.csv.gz", gzip.compress(content))

    # That of the packed file will do as well as that of its content.
    for data in (path.read_bytes(), content):
        sha256 = hashlib.sha256(data).hexdigest()
        assert read(path, sha256=sha256) == ROWS


def test_a_file_that_changes_while_it_is_read_is_refused(write: Write) -> None:
    path = write("r.csv", CSV)
    config = make_config({"source.uri": str(path)})

    with open_source(config, {}) as source:
        chunks = source.chunks(config, NOW)
        next(chunks)
        os.utime(path, ns=(1, 1))

        with pytest.raises(InputError, match="changed while it was read"):
            next(chunks)


def test_fingerprint_depends_on_content_and_reading_settings(write: Write) -> None:
    path = write("r.csv", CSV)

    def fingerprint(**overrides: Any) -> str:
        config = make_config({"source.uri": str(path), **overrides})
        with open_source(config, {}) as source:
            return source.fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(**{"source.chunk_rows": 1_000}) == first
    assert fingerprint(**{"data.scale_high": 10}) != first
    assert fingerprint(**{"source.time_column": ""}) != first

    write("r.csv", CSV + "3,3,3,0\n")
    assert fingerprint() != first


def test_passwords_do_not_show() -> None:
    shown = redacted("sftp://me:secret@host/path")

    assert shown == "sftp://***@host/path"


def test_ml100k_is_the_published_data(ml100k: Path) -> None:
    data = (ml100k / "u.data").read_bytes()

    assert hashlib.sha256(data).hexdigest() == U_DATA_SHA256


def test_the_demo_cache_is_used_and_a_damaged_download_refused(
    tmp_path: Path, ml100k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (ml100k / "u.data").read_bytes()
    damaged = {"u.data": data[:-5]}
    whole = {"u.data": data, "u.item": b""}
    download = "mf_core.sources.demo._from_grouplens"

    monkeypatch.setattr(download, lambda: damaged)

    with pytest.raises(InputError, match=r"expected u\.data with sha256 06416e597f82"):
        fetch_ml100k(tmp_path)

    monkeypatch.setattr(download, lambda: whole)
    folder = fetch_ml100k(tmp_path)

    monkeypatch.setattr(download, lambda: pytest.fail("downloaded again"))

    assert fetch_ml100k(tmp_path) == folder

    chunks = read_chunks("ml-100k", {"MF_CACHE_DIR": str(tmp_path)})
    assert sum(len(chunk.rows) for chunk in chunks) == 100_000


def test_no_way_to_download_is_said_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> dict[str, bytes]:
        raise OSError("no route")

    monkeypatch.setattr("mf_core.sources.demo._from_grouplens", fail)
    monkeypatch.setattr("mf_core.sources.demo._from_package", fail)

    with pytest.raises(InputError, match="can't be downloaded"):
        fetch_ml100k(tmp_path)
