"""Of a source of several parts only new ones are read, and the ratings are as if all had been."""

import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import Config, make_config
from mf_core.errors import ConfigError, InputError
from mf_core.intake.ingest import ingest
from mf_core.records import IngestReport
from mf_core.sources import places
from mf_core.sources.local import hash_of
from mf_core.warehouse import database_engine
from tests.db.replacing import load_while_replaced
from tests.s3 import BUCKET, Door, Moment, backdoor

from .nights import Blow, child, kill_self
from .test_ingest import NOW, ratings, table

HEADER = "user_id,item_id,rating,timestamp\n"
DATED = "881250949"


class Folder:
    """A folder of parts, and its loads into a warehouse."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self.engine = engine
        self.path = path
        self.log: list[str] = []

    def write(self, name: str, *rows: str) -> None:
        """Write a part; a row is `user,item,rating,time`."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(HEADER + "".join(f"{row}\n" for row in rows))

    def config(self, **settings: Any) -> Config:
        """Return settings that load all parts."""
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        return make_config({"source.uri": f"{self.path}/*.csv", **dotted})

    def load(self, **settings: Any) -> IngestReport:
        """Load what there is."""
        self.log.clear()
        return ingest(self.engine, self.config(**settings), NOW, self.log.append, {})

    def read(self) -> list[str]:
        """Return the parts that the last load has read, each once."""
        names = [line.partition(":")[0] for line in self.log if " rows read, " in line]
        return list(dict.fromkeys(names))


@pytest.fixture
def folder(engine: Engine, tmp_path: Path) -> Folder:
    """A folder with two parts that are loaded."""
    made = Folder(engine, tmp_path / "parts")
    made.write("a.csv", f"u,i,4,{DATED}", f"v,i,3,{DATED}")
    made.write("b.csv", f"u,j,2,{DATED}")
    made.load()
    assert made.read() == ["a.csv", "b.csv"]
    return made


def known(engine: Engine) -> int:
    """Return how many parts the warehouse knows."""
    [[count]] = table(engine, "SELECT count(*) FROM mf.source_parts")
    return int(count)


def test_a_new_part_is_read_alone(folder: Folder, engine: Engine) -> None:
    folder.write("c.csv", f"w,i,5,{DATED}")
    report = folder.load()
    assert folder.read() == ["c.csv"]
    assert (report.rows_read, report.rows_inserted, report.total_ratings) == (1, 1, 4)
    assert "2 of 3 parts are loaded already, and are not read" in folder.log

    assert folder.load().already_ingested
    assert ratings(engine) == [("u", "i", 4.0), ("u", "j", 2.0), ("v", "i", 3.0), ("w", "i", 5.0)]


def test_a_changed_part_is_read_again_and_a_removed_one_leaves_its_rows(
    folder: Folder, engine: Engine
) -> None:
    folder.write("b.csv", f"u,j,1,{DATED}", f"u,k,5,{DATED}")
    folder.load()
    assert folder.read() == ["b.csv"]
    assert ratings(engine) == [("u", "i", 4.0), ("u", "j", 1.0), ("u", "k", 5.0), ("v", "i", 3.0)]

    (folder.path / "a.csv").unlink()
    report = folder.load()
    assert folder.read() == []
    assert (report.already_ingested, report.rows_read, report.total_ratings) == (False, 0, 4)
    assert folder.load().already_ingested


def test_a_part_that_is_changed_back_is_read_again(folder: Folder, engine: Engine) -> None:
    """What was loaded once is not what is loaded now."""
    for rating in (5, 4, 5):
        folder.write("a.csv", f"u,i,{rating},{DATED}", f"v,i,3,{DATED}")
        report = folder.load()
        assert not report.already_ingested or rating == 4
        assert ("u", "i", float(rating)) in ratings(engine)


def test_a_single_file_that_is_changed_back_is_loaded_again(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    config = make_config({"source.uri": str(path)})
    for rating in (5, 2, 5):
        path.write_text(f"{HEADER}u,i,{rating},{DATED}\n")
        assert not ingest(engine, config, NOW, print, {}).already_ingested
        assert ratings(engine) == [("u", "i", float(rating))]


@pytest.mark.parametrize("date", ["", DATED], ids=["undated", "dated"])
def test_where_the_order_of_the_parts_decides_all_are_read(
    folder: Folder, engine: Engine, date: str
) -> None:
    folder.write("a.csv", f"t,i,4,{date}")
    folder.write("b.csv", f"t,i,2,{date}")
    folder.load()
    assert ("t", "i", 2.0) in ratings(engine)

    # The later line is in the part that is not new.
    folder.write("a.csv", f"t,i,5,{date}", f"x,i,1,{date}")
    folder.load()
    assert any(line.startswith("ratings of one date differ") for line in folder.log)
    assert folder.read() == ["a.csv", "b.csv"]
    assert ("t", "i", 2.0) in ratings(engine)
    assert ("x", "i", 1.0) in ratings(engine)


def test_a_part_behind_all_others_overrules_them(folder: Folder, engine: Engine) -> None:
    folder.write("c.csv", f"u,i,1,{DATED}")
    folder.load()
    assert folder.read() == ["c.csv"]
    assert ("u", "i", 1.0) in ratings(engine)


def test_any_sequence_of_nights_is_as_if_all_parts_were_read(
    engine: Engine, tmp_path: Path
) -> None:
    """Parts come at any place, grow, and have values corrected; dates may be equal, or none."""
    folder = Folder(engine, tmp_path / "parts")
    chance = random.Random(5)
    parts: dict[str, list[list[str]]] = {}
    n_alone = 0
    expected: dict[tuple[str, str], tuple[str, str]] = {}
    for night in range(60):
        if night % 20 == 0:
            expected.clear()
            parts.clear()
            with engine.begin() as connection:
                connection.execute(sa.text("TRUNCATE mf.ratings"))
            for file in folder.path.glob("*"):
                file.unlink()
        for _ in range(chance.randint(1, 2)):
            name = chance.choice("abcdefgh") + ".csv"
            rows = parts.setdefault(name, [])
            for row in rows:
                if chance.random() < 0.2:
                    row[2] = chance.choice("12345")
            pair = [chance.choice("uvwxyz"), chance.choice("ijkl")]
            rows.append([*pair, chance.choice("12345"), chance.choice(["", "881250949", "9e8"])])
            rows[-1][3] = rows[-1][3].replace("9e8", "900000000")
            folder.write(name, *map(",".join, rows))
        folder.load()
        n_alone += len(folder.read()) < len(parts)
        _merge_all(expected, parts)
        found = {(user, item): f"{rating:g}" for user, item, rating in ratings(engine)}
        assert found == {pair: value for pair, (_, value) in expected.items()}, f"night {night}"
    # Not that all had been read each time.
    assert n_alone > 20


def _merge_all(
    there: dict[tuple[str, str], tuple[str, str]], parts: dict[str, list[list[str]]]
) -> None:
    """Merge all parts into (date, rating) by pair: the latest date, of equal ones the last line."""
    latest: dict[tuple[str, str], tuple[str, str]] = {}
    for name in sorted(parts):
        for user, item, rating, date in parts[name]:
            if date >= latest.get((user, item), ("", ""))[0]:
                latest[user, item] = (date, rating)
    for pair, (date, rating) in latest.items():
        if date >= there.get(pair, ("", ""))[0]:
            there[pair] = (date, rating)


def test_ids_that_all_parts_decide_on_are_looked_up_in_all(folder: Folder, engine: Engine) -> None:
    folder.write("c.csv", f"7.0,i,5,{DATED}")
    folder.load()
    # Beside the ids `u` and `v`, 7.0 is a text; alone it would be the number 7.
    assert ("7.0", "i", 5.0) in ratings(engine)
    assert folder.read() == ["a.csv", "b.csv", "c.csv"]


def test_a_part_without_the_header_that_others_have_is_refused(
    folder: Folder, engine: Engine
) -> None:
    (folder.path / "c.csv").write_text(f"i,u,5,{DATED}\n")
    with pytest.raises(InputError, match=r"c\.csv: expected a header as a\.csv has one"):
        folder.load()
    assert len(ratings(engine)) == 3


def test_a_header_among_parts_that_were_guessed_to_have_none_is_refused(
    engine: Engine, tmp_path: Path
) -> None:
    folder = Folder(engine, tmp_path)
    (tmp_path / "a.csv").write_text(f"u,i,5,{DATED}\n")
    folder.load()
    folder.write("b.csv", f"v,i,5,{DATED}")
    with pytest.raises(InputError, match=r"a\.csv: expected a header as b\.csv has one"):
        folder.load()


def test_bad_rows_of_a_new_part_are_a_share_of_all_rows(folder: Folder, engine: Engine) -> None:
    folder.write("c.csv", f"w,i,9,{DATED}", f"w,j,5,{DATED}")
    report = folder.load(data__max_rejected_share=0.25)
    assert (report.rows_read, report.rows_rejected) == (5, 1)
    assert sorted(folder.read()) == ["a.csv", "b.csv", "c.csv"]

    folder.write("d.csv", f"w,i,9,{DATED}")
    with pytest.raises(InputError, match=r"2 of 6 rows \(33\.33%\) are bad"):
        folder.load(data__max_rejected_share=0.25)
    assert known(engine) == 3


def test_a_part_with_rows_of_tomorrow_is_read_again_tomorrow(
    folder: Folder, engine: Engine
) -> None:
    folder.write("c.csv", "w,i,5,2026-01-02", f"w,j,5,{DATED}")
    folder.load(data__max_rejected_share=0.5)
    assert ("w", "i", 5.0) not in ratings(engine)

    # That it is loaded already is no reason to take it for read.
    assert folder.load(data__max_rejected_share=0.5).already_ingested
    folder.write("d.csv", f"x,i,5,{DATED}")
    later = NOW.replace(day=3)
    lines: list[str] = []
    ingest(engine, folder.config(), later, lines.append, {})
    assert ("w", "i", 5.0) in ratings(engine)
    assert not any(line.startswith("a.csv") for line in lines)


def test_a_place_may_have_any_name(engine: Engine, tmp_path: Path) -> None:
    """Long, with quotes and percent signs, or no text at all."""
    folder = Folder(engine, tmp_path)
    long = "/".join(["x" * 250] * 12)
    names = [f"{long}/a.csv", f"{long}/b.csv", "50% 'quoted' \"é\".csv", os.fsdecode(b"\xff.csv")]
    names += ["a#1.csv", "a#2.csv", "a?1.csv"]
    for number, name in enumerate(names):
        folder.write(name, f"u{number},i,4,{DATED}")
    every = {"source__uri": f"{tmp_path}/**/*.csv", "source__unchanged": "stat"}
    assert folder.load(**every).rows_read == known(engine) == len(names)
    folder.write("z.csv", f"new,i,4,{DATED}")
    assert folder.load(**every).rows_read == 1


@pytest.mark.parametrize(
    "settings",
    [{"source__reload": True}, {"data__ingest_mode": "replace"}, {"data__scale_high": 10.0}],
    ids=lambda settings: next(iter(settings)),
)
def test_all_is_read_where_it_is_asked_for(
    folder: Folder, engine: Engine, settings: dict[str, Any]
) -> None:
    folder.write("c.csv", f"w,i,5,{DATED}")
    folder.load(**settings)
    assert folder.read() == ["a.csv", "b.csv", "c.csv"]


def test_a_reload_loads_what_was_loaded_already(folder: Folder, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE mf.ratings SET rating = 1"))
    assert folder.load().already_ingested
    assert folder.load(source__reload=True).rows_updated == 3


def test_ratings_that_were_removed_by_hand_come_back_with_the_next_load(
    folder: Folder, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM mf.ratings WHERE user_id = 'u'"))
    folder.write("c.csv", f"w,i,5,{DATED}")
    folder.load()
    told = "mf.ratings has other rows than the last batch left there: all of"
    assert folder.log[0].startswith(told)
    assert len(ratings(engine)) == 4


def test_a_replacement_forgets_the_parts_of_other_sources(folder: Folder, engine: Engine) -> None:
    other = Folder(engine, folder.path.parent / "other")
    other.write("x.csv", f"other,i,5,{DATED}")
    other.load(data__ingest_mode="replace", data__max_removed_share=1)
    assert known(engine) == 1

    folder.write("c.csv", f"w,i,5,{DATED}")
    folder.load()
    assert folder.read() == ["a.csv", "b.csv", "c.csv"]
    assert len(ratings(engine)) == 5


def test_events_of_old_parts_stay_where_new_ones_come(engine: Engine, tmp_path: Path) -> None:
    folder = Folder(engine, tmp_path)
    events = {"data__kind": "events"}
    folder.write("a.csv", f"u,i,1,{DATED}")
    folder.load(**events)
    folder.write("b.csv", f"v,i,1,{DATED}", f"u,i,1,{DATED}")
    folder.load(**events)
    assert folder.read() == ["a.csv", "b.csv"]
    assert ratings(engine) == [("u", "i", 2.0), ("v", "i", 1.0)]
    assert known(engine) == 0
    with pytest.raises(ConfigError, match=r"source\.reload is on, but data\.kind is events"):
        folder.load(**events, source__reload=True)


def test_ratings_forget_their_parts_when_events_take_their_place(
    folder: Folder, engine: Engine
) -> None:
    everything = {"data__ingest_mode": "replace", "data__max_removed_share": 1}
    folder.load(data__kind="events", **everything)
    assert known(engine) == 0
    folder.load(**everything)
    folder.write("c.csv", f"w,i,5,{DATED}")
    folder.load()
    assert folder.read() == ["c.csv"]


def test_a_process_that_is_killed_leaves_the_parts_as_they_were(
    folder: Folder, engine: Engine, warehouse_url: str
) -> None:
    """Whatever is killed, the parts that are known are those whose rows are there."""
    folder.write("c.csv", f"w,i,5,{DATED}")
    last = _count_statements(folder, warehouse_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM mf.ratings WHERE user_id = 'w'"))
        connection.execute(sa.text("DELETE FROM mf.source_parts WHERE place LIKE '%c.csv'"))
        connection.execute(sa.text("DELETE FROM mf.ingest_batches WHERE batch_id > 1"))
    for at in range(2, last + 1):
        blow = Blow(at, "before", kill_self)
        with child(partial(_load_under, folder, warehouse_url, blow)) as let_work:
            assert let_work() == -signal.SIGKILL, blow.at
        assert (known(engine), len(ratings(engine))) == (2, 3), at
    folder.load()
    assert folder.read() == ["c.csv"]
    assert (known(engine), len(ratings(engine))) == (3, 4)


def _count_statements(folder: Folder, url: str) -> int:
    """Return how many statements a load of the folder takes."""
    blow = Blow(0, "before", kill_self)
    _load_under(folder, url, blow)
    return len(blow.statements)


def _load_under(folder: Folder, url: str, blow: Blow) -> None:
    """Load the folder on connections that the blow hits."""
    engine = database_engine(url)
    blow.aim_at(engine)
    try:
        ingest(engine, folder.config(), NOW, print, {})
    finally:
        engine.dispose()


def test_two_ingests_at_once_load_every_part_once(folder: Folder, engine: Engine) -> None:
    folder.write("c.csv", *[f"w{n},i,5,{DATED}" for n in range(5)])
    reports: list[IngestReport] = []

    def load() -> None:
        reports.append(ingest(engine, folder.config(), NOW, print, {}))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.already_ingested for report in reports) == [False, True]
    assert len(ratings(engine)) == 8


def test_what_another_ingest_has_replaced_meanwhile_is_read(folder: Folder, engine: Engine) -> None:
    """It is found out under the lock: what was known before it may be known no longer."""
    folder.write("c.csv", f"w,i,5,{DATED}")
    load_while_replaced(engine, folder.load, folder.log)
    assert any(line.startswith("another ingest has changed") for line in folder.log)
    assert len(ratings(engine)) == 4


def _settle(folder: Path) -> None:
    """Let the times of files lie so far back that another write would show."""
    time.sleep(2.1)
    assert all(time.time() - os.stat(file).st_ctime > 2 for file in folder.iterdir())


def test_by_their_stamps_files_are_known_without_a_look_into_them(
    folder: Folder, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_hashed = 0

    def counted(path: Path) -> str:
        nonlocal n_hashed
        n_hashed += 1
        return hash_of(path)

    monkeypatch.setattr(places, "hash_of", counted)
    folder.write("packed.csv", f"p,i,3,{DATED}")
    _settle(folder.path)
    folder.load(source__unchanged="stat")
    folder.write("c.csv", f"w,i,5,{DATED}")
    n_hashed = 0
    folder.load(source__unchanged="stat")
    assert (folder.read(), n_hashed) == (["c.csv"], 1)
    assert len(ratings(engine)) == 5

    # The same size and the same times, by somebody who sets them back.
    file = folder.path / "a.csv"
    before = file.stat()
    file.write_text(file.read_text().replace("u,i,4", "u,i,5"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    folder.load(source__unchanged="stat")
    assert "a.csv" in folder.read()
    assert ("u", "i", 5.0) in ratings(engine)


def test_an_object_that_is_known_by_its_etag_is_not_fetched(
    engine: Engine, s3: Door, tmp_path: Path
) -> None:
    store = backdoor(s3)
    base = f"{BUCKET}/{tmp_path.name}"
    stat = {"source.uri": f"s3://{base}/*.csv", "source.unchanged": "stat"}

    def put(name: str, row: str) -> None:
        store.pipe_file(f"{base}/{name}", f"{HEADER}{row}\n".encode())

    fetched: list[str] = []

    def watch(method: str, path: str, moment: Moment) -> None:
        if method == "GET" and moment == "before" and path.endswith(".csv"):
            fetched.append(path.rpartition("/")[2])

    def load(**settings: Any) -> set[str]:
        fetched.clear()
        with s3.acting(watch):
            ingest(engine, make_config({**stat, **settings}), NOW, print, {})
        return set(fetched)

    put("a.csv", f"u,i,4,{DATED}")
    put("b.csv", f"u,j,4,{DATED}")
    assert load() == {"a.csv", "b.csv"}
    put("c.csv", f"u,k,4,{DATED}")
    assert load() == {"c.csv"}
    assert load() == set()
    put("b.csv", "u,j,5,900000000")
    assert load() == {"b.csv"}
    assert ratings(engine) == [("u", "i", 4.0), ("u", "j", 5.0), ("u", "k", 4.0)]

    # With other settings each has to be read, and so it is fetched after all.
    assert load(**{"source.time_zone": "Europe/Berlin"}) == {"a.csv", "b.csv", "c.csv"}
