"""Events without ratings in a real Postgres: what is counted, how often, and what is refused."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.config import make_config
from mf_core.errors import ConfigError, InputError, QualityError
from mf_core.intake.ingest import ingest
from mf_core.intake.quality import check_ratings
from mf_core.records import IngestReport
from mf_core.warehouse import transaction
from mf_core.warehouse.bootstrap import alembic_config, migrate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400
START = 1_700_000_000
Event = tuple[str, str, int]
Sums = dict[tuple[str, str], float]
Load = Callable[..., IngestReport]
TYPED = {
    "source.event_column": "action",
    "data.event_weights": "purchase=1, view=.2, dislike=-1",
}
PLAYS: list[Event] = [
    ("ann", "song", START),
    ("ann", "song", START + 5),
    ("ann", "tune", START + 7),
    ("bob", "song", START + 9),
]
LATER: list[Event] = [("ann", "song", START + DAY), ("cay", "tune", START + DAY)]


def in_warehouse(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def sums(engine: Engine) -> Sums:
    """Return the sum of every pair in `mf.ratings`."""
    rows = in_warehouse(engine, "SELECT user_id, item_id, rating FROM mf.ratings")
    return {(user, item): rating for user, item, rating in rows}


def everything(engine: Engine) -> list[Any]:
    """Return all that an ingest of events keeps."""
    tables = ("ratings", "events", "event_sources")
    return [in_warehouse(engine, f"SELECT * FROM mf.{name} ORDER BY 1, 2") for name in tables]


def as_csv(events: Iterable[tuple[object, ...]], columns: str = "") -> str:
    lines = [columns or "user_id,item_id,timestamp"]
    lines += [",".join(map(str, event)) for event in events]
    return "\n".join(lines) + "\n"


@pytest.fixture
def load(engine: Engine, tmp_path: Path) -> Load:
    """Write events (or text) to a file and ingest it."""

    def run(
        content: Any,
        name: str = "plays.csv",
        settings: Mapping[str, object] | None = None,
        log: Callable[[str], None] = print,
    ) -> IngestReport:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else as_csv(content), encoding="utf-8")
        config = make_config({"source.uri": str(path), "data.kind": "events", **(settings or {})})
        return ingest(engine, config, NOW, log, {})

    return run


def test_each_event_counts_one_and_the_last_one_gives_the_time(engine: Engine, load: Load) -> None:
    report = load(PLAYS)
    assert sums(engine) == {("ann", "song"): 2, ("ann", "tune"): 1, ("bob", "song"): 1}
    times = "SELECT extract(epoch FROM rated_at)::bigint FROM mf.ratings ORDER BY user_id, item_id"
    assert in_warehouse(engine, times) == [(START + 5,), (START + 7,), (START + 9,)]
    assert (report.rows_read, report.rows_duplicate, report.rows_inserted) == (4, 1, 3)
    assert "events of 3 pairs" in report.sentence()


def test_the_same_file_again_changes_nothing_under_any_name(engine: Engine, load: Load) -> None:
    first = load(PLAYS)
    before = everything(engine)
    for name in ("plays.csv", "copy.csv"):
        for mode in ("merge", "add"):
            again = load(PLAYS, name, {"data.ingest_mode": mode})
            assert again.already_ingested
            assert again.batch_id == first.batch_id
    assert load(PLAYS, settings={"data.ingest_mode": "replace"}).already_ingested
    assert everything(engine) == before


def test_the_same_events_in_another_order_leave_every_row_as_it_was(
    engine: Engine, load: Load
) -> None:
    weights = [0.1, 1e9, 0.2, -1e9, *(0.1 for _ in range(7))]
    tenths = [("ann", "song", START + n, weight) for n, weight in enumerate(weights)]
    weighed = {"source.weight_column": "w"}
    load(as_csv(tenths, "user_id,item_id,timestamp,w"), settings=weighed)
    assert sums(engine) == {("ann", "song"): 1}
    before = in_warehouse(engine, "SELECT * FROM mf.ratings")
    report = load(as_csv(tenths[::-1], "user_id,item_id,timestamp,w"), settings=weighed)
    assert not report.already_ingested
    assert report.rows_updated == 0
    assert in_warehouse(engine, "SELECT * FROM mf.ratings") == before


def test_a_delta_adds_and_says_that_sources_count_together(engine: Engine, load: Load) -> None:
    load(PLAYS)
    report = load(LATER, "monday.csv")
    assert sums(engine) == {
        ("ann", "song"): 3,
        ("ann", "tune"): 1,
        ("bob", "song"): 1,
        ("cay", "tune"): 1,
    }
    assert "events of 2 sources count together" in report.sentence()
    assert "monday.csv" in report.sentence()
    before = everything(engine)
    assert load(LATER, "monday.csv").already_ingested
    assert load(PLAYS).already_ingested
    assert everything(engine) == before


def test_a_replaced_file_takes_the_place_of_what_it_held(engine: Engine, load: Load) -> None:
    load(PLAYS)
    load(LATER, "monday.csv")
    report = load([*PLAYS[:1], *PLAYS[2:], ("dan", "song", START)])
    assert sums(engine) == {
        ("ann", "song"): 2,
        ("ann", "tune"): 1,
        ("bob", "song"): 1,
        ("cay", "tune"): 1,
        ("dan", "song"): 1,
    }
    assert (report.rows_inserted, report.rows_updated, report.rows_removed) == (1, 1, 0)
    load(PLAYS)
    assert ("dan", "song") not in sums(engine)


def test_one_file_is_one_source_by_whatever_path(
    engine: Engine, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(PLAYS)
    monkeypatch.chdir(tmp_path)
    for uri in ("plays.csv", f"file://{tmp_path}/plays.csv"):
        (tmp_path / "plays.csv").write_text(as_csv([*PLAYS, ("x", uri, START)]))
        config = make_config({"source.uri": uri, "data.kind": "events"})
        ingest(engine, config, NOW, print, {})
        assert sums(engine)[("ann", "song")] == 2


def test_replace_leaves_this_source_alone(engine: Engine, load: Load) -> None:
    load(PLAYS)
    load(LATER, "monday.csv")
    report = load([*PLAYS, LATER[0]], "all.csv", {"data.ingest_mode": "replace"})
    assert sums(engine) == {("ann", "song"): 3, ("ann", "tune"): 1, ("bob", "song"): 1}
    assert report.rows_removed == 1
    assert len(in_warehouse(engine, "SELECT 1 FROM mf.event_sources")) == 1


def test_replace_refuses_to_remove_too_much(engine: Engine, load: Load) -> None:
    load(PLAYS)
    before = everything(engine)
    with pytest.raises(InputError, match=r"would remove 2 of 3 ratings"):
        load(PLAYS[:1], "other.csv", {"data.ingest_mode": "replace"})
    assert everything(engine) == before
    states = in_warehouse(engine, "SELECT state FROM mf.ingest_batches ORDER BY batch_id")
    assert states == [("loaded",), ("refused",)]


def test_new_events_under_the_same_name_are_refused_and_can_be_added(
    engine: Engine, load: Load
) -> None:
    """Pairs come again, as those who play do: that they are later tells them apart."""
    load(PLAYS)
    before = everything(engine)
    again = [(user, item, time + DAY) for user, item, time in PLAYS]
    with pytest.raises(InputError, match=r"3 of the 3 sums.*data\.ingest_mode=add"):
        load(again)
    assert everything(engine) == before

    added = {"data.ingest_mode": "add"}
    load(again, settings=added)
    load(LATER, settings=added)
    assert sums(engine)[("ann", "song")] == 5
    assert load(again, settings=added).already_ingested
    assert load(LATER, settings=added).already_ingested
    assert sums(engine)[("ann", "song")] == 5
    # A full file at last takes the place of all of it.
    load([*PLAYS, *again], settings={"data.max_removed_share": 1})
    assert sums(engine)[("ann", "song")] == 4


def test_a_file_of_which_most_is_gone_is_refused(engine: Engine, load: Load) -> None:
    undated = [(user, item) for user, item, _ in PLAYS]
    columns = "user_id,item_id"
    load(as_csv(undated, columns))
    with pytest.raises(InputError, match=r"2 of the 3 sums.*gone"):
        load(as_csv([undated[0]], columns))
    load(as_csv([undated[0]], columns), settings={"data.max_removed_share": 1})
    assert sums(engine) == {("ann", "song"): 1}


@pytest.mark.parametrize("mode", ["merge", "add"])
def test_the_same_events_under_another_name_are_refused(
    engine: Engine, load: Load, mode: str
) -> None:
    load(PLAYS)
    before = everything(engine)
    with pytest.raises(InputError, match=r"3 of its 4 sums.*would count twice.*replace"):
        load([*PLAYS, LATER[1]], "all-of-tuesday.csv", {"data.ingest_mode": mode})
    assert everything(engine) == before


def test_undated_counts_are_told_from_news_by_their_number(engine: Engine, load: Load) -> None:
    columns = "user_id,item_id,plays"
    counted = {"source.weight_column": "plays"}
    before = [("ann", "song", 7), ("ann", "tune", 1), ("bob", "song", 2)]
    load(as_csv(before, columns), "monday.csv", counted)
    with pytest.raises(InputError, match=r"2 of its 3 sums.*would count twice"):
        load(as_csv([("ann", "song", 9), *before[1:]], columns), "tuesday.csv", counted)
    load(as_csv([("ann", "song", 2), ("cay", "song", 1)], columns), "news.csv", counted)
    assert sums(engine)[("ann", "song")] == 9


def test_an_overlap_is_told(load: Load) -> None:
    load(PLAYS)
    report = load([PLAYS[3], *LATER], "overlapping.csv")
    assert "1 of 3 sums were there already, to the same last event" in report.sentence()


def test_the_same_file_read_otherwise_is_not_added_twice(engine: Engine, load: Load) -> None:
    text = as_csv([("a", "b", 2, 3)], "user_id,item_id,n,m")
    load(text, settings={"source.weight_column": "n"})
    before = everything(engine)
    for name, mode in (("plays.csv", "add"), ("copy.csv", "merge")):
        with pytest.raises(InputError, match="read with other settings"):
            load(text, name, {"source.weight_column": "m", "data.ingest_mode": mode})
    assert everything(engine) == before
    load(text, settings={"source.weight_column": "m"})
    assert sums(engine) == {("a", "b"): 3}


ACTIONS = as_csv(
    [
        ("ann", "hat", START, "view"),
        ("ann", "hat", START + 1, " view"),
        ("ann", "hat", START + 2, "purchase"),
        ("ann", "tie", START + 3, "dislike"),
        ("bob", "hat", START + 4, "view"),
        ("bob", "hat", START + 9, "dislike"),
    ],
    "user_id,item_id,timestamp,action",
)


def test_types_weigh_what_the_settings_say(engine: Engine, load: Load) -> None:
    load(ACTIONS, settings=TYPED)
    assert sums(engine) == {("ann", "hat"): 1.4, ("ann", "tie"): -1, ("bob", "hat"): -0.8}


def test_other_weights_need_no_file_again(engine: Engine, load: Load, tmp_path: Path) -> None:
    """Those of files that are long gone are weighed anew as well."""
    load(ACTIONS, "old.csv", TYPED)
    added = as_csv([("cay", "hat", START + DAY, "view")], "user_id,item_id,timestamp,action")
    load(added, "delta.csv", {**TYPED, "data.ingest_mode": "add"})
    (tmp_path / "old.csv").unlink()

    for mode in ("merge", "add"):
        weights = "view=.5, purchase=2, dislike=-3" if mode == "merge" else "view=1, *=0"
        report = load(
            added,
            "delta.csv",
            {
                **TYPED,
                "data.event_weights": weights,
                "data.ingest_mode": mode,
                "data.max_removed_share": 1,
            },
        )
        assert "summed anew" in report.sentence()
        assert report.rows_read == 0
        found = sums(engine)
        if mode == "merge":
            assert found[("ann", "hat")] == 3
            assert found[("cay", "hat")] == 0.5
        else:
            assert found == {("ann", "hat"): 2, ("bob", "hat"): 1, ("cay", "hat"): 1}


def test_a_type_without_a_weight_is_refused_by_name(engine: Engine, load: Load) -> None:
    text = ACTIONS + f"bob,tie,{START},share\n"
    with pytest.raises(InputError, match=r"none for 'share' \(1\).*\*=0"):
        load(text, settings=TYPED)
    assert everything(engine) == [[], [], []]
    others = {"data.event_weights": "purchase=1, *=0"}
    load(text, settings={**TYPED, **others})
    assert sums(engine) == {("ann", "hat"): 1}


def test_what_counts_nothing_gives_no_time(engine: Engine, load: Load) -> None:
    load(ACTIONS, settings={**TYPED, "data.event_weights": "view=1, dislike=0, purchase=0"})
    time = "SELECT extract(epoch FROM rated_at)::bigint FROM mf.ratings WHERE user_id = 'bob'"
    assert in_warehouse(engine, time) == [(START + 4,)]


def test_weights_that_leave_most_out_are_refused(engine: Engine, load: Load) -> None:
    load(ACTIONS, settings=TYPED)
    before = sums(engine)
    with pytest.raises(InputError, match=r"would remove 3 of 3.*data\.event_weights"):
        load(ACTIONS, settings={**TYPED, "data.event_weights": "*=0"})
    assert sums(engine) == before


def test_a_cap_holds_for_each_type_by_itself(engine: Engine, load: Load) -> None:
    many = [("ann", "hat", START + n, "view") for n in range(100)]
    many += [("ann", "hat", START, "dislike")]
    load(
        as_csv(many, "user_id,item_id,timestamp,action"),
        settings={**TYPED, "data.event_cap": 1},
    )
    assert sums(engine) == {("ann", "hat"): -0.8}


def test_counts_may_be_negative_and_bad_ones_are_bad_rows(engine: Engine, load: Load) -> None:
    rows = [
        ("ann", "hat", "3"),
        ("ann", "hat", "-5.5"),
        ("bob", "hat", "1000000000"),
        ("cay", "hat", "0"),
        *(("dan", "hat", bad) for bad in ("1e300", "-1e10", "NaN", "inf", "1e999", "", "many")),
    ]
    text = as_csv(rows, "user_id,item_id,plays")
    report = load(text, settings={"source.weight_column": "plays", "data.max_rejected_share": 1})
    assert sums(engine) == {("ann", "hat"): -2.5, ("bob", "hat"): 1e9}
    assert report.rows_rejected == 7
    reasons = [
        reason
        for (reason,) in in_warehouse(
            engine, "SELECT reason FROM mf.rejected_ratings ORDER BY line"
        )
    ]
    assert reasons == [
        "the weight '1e300' is not within -1,000,000,000 to 1,000,000,000",
        "the weight '-1e10' is not within -1,000,000,000 to 1,000,000,000",
        "the weight 'NaN' is not finite",
        "the weight 'inf' is not finite",
        "the weight '1e999' is not finite",
        "the weight is missing",
        "the weight 'many' is not a number",
    ]


def test_an_event_without_a_type_is_a_bad_row(engine: Engine, load: Load) -> None:
    text = ACTIONS + f"bob,tie,{START},\n"
    report = load(text, settings={**TYPED, "data.max_rejected_share": 0.5})
    assert report.rows_rejected == 1
    assert in_warehouse(engine, "SELECT reason FROM mf.rejected_ratings") == [
        ("the event is missing",)
    ]


STRANGE = ("100%", "%(x)s", "a'b", 'a""b', "😀", ":x", "{mf}", "*", "a=b")


def test_ids_and_types_are_text_and_stay_as_they_are(engine: Engine, load: Load) -> None:
    rows = [(f'"{name}"', f'"{name}"', START, f'"{name}"') for name in STRANGE]
    names = [name.replace('""', '"') for name in STRANGE]
    weights = ", ".join(f"{name}={n}" for n, name in enumerate(names, start=1))
    load(
        as_csv(rows, "user_id,item_id,timestamp,action"),
        settings={**TYPED, "data.event_weights": weights},
    )
    assert sums(engine) == {(name, name): n for n, name in enumerate(names, start=1)}


def test_parquet_and_a_query_give_the_same(engine: Engine, load: Load, tmp_path: Path) -> None:
    load(ACTIONS, settings=TYPED)
    expected = sums(engine)
    rows = [line.split(",") for line in ACTIONS.splitlines()]
    table = pa.table(dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)), strict=True)))
    pq.write_table(table, tmp_path / "actions.parquet")
    replacing = {"data.kind": "events", "data.ingest_mode": "replace", **TYPED}
    config = make_config({"source.uri": str(tmp_path / "actions.parquet"), **replacing})
    report = ingest(engine, config, NOW, print, {})
    assert report.rows_read == 6
    assert sums(engine) == expected

    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE public.log (u text, i text, t int, a text)")
        for row in rows[1:]:
            connection.exec_driver_sql("INSERT INTO public.log VALUES (%s, %s, %s, %s)", tuple(row))
    query = "SELECT u AS user_id, i AS item_id, t AS timestamp, a AS action, 3 AS rating FROM log"
    url = engine.url.render_as_string(hide_password=False)
    settings = {"source.uri": "sql", "source.query": query, **replacing}
    report = ingest(engine, make_config(settings), NOW, print, {"MF_SOURCE_DATABASE_URL": url})
    assert report.rows_read == 6
    assert sums(engine) == expected
    assert "the column rating is not read, as data.kind is events" in report.sentence()
    # Laid out otherwise it is the same query, and the table may grow under it.
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO log VALUES ('dan', 'hat', 1700000099, 'view')")
    settings = {**settings, "source.query": f"  {query}\n", "data.ingest_mode": "merge"}
    ingest(engine, make_config(settings), NOW, print, {"MF_SOURCE_DATABASE_URL": url})
    assert sums(engine) == {**expected, ("dan", "hat"): 0.2}


def test_forgotten_users_are_left_out_of_what_was_loaded_before(engine: Engine, load: Load) -> None:
    load(PLAYS)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO mf.forgotten_users VALUES ('bob')")
    load(PLAYS)
    assert {user for user, _ in sums(engine)} == {"ann"}
    assert in_warehouse(engine, "SELECT 1 FROM mf.events WHERE user_id = 'bob'") == []
    assert load(PLAYS).already_ingested
    load(LATER, "monday.csv")
    assert {user for user, _ in sums(engine)} == {"ann", "cay"}


def test_ratings_and_events_do_not_mix(engine: Engine, load: Load) -> None:
    rated = as_csv([("ann", "song", 4), ("bob", "song", 2)], "user_id,item_id,rating")
    as_ratings = {"data.kind": "ratings"}
    load(rated, "r.csv", as_ratings)
    before = everything(engine)
    with pytest.raises(InputError, match=r"was made of ratings.*ingest_mode=replace"):
        load(PLAYS)
    assert everything(engine) == before

    load(PLAYS, settings={"data.ingest_mode": "replace"})
    with pytest.raises(InputError, match=r"was made of events.*ingest_mode=replace"):
        load(rated, "r.csv", as_ratings)
    load(
        rated,
        "r.csv",
        {**as_ratings, "data.ingest_mode": "replace", "data.max_removed_share": 1},
    )
    assert sums(engine) == {("ann", "song"): 4, ("bob", "song"): 2}
    assert in_warehouse(engine, "SELECT 1 FROM mf.events") == []
    assert not load(rated.replace(",2", ",3"), "r.csv", as_ratings).already_ingested


def test_a_given_split_keeps_its_sides(engine: Engine, load: Load, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(as_csv([("ann", "song", START), ("eve", "tune", START)]))
    load(PLAYS, settings={"source.test_uri": str(tmp_path / "test.csv")})
    sides = "SELECT user_id, item_id, side FROM mf.ratings WHERE item_id = 'song' OR side = 'test'"
    assert set(in_warehouse(engine, sides)) == {
        # On both sides: it is not held out.
        ("ann", "song", "train"),
        ("bob", "song", "train"),
        ("eve", "tune", "test"),
    }


def test_a_kill_between_chunks_leaves_all_as_it_was(engine: Engine, load: Load) -> None:
    load(PLAYS)
    before = everything(engine)
    many = [("ann", f"i{n}", START + n) for n in range(20_000)]

    def hang_up(line: str) -> None:
        if "2," in line and "rows read" in line:
            with engine.connect() as other:
                other.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    with pytest.raises(Exception, match=r"terminat|closed"):
        load([*PLAYS, *many], settings={"source.chunk_rows": 1000}, log=hang_up)
    engine.dispose()
    assert everything(engine) == before
    load([*PLAYS, *many], settings={"source.chunk_rows": 1000})
    assert len(sums(engine)) == 20_003


@pytest.mark.parametrize("mode", ["merge", "add"])
def test_two_nights_at_once_count_once(
    engine: Engine, load: Load, tmp_path: Path, mode: str
) -> None:
    load(PLAYS)
    (tmp_path / "monday.csv").write_text(as_csv(LATER))
    config = make_config(
        {
            "source.uri": str(tmp_path / "monday.csv"),
            "data.kind": "events",
            "data.ingest_mode": mode,
        }
    )
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: ingest(engine, config, NOW, print, {}), range(4)))
    assert sorted(report.already_ingested for report in reports) == [False, True, True, True]
    assert sums(engine)[("ann", "song")] == 3


def test_the_check_takes_events_of_any_value_and_no_constant_ratings(
    engine: Engine, load: Load
) -> None:
    small = {"data.min_ratings": 1, "data.min_users": 1, "data.min_items": 1}
    load(
        as_csv([(*play[:2], 1) for play in PLAYS], "user_id,item_id,rating"),
        "r.csv",
        {"data.kind": "ratings"},
    )
    with pytest.raises(QualityError, match="all 3 ratings are 1: these are events without rat"):
        check_ratings(engine, make_config(small))

    as_events = {"data.kind": "events", **small}
    report = load(PLAYS, settings={"data.ingest_mode": "replace"})
    assert "summed" not in report.sentence()
    checked = check_ratings(engine, make_config(as_events))
    assert (checked.n_ratings, checked.highest_rating) == (3, 2)
    assert IngestReport(**json.loads(json.dumps(vars(report)))) == report


def test_columns_of_events_and_their_weights_go_together(load: Load) -> None:
    cases: list[tuple[dict[str, object], str]] = [
        ({"source.event_column": "action"}, "data.event_weights is empty"),
        ({"data.event_weights": "view=1"}, "source.event_column is empty"),
        ({"data.kind": "ratings", "source.weight_column": "n"}, "data.kind is ratings"),
        ({"data.kind": "ratings", "source.event_column": "a"}, "data.kind is ratings"),
    ]
    for settings, said in cases:
        with pytest.raises(ConfigError, match=said):
            load(ACTIONS, settings=settings)


def test_a_step_back_leaves_the_sums_and_a_replacement_goes_on(
    engine: Engine, load: Load, warehouse_url: str
) -> None:
    load(PLAYS)
    expected = sums(engine)
    with transaction(engine) as connection:
        command.downgrade(alembic_config(connection), "0009")
    assert sums(engine) == expected
    migrate(warehouse_url)
    with pytest.raises(InputError, match="was made of ratings"):
        load(PLAYS)
    load(PLAYS, settings={"data.ingest_mode": "replace"})
    assert sums(engine) == expected


def test_a_folder_to_which_parts_are_added_is_one_source(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "plays"
    folder.mkdir()
    config = make_config({"source.uri": str(folder), "data.kind": "events"})
    for number, events in enumerate((PLAYS, LATER), start=1):
        users, items, times = map(list, zip(*events, strict=True))
        table = pa.table({"user_id": users, "item_id": items, "timestamp": times})
        pq.write_table(table, folder / f"part-{number}.parquet")
        report = ingest(engine, config, NOW, print, {})
        assert "sources" not in report.sentence()
    assert sums(engine) == {
        ("ann", "song"): 3,
        ("ann", "tune"): 1,
        ("bob", "song"): 1,
        ("cay", "tune"): 1,
    }


def test_settings_that_do_not_go_together_are_refused_before_any_work(
    warehouse_url: str, tmp_path: Path
) -> None:
    place = pipeline.workplace(warehouse_url, (tmp_path / "artifacts").as_uri(), print)
    config = make_config({"data.kind": "events", "data.event_weights": "view=1"})
    with pytest.raises(ConfigError, match=r"source\.event_column is empty"):
        pipeline.check_settings(config, place)
    place.engine.dispose()


def test_a_batch_says_how_its_events_were_summed(engine: Engine, load: Load) -> None:
    load(ACTIONS, settings=TYPED)
    counted = in_warehouse(engine, "SELECT sums FROM mf.ingest_batches")
    assert counted == [("dislike=-1, purchase=1, view=0.2",)]
    load(ACTIONS, settings={**TYPED, "data.event_cap": 2})
    counted = in_warehouse(engine, "SELECT sums FROM mf.ingest_batches ORDER BY batch_id")
    assert counted[1] == ("dislike=-1, purchase=1, view=0.2; at most 2 of a type",)
