"""`mf status` and `mf history`, as people and a monitoring system use them: real processes."""

import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import InputError
from mf_core.warehouse import transaction, verdicts, versions
from mf_core.warehouse.bootstrap import alembic_config, migrate

from .histories import N_TEST, N_TRAIN, add_artifact, add_decision, add_run, add_version, go_live
from .test_cli import MF, Mf
from .test_publish import rows
from .worlds import make_ratings


@pytest.fixture
def mf(warehouse_url: str, tmp_path: Path) -> Mf:
    """`mf` on an empty warehouse."""
    return Mf(MF_DATABASE_URL=warehouse_url, MF_ARTIFACT_ROOT=(tmp_path / "artifacts").as_uri())


def put_live(engine: Engine, key: str, ago: timedelta) -> int:
    """Let a new version go live `ago`, and return its number."""
    with transaction(engine) as connection:
        version = add_version(connection, key, state="approved")
        add_decision(connection, version, approved=True)
        go_live(connection, version, ago=ago)
    return version


def test_an_empty_warehouse_says_so(mf: Mf) -> None:
    said = mf("status")
    assert "nothing yet; `mf run` makes the first version" in said
    assert "none on record" in said
    assert "there are no versions yet" in mf("history")
    assert mf.json("history") == []

    mf("status", "--max-age", "26h", code=7)
    assert mf.errors.startswith("mf: nothing is live; no run is on record.")


def test_the_age_of_the_lists_is_for_a_monitoring_system(mf: Mf, engine: Engine) -> None:
    put_live(engine, "one", timedelta(hours=31))
    assert "lists           31 hours old" in mf("status", "--max-age", "32h")

    # What there is to see comes first, so that an alarm can quote it.
    assert "version 1, since" in mf("status", "--max-age", "26h", code=7)
    assert mf.errors.strip() == (
        "mf: the lists are 31 hours old, and --max-age allows 26 hours; no run is on record. "
        "`mf status` says what to do."
    )
    assert '"live_version": 1' in mf("status", "--max-age", "1d", "--json", code=7)


@pytest.mark.parametrize("age", ["26", "-1h", "soon"])
def test_an_age_without_a_unit_is_a_usage_error(mf: Mf, age: str) -> None:
    mf("status", f"--max-age={age}", code=2)
    assert "26h" in mf.errors


def test_a_rollback_makes_old_lists_live(mf: Mf, engine: Engine) -> None:
    put_live(engine, "one", timedelta(hours=40))
    put_live(engine, "two", timedelta(hours=2))
    status = mf.json("status")
    assert status["lists_age_seconds"] == pytest.approx(2 * 3600, abs=60)

    with transaction(engine) as connection:
        versions.promote(connection, 1, 2, by="Ada", approval=None)
    status = mf.json("status")
    assert status["lists_age_seconds"] == pytest.approx(40 * 3600, abs=60)
    assert status["live_since"] > status["published_at"]
    assert status["went_live"] == "by a rollback of Ada, from version 2"


def test_a_night_without_news_leaves_the_lists_old_and_says_so(mf: Mf, engine: Engine) -> None:
    put_live(engine, "one", timedelta(hours=31))
    with transaction(engine) as connection:
        add_run(connection, "tonight", "nothing_new")
    assert "nothing was new" in mf("status")
    mf("status", "--max-age", "26h", code=7)
    assert "31 hours old" in mf.errors
    assert "nothing was new" in mf.errors


def test_a_failed_run_says_what_it_died_of_and_what_to_do(mf: Mf, tmp_path: Path) -> None:
    missing = tmp_path / "no such file.csv"
    mf("run", "--key", "tonight", "--by", "Ada", f"--set=source.uri={missing}", code=3)
    said = mf("status")
    assert "failed in step ingest" in said
    assert "tonight, started" in said
    assert "by Ada" in said
    assert "no such file.csv" in said
    assert "docs/runbook.md#ingest" in said


def test_a_killed_run_is_running_since_then(
    mf: Mf, engine: Engine, warehouse_url: str, tmp_path: Path
) -> None:
    source = tmp_path / "ratings.csv"
    make_ratings().rename(columns={"rated_at": "timestamp"}).to_csv(source, index=False)
    started = "SELECT outcome FROM mf.runs"

    # The run is held up by a lock, so that it is surely killed on its way.
    with transaction(engine) as connection:
        connection.execute(sa.text("LOCK TABLE mf.ratings IN ACCESS EXCLUSIVE MODE"))
        run = subprocess.Popen(
            [*MF, "run", "--key", "tonight", f"--set=source.uri={source}"],
            env=mf.environ,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not rows(engine, started) and time.monotonic() < deadline:
            time.sleep(0.05)
        run.kill()
        assert run.wait() == -signal.SIGKILL

    assert "running for" in mf("status")
    assert rows(engine, started) == [("running",)]


def test_an_older_schema_is_one_sentence(mf: Mf, engine: Engine, warehouse_url: str) -> None:
    with transaction(engine) as connection:
        command.downgrade(alembic_config(connection), "0006")
    _expect_one_sentence(mf, "status")

    migrate(warehouse_url, "base")
    _expect_one_sentence(mf, "status")
    _expect_one_sentence(mf, "history")


def _expect_one_sentence(mf: Mf, name: str) -> None:
    mf(name, code=10)
    assert "mf db migrate" in mf.errors
    assert len(mf.errors.splitlines()) == 1


def test_bytes_that_are_no_text_are_a_usage_error(mf: Mf) -> None:
    mf("recommend", b"\xff".decode("utf-8", "surrogateescape"), code=2)
    assert "UTF-8" in mf.errors
    assert "Traceback" not in mf.errors


def test_a_dry_run_reads_as_one(mf: Mf, engine: Engine) -> None:
    with transaction(engine) as connection:
        version = add_version(connection, "dry", state="dry_run")
        add_decision(connection, version, approved=True)
    assert "dry run: would be approved" in mf("history")
    assert "dry run: would be approved" in mf("status")
    assert rows(engine, "SELECT verdict FROM mf.model_history") == [("dry run: would be approved",)]


def test_the_verdict_is_the_same_in_the_view_and_at_its_door(engine: Engine) -> None:
    with transaction(engine) as connection:
        for state in ("dry_run", "approved", "refused"):
            version = add_version(connection, state, state=state)
            add_decision(connection, version, approved=state != "refused")
        decisions = verdicts.gate_decisions(connection)
    in_view = dict(rows(engine, "SELECT model_version, verdict FROM mf.model_history"))
    assert {row["model_version"]: row["verdict"] for row in decisions} == in_view


@pytest.mark.parametrize(
    ("publish", "stages", "made_from"),
    [
        # The artifacts tell; where they are gone, the settings do.
        ({"refit": True}, ("evaluated", "refit"), N_TRAIN + N_TEST),
        ({"refit": True}, ("evaluated",), N_TRAIN),
        ({"refit": True}, (), N_TRAIN + N_TEST),
        ({"refit": False}, (), N_TRAIN),
        # Of an older release that had no such setting.
        ({}, (), N_TRAIN + N_TEST),
    ],
)
def test_the_lists_are_made_from_what_the_last_fit_saw(
    engine: Engine, publish: dict[str, bool], stages: tuple[str, ...], made_from: int
) -> None:
    of_view = "SELECT n_train, n_ratings FROM mf.model_history"
    with transaction(engine) as connection:
        version = add_version(connection, "one", state="approved", config={"publish": publish})
        for stage in stages:
            add_artifact(connection, version, stage)
    assert rows(engine, of_view) == [(N_TRAIN, None)]
    with transaction(engine) as connection:
        go_live(connection, version)
    assert rows(engine, of_view) == [(N_TRAIN, made_from)]


def test_live_since_is_when_it_last_went_live(engine: Engine) -> None:
    put_live(engine, "one", timedelta(hours=40))
    put_live(engine, "two", timedelta(hours=2))
    with transaction(engine) as connection:
        versions.promote(connection, 1, 2, by="Ada", approval=None)
    [(back, first)] = rows(
        engine,
        "SELECT now() - went_live_at, now() - published_at FROM mf.model_history WHERE is_live",
    )
    assert back < timedelta(minutes=1)
    assert first > timedelta(hours=39)


def test_a_failure_is_told_though_the_next_run_is_not_the_first(
    mf: Mf, engine: Engine, warehouse_url: str
) -> None:
    put_live(engine, "one", timedelta(hours=31))
    place = pipeline.workplace(warehouse_url, "file:///nowhere", actor="Ada")
    pipeline.start_run(place, "tonight")
    pipeline.record_failure(place, "tonight", "check", InputError("the ratings fell by half"))
    pipeline.close_run(place, "tonight", ["check"])
    place.engine.dispose()
    mf("status", "--max-age", "26h", code=7)
    assert "the last run: failed in step check" in mf.errors
