"""Data checks on a real Postgres."""

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import make_config
from mf_core.errors import QualityError
from mf_core.intake.quality import check_ratings

SMALL = {"data.min_ratings": 1, "data.min_users": 1, "data.min_items": 1}


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A warehouse with 4 users' ratings of 5 items."""
    with engine.begin() as connection:
        batch = """
            INSERT INTO mf.ingest_batches
            VALUES (DEFAULT, 'x', 'x', 'x', 'merge', 'loaded', now(), now())
            RETURNING batch_id
        """
        number = connection.scalar(sa.text(batch))
        rows = """
            INSERT INTO mf.ratings
            SELECT u::text, i::text, 1 + (u + i) % 5, NULL, NULL, :batch
            FROM generate_series(1, 4) AS u, generate_series(1, 5) AS i
        """
        connection.execute(sa.text(rows), {"batch": number})
    return engine


def add_snapshot(engine: Engine, name: str, n_train: int, n_test: int, day: int) -> None:
    """Enter a snapshot of the given size, taken on a day of January."""
    statement = """
        INSERT INTO mf.snapshots
            (snapshot_id, split_id, uri, sha256, protocol, n_train, n_test, created_at)
        VALUES (:name, 's', 'u', 'x', 'hash', :n_train, :n_test, make_date(2026, 1, :day))
    """
    with engine.begin() as connection:
        connection.execute(
            sa.text(statement), {"name": name, "n_train": n_train, "n_test": n_test, "day": day}
        )


def test_report_has_the_figures(filled: Engine) -> None:
    report = check_ratings(filled, make_config(SMALL))
    assert report.n_ratings == 20
    assert report.n_users == 4
    assert report.n_items == 5
    assert report.lowest_rating == 1.0
    assert report.highest_rating == 5.0
    assert report.volume_change is None
    assert report.mean_rating == pytest.approx(3.0)


def test_an_empty_table_fails(engine: Engine) -> None:
    with pytest.raises(QualityError, match=r"0 ratings, expected at least 1 \(data.min_ratings\)"):
        check_ratings(engine, make_config(SMALL))


def test_all_failing_checks_stand_in_one_message(filled: Engine) -> None:
    add_snapshot(filled, "last", 70, 30, day=2)
    with pytest.raises(QualityError) as raised:
        check_ratings(filled, make_config({"data.scale_high": 4}))

    for part in (
        "20 ratings, expected at least 1,000",
        "4 users",
        "5 items",
        "outside the scale 1 to 4",
        "-80.0% against",
    ):
        assert part in str(raised.value)

    assert raised.value.exit_code == 4


@pytest.mark.parametrize(("n_last", "fails"), [(25, False), (26, True), (4, False), (3, True)])
def test_volume_is_compared_with_the_last_trained_data(
    filled: Engine, n_last: int, fails: bool
) -> None:
    add_snapshot(filled, "old", 1_000_000, 0, day=1)
    add_snapshot(filled, "last", n_last - 1, 1, day=2)
    config = make_config({**SMALL, "data.max_volume_growth": 4.0})
    if fails:
        with pytest.raises(QualityError, match="against the last trained data"):
            check_ratings(filled, config)
    else:
        assert check_ratings(filled, config).volume_change == pytest.approx((20 - n_last) / n_last)
