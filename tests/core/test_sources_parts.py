"""Several files that are one table: parts, partitions, patterns, several URIs."""

import gzip
import hashlib
import os
import uuid
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from upath import UPath

from mf_core.config import make_config, uris_in
from mf_core.deployment import Deployment
from mf_core.errors import ConfigError, InputError
from mf_core.redaction import redacted
from mf_core.sources.reach import Reach
from mf_core.sources.source import open_source
from tests.s3 import BUCKET, Door, backdoor

from .test_sources import CSV, NOW, ROWS, U_DATA, read, read_chunks, refusal
from .test_sources_reach import triggered

HEADER = "user_id,item_id,rating\n"
NO_TIME = [(user, item, rating, None) for user, item, rating, _ in ROWS]


def put(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files by their paths within a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def parts(form: Callable[[int], str] = "part-{:05}.csv".format) -> dict[str, str]:
    """Return a file of one row for each of `ROWS`."""
    lines = CSV.splitlines(keepends=True)
    return {form(n): lines[0] + line for n, line in enumerate(lines[1:])}


def names_of(uri: Path | str, **source: Any) -> list[str]:
    """Return what the files of a source are called."""
    config = make_config({"source.uri": str(uri), **{f"source.{k}": v for k, v in source.items()}})
    with open_source(config, {}) as opened:
        return [one.file.name for one in opened.files]


def zipped(folder: Path) -> Path:
    """Return a zip of all that is in a folder."""
    path = folder.parent / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


@pytest.mark.parametrize(
    "form",
    [
        "part-{:05}.csv",
        "part-{:05}-c0de-c000.csv.gz",
        "part-{:05}",
        "part_{}.txt",
        "part.{}.tsv",
        "part{}.CSV",
        "{}.part",
    ],
)
def test_all_parts_of_a_folder_are_read_in_order_of_name(tmp_path: Path, form: str) -> None:
    files: dict[str, str | bytes] = {}
    for name, text in parts(form.format).items():
        files[name] = gzip.compress(text.encode()) if ".gz" in name else text
    folder = put(tmp_path / "export", {**files, "_SUCCESS": "", ".part-00000.csv.crc": "x"})
    assert read(folder) == ROWS
    assert read(zipped(folder)) == ROWS
    os.chdir(tmp_path)
    assert read("export") == ROWS


def test_parts_that_are_parquet_or_json_lines(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=["user_id", "item_id", "rating", "timestamp"])
    for n in range(3):
        frame[n : n + 1].to_parquet(tmp_path / f"part-0000{n}-x.snappy.parquet")
    assert read(tmp_path) == ROWS
    for path in tmp_path.iterdir():
        path.unlink()
    for n in range(3):
        frame[n : n + 1].to_json(tmp_path / f"part-0000{n}.json", orient="records", lines=True)
    assert read(tmp_path) == ROWS


def test_empty_parts_and_parts_of_a_header_only_are_no_harm(tmp_path: Path) -> None:
    lines = CSV.splitlines(keepends=True)
    put(tmp_path, {**parts(), "part-00007.csv": "", "part-00008.csv": lines[0]})
    assert read(tmp_path) == ROWS
    put(tmp_path / "none", {"part-0.csv": "", "part-1.csv": lines[0]})
    assert read(tmp_path / "none") == []
    put(tmp_path / "one", {"part-0.csv": ""})
    assert "empty" in refusal(tmp_path / "one")


def test_each_part_is_read_by_its_own_header_and_a_bad_row_names_its_part(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "part-0.csv": "user_id,item_id,rating\nu,i,4\n",
            "part-1.csv": "rating;itemId;userId;timestamp\n3;j;v;881250949\n9;j;v;881250949\n",
        },
    )
    first, second = read_chunks(tmp_path)
    assert first.rows["user_id"].to_pylist() == ["u"]
    assert second.rows["user_id"].to_pylist() == ["v"]
    config = make_config({"source.uri": str(tmp_path)})
    with open_source(config, {}) as source:
        bad = {
            name: row.line for name, chunk in source.chunks(config, NOW) for row in chunk.rejected
        }
    assert bad == {"part-1.csv": 3}
    put(tmp_path, {"part-2.csv": "who,what,stars\nu,i,4\n"})
    assert refusal(tmp_path).startswith("part-2.csv: expected the column(s)")


def test_pieces_of_a_file_that_was_cut_are_not_read_in_another_order(tmp_path: Path) -> None:
    """Only the first of them has the header, which may have the item first."""
    put(tmp_path, {"part-00": "item_id,user_id,rating\ni,u,4\n", "part-01": "j,v,3\n"})
    said = refusal(tmp_path)
    assert said.startswith("part-01: expected a header as part-00 has one")
    assert "cat" in said
    put(tmp_path, {"part-00": "i,u,4\n"})
    assert len(read(tmp_path)) == 2
    put(tmp_path, {"part-02": HEADER + "u,i,4\n"})
    assert "expected a header" in refusal(tmp_path)


def test_ids_are_written_alike_in_all_parts(tmp_path: Path) -> None:
    """Whether 1.0 is a number, all parts say together."""
    put(tmp_path, {"part-0.csv": HEADER + "1.0,7,4\n", "part-1.csv": HEADER + "2,7,4\n"})
    assert [row[0] for row in read(tmp_path)] == ["1", "2"]
    put(tmp_path, {"part-1.csv": HEADER + "1.1,7,4\n"})
    assert [row[0] for row in read(tmp_path)] == ["1.0", "1.1"]


def partitions() -> dict[str, str]:
    """Return a table partitioned by the date, and a date that is missing."""
    return {
        "date=2026-01-01/part-0.csv": HEADER + "u,i,4\n",
        "date=2026-01-02/part-0.csv": HEADER + "u,j,3\n",
        "date=__HIVE_DEFAULT_PARTITION__/part-0.csv": HEADER + "u,k,2\n",
    }


def seconds(*date: int) -> int:
    """Return a date as seconds since 1970."""
    return int(datetime(*date, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]


LATER = datetime(2026, 3, 1, tzinfo=UTC)


def dated(uri: Path | str, **source: Any) -> list[tuple[Any, ...]]:
    """Return item and seconds of a source, read in March 2026."""
    config = make_config({"source.uri": str(uri), **{f"source.{k}": v for k, v in source.items()}})
    with open_source(config, {}) as opened:
        rows = [row for _, chunk in opened.chunks(config, LATER) for row in chunk.rows.to_pylist()]
    return [(row["item_id"], row["rated_us"] and row["rated_us"] // 10**6) for row in rows]


DATED = [("i", seconds(2026, 1, 1)), ("j", seconds(2026, 1, 2)), ("k", None)]


def test_the_folders_of_a_table_may_say_the_date(tmp_path: Path) -> None:
    folder = put(tmp_path / "table", {**partitions(), "_SUCCESS": ""})
    assert dated(zipped(folder), time_column="date") == DATED
    put(folder, {"other/part-9.csv": "x"})
    assert "other/part-9.csv" in refusal(zipped(folder))
    assert dated(folder, time_column="date") == DATED
    assert dated(f"{folder}/date*/part-*.csv", time_column="date") == DATED
    assert dated(f"{folder}/date=*", time_column="date") == DATED
    assert dated(f"{folder}/date=2026-01-0[12]/*", time_column="date") == DATED[:2]
    assert dated(f"{folder}/date=2026-01-02", time_column="date") == DATED[1:2]
    assert dated(folder) == [(item, None) for item, _ in DATED]
    assert names_of(folder)[0] == "date=2026-01-01/part-0.csv"


def test_a_partition_may_hold_any_column_in_any_kind_of_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": ["u", "v"], "rating": [4.0, 3.0], "day": ["2026-01-01"] * 2})
    frame.to_parquet(tmp_path / "p", partition_cols=["day", "rating"])
    named = {"user_column": "user", "item_column": "user", "time_column": "day"}
    assert dated(tmp_path / "p", **named) == [("v", DATED[0][1]), ("u", DATED[0][1])]

    put(
        tmp_path / "j",
        {
            "lang=d%2Fe/split=train/a.jsonl": '{"user_id": "u", "rating": 4}\n',
            "lang=fr/split=test/a.jsonl": '{"user_id": "u", "rating": 3}\n',
        },
    )
    chunks = read_chunks(tmp_path / "j", item_column="lang", side_column="split")
    rows = [row for chunk in chunks for row in chunk.rows.to_pylist()]
    assert [(row["item_id"], row["side"]) for row in rows] == [("d/e", "train"), ("fr", "test")]

    put(tmp_path / "h", {"d=2026-01-01/u.data": "u\ti\t4\t881250949\n", "d=x/u.data": U_DATA})
    assert len(dated(tmp_path / "h")) == 4
    assert dated(tmp_path / "h", time_column="d") == [("i", DATED[0][1])]
    put(tmp_path / "k", {"d=2026-01-01/r.csv": "u,i,4\n", "d=2026-01-02/r.csv": "u,j,4\n"})
    assert dated(tmp_path / "k", time_column="d") == DATED[:2]


def test_what_a_file_says_comes_before_what_its_folder_says(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"timestamp=2026-01-01/r.csv": CSV, "timestamp=2026-01-02/r.csv": HEADER + "u,i,4\n"},
    )
    assert read(tmp_path)[:3] == ROWS
    assert dated(tmp_path)[3] == ("i", seconds(2026, 1, 2))


def test_another_value_of_a_partition_is_another_source(tmp_path: Path) -> None:
    """The bytes are the same, and the dates are not."""

    def fingerprint(**source: Any) -> str:
        """Return what a batch is recognised by."""
        config = make_config(
            {"source.uri": str(tmp_path / "t"), **{f"source.{k}": v for k, v in source.items()}}
        )
        with open_source(config, {}) as opened:
            return opened.fingerprint

    put(tmp_path, {"t/date=2026-01-01/r.csv": HEADER + "u,i,4\n"})
    plain, named = fingerprint(), fingerprint(time_column="date")
    (tmp_path / "t" / "date=2026-01-01").rename(tmp_path / "t" / "date=2026-01-02")
    assert fingerprint() == plain
    assert fingerprint(time_column="date") != named


def test_folders_that_are_no_table_or_not_yet_are_refused_in_words(tmp_path: Path) -> None:
    for name, said in (("_delta_log", "Delta"), (".hoodie", "Hudi"), ("_temporary", "written to")):
        folder = put(tmp_path / name.strip("._"), {**parts(), f"{name}/x": ""})
        assert said in refusal(folder)
        assert said in refusal(zipped(folder))
        assert read(f"{folder}/part-*") == ROWS


# How many of the files below each takes.
PATTERNS = {
    "*.csv": 1,
    "**/*.csv": 3,
    "*/*.csv": 1,
    "[ab]*": 2,
    "?.csv": 1,
    "c/**/y.csv": 1,
    "c/**": 1,
    "a/*": 1,
    "**/d/*": 1,
    "_*.csv": 1,
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_takes_what_it_matches(tmp_path: Path, pattern: str) -> None:
    names = ("b.csv", "a/x.csv", "c/d/y.csv", ".hidden/z.csv", "_z.csv")
    put(tmp_path, dict.fromkeys(names, CSV))
    assert read(f"{tmp_path}/{pattern}") == ROWS * PATTERNS[pattern]
    assert read(f"file://{tmp_path}/{pattern}") == ROWS * PATTERNS[pattern]


def test_a_pattern_takes_folders_too_and_names_tell_the_parts_apart(tmp_path: Path) -> None:
    put(tmp_path, {f"d{n}/{name}": text for n in (1, 2) for name, text in parts().items()})
    put(tmp_path, {"d1/_SUCCESS": "", "e.csv": CSV})
    assert read(f"{tmp_path}/*") == ROWS * 3
    assert names_of(f"{tmp_path}/d*")[:4] == [
        "d1/part-00000.csv",
        "d1/part-00001.csv",
        "d1/part-00002.csv",
        "d2/part-00000.csv",
    ]
    config = make_config({"source.uri": f"{tmp_path}/*.csv"})
    put(tmp_path, {"f.csv": HEADER + "u,i,9\n"})
    with open_source(config, {}) as source:
        bad = [
            (name, row.line) for name, chunk in source.chunks(config, NOW) for row in chunk.rejected
        ]
    assert bad == [("f.csv", 2)]


def test_a_pattern_takes_zips_and_packed_files(tmp_path: Path) -> None:
    put(tmp_path, {"a/u.data": U_DATA, "b.csv.gz": gzip.compress(CSV.encode())})
    zipped(tmp_path / "a")
    assert read(f"{tmp_path}/[ab].*") == ROWS * 2


def test_a_name_may_hold_what_is_otherwise_a_pattern(tmp_path: Path) -> None:
    put(tmp_path, {"[2026] what?*.csv": CSV, "[x]/r.csv": CSV})
    assert read(tmp_path / "[2026] what?*.csv") == ROWS
    assert read(tmp_path / "[x]") == ROWS


def test_what_no_file_matches_is_said(tmp_path: Path) -> None:
    assert "nothing is there" in refusal(f"{tmp_path}/*.csv")
    assert "nothing is there" in refusal(f"{tmp_path}/no/*.csv")
    put(tmp_path, {"a.csv": CSV, "notes.txt": "read me\n"})
    assert refusal(f"{tmp_path}/*").startswith("notes.txt: expected")
    os.symlink(".", tmp_path / "loop")
    assert "could not be read" in refusal(f"{tmp_path}/**/*.csv")


def test_several_uris_stand_one_a_line(tmp_path: Path) -> None:
    put(
        tmp_path, {"a, b.csv": CSV, "c/u.data": U_DATA, "c/u.item": "1|T|||" + "|0" * 19, **parts()}
    )
    text = f"\n  {tmp_path}/a, b.csv\r\n\n{tmp_path}/c\n{tmp_path}/part-*\n"
    assert read(text) == ROWS * 3
    config = make_config({"source.uri": text, "source.test_uri": f"{tmp_path}/c\n{tmp_path}/c"})
    with open_source(config, {}) as source:
        assert source.items is not None
        sides = [
            row["side"] for _, chunk in source.chunks(config, NOW) for row in chunk.rows.to_pylist()
        ]
        assert sides == ["train"] * 9 + ["test"] * 3
        assert len({one.file.name for one in source.files}) == len(source.files)
    assert "nothing is there" in refusal(f"{text}{tmp_path}/gone.csv")
    assert uris_in(" a b ") == [" a b "]


def test_a_file_that_two_lines_lead_to_is_read_once(tmp_path: Path) -> None:
    """Twice the same events would count twice."""
    put(tmp_path, {**parts(), "b/part-0.csv": CSV})
    os.symlink(tmp_path / "b", tmp_path / "part-9")
    assert read(f"{tmp_path}/part-00001.csv\n{tmp_path}\n{tmp_path}/part-*1.csv") == [
        ROWS[1],
        ROWS[0],
        ROWS[2],
    ]
    assert read(f"{tmp_path}\n{tmp_path}\n") == ROWS
    packed = zipped(tmp_path / "b")
    assert read(f"{packed}\n{packed}") == ROWS


def test_lines_that_name_nothing_are_refused_and_one_line_is_one_uri() -> None:
    assert make_config({"source.uri": "ml-100k\n"}).source.uri == "ml-100k"
    assert make_config({"source.uri": " a \n\n b "}).source.uri == "a\nb"
    for setting in ("source.uri", "source.test_uri"):
        with pytest.raises(ConfigError, match=setting):
            make_config({setting: "\n \n"})


def test_a_zip_among_parts_and_a_folder_without_a_choice_are_refused_in_words(
    tmp_path: Path,
) -> None:
    put(tmp_path, {"x/part-0.csv": CSV, "y/a.csv": CSV, "y/b.csv": CSV, "z/.keep": ""})
    put(tmp_path, {"x/part-1.zip": zipped(tmp_path / "x").read_bytes()})
    assert "part-1.zip: expected a table, got a zip" in refusal(tmp_path / "x")
    assert read(f"{tmp_path}/x/*") == ROWS * 2
    assert "/*: y: expected" in refusal(f"{tmp_path}/*")
    assert read(f"{tmp_path}/y/*") == ROWS * 2


def test_secrets_of_several_uris_are_hidden() -> None:
    shown = redacted("s3://b/k\nhttps://me:hush@h/x?sig=hush\n/data/a@b#c\nsftp://me:hush@h/p")
    assert shown == "s3://b/k\nhttps://***@h/x?***\n/data/a@b#c\nsftp://***@h/p"
    # A secret that was broken over lines.
    assert "hush" not in redacted("https://me:a\nhush@host/r.csv")
    assert "hush" not in redacted("https://h/x?sig=a\nhush")


def test_the_sum_of_several_files_is_that_of_the_list_of_theirs(tmp_path: Path) -> None:
    files = parts()
    put(tmp_path / "p", files)
    sums = [hashlib.sha256(text.encode()).hexdigest() for text in files.values()]
    # sha256sum part-* | cut -c1-64, without the last line end.
    joint = hashlib.sha256("\n".join(sums).encode()).hexdigest()
    assert read(tmp_path / "p", sha256=joint) == ROWS
    config = make_config({"source.uri": str(tmp_path / "p")})
    with open_source(config, {}) as source:
        assert source.content_sha256 == joint
    packed = zipped(tmp_path / "p")
    whole = hashlib.sha256(packed.read_bytes()).hexdigest()
    assert read(packed, sha256=whole) == read(packed, sha256=joint) == ROWS
    assert "expected sha256" in refusal(tmp_path / "p", sha256=sums[0])
    put(tmp_path / "p", {"part-00003.csv": CSV})
    assert "expected sha256" in refusal(tmp_path / "p", sha256=joint)


def load(reach: Reach, uri: str, **source: str) -> int:
    """Return how many rows a source has for whom this reach is."""
    config = make_config({"source.uri": uri, **{f"source.{k}": v for k, v in source.items()}})
    with open_source(config, {}, reach) as opened:
        return sum(chunk.n_read for _, chunk in opened.chunks(config, NOW))


def test_a_trigger_reaches_no_further_by_parts_patterns_and_lines(tmp_path: Path) -> None:
    root = put(tmp_path / "root", {**parts(), "d=1/part-0.csv": CSV, "sub/x.csv": CSV})
    put(tmp_path / "secret", {"part-0.csv": CSV, "date=1/part-0.csv": CSV})
    reach = triggered(roots=[str(root)])
    assert load(reach, str(root)) == 6
    assert load(reach, f"{root}/part-*\n{root}/sub") == 6
    assert load(reach, f"{root}/**/*.csv") == 9

    def refused(uri: str) -> None:
        """Check that a trigger may not read it, and learns nothing of what is there."""
        with pytest.raises(ConfigError, match=r"trigger\.(roots|schemes)") as raised:
            load(reach, uri)
        assert "date=1" not in str(raised.value)

    for uri in (
        f"{tmp_path}/*",
        f"{tmp_path}/secret/*.csv",
        f"{root}/../secret/*.csv",
        f"{root}/*/../../secret/*",
        "/*",
        "*",
        f"{root}\n{tmp_path}/secret",
        f"{tmp_path}/secret\n{root}",
        f"{root}\nhttp://127.0.0.1/x",
        f"{root}\ns3://bucket/*",
        f"file://{tmp_path}/secret/*",
    ):
        refused(uri)
    with pytest.raises(ConfigError):
        reach.judge(make_config({"source.uri": f"{root}\n{tmp_path}/secret"}))

    # Links that lead outside: a file, a folder of a partition, a folder of a pattern.
    for name, target in (
        ("part-9.csv", "secret/part-0.csv"),
        ("e=1", "secret"),
        ("linked", "secret"),
    ):
        link = root / name
        link.symlink_to(tmp_path / target)
        if name != "linked":
            refused(str(root))
        refused(f"{root}/*/*" if name != "part-9.csv" else f"{root}/*.csv")
        refused(f"{root}/**/*.csv")
        link.unlink()
    assert load(reach, str(root)) == 6


def test_the_operator_s_own_lines_are_the_operator_s_together_only(tmp_path: Path) -> None:
    put(tmp_path, {"a.csv": CSV, "b.csv": CSV})
    both = f"{tmp_path}/a.csv\n{tmp_path}/b.csv"
    own = make_config({"source.uri": both})
    assert load(triggered(own), both) == 6
    for other in (
        f"{tmp_path}/a.csv",
        f"{both}\n{tmp_path}/c.csv",
        f"{tmp_path}/b.csv\n{tmp_path}/a.csv",
    ):
        with pytest.raises(ConfigError):
            load(triggered(own), other)


def test_another_connection_is_another_one_who_asks_whichever_line_it_is(tmp_path: Path) -> None:
    put(tmp_path, {"a.csv": CSV})
    both = f"{tmp_path}/a.csv\ns3://bucket/b.csv"
    own = make_config({"source.uri": both, "source.connection": "own"})
    known: dict[str, str] = {}
    reach = Reach(Deployment(own), by_trigger=True, find_connection=known.get)
    with pytest.raises(ConfigError, match="trigger"):
        load(reach, both, connection="another")


def test_parts_patterns_and_partitions_of_any_store() -> None:
    base = f"memory://parts-{uuid.uuid4().hex}"
    for name, text in {**parts(), "_SUCCESS": "", **partitions(), "sub/x.csv": CSV}.items():
        UPath(f"{base}/{name}").write_text(text)
    assert read(f"{base}/part-*.csv") == ROWS
    assert len(read(base)) == 6
    assert len(read(f"{base}/**/*.csv")) == 9
    assert dated(f"{base}/date=*/*", time_column="date") == DATED
    assert read(f"{base}/sub/*\n{base}/sub") == ROWS
    assert "nothing is there" in refusal(f"{base}/*.parquet")


def test_parts_patterns_and_partitions_in_s3(s3: Door) -> None:
    folder = f"{BUCKET}/{uuid.uuid4().hex}/a b[ü]+#%20"
    door = backdoor(s3)
    door.pipe_file(f"{folder}/", b"")
    for name, text in {**parts(), "_SUCCESS": "", **partitions(), "sub/x.csv": CSV}.items():
        door.pipe_file(f"{folder}/{name}", text.encode())
    base = f"s3://{folder}"
    assert len(read(base)) == 6
    assert read(f"{base}/sub") == ROWS
    assert names_of(base)[-1] == "date=__HIVE_DEFAULT_PARTITION__/part-0.csv"
    assert "no column date" in refusal(base, time_column="date")

    plain = f"{BUCKET}/{uuid.uuid4().hex}"
    for name, text in {**parts(), **partitions(), "sub/x.csv": CSV}.items():
        door.pipe_file(f"{plain}/{name}", text.encode())
    base = f"s3://{plain}"
    assert read(f"{base}/part-*.csv") == ROWS
    assert len(read(f"{base}/**/*.csv")) == 9
    assert len(read(f"{base}/")) == 6
    assert dated(f"{base}/date=*/*", time_column="date") == DATED
    assert dated(f"{base}/date=*/", time_column="date") == DATED
    assert "nothing is there" in refusal(f"{base}/*.parquet")
    assert "nothing is there" in refusal(f"{base}/no/*.csv")

    reach = triggered(schemes=["s3"], hosts=[BUCKET])
    assert load(reach, f"{base}/part-*\n{base}/sub") == 6
    for wrong in (
        f"{base}/part-*\ns3://other/x",
        f"s3://{BUCKET}/../other/*",
        "s3://*/x",
        "s3://other/*",
    ):
        with pytest.raises(ConfigError):
            load(reach, wrong)


def test_a_part_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    put(tmp_path, parts())
    config = make_config({"source.uri": str(tmp_path)})
    with open_source(config, {}) as source:
        chunks = source.chunks(config, NOW)
        next(chunks)
        (tmp_path / "part-00001.csv").write_text(CSV)
        with pytest.raises(InputError, match=r"part-00001\.csv: changed while it was read"):
            list(chunks)
