"""The real DAG through the real scheduler, on real ratings."""

import io
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from rich.console import Console

from demo.airflow_api import ApiError
from demo.processes import wait_until
from demo.run import DAG_ID, FAILED, PUBLISHED, REFUSED, run_conf, run_demo

from .conftest import Retrain

REPORT_KEYS = {
    "test_rmse",
    "test_mae",
    "test_average_error",
    "baseline_rmse",
    "ndcg",
    "popularity_ndcg",
    "verdict",
    "model_version",
    "users",
    "rows_published",
    "seconds",
}
# Exit status, what was printed, and the report.
Outcome = tuple[int, str, dict[str, Any]]


def _demo(retrain: Retrain, conf: dict[str, Any]) -> Outcome:
    """Run the demo; return its exit status, what it printed, and its report."""
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    status = run_demo(retrain.stack, conf, console)

    report_file = retrain.stack.layout.report_file
    report = json.loads(report_file.read_text()) if report_file.exists() else {}
    return status, printed.getvalue(), report


def _no_trainer(retrain: Retrain) -> Callable[[], bool]:
    """Return a condition: no trainer of the stack runs."""
    return lambda: retrain.trainers() == []


@pytest.fixture(autouse=True)
def _end_what_is_left(retrain: Retrain) -> Iterator[None]:
    """One run at a time: what a test leaves behind would keep the next one waiting."""
    yield

    for run in retrain.stack.api.unfinished_runs(DAG_ID):
        retrain.stack.api.fail_run(DAG_ID, run.run_id)

    assert wait_until(_no_trainer(retrain), 30)


def _live(retrain: Retrain) -> list[Any]:
    """Return the version that readers see and how many rows it has; empty where none is live."""
    query = sa.text("SELECT model_version, count(*) FROM mf.recommendations GROUP BY 1")
    engine = sa.create_engine(retrain.stack.state.warehouse_url, poolclass=sa.NullPool)

    with engine.connect() as connection:
        found = connection.execute(query)
        return list(found.all())


@pytest.fixture(scope="module")
def published(retrain: Retrain, ml100k: Path) -> Outcome:
    """The outcome of one whole demo on MovieLens 100K."""
    conf = {**run_conf(str(ml100k)), "gate.max_rmse": 0.935}
    return _demo(retrain, conf)


def test_demo_publishes_a_list_for_every_user_and_says_so(
    retrain: Retrain, published: Outcome
) -> None:
    status, printed, report = published
    assert status == PUBLISHED, printed
    assert report.keys() >= REPORT_KEYS
    assert report["users"] == 943
    assert report["rows_published"] == 9430
    assert report["verdict"] == "approved"
    assert 0.85 < report["test_rmse"] < 0.935
    assert report["test_rmse"] < report["baseline_rmse"]
    assert report["test_average_error"] == pytest.approx(report["test_rmse"] ** 2 / 2)
    assert report["ndcg"] > report["popularity_ndcg"]
    assert _live(retrain) == [(report["model_version"], 9430)]


def test_every_task_of_a_demo_succeeds_and_is_timed(retrain: Retrain, published: Outcome) -> None:
    report = published[2]
    states = retrain.states(report["run_id"])
    timed = report["seconds"].keys()

    assert set(states.values()) == {"success"}
    assert states.keys() == timed
    assert timed >= {"ingest", "train", "gate", "refit", "recommend", "publish"}


def test_demo_tells_tasks_epochs_list_and_known_rating(
    published: Outcome,
) -> None:
    printed, report = published[1:]
    assert "train: running" in printed
    assert re.search(r"train: rating: sweep \d+/", printed)
    assert "Recommended to user 1:" in printed
    assert len(report["shown_list"]) == 10
    assert report["known_rating"]["user_id"] == "1"
    assert 1 <= report["known_rating"]["predicted"] <= 5


@pytest.mark.usefixtures("published")
def test_refused_gate_exits_5_and_changes_nothing_for_readers(
    retrain: Retrain, ml100k: Path
) -> None:
    before = _live(retrain)
    conf = {**run_conf(str(ml100k)), "gate.max_rmse": 0.5}
    status, printed, report = _demo(retrain, conf)

    assert status == REFUSED, printed
    assert report["verdict"] == "refused"
    assert report["already_ingested"]
    assert any("0.5" in reason for reason in report["reasons"])
    assert _live(retrain) == before


def test_refused_source_fails_with_the_task_and_its_error(retrain: Retrain, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.csv"
    status, printed, _ = _demo(retrain, run_conf(str(nowhere)))

    assert status == FAILED
    assert "Task ingest failed" in printed
    assert "InputError" in printed


@pytest.mark.parametrize("conf", [{"gate.cutoff": 0}, {"rating_head.als.n_factors": "many"}])
def test_trigger_with_a_bad_setting_is_answered_400(retrain: Retrain, conf: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refusal:
        retrain.trigger(conf)

    assert refusal.value.status == 400
    assert next(iter(conf)) in refusal.value.detail


def _trainer_in_full_swing(retrain: Retrain, run_id: str) -> psutil.Process:
    """Return the trainer's process once it has done some iterations."""

    def has_begun() -> bool:
        log = retrain.log(run_id, "train")
        sweeps = re.findall(r"rating: sweep (\d+)/", log)
        return any(int(sweep) >= 10 for sweep in sweeps)

    assert wait_until(has_begun, 90, 0.2), retrain.states(run_id)

    (trainer,) = retrain.trainers()
    return trainer


def test_killed_training_is_tried_again_and_resumes(
    retrain: Retrain, long_training: dict[str, Any]
) -> None:
    run_id = retrain.trigger(long_training)
    trainer = _trainer_in_full_swing(retrain, run_id)
    trainer.kill()
    assert wait_until(lambda: retrain.task(run_id, "train").try_number == 2, 90, 0.5)

    run = retrain.wait_for_end(run_id, 180)
    assert run.state == "success", retrain.states(run_id)
    assert "rating: resuming after iteration" in retrain.log(run_id, "train")
    assert retrain.states(run_id)["publish"] == "skipped"


def _mark_failed(retrain: Retrain, run_id: str) -> None:
    """Mark the training as failed, as the button of Airflow's UI does."""
    path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/train"
    retrain.stack.api.call("PATCH", path, {"new_state": "failed"})


def _clear(retrain: Retrain, run_id: str) -> None:
    """Clear the training, as the button of Airflow's UI does."""
    body = {
        "dry_run": False,
        "dag_run_id": run_id,
        "task_ids": ["train"],
        "only_failed": False,
        "only_running": False,
    }
    retrain.stack.api.call("POST", f"/dags/{DAG_ID}/clearTaskInstances", body)


@pytest.mark.parametrize("action", ["mark failed", "clear"])
def test_training_that_is_taken_away_leaves_no_trainer(
    retrain: Retrain, long_training: dict[str, Any], action: str
) -> None:
    run_id = retrain.trigger({**long_training, "rating_head.als.iterations": 1000})
    trainer = _trainer_in_full_swing(retrain, run_id)
    if action == "clear":
        _clear(retrain, run_id)
    else:
        _mark_failed(retrain, run_id)
    assert wait_until(lambda: not _is_alive(trainer), 30)

    retrain.stack.api.fail_run(DAG_ID, run_id)
    none_is_left = wait_until(_no_trainer(retrain), 30)
    assert none_is_left, [process.cmdline() for process in retrain.trainers()]


def _is_alive(process: psutil.Process) -> bool:
    """Say whether a process still runs."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_killed_task_process_takes_its_trainer_along(
    retrain: Retrain, long_training: dict[str, Any]
) -> None:
    run_id = retrain.trigger({**long_training, "rating_head.als.iterations": 1000})
    trainer = _trainer_in_full_swing(retrain, run_id)
    task_process = trainer.parent()
    task_process.send_signal(signal.SIGKILL)

    assert wait_until(lambda: not _is_alive(trainer), 20)
