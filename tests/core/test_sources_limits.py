"""Sources that would fill the disk, a disk that is full, and files that are broken on purpose."""

import gzip
import io
import os
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mf_core.config import make_config
from mf_core.deployment import Deployment, Limits
from mf_core.errors import InputError, MFError, ScratchFullError
from mf_core.sources import spool as spooling
from mf_core.sources.reach import Reach
from mf_core.sources.source import open_source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CSV = "user_id,item_id,rating\n1,10,4\n1,11,3\n2,10,5\n"
U_DATA = "1\t10\t4\t881250949\n1\t11\t3\t881250950\n"
MIB = 1 << 20
# A table that is good, and packs a thousand times smaller.
DENSE = b"user_id,item_id,rating\n" + b"1,10,4\n" * (10 * MIB)


def load(uri: Path | str, limits: Limits | None = None, **source: Any) -> int:
    """Return how many rows a source has."""
    settings = {f"source.{name}": value for name, value in source.items()}
    config = make_config({"source.uri": str(uri), **settings})
    reach = Reach(Deployment(limits=limits or Limits()))
    with open_source(config, {}, reach) as opened:
        return sum(chunk.n_read for _, chunk in opened.chunks(config, NOW))


def refusal(uri: Path | str, limits: Limits | None = None, **source: Any) -> str:
    """Return what is said of a source that is refused."""
    with pytest.raises(InputError) as raised:
        load(uri, limits, **source)
    return str(raised.value)


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that unpack to more than a thousand times their size."""
    folder = tmp_path_factory.mktemp("bombs")
    (folder / "r.csv.gz").write_bytes(gzip.compress(DENSE))
    for name, method in (("deflated", zipfile.ZIP_DEFLATED), ("lzma", zipfile.ZIP_LZMA)):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", method) as archive:
            archive.writestr("r.csv", DENSE)
    # Packed twice.
    with zipfile.ZipFile(folder / "twice.zip", "w") as archive:
        archive.writestr("r.csv.gz", gzip.compress(DENSE))
    return folder


@pytest.mark.parametrize("name", ["r.csv.gz", "deflated.zip", "lzma.zip", "twice.zip"])
def test_a_file_that_unpacks_to_far_too_much_is_refused(bombs: Path, name: str) -> None:
    said = refusal(bombs / name)
    assert "at most 200 times" in said
    assert "limits.max_ratio" in said
    assert name in said


def test_the_operator_may_raise_the_ratio_and_lower_the_size(bombs: Path, tmp_path: Path) -> None:
    with gzip.open(bombs / "r.csv.gz") as dense:
        head = dense.read(8 * MIB)
    (tmp_path / "head.csv.gz").write_bytes(gzip.compress(head))
    assert load(tmp_path / "head.csv.gz") > MIB

    assert "at most 0.001 GiB" in refusal(tmp_path / "head.csv.gz", Limits(max_gib=0.001))
    assert load(tmp_path / "head.csv.gz", Limits(max_gib=0.01, max_ratio=2000)) > MIB


def test_a_parquet_file_of_a_billion_equal_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    n = 4_000_000
    columns = {
        "user_id": pa.array(["1"]).take(pa.array([0] * n)),
        "item_id": pa.array(["2"]).take(pa.array([0] * n)),
        "rating": pa.array([4.0]).take(pa.array([0] * n)),
    }
    pq.write_table(pa.table(columns), path)
    assert path.stat().st_size < 40_000
    said = refusal(path, Limits(max_gib=0.02))
    assert "at most 0.02 GiB" in said


def test_a_full_temporary_folder_is_no_bad_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode()))
    # The kernel's own full disk.
    monkeypatch.setattr(spooling.Spool, "new_path", lambda *_: Path("/dev/full"))
    with pytest.raises(ScratchFullError, match=r"is full \(No space left on device; [\d,]+ MiB"):
        load(path)


_SPOOL_UNDER_A_LIMIT = """
import resource, sys
from mf_core.config import make_config
from mf_core.errors import MFError
from mf_core.sources.source import open_source
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    settings = dict(pair.split("=", 1) for pair in sys.argv[1:])
    with open_source(make_config(settings), {"OTHER": settings.get("url", "")}):
        pass
except MFError as error:
    print(type(error).__name__, error)
"""


def test_a_spool_that_may_not_grow_is_said_so(tmp_path: Path) -> None:
    """As on a disk with a quota: what was written so far is gone, and nothing is called damaged."""
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode() + os.urandom(1 << 18).hex().encode()))
    command = [sys.executable, "-c", _SPOOL_UNDER_A_LIMIT, f"source.uri={path}"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)

    assert done.stdout.startswith("ScratchFullError"), done.stdout + done.stderr
    assert str(tmp_path) in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.csv.gz"]


def test_no_room_for_the_folder_itself_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone" / "folder"))
    (tmp_path / "gone").mkdir()
    path = tmp_path / "r.csv"
    path.write_text(CSV)
    with pytest.raises(ScratchFullError, match=r"can't be written to.*TMPDIR"):
        load(path)


def test_what_a_killed_process_has_unpacked_goes_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode()))
    config = make_config({"source.uri": str(path)})

    child = os.fork()
    if child == 0:
        with open_source(config, {}):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = scratch.iterdir()
    assert any(left.iterdir())

    assert load(path) == 3
    assert list(scratch.iterdir()) == []


def test_a_damaged_lzma_member_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("u.data", U_DATA * 1000)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = archive.infolist()[0].header_offset + 30 + len("u.data")
    # Its properties, and bytes in the middle.
    for at in (start + 4, start + 30):
        damaged = bytearray(data)
        damaged[at : at + 8] = b"\xff" * 8
        path.write_bytes(damaged)
        assert "truncated or damaged" in refusal(path)


@pytest.mark.parametrize(
    "name", ["./u.data", "a//u.data", "/u.data", "../../u.data", "a/./u.data", "C:\\u.data/u.data"]
)
def test_a_zip_with_odd_names_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, U_DATA)
        archive.writestr(name.replace("u.data", "u.item"), "")
    assert load(path) == 2


def _outcome(path: Path) -> str:
    """Return what came of a source, in words."""
    try:
        return f"{load(path)} rows"
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("raw", [b"u\x1b[31m.csv", b"u\n.csv", b"r\xff\xfe.csv"])
def test_a_zip_with_names_that_are_no_text_is_read_or_refused_in_words(
    tmp_path: Path, raw: bytes
) -> None:
    plain = b"n" * len(raw)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(plain.decode(), CSV)
    for flags in (0, 0x800):
        data = bytearray(buffer.getvalue().replace(plain, raw))
        # Flag 11: the name is said to be UTF-8.
        central = data.index(b"PK\x01\x02")
        struct.pack_into("<H", data, 6, flags)
        struct.pack_into("<H", data, central + 8, flags)
        path = tmp_path / "a.zip"
        path.write_bytes(bytes(data))
        said = _outcome(path)
        assert said.isprintable()
        assert any(words in said for words in ("3 rows", "damaged", "members", "Name the file"))


def test_a_file_whose_name_is_no_text_has_a_name_that_can_be_stored(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff\x1b.csv"))
    path.write_text(CSV)
    config = make_config({"source.uri": str(tmp_path)})
    with open_source(config, {}) as source:
        (found,) = [file.file.name for file in source.files]
    assert found.encode().decode() == found


def _patched_parquet(path: Path, names: list[str], old: bytes, new: bytes) -> Path:
    """Write a table, and put other bytes into the names of its columns."""
    columns = [pa.array(["1"]), pa.array(["2"]), pa.array([3.0]), pa.array(["x"])]
    pq.write_table(pa.table(columns, names=names), path, store_schema=False)
    assert len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


def test_parquet_with_bad_names_is_refused_in_words(tmp_path: Path) -> None:
    names = ["user_id", "item_id", "rating", "another"]
    path = tmp_path / "r.parquet"
    assert load(_patched_parquet(path, names, b"another", b"another")) == 1
    assert "Parquet" in refusal(_patched_parquet(path, names, b"another", b"\xff\xfe\xfdther"))
    assert "Parquet" in refusal(_patched_parquet(path, names, b"user_id", b"\xff\xfe\xfd\xfc_id"))

    twice = _patched_parquet(path, names, b"another", b"user_id")
    assert "user_id more than once" in refusal(twice)
    dotted = _patched_parquet(path, names, b"user_id", b"user.id")
    assert load(dotted, user_column="user.id") == 1
    assert "got user.id, item_id" in refusal(dotted)


SCHEMES = (
    "data:text/csv;base64,%%%",
    "dir::file:///tmp",
    "reference://x",
    "jupyter://h",
    "github://o:r@m/x",
    "hf://x/y",
    "smb://h/x",
    "hdfs://x/y",
    "zip::/etc/x.zip",
    "tar://x::file:///y",
    "blockcache::x",
    "oci://x",
    "dask://x",
    "git://x",
    "webdav://x/y",
    "https:/host/x",
    "https://",
    "http://[",
    "http://host:port/x",
    "ftp://127.0.0.1:9/x",
    "::",
    "~no such user/r.csv",
    "://",
    "a\0b",
    "file://",
    "s3://",
    "x" * 1999,
    "libarchive://x::/etc/passwd",
    "generic://x",
    "asyncwrapper://x",
    "cached://x",
    "root://x",
    "memory://",
    "\ud800",
)


@pytest.mark.parametrize("uri", SCHEMES)
def test_a_uri_that_nothing_can_open_is_refused_in_words(uri: str) -> None:
    with pytest.raises(MFError) as raised:
        load(uri)
    assert len(str(raised.value)) < 2600
