"""Times, ratings and broken values: each is read as what it is, or is one bad row in words."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mf_core.config import make_config
from mf_core.errors import ConfigError
from mf_core.intake.advice import Reading, advice
from mf_core.intake.batches import Batch
from mf_core.sources.chunks import Chunk
from mf_core.sources.source import open_source

from .test_sources import NOW, read_chunks, refusal, rejections

RATED = datetime(2020, 4, 17, 6, 11, 30, tzinfo=UTC)
SECONDS = int(RATED.timestamp())


def write_times(folder: Path, times: list[Any]) -> Path:
    """Write a CSV with one rating for each time, and return its path."""
    path = folder / "r.csv"
    lines = [f'u{i},a,3,"{time}"' for i, time in enumerate(times)]
    path.write_text("\n".join(["user_id,item_id,rating,timestamp", *lines]))
    return path


def write_parquet(folder: Path, **columns: Any) -> Path:
    """Write a Parquet file of ratings with some columns as given, and return its path."""
    n = len(next(iter(columns.values())))
    table = {
        "user_id": pa.array([f"u{i}" for i in range(n)]),
        "item_id": pa.array(["a"] * n),
        "rating": pa.array([3.0] * n),
        **columns,
    }
    path = folder / "r.parquet"
    pq.write_table(pa.table(table), path)
    return path


def times(chunk: Chunk) -> list[datetime | None]:
    """Return the times of the good rows."""
    found = chunk.rows["rated_us"].to_pylist()
    return [None if us is None else datetime.fromtimestamp(us / 1e6, UTC) for us in found]


@pytest.mark.parametrize(
    "written",
    [
        SECONDS,
        f"{SECONDS}.0",
        f"{SECONDS:.9e}",
        SECONDS * 10**3,
        SECONDS * 10**6,
        SECONDS * 10**9,
        "20200417061130",
        "2020-04-17T06:11:30Z",
        "2020-04-17 06:11:30",
        "2020-04-17 06:11:30 UTC",
        "2020-04-17 06:11:30+00",
        "2020-04-17T08:11:30+02:00",
        "2020-04-17T06:11:30.000000000",
    ],
)
def test_one_time_in_many_writings(tmp_path: Path, written: Any) -> None:
    [chunk] = read_chunks(write_times(tmp_path, [written, written]))
    assert chunk.rejected == ()
    assert times(chunk) == [RATED, RATED]


@pytest.mark.parametrize("written", ["20200417", "2020-04-17", "202004170000"])
def test_days(tmp_path: Path, written: str) -> None:
    [chunk] = read_chunks(write_times(tmp_path, [written]))
    assert times(chunk) == [datetime(2020, 4, 17, tzinfo=UTC)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_typed_times_of_every_unit(tmp_path: Path, unit: str, zone: str | None) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    stamps = pa.array([RATED, None, epoch], type=pa.timestamp(unit, zone))
    [chunk] = read_chunks(write_parquet(tmp_path, timestamp=stamps))
    assert chunk.rejected == ()
    assert times(chunk) == [RATED, None, None]


def test_typed_days_and_old_times_of_spark(tmp_path: Path) -> None:
    days = pa.array([RATED.date(), None], type=pa.date32())
    [chunk] = read_chunks(write_parquet(tmp_path, timestamp=days))
    assert times(chunk) == [datetime(2020, 4, 17, tzinfo=UTC), None]

    stamps = pa.array([RATED, datetime(2500, 1, 1)], type=pa.timestamp("us"))
    table = pa.table(
        {"user_id": ["u0", "u1"], "item_id": ["a", "a"], "rating": [3.0, 3.0], "timestamp": stamps}
    )
    pq.write_table(table, tmp_path / "r.parquet", use_deprecated_int96_timestamps=True)
    [chunk] = read_chunks(tmp_path)
    assert times(chunk) == [RATED]
    assert rejections(chunk) == [(2, "the date '2500-01-01 00:00:00' lies in the future")]


@pytest.mark.parametrize(
    "nothing", ["", "0", "NaN", "NULL", "\\N", "NaT", "None", "0000-00-00 00:00:00"]
)
def test_a_missing_time_is_unknown(tmp_path: Path, nothing: str) -> None:
    [chunk] = read_chunks(write_times(tmp_path, [nothing, SECONDS]))
    assert chunk.rejected == ()
    assert times(chunk) == [None, RATED]


BAD_TIMES = [
    ("9999-12-31 23:59:59", "lies in the future"),
    ("2500-01-01T00:00:00Z", "lies in the future"),
    ("0001-01-01", "lies before 1990"),
    ("-62135596800", "lies before 1990"),
    ("253402300799", "lies before 1990"),  # the year 9999 in seconds, 1978 in milliseconds
    ("4102444800000", "lies in the future"),
    ("4102444800000000", "lies in the future"),
    ("43938", "lies before 1990; it looks like a spreadsheet's day number"),
    ("2020", "lies before 1990; it looks like a year"),
    ("20201341", "lies before 1990"),
    ("infinity", "is neither epoch seconds nor ISO 8601"),
    ("20000-01-01 00:00:00", "is neither epoch seconds nor ISO 8601"),
    ("0044-03-15 BC", "is neither epoch seconds nor ISO 8601"),
    ("17.04.2020", "is neither epoch seconds nor ISO 8601"),
    ("17/04/2020 06:11", "is neither epoch seconds nor ISO 8601"),
]


@pytest.mark.parametrize(("written", "reason"), BAD_TIMES)
def test_a_wrong_time_is_one_bad_row(tmp_path: Path, written: str, reason: str) -> None:
    [chunk] = read_chunks(write_times(tmp_path, [SECONDS, written, SECONDS]))
    assert rejections(chunk) == [(3, f"the date {written!r} {reason}")]
    assert times(chunk) == [RATED, RATED]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_typed_time_out_of_range_is_one_bad_row(tmp_path: Path, unit: str) -> None:
    # Arrow itself writes seconds as milliseconds.
    per_second, far = {"s": (1, 10**15), "ms": (10**3, 2**62), "us": (10**6, 2**62)}[unit]
    counts = [SECONDS * per_second, far, -far, SECONDS * per_second]
    stamps = pa.array(counts, type=pa.int64()).cast(pa.timestamp(unit))
    [chunk] = read_chunks(write_parquet(tmp_path, timestamp=stamps))
    assert [line for line, _ in rejections(chunk)] == [2, 3]
    assert times(chunk) == [RATED, RATED]


def test_a_local_time_ahead_of_utc_is_named_so(tmp_path: Path) -> None:
    now = NOW.replace(tzinfo=None)
    local = [now + timedelta(hours=2), now - timedelta(hours=1), now + timedelta(hours=15)]
    ahead = (
        f"the date '{local[0]}' lies 2.0 h in the future; it names no zone and was read in UTC: "
        "is it a local time (source.time_zone)?"
    )
    expected = [(2, ahead), (4, f"the date '{local[2]}' lies in the future")]
    [chunk] = read_chunks(write_times(tmp_path, local))
    assert rejections(chunk) == expected

    stamps = pa.array(local, type=pa.timestamp("us"))
    [chunk] = read_chunks(write_parquet(tmp_path, timestamp=stamps))
    assert [reason for _, reason in rejections(chunk)] == [reason for _, reason in expected]

    # A time that names its zone is what it says.
    [chunk] = read_chunks(write_times(tmp_path, [f"{local[0]}Z"]))
    assert rejections(chunk) == [(2, f"the date '{local[0]}Z' lies in the future")]


def test_times_without_a_zone_are_read_in_the_zone_of_the_setting(tmp_path: Path) -> None:
    zone: dict[str, Any] = {"time_zone": "Europe/Berlin"}
    summer = datetime(2020, 7, 1, 10, tzinfo=UTC)
    named = ["2020-07-01T10:00Z", "2020-07-01 10:00 UTC", "2020-07-01 05:00-05"]
    written = ["2020-07-01 12:00", "20200701120000", *named, int(summer.timestamp())]
    [chunk] = read_chunks(write_times(tmp_path, written), **zone)
    assert times(chunk) == [summer] * 6

    naive = pa.array([datetime(2020, 7, 1, 12), datetime(2020, 1, 1, 12)], type=pa.timestamp("ms"))
    [chunk] = read_chunks(write_parquet(tmp_path, timestamp=naive), **zone)
    assert times(chunk) == [summer, datetime(2020, 1, 1, 11, tzinfo=UTC)]

    aware = pa.array([summer], type=pa.timestamp("ms", "UTC"))
    [chunk] = read_chunks(write_parquet(tmp_path, timestamp=aware), **zone)
    assert times(chunk) == [summer]

    # An hour that there is twice, and one that there is not.
    odd = ["2020-10-25 02:30", "2020-03-29 02:30"]
    [chunk] = read_chunks(write_times(tmp_path, odd), **zone)
    assert times(chunk) == [
        datetime(2020, 10, 25, 1, 30, tzinfo=UTC),
        datetime(2020, 3, 29, 1, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("17.04.2020 06:11:30", "%d.%m.%Y %H:%M:%S"),
        ("04/17/20 06:11:30 AM", "%m/%d/%y %I:%M:%S %p"),
        ("17-Apr-2020 08:11:30 +0200", "%d-%b-%Y %H:%M:%S %z"),
        ("Fri, 17 Apr 2020 06:11:30 GMT", "%a, %d %b %Y %H:%M:%S %Z"),
        ("Fri Apr 17 2020 08:11:30 GMT+0200", "%a %b %d %Y %H:%M:%S GMT%z"),
        ("2020-04-17T06:11:30Z", "%d.%m.%Y"),  # ISO 8601 is no other format
    ],
)
def test_a_format_of_ones_own(tmp_path: Path, written: str, form: str) -> None:
    [chunk] = read_chunks(write_times(tmp_path, [written, "", "soon"]), time_format=form)
    assert times(chunk) == [RATED, None]
    said = f"the date 'soon' is not written as source.time_format {form!r} says"
    assert rejections(chunk) == [(4, said)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time_zone", "Berlin"),
        ("time_zone", "../etc/passwd"),
        ("time_zone", "/etc/localtime"),
        ("time_format", "ISO8601"),
        ("time_format", "mixed"),
        ("time_format", "%Q"),
        ("time_format", "%d.%m."),
    ],
)
def test_zones_and_formats_that_are_none_are_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"source\.{name}: expected .* got"):
        make_config({f"source.{name}": value})


BROKEN = b"M\xfcller"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
@pytest.mark.parametrize("column", ["user_id", "item_id", "rating", "timestamp"])
def test_broken_utf8_in_parquet_is_one_bad_row(tmp_path: Path, column: str, kind: Any) -> None:
    good = {"rating": b"3", "timestamp": str(SECONDS).encode()}.get(column, b"x")
    values = pa.array([good, BROKEN, good], type=pa.binary()).cast(pa.large_binary())
    is_large = pa.types.is_large_string(kind)
    as_text = values if is_large else values.cast(pa.binary())
    if not pa.types.is_binary(kind):
        # Without a look at the bytes, as other programs write them.
        as_text = pa.Array.from_buffers(kind, 3, as_text.buffers())
    [chunk] = read_chunks(write_parquet(tmp_path, **{column: as_text}))
    what = {"user_id": "user id", "item_id": "item id", "timestamp": "date"}.get(column, column)
    assert rejections(chunk) == [(2, f"the {what} is not valid UTF-8")]
    assert "M\\xfcller" in chunk.rejected[0].raw
    assert chunk.rows.num_rows == 2


def test_a_column_of_no_single_values_is_refused_in_words(tmp_path: Path) -> None:
    for column in ("user_id", "rating", "timestamp"):
        path = write_parquet(tmp_path, **{column: pa.array([["a"], ["b"]])})
        said = refusal(path)
        assert f"r.parquet, column {column}: expected numbers or text, got the type list" in said


def written(folder: Path, ratings: list[Any]) -> Path:
    """Write a CSV with these ratings, and return its path."""
    path = folder / "r.csv"
    lines = [f"u{i},a,{rating}" for i, rating in enumerate(ratings)]
    path.write_text("\n".join(["user_id,item_id,rating", *lines]))
    return path


def test_a_decimal_comma_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user_id;item_id;rating\nu;a;4,5\nu;b;4.5\n")
    [chunk] = read_chunks(path)
    assert rejections(chunk) == [(2, "the rating '4,5' has a comma for a decimal point")]


@pytest.mark.parametrize("zero", ["0", "0.0", "-0", " 0 ", "0e0"])
def test_a_rating_that_means_not_rated_is_skipped_and_counted(tmp_path: Path, zero: str) -> None:
    path = written(tmp_path, [zero, 5, "x", zero])
    [chunk] = read_chunks(path, not_rated=0)
    assert chunk.not_rated == 2
    assert chunk.n_read == 4
    assert chunk.rows["user_id"].to_pylist() == ["u1"]
    assert rejections(chunk) == [(4, "the rating 'x' is not a number")]

    [chunk] = read_chunks(path)
    assert chunk.not_rated == 0
    assert [line for line, _ in rejections(chunk)] == [2, 4, 5]


def test_no_rating_can_be_a_value_on_the_scale_and_one_beyond(tmp_path: Path) -> None:
    path = written(tmp_path, [99, 5, 1])
    [chunk] = read_chunks(path, not_rated=99)
    assert chunk.rows["rating"].to_pylist() == [5.0, 1.0]
    [chunk] = read_chunks(path, not_rated=1)
    assert chunk.rows["rating"].to_pylist() == [5.0]


def told(path: Path, **settings: Any) -> tuple[Batch, str, list[str]]:
    """Return a batch of a source, what is advised about its bad rows, and its notes."""
    batch = Batch(1)
    reading = Reading()
    config = make_config(
        {"source.uri": str(path), **{f"source.{name}": value for name, value in settings.items()}}
    )
    with open_source(config, {}) as source:
        for name, chunk in source.chunks(config, NOW):
            batch.add(chunk)
            reading.add(name, chunk)
    return batch, advice(batch, config) if batch.causes else "", reading.notes(config)


MOST = "For the most frequent kind of reason (2 rows):"
SCALE = "check data.scale_low and data.scale_high"


@pytest.mark.parametrize(
    ("ratings", "said"),
    [
        ([1, 10, 7, 5], f"Ratings from 1 to 10 were seen: {SCALE}."),
        ([0, 5, 0, 3], f"Ratings from 0 to 5 were seen: {SCALE}; if 0 means that nothing"),
        ([-1, 5, 3], "set source.not_rated=-1."),
        ([0, 10], f"Ratings from 0 to 10 were seen: {SCALE}."),
        (["x", "y", 9], f"{MOST} Repair the source, or check source.rating_column."),
        (["x", 9, 8], f"{MOST} Ratings from 8 to 9 were seen: {SCALE}."),
    ],
)
def test_the_advice_is_about_the_most_frequent_reason(
    tmp_path: Path, ratings: list[Any], said: str
) -> None:
    _, found, _ = told(written(tmp_path, ratings))
    assert said in found


@pytest.mark.parametrize(
    ("line", "setting"),
    [
        (",a,3,1", "source.user_column"),
        ("u,a,x,1", "source.rating_column"),
        ("u,a,3,soon", "source.time_format"),
        ("u,a,3", "source.delimiter"),
    ],
)
def test_the_advice_does_not_name_the_scale_where_it_is_not_the_cause(
    tmp_path: Path, line: str, setting: str
) -> None:
    path = tmp_path / "r.csv"
    path.write_text(f"user_id,item_id,rating,timestamp\nu,b,3,{SECONDS}\n{line}\n{line}\n")
    _, found, _ = told(path)
    assert setting in found
    assert "scale" not in found


def test_a_source_without_dates_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(f"user_id,item_id,rating,time\nu,a,3,{SECONDS}\n")
    _, _, notes = told(path)
    assert notes == [
        "no dates in r.csv (source.time_column=timestamp): of repeated ratings the later line wins"
    ]
    assert told(path, time_column="time")[2] == []
    # Whoever empties the setting knows.
    assert told(path, time_column="")[2] == []


def test_each_part_without_dates_is_told_and_none_with_a_few(tmp_path: Path) -> None:
    for number in range(5):
        frame = pd.DataFrame({"user_id": ["u", "v"], "item_id": "a", "rating": 3.0})
        if number == 0:
            frame["timestamp"] = [SECONDS, None]
        frame.to_parquet(tmp_path / f"part-{number}.parquet")
    _, _, [note] = told(tmp_path)
    assert "part-0" not in note
    assert "part-1.parquet, part-2.parquet, part-3.parquet and 1 more" in note
