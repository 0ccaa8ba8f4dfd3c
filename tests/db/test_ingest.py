"""Loading ratings into a real Postgres: what is kept, what is rejected and what is refused."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from upath import UPath

from mf_core import pipeline
from mf_core.config import make_config
from mf_core.errors import DatabaseError, InputError
from mf_core.intake import merge as merge_module
from mf_core.intake.ingest import ingest
from mf_core.records import IngestReport

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = [("1", "10", "4", "881250949"), ("1", "11", "3", "881250950"), ("2", "10", "5", "881250951")]
NOT_UTF8 = "not valid UTF-8 (byte 2); source.encoding says what it is"
Load = Callable[..., IngestReport]


def table(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """Return what a query finds as plain tuples."""
    with engine.connect() as connection:
        found = connection.execute(sa.text(query))
        return [tuple(row) for row in found]


def ratings(engine: Engine) -> list[tuple[Any, ...]]:
    """Return user, item and rating of all ratings in the warehouse."""
    return table(engine, "SELECT user_id, item_id, rating FROM mf.ratings ORDER BY 1, 2")


def as_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as the lines of a file with tabs."""
    return "".join("\t".join(row) + "\n" for row in rows)


@pytest.fixture
def load(engine: Engine, tmp_path: Path) -> Load:
    """Write rows (or text) to a file and ingest it."""

    def run(content: Any, *, name: str = "u.data", **overrides: Any) -> IngestReport:
        path = tmp_path / name
        text = content if isinstance(content, str) else as_text(content)
        path.write_text(text, encoding="utf-8", newline="")

        settings: dict[str, Any] = {"source.uri": str(path)}

        for key, value in overrides.items():
            settings[key.replace("__", ".")] = value
        return ingest(engine, make_config(settings), NOW, print, {})

    return run


def test_ml100k_gives_100000_ratings(engine: Engine, ml100k: Path) -> None:
    config = make_config({"source.uri": str(ml100k)})
    report = ingest(engine, config, NOW, print, {})

    assert report.rows_read == 100_000
    assert report.rows_inserted == 100_000
    assert report.rows_rejected == 0
    assert report.total_ratings == 100_000
    assert report.content_sha256.startswith("06416e597f82")

    first_line = """
        SELECT rating, extract(epoch FROM rated_at)::bigint
        FROM mf.ratings
        WHERE user_id = '196' AND item_id = '242'
    """
    first_item = """
        SELECT attributes->>'year', attributes->'genres'->>0
        FROM mf.items
        WHERE item_id = '1'
    """

    assert table(engine, first_line) == [(3.0, 881250949)]
    assert table(engine, first_item) == [("1995", "Animation")]
    assert table(engine, "SELECT count(*) FROM mf.items") == [(1682,)]
    assert table(engine, "SELECT count(*) FROM mf.users") == [(943,)]


BAD_ROWS = [
    ("\t10\t4\t881250949", "the user id is missing"),
    ("  \t10\t4\t881250949", "the user id is missing"),
    ("1\t\t4\t881250949", "the item id is missing"),
    ("1\t10\t\t881250949", "the rating is missing"),
    ("1\t10\tgood\t881250949", "the rating 'good' is not a number"),
    ("1\t10\t1_0\t881250949", "the rating '1_0' is not a number"),
    ("1\t10\t٣\t881250949", "the rating '٣' is not a number"),
    ("1\t10\tNaN\t881250949", "the rating 'NaN' is not finite"),
    ("1\t10\t-inf\t881250949", "the rating '-inf' is not finite"),
    ("1\t10\t1e999\t881250949", "the rating '1e999' is not finite"),
    (
        "1\t10\t6\t881250949",
        "the rating '6' is outside the scale 1 to 5 (data.scale_low, data.scale_high)",
    ),
    (
        "1\t10\t0.5\t881250949",
        "the rating '0.5' is outside the scale 1 to 5 (data.scale_low, data.scale_high)",
    ),
    ("1\t10\t4\t500000000", "the date '500000000' lies before 1990"),
    ("1\t10\t4\t-5", "the date '-5' lies before 1990"),
    ("1\t10\t4\t4102444800", "the date '4102444800' lies in the future"),
    ("1\t10\t4\t2026-01-02", "the date '2026-01-02' lies in the future"),
    ("1\t10\t4\t99999999999999999999", "the date '99999999999999999999' lies in the future"),
    ("1\t10\t4\tyesterday", "the date 'yesterday' is neither epoch seconds nor ISO 8601"),
    ("1\t1\x000\t4\t881250949", "the line holds a NUL byte"),
    ("u" * 257 + "\t10\t4\t881250949", "the user id has 257 characters, more than 256"),
    ("1\t10\t4", "expected 4 fields, got 3"),
    ("1\t10\t4\t881250949\t7", "expected 4 fields, got 5"),
    ("", "the line is empty"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_ROWS, ids=[reason[:40] for _, reason in BAD_ROWS])
def test_a_bad_row_is_rejected_with_its_line_and_reason(
    engine: Engine, load: Load, line: str, reason: str
) -> None:
    first, second, third = ("\t".join(row) for row in GOOD)
    text = "\n".join([first, second, line, third]) + "\n"
    report = load(text, data__max_rejected_share=0.5)

    assert report.rows_read == 4
    assert report.rows_rejected == 1
    assert report.rows_inserted == 3
    assert ratings(engine) == [("1", "10", 4.0), ("1", "11", 3.0), ("2", "10", 5.0)]

    rejected = table(engine, "SELECT file, line, raw, reason FROM mf.rejected_ratings")
    raw = line.replace("\0", "\\x00")

    assert rejected == [("u.data", 3, raw, reason)]


def test_broken_utf8_is_rejected_with_its_bytes_escaped(
    engine: Engine, load: Load, tmp_path: Path
) -> None:
    path = tmp_path / "u.data"
    path.write_bytes(b"1\t10\t4\t881250949\nM\xfcller\t10\t4\t881250949\n")
    config = make_config({"source.uri": str(tmp_path), "data.max_rejected_share": 0.5})
    report = ingest(engine, config, NOW, print, {})

    assert report.rows_inserted == 1
    assert table(engine, "SELECT line, raw, reason FROM mf.rejected_ratings") == [
        (2, "M\\xfcller\t10\t4\t881250949", f"the line is {NOT_UTF8}")
    ]


def test_every_bad_row_of_a_large_file_keeps_its_line_number(engine: Engine, load: Load) -> None:
    rows = [f"{i}\t10\t4\t881250949" for i in range(1, 20_001)]
    bad = {
        5: "5\t10\tx\t0",
        3_000: "3000\t10",
        12_345: "\0",
        20_000: "20000\t10\t9\t0",
    }

    for line, text in bad.items():
        rows[line - 1] = text

    report = load("\n".join(rows) + "\n\n\n", source__chunk_rows=1_000)

    assert report.rows_read == 20_000
    assert report.rows_inserted == 19_996
    assert report.rows_rejected == 4

    rejected = table(engine, "SELECT line FROM mf.rejected_ratings ORDER BY 1")
    assert [line for (line,) in rejected] == sorted(bad)


def test_too_many_bad_rows_refuse_the_batch(engine: Engine, load: Load) -> None:
    load(GOOD)
    all_ratings = "SELECT * FROM mf.ratings ORDER BY 1, 2"
    before = table(engine, all_ratings)

    half_bad = [
        ("1", "10", "1", "0"),
        ("1", "11", "x", "0"),
        ("1", "12", "9", "0"),
        ("9", "9", "1", "0"),
    ]
    said = r"2 of 4 rows \(50\.00%\) are bad.*u\.data:2: the rating 'x' is not a number"

    with pytest.raises(InputError, match=said) as raised:
        load(half_bad)

    assert raised.value.exit_code == 3
    assert table(engine, all_ratings) == before

    batches = """
        SELECT state, rows_read, rows_rejected, total_ratings
        FROM mf.ingest_batches
        ORDER BY batch_id
    """

    assert table(engine, batches) == [
        ("loaded", 3, 0, 3),
        ("refused", 4, 2, 3),
    ]
    assert table(engine, "SELECT line FROM mf.rejected_ratings ORDER BY 1") == [(2,), (3,)]


def test_the_same_file_again_changes_nothing(engine: Engine, load: Load) -> None:
    first = load(GOOD)
    before = table(engine, "SELECT * FROM mf.ratings ORDER BY 1, 2")
    again = load(GOOD, name="copy.tsv")

    assert not first.already_ingested
    assert again.already_ingested
    assert again.batch_id == first.batch_id
    assert again.rows_inserted == 0
    assert again.total_ratings == 3
    assert table(engine, "SELECT * FROM mf.ratings ORDER BY 1, 2") == before
    assert table(engine, "SELECT count(*) FROM mf.ingest_batches") == [(1,)]


def test_the_same_ratings_in_another_file_leave_every_row_as_it_was(
    engine: Engine, load: Load
) -> None:
    load(GOOD)
    before = table(engine, "SELECT * FROM mf.ratings ORDER BY 1, 2")
    report = load(GOOD[::-1])

    assert report.rows_inserted == 0
    assert report.rows_updated == 0
    assert report.rows_unchanged == 3
    assert table(engine, "SELECT * FROM mf.ratings ORDER BY 1, 2") == before


def test_other_settings_read_the_same_file_again(load: Load) -> None:
    load(GOOD)
    report = load(GOOD, data__scale_high=10)

    assert not report.already_ingested


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([("4", "881250951"), ("2", "881250950")], 4.0),  # the later date, though it stands first
        ([("4", "881250950"), ("2", "881250950")], 2.0),  # of equal dates the later line
        ([("4", "881250950"), ("2", "0")], 4.0),  # an unknown date loses to a known one
        ([("4", ""), ("2", "881250950")], 2.0),
        ([("4", "0"), ("2", "")], 2.0),  # of two unknown dates the later line
    ],
)
@pytest.mark.parametrize("batches", [1, 2])
def test_the_latest_rating_wins(
    engine: Engine, load: Load, rows: Any, kept: float, batches: int
) -> None:
    lines = [("1", "10", *row) for row in rows]
    if batches == 1:
        reports = [load(lines)]
    else:
        reports = [load([line], name=f"{n}.tsv") for n, line in enumerate(lines)]

    duplicates = sum(report.rows_duplicate for report in reports)
    assert ratings(engine) == [("1", "10", kept)]
    assert duplicates == (1 if batches == 1 else 0)


def test_zero_and_empty_dates_are_unknown(engine: Engine, load: Load) -> None:
    load([("1", "10", "4", "0"), ("1", "11", "4", ""), ("1", "12", "4", "881250949123")])
    dates = """
        SELECT item_id, extract(epoch FROM rated_at)::text
        FROM mf.ratings
        ORDER BY 1
    """

    assert table(engine, dates) == [
        ("10", None),
        ("11", None),
        ("12", "881250949.123000"),
    ]


def test_replace_removes_what_the_source_no_longer_has(engine: Engine, load: Load) -> None:
    load(GOOD)
    changed = ("1", "10", "2", "0")
    report = load([changed, GOOD[1]], data__ingest_mode="replace")

    assert report.rows_removed == 1
    assert report.rows_updated == 1
    assert report.rows_unchanged == 1
    assert ratings(engine) == [("1", "10", 2.0), ("1", "11", 3.0)]


def test_replace_refuses_to_remove_too_much(engine: Engine, load: Load) -> None:
    load(GOOD)
    with pytest.raises(InputError, match=r"would remove 2 of 3 ratings \(66\.7%\)"):
        load(GOOD[:1], data__ingest_mode="replace")

    assert len(ratings(engine)) == 3

    report = load(GOOD[:1], data__ingest_mode="replace", data__max_removed_share=1)
    assert report.rows_removed == 2


def test_the_same_file_is_merged_again_after_a_replace_by_another(
    engine: Engine, load: Load
) -> None:
    load(GOOD)
    load(GOOD[:2], data__ingest_mode="replace")
    replaced_again = load(GOOD[:2], data__ingest_mode="replace")
    merged_again = load(GOOD)
    replaced_at_last = load(GOOD[:2], data__ingest_mode="replace")

    assert replaced_again.already_ingested
    assert merged_again.rows_inserted == 1
    assert replaced_at_last.rows_removed == 1


@pytest.mark.parametrize(
    "user_id",
    [
        "007",
        "ü",
        "a'; DROP TABLE ratings;--",
        "<script>",
        "\\.",
        '"',
        "%s",
        ":x",
        "07",
        "7.1",
        "nullify",
        "Nan",
    ],
)
def test_ids_are_text_and_stay_as_they_are(engine: Engine, load: Load, user_id: str) -> None:
    load([(user_id, user_id, "4", "0"), ("7", "7", "3", "0")])
    found = ratings(engine)

    assert (user_id, user_id, 4.0) in found
    assert len(found) == 2


@pytest.mark.parametrize(
    ("low", "high", "values"), [(0.5, 5, ["0.5", "3.5", "5"]), (1, 100, ["1", "73", "100"])]
)
def test_other_rating_scales(
    engine: Engine, load: Load, low: float, high: float, values: list[str]
) -> None:
    rows = [("1", str(i), value, "0") for i, value in enumerate(values)]
    load(rows, data__scale_low=low, data__scale_high=high)
    loaded = [rating for _, _, rating in ratings(engine)]

    assert loaded == [float(value) for value in values]


def test_a_crash_while_loading_leaves_the_ratings_unchanged(
    engine: Engine, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(GOOD)
    crashing = merge_module._INSERT_NEW + "; SELECT 1 / 0"
    monkeypatch.setattr(merge_module, "_INSERT_NEW", crashing)

    with pytest.raises(sa.exc.DataError):
        load([("1", "10", "1", "900000000"), ("5", "5", "5", "0")])

    assert ratings(engine) == [("1", "10", 4.0), ("1", "11", 3.0), ("2", "10", 5.0)]
    assert table(engine, "SELECT count(*) FROM mf.ingest_batches") == [(1,)]


def test_a_lost_connection_is_a_database_error(
    engine: Engine, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang_up = "SELECT pg_terminate_backend(pg_backend_pid())"
    monkeypatch.setattr(merge_module, "_SKIP_FORGOTTEN", hang_up)

    with pytest.raises(DatabaseError):
        load(GOOD)

    assert ratings(engine) == []


def forget(engine: Engine, user_id: str) -> None:
    """Enter a user among those who are forgotten."""
    statement = sa.text("INSERT INTO mf.forgotten_users (user_id) VALUES (:user_id)")
    with engine.begin() as connection:
        connection.execute(statement, {"user_id": user_id})


def test_forgotten_users_are_skipped(engine: Engine, load: Load) -> None:
    forget(engine, "1")
    report = load(GOOD)

    assert report.rows_inserted == 1
    assert report.rows_duplicate == 0
    assert ratings(engine) == [("2", "10", 5.0)]


def test_items_and_users_are_upserted(engine: Engine, load: Load, tmp_path: Path) -> None:
    title = "<b>'; DROP TABLE mf.items;--\\N"
    items = tmp_path / "items.csv"
    users = tmp_path / "users.csv"
    items.write_text(f'item_id,title,genres\n10,"{title}",A|B\n11,,\n', encoding="utf-8")
    users.write_text("user_id,age\n007,30\n9,40\n", encoding="utf-8")
    forget(engine, "9")

    load(GOOD, source__items_uri=str(items), source__users_uri=str(users))

    assert table(engine, "SELECT * FROM mf.items ORDER BY 1") == [
        ("10", title, {"genres": ["A", "B"]}),
        ("11", None, {"genres": []}),
    ]
    assert table(engine, "SELECT * FROM mf.users") == [("007", {"age": 30})]

    items.write_text("item_id,title\n11,New\n", encoding="utf-8")
    load(GOOD, source__items_uri=str(items), source__users_uri=str(users))

    assert table(engine, "SELECT item_id, title FROM mf.items ORDER BY 1") == [
        ("10", title),
        ("11", "New"),
    ]


def test_replace_also_removes_items_and_users_that_the_source_no_longer_has(
    engine: Engine, load: Load, tmp_path: Path
) -> None:
    items = tmp_path / "items.csv"
    users = tmp_path / "users.csv"
    items.write_text("item_id,title\n10,A\n11,B\n", encoding="utf-8")
    users.write_text("user_id,age\n007,30\n", encoding="utf-8")
    load(GOOD, source__items_uri=str(items), source__users_uri=str(users))

    items.write_text("item_id,title\n11,B\n", encoding="utf-8")
    load(GOOD, data__ingest_mode="replace", source__items_uri=str(items))

    assert table(engine, "SELECT item_id, title FROM mf.items") == [("11", "B")]
    assert table(engine, "SELECT * FROM mf.users") == []


def test_a_missing_items_file_refuses_before_anything_is_loaded(engine: Engine, load: Load) -> None:
    with pytest.raises(InputError, match="nothing is there"):
        load(GOOD, source__items_uri="/nowhere/items.csv")
    assert ratings(engine) == []


def test_two_ingests_at_once_load_one_batch(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text(as_text(GOOD), encoding="utf-8")
    config = make_config({"source.uri": str(tmp_path)})

    def ingest_it(_: int) -> IngestReport:
        return ingest(engine, config, NOW, print, {})

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(ingest_it, range(4)))

    already = sorted(report.already_ingested for report in reports)

    assert already == [False, True, True, True]
    assert len(ratings(engine)) == 3


def test_a_given_split_keeps_its_sides(engine: Engine, load: Load, tmp_path: Path) -> None:
    test_side = tmp_path / "u1.test"
    test_side.write_text("3\t30\t5\t0\n")
    load(GOOD, name="u1.base", source__test_uri=str(test_side))

    counts = "SELECT side, count(*) FROM mf.ratings GROUP BY 1 ORDER BY 1"

    assert table(engine, counts) == [("test", 1), ("train", 3)]


def test_a_side_column_says_the_side(engine: Engine, load: Load) -> None:
    text = "user_id,item_id,rating,fold\na,b,4,train\na,c,3,test\na,d,3,other\n"
    report = load(text, name="r.csv", source__side_column="fold", data__max_rejected_share=0.5)

    assert report.rows_rejected == 1
    assert table(engine, "SELECT item_id, side FROM mf.ratings ORDER BY 1") == [
        ("b", "train"),
        ("c", "test"),
    ]


def test_the_future_begins_now(engine: Engine, load: Load) -> None:
    exact = str(int(NOW.timestamp()))
    late = (NOW + timedelta(seconds=1)).isoformat()
    rows = [("1", "10", "4", exact), ("1", "11", "4", late)]
    report = load(rows, data__max_rejected_share=0.5)

    assert report.rows_rejected == 1


def test_no_secret_of_the_source_is_stored(
    warehouse_url: str, engine: Engine, tmp_path: Path
) -> None:
    """Neither in any table nor in the artifacts, whether the run goes well or fails."""
    said: list[str] = []
    place = pipeline.workplace(warehouse_url, (tmp_path / "artifacts").as_uri(), said.append)
    uri = "memory://secrets-test/r.csv?sig=hush"
    UPath(uri).write_text(as_text(GOOD * 5))
    config = make_config({"source.uri": uri, "source.layout": "movielens"})
    gone = make_config({"source.uri": "memory://secrets-test/gone.csv?sig=hush"})

    pipeline.ingest(config, place)
    pipeline.split(config, place, "good")
    pipeline.start_run(place, "bad")
    with pytest.raises(InputError) as refusal:
        pipeline.ingest(gone, place)
    pipeline.record_failure(place, "bad", "ingest", OSError(f"{uri} is gone"))
    place.engine.dispose()

    names = table(engine, "SELECT tablename FROM pg_tables WHERE schemaname = 'mf'")
    stored = str([table(engine, f"SELECT t::text FROM mf.{name} AS t") for (name,) in names])
    artifacts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert artifacts
    assert stored.count("memory://secrets-test/r.csv?***") >= 3
    assert "hush" not in stored + str(said) + str(refusal.value)
    assert not any(b"hush" in artifact for artifact in artifacts)
