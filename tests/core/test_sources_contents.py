"""What a file is by its first bytes: packed in whatever, or no table of ratings at all."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import random
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pytest

from mf_core.deployment import Limits
from mf_core.errors import MFError
from mf_core.sources.contents import FOREIGN, PACKINGS, Packing

from .test_sources import CSV, ROWS, U_DATA, read, read_chunks, refusal
from .test_sources_limits import refusal as limited


def _arrow(codec: str) -> Callable[[bytes], bytes]:
    """Return what packs as Arrow knows it."""

    def pack(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()

    return pack


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": _arrow("zstd"),
    "lz4": _arrow("lz4"),
}
NAMES = ("user_id", "item_id", "rating", "timestamp")
JSON_LINES = "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in ROWS)


def test_every_packing_has_an_example() -> None:
    assert set(PACK) == {kind.shown for kind in PACKINGS}


@pytest.mark.parametrize("kind", PACKINGS, ids=lambda kind: kind.shown)
def test_each_packing_is_read_by_content(tmp_path: Path, kind: Packing) -> None:
    pack = PACK[kind.shown]
    for suffix in (*kind.suffixes, "", ".csv"):
        (tmp_path / f"r.csv{suffix}").write_bytes(pack(CSV.encode()))
        assert read(tmp_path / f"r.csv{suffix}") == ROWS
        (tmp_path / f"u.data{suffix}").write_bytes(pack(U_DATA.encode()))
        assert read(tmp_path / f"u.data{suffix}") == ROWS
        (tmp_path / f"r.jsonl{suffix}").write_bytes(pack(JSON_LINES.encode()))
        assert read(tmp_path / f"r.jsonl{suffix}") == ROWS
    # Packed twice in a row, as by appending.
    halves = pack(U_DATA[:25].encode()) + pack(U_DATA[25:].encode())
    (tmp_path / "u.data").write_bytes(halves)
    assert read(tmp_path / "u.data") == ROWS


@pytest.mark.parametrize("kind", PACKINGS, ids=lambda kind: kind.shown)
def test_a_packed_file_in_a_folder_or_a_zip_is_found(tmp_path: Path, kind: Packing) -> None:
    packed = PACK[kind.shown](CSV.encode())
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f"some.csv{kind.suffixes[0]}").write_bytes(packed)
    assert read(folder) == ROWS
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr(f"some.csv{kind.suffixes[0]}", packed)
    assert read(tmp_path / "r.zip") == ROWS


@pytest.mark.parametrize("kind", PACKINGS, ids=lambda kind: kind.shown)
def test_a_packed_file_that_is_cut_or_damaged_or_too_dense_is_refused(
    tmp_path: Path, kind: Packing
) -> None:
    pack = PACK[kind.shown]
    path = tmp_path / f"r.csv{kind.suffixes[0]}"
    rows = "".join(f"{n},{n * 7919 % 10007},3,0\n" for n in range(50_000))
    whole = pack((CSV + rows).encode())
    for data in (whole[:-10], whole[: len(whole) // 2], whole[:40]):
        path.write_bytes(data)
        said = refusal(path)
        assert "truncated or damaged" in said
    # One after the other: that is faster to pack.
    path.write_bytes(pack(CSV.encode()) + pack(b"1,1,3,0\n" * (1 << 17)) * 80)
    assert "limits.max_ratio" in limited(path, Limits(max_ratio=5))


def _tar(tmp_path: Path, mode: str) -> bytes:
    buffer = io.BytesIO()
    (tmp_path / "inner.csv").write_text(CSV)
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        archive.add(tmp_path / "inner.csv", arcname="data/ratings.csv")
    return buffer.getvalue()


def _database(tmp_path: Path) -> bytes:
    path = tmp_path / "some.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE ratings (user_id)")
    connection.close()
    return path.read_bytes()


def _by_arrow(tmp_path: Path, write: Callable[[pa.Table, str], object]) -> bytes:
    path = tmp_path / "some.arrow"
    write(pa.table(pd.DataFrame(ROWS, columns=list(NAMES)).to_dict("list")), str(path))
    return path.read_bytes()


def _array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


PRETTY = json.dumps([dict(zip(NAMES, row, strict=True)) for row in ROWS], indent=2)
# By the beginning of what it is called: files of that kind, and a word of the advice.
EXAMPLES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "an HTML page": (lambda _: b"\n <!DOCTYPE html>\n<html><body>Sign in</body>", "login"),
    "an XML document": (lambda _: b'<?xml version="1.0"?>\n<Error><Code>AccessDenied', "fetch"),
    "a pointer of Git LFS": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "git lfs pull",
    ),
    "a PDF": (lambda _: b"%PDF-1.7\n%\xe2\xe3", "table"),
    "a document of an old Excel": (
        lambda _: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
        "CSV",
    ),
    "a tar archive": (lambda folder: _tar(folder, "w"), "Unpack"),
    "a 7z archive": (lambda _: b"7z\xbc\xaf\x27\x1c\0\4" + b"\0" * 90, "Unpack"),
    "a RAR archive": (lambda _: b"Rar!\x1a\x07\x01\0", "Unpack"),
    "a file packed by compress": (lambda _: b"\x1f\x9d\x90abc", "Unpack"),
    "a SQLite database": (_database, "source.uri=sql"),
    "an HDF5 file": (lambda _: b"\x89HDF\r\n\x1a\n\0\0", "CSV"),
    "an ORC file": (lambda folder: _by_arrow(folder, orc.write_table), "Parquet"),
    "an Avro file": (lambda _: b"Obj\x01\x04\x14avro.codec", "Parquet"),
    "an Arrow or Feather file": (
        lambda folder: _by_arrow(folder, feather.write_feather),
        "Parquet",
    ),
    "a NumPy array": (lambda _: _array(), "CSV"),
    "a Python pickle": (lambda _: pickle.dumps(ROWS), "never loaded"),
    "a file of R": (lambda _: b"RDX3\nX\n\0\0", "CSV"),
    "a MatrixMarket": (
        lambda _: b"%%MatrixMarket matrix coordinate real general\n2 2 1\n1 1 4\n",
        "headerless",
    ),
    "a JSON document": (lambda _: PRETTY.encode(), "one object a line"),
    "lines of JSON lists": (lambda _: b'["u", "i", 4]\n["v", "i", 5]\n', "one object a line"),
    "lines of Python": (lambda _: b"{'user_id': 'u', 'item_id': 'i', 'rating': 4}\n", "JSON"),
}


def test_every_kind_that_is_not_read_has_an_example() -> None:
    assert len(EXAMPLES) == len(FOREIGN)
    for kind, beginning in zip(FOREIGN, EXAMPLES, strict=True):
        assert kind.shown.startswith(beginning)


@pytest.mark.parametrize("name", ["r.csv", "r", "ratings.parquet", "part-00000"])
@pytest.mark.parametrize("kind", EXAMPLES)
def test_what_is_no_table_is_named_as_what_it_is(tmp_path: Path, kind: str, name: str) -> None:
    make, advice = EXAMPLES[kind]
    content = make(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / name
    path.write_bytes(content)
    said = refusal(path)
    assert f"got {kind}" in said
    assert advice in said
    # In a folder, in a zip, or packed: a .tar.gz is one.
    if "." in name or name.startswith("part"):
        assert f"got {kind}" in refusal(folder)
    path.write_bytes(gzip.compress(content))
    assert f"got {kind}" in refusal(path)
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr("part-00000.csv", content)
    assert f"got {kind}" in refusal(tmp_path / "r.zip")


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("xl/workbook.xml", "an Excel workbook"),
        ("word/document.xml", "a Word document"),
        ("content.xml", "an OpenDocument"),
    ],
)
def test_a_document_of_an_office_is_named(tmp_path: Path, member: str, said: str) -> None:
    path = tmp_path / "ratings.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(member, "<x/>")
        archive.writestr("docProps/x.csv", CSV)
    assert f"got {said}" in refusal(path)


NOT_FOREIGN = (
    "<user>,<item>,4\n",
    "[1],i,4\n",
    "{a},i,4\n",
    "PDF,i,4\n",
    "ORC,i,4\n",
    "Obj,i,4\n",
    "version,i,4\n",
    "BZhang,i,4\n",
    "BZh91AY,i,4\n",
    "FEA1,i,4\n",
    "ARROW1,i,4\n",
    "7z,i,4\n",
    "RDX3,i,4\n",
    "ustar,i,4\n" * 100,
)


@pytest.mark.parametrize("text", NOT_FOREIGN)
def test_ids_that_look_a_little_like_another_kind_are_ids(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text)
    assert len(read(path)) == text.count("\n")


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(ROWS, columns=list(NAMES)).to_parquet(buffer)
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/part-0.csv", CSV)
    return buffer.getvalue()


WHOLE = (
    CSV.encode(),
    U_DATA.encode(),
    JSON_LINES.encode(),
    CSV.encode("utf-16"),
    _parquet(),
    _zip(),
)
PIECES = (b'"', b"\r", b"\n\n", b"\0", b"{", b"[", b"\xff\xfe", b"::", b" ", b"sep=;\n", b"\xc3")


@pytest.mark.parametrize("seed", range(6))
def test_any_bytes_give_rows_or_words(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    whole = [*WHOLE, *(pack(CSV.encode()) for pack in PACK.values())]
    for _ in range(40):
        data = bytearray(chosen.choice(whole))
        for _ in range(chosen.choice([1, 2, 5])):
            at = chosen.randrange(len(data) + 1)
            data[at : at + chosen.randrange(3)] = chosen.choice([b"", *PIECES])
        path = tmp_path / chosen.choice(["r.csv", "u.data", "part-0", "r.jsonl", "r.parquet"])
        path.write_bytes(data[: chosen.choice([len(data), len(data), chosen.randrange(1, 99)])])
        settings = chosen.choice([{}, {}, {"layout": "headerless"}, {"encoding": "utf-16"}])
        chunks = []
        with suppress(MFError):
            chunks = read_chunks(str(chosen.choice([path, tmp_path / "*"])), None, **settings)
        for row in (row for chunk in chunks for row in chunk.rejected):
            assert "\0" not in (row.raw + row.reason).encode().decode()
        path.unlink()
