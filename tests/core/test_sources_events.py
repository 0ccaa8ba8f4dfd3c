"""Files of events: which columns are read, and what is said of those that are not."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mf_core.config import load_config, make_config
from mf_core.config.weights import read_weights
from mf_core.errors import ConfigError, InputError
from mf_core.sources.chunks import Chunk
from mf_core.sources.source import open_source
from mf_core.sources.weighing import weighed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN = "user_id,item_id\nann,song\nann,song\n"
RATED = "user_id,item_id,rating,timestamp\nann,song,4,1700000000\n"
U_DATA = "1\t10\t4\t881250949\n1\t11\t3\t881250950\n"
Read = Callable[..., list[Chunk]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a text to a file, and give its chunks as events."""

    def run(text: str, name: str = "plays.csv", **settings: Any) -> list[Chunk]:
        path = tmp_path / name
        path.write_text(text)
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        config = make_config({"source.uri": str(path), "data.kind": "events", **dotted})
        with open_source(config, {}) as source:
            return [chunk for _, chunk in source.chunks(config, NOW)]

    return run


def rows(chunks: list[Chunk]) -> list[tuple[Any, ...]]:
    """Return user, item, what a row stands for, microseconds and type."""
    columns = ("user_id", "item_id", "rating", "rated_us", "event")
    found = [row for chunk in chunks for row in chunk.rows.to_pylist()]
    return [tuple(row[column] for column in columns) for row in found]


def notes(chunks: list[Chunk]) -> set[str]:
    """Return what is told of how chunks were read."""
    return {note for chunk in chunks for note in chunk.notes}


def test_users_and_items_are_enough(read: Read) -> None:
    assert rows(read(PLAIN)) == [("ann", "song", 1.0, None, "")] * 2


@pytest.mark.parametrize(
    ("text", "name", "first"),
    [
        (RATED, "plays.csv", ("ann", "song", 1.0, 1_700_000_000_000_000, "")),
        (RATED.replace("user_id,item_id", "userId,movieId"), "x.csv", ("ann", "song", 1.0)),
        (U_DATA, "u.data", ("1", "10", 1.0, 881_250_949_000_000, "")),
    ],
)
def test_ratings_beside_events_are_not_read_and_that_is_told(
    read: Read, text: str, name: str, first: tuple[Any, ...]
) -> None:
    chunks = read(text, name)
    assert rows(chunks)[0][: len(first)] == first
    assert "the column rating is not read, as data.kind is events" in notes(chunks)


def test_ratings_may_be_what_events_weigh(read: Read) -> None:
    chunks = read(RATED, source__weight_column="rating")
    assert rows(chunks)[0][2] == 4
    assert notes(chunks) == set()


def test_text_and_parquet_give_the_same(read: Read, tmp_path: Path) -> None:
    text = "u,i,n,what,when\na,x,2.5,view,1700000000\nb,y,-1, dislike,0\nc,,1,view,0\nd,z,1,,0\n"
    settings = {
        "source__user_column": "u",
        "source__item_column": "i",
        "source__weight_column": "n",
        "source__event_column": "what",
        "source__time_column": "when",
        "data__event_weights": "*=1",
    }
    chunks = read(text, **settings)
    assert rows(chunks) == [
        ("a", "x", 2.5, 1_700_000_000_000_000, "view"),
        ("b", "y", -1.0, None, "dislike"),
    ]
    assert [(row.line, row.reason) for row in chunks[0].rejected] == [
        (4, "the item id is missing"),
        (5, "the event is missing"),
    ]

    names, *lines = (line.split(",") for line in text.splitlines())
    columns = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table(columns), path)
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    config = make_config({"source.uri": str(path), "data.kind": "events", **dotted})
    with open_source(config, {}) as source:
        again = [chunk for _, chunk in source.chunks(config, NOW)]
    assert rows(again) == rows(chunks)
    assert [row.reason for row in again[0].rejected] == [row.reason for row in chunks[0].rejected]


@pytest.mark.parametrize("name", ["plays.csv", "plays.parquet"])
def test_a_file_without_ratings_says_how_to_load_events(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"user_id": ["a"], "item_id": ["b"]}), path)
    else:
        path.write_text(PLAIN)
    config = make_config({"source.uri": str(path)})
    with (
        pytest.raises(InputError, match=r"column\(s\) rating.*set data\.kind=events"),
        open_source(config, {}) as source,
    ):
        list(source.chunks(config, NOW))


def test_a_file_of_something_else_does_not(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b,c\n1,2,3\n")
    config = make_config({"source.uri": str(path)})
    with pytest.raises(InputError) as refusal, open_source(config, {}) as source:
        list(source.chunks(config, NOW))
    assert "data.kind" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "name", "settings", "said"),
    [
        (PLAIN, "x.csv", {"source__weight_column": "n"}, r"no column n"),
        # Whether the third field is a number of plays or a time, only a header can say.
        ("1\t10\t4\n1\t11\t3\n", "x.tsv", {}, r"expected the column\(s\) user_id, item_id"),
        (U_DATA, "u.data", {"source__weight_column": "n"}, r"a header that names 'n'"),
        (
            PLAIN,
            "x.csv",
            {"source__event_column": "type", "data__event_weights": "a=1"},
            r"no column type",
        ),
    ],
)
def test_a_column_that_is_not_there_is_refused_by_name(
    read: Read, text: str, name: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        read(text, name, **settings)


def test_the_fingerprint_follows_what_changes_how_events_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(RATED)

    def fingerprint(**settings: Any) -> str:
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        with open_source(make_config({"source.uri": str(path), **dotted}), {}) as source:
            return source.fingerprint

    events = fingerprint(data__kind="events")
    assert events != fingerprint()
    assert events != fingerprint(data__kind="events", source__weight_column="rating")
    # Weights come later, and events know no scale.
    assert events == fingerprint(data__kind="events", data__event_cap=3, data__scale_high=9)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("purchase=1, view=.2,dislike=-1", {"purchase": 1, "view": 0.2, "dislike": -1}),
        (" a=b =1e3 ", {"a=b": 1000}),
        ("*=0, 😀=2", {"*": 0, "😀": 2}),
        ("", {}),
    ],
)
def test_weights_are_read_from_text(text: str, weights: dict[str, float]) -> None:
    assert read_weights(text) == weights
    kept = make_config({"data.kind": "events", "data.event_weights": text}).data.event_weights
    assert read_weights(kept) == weights


def test_weights_in_another_order_or_form_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "mf.toml"
    path.write_text('[data]\nkind = "events"\nevent_weights = {view = 0.20, "to cart" = 1}\n')
    text = make_config({"data.kind": "events", "data.event_weights": "to cart=1.0,view=.2"})
    assert load_config(path).data == text.data


@pytest.mark.parametrize(
    "text",
    ["view", "view=", "view=much", "=1", "a=1,,b=2", "a=1, a=2", "a=nan", "a=1e300", "a=inf"],
)
def test_wrong_weights_are_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.event_weights: expected"):
        make_config({"data.kind": "events", "data.event_weights": text})


@pytest.mark.parametrize(
    "settings",
    [{"data.event_weights": "a=1"}, {"data.event_cap": 1}, {"data.ingest_mode": "add"}],
)
def test_what_is_of_events_is_refused_for_ratings(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.kind is ratings"):
        make_config(settings)


def test_events_of_files_are_weighed_as_those_of_the_warehouse(read: Read) -> None:
    text = "user_id,item_id,timestamp,action,n\n"
    text += "ann,hat,1700000000,view,3\nann,hat,1700000009,view,4\nann,hat,0,purchase,1\n"
    text += "bob,hat,1700000001,dislike,2\nbob,tie,1700000002,share,5\n"
    settings = {
        "source__event_column": "action",
        "source__weight_column": "n",
        "data__event_weights": "view=.5, purchase=2, dislike=-1, *=0",
    }
    table = pa.concat_tables([chunk.rows for chunk in read(text, **settings)])
    data = {"data.kind": "events", "data.event_weights": settings["data__event_weights"]}

    def counted(**more: Any) -> set[tuple[Any, ...]]:
        rows = weighed(table, make_config({**data, **more}).data).to_pylist()
        return {(row["user_id"], row["item_id"], row["rating"], row["rated_us"]) for row in rows}

    assert counted() == {
        ("ann", "hat", 3.5, 1_700_000_009_000_000),
        ("ann", "hat", 2.0, None),
        ("bob", "hat", -2.0, 1_700_000_001_000_000),
    }
    assert {row[2] for row in counted(**{"data.event_cap": 1})} == {0.5, 2.0, -1.0}
    with pytest.raises(InputError, match=r"none for 'share' \(1\)"):
        counted(**{"data.event_weights": "view=1, purchase=1, dislike=1"})
