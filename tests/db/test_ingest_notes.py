"""What an ingest tells beside its counts: in its report, in the log and on the run's record."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import InputError
from mf_core.warehouse import runs, transaction

from .test_cli import Mf, mf  # noqa: F401
from .test_ingest import Load, load, ratings, table  # noqa: F401
from .test_runs import KEY, last_run, world  # noqa: F401
from .worlds import World

HEADER = "user_id,item_id,rating\n"
NO_DATES = (
    "no dates in r.csv (source.time_column=timestamp): of repeated ratings the later line wins"
)


def test_rows_that_are_no_ratings_are_counted_and_no_bad_ones(
    engine: Engine,
    load: Load,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = HEADER + "a,x,0\na,y,4\nb,x,0\nb,x,3\nb,x,5\n"
    report = load(text, name="r.csv", source__not_rated=0, source__time_column="")
    assert report.rows_read == 5
    assert (report.rows_not_rated, report.rows_rejected, report.rows_duplicate) == (2, 0, 1)
    assert ratings(engine) == [("a", "y", 4.0), ("b", "x", 5.0)]
    assert "0 bad, 2 not rated, 1 duplicate" in report.sentence()
    assert "5 rows read, 0 of them bad, 2 not rated" in capsys.readouterr().out

    # Another meaning of the same bytes is another batch.
    with pytest.raises(InputError, match=r"Ratings from 0 to 5 were seen.*source\.not_rated=0"):
        load(text, name="r.csv")


def test_a_source_without_dates_is_told(load: Load) -> None:  # noqa: F811
    report = load(HEADER + "a,x,4\na,x,5\n", name="r.csv")
    assert report.notes == NO_DATES
    assert report.sentence().endswith(NO_DATES)


ITEMS = "".join(f"{HEADER if n == 0 else ''}u{n},i{n},3\n" for n in range(10))


@pytest.mark.parametrize(
    ("titles", "told"),
    [
        ([f"i{n}" for n in range(10)], ""),
        ([f"i{n}" for n in range(5)], ""),
        # A catalogue of which few are rated, and titles of a few.
        ([f"i{n}" for n in range(1000)], ""),
        (["i3"], ""),
        (["I0", "I1"], "0 of 2 titles matched one of the 10 items with ratings"),
        ([f"i{n}.mov" for n in range(80)], "0 of 80 titles matched one of the 10 items"),
        (["i0", *(f"x{n}" for n in range(20))], "1 of 21 titles matched"),
    ],
)
def test_titles_that_match_few_items_are_told(
    load: Load,  # noqa: F811
    tmp_path: Path,
    titles: list[str],
    told: str,
) -> None:
    path = tmp_path / "titles.csv"
    path.write_text("item_id,title\n" + "".join(f"{title},A\n" for title in titles))
    named: dict[str, Any] = {"source__items_uri": str(path), "source__time_column": ""}
    report = load(ITEMS, name="r.csv", **named)
    assert told in report.notes
    assert bool(told) == bool(report.notes)
    # It holds as long as it is so, whether or not the ratings are news.
    assert load(ITEMS, name="r.csv", **named).notes == report.notes


def test_users_that_match_few_are_told(load: Load, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "users.csv"
    path.write_text("user_id,age\n1,30\n2,40\n")
    named: dict[str, Any] = {"source__users_uri": str(path), "source__time_column": ""}
    report = load(ITEMS, name="r.csv", **named)
    assert "0 of 2 users matched one of the 10 users with ratings" in report.notes


def test_what_is_told_stands_on_the_runs_record(
    world: World,  # noqa: F811
    engine: Engine,
    mf: Mf,  # noqa: F811
) -> None:
    no_dates = world.with_settings(source__time_column="")
    pipeline.run_all(no_dates.config, no_dates.place, "without a note")
    assert last_run(engine)["note"] is None

    pipeline.start_run(world.place, KEY)
    with transaction(engine) as connection:
        runs.note(connection, KEY, "no dates")
    assert last_run(engine)["note"] == "no dates"
    shown = json.loads(mf("status", "--json"))["last_run"]
    assert shown["note"] == "no dates"
    assert "no dates" in mf("status")

    # One that starts over begins again.
    pipeline.start_run(world.place, KEY)
    assert last_run(engine)["note"] is None


def test_a_run_notes_what_its_ingest_told(world: World, engine: Engine) -> None:  # noqa: F811
    source = Path(world.config.source.uri)
    header, *lines = source.read_text().splitlines()
    source.write_text("\n".join([header.replace("timestamp", "moment"), *lines]))
    pipeline.run_all(world.config, world.place, KEY)
    assert "no dates in ratings.csv" in last_run(engine)["note"]
    with engine.connect() as connection:
        dated = connection.scalar(sa.text("SELECT count(rated_at) FROM mf.ratings"))
    assert dated == 0
