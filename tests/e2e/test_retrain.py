"""The real DAG through the real scheduler, on real ratings."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from demo.airflow_api import ApiError
from demo.processes import wait_until
from demo.run import DAG_ID, FAILED, PUBLISHED, REFUSED, run_conf

from .conftest import Outcome, Retrain, demo

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


SENTENCES = {
    "start": r"start: run .* is on record, and its settings can be honoured",
    "ingest": r"ingest: 100,000 rows of .*, 0 bad, 0 duplicate, 100,000 new, .* 100,000 ratings",
    "check": r"check: fit to train on: 100,000 ratings of 943 users on 1,682 items",
    "split": r"split: version 1 is trained on [67]\d,\d{3} ratings and tested on [23]\d,\d{3}",
    "has_news": r"has_news: the run goes on",
    "train": r"train: version 1 is fitted in \d+ s on .*: rating \(\d+ .*\) and ranking \(\d+ ",
    "evaluate": r"evaluate: version 1 has test RMSE 0\.\d{4} \(biases only 0\.\d{4}\)",
    "gate": r"gate: version 1 is approved, all \d+ rules hold.*; test RMSE 0\.\d{4}",
    "is_for_real": r"is_for_real: the run goes on",
    "refit": r"refit: version 1 is fitted in \d+ s on .*: rating \(\d+ .*\) and ranking \(\d+ ",
    "prepare": r"prepare: version 1 has its empty table, to be filled in 2 shards",
    "recommend": r"recommend: shard 0 has [\d,]+ rows for [\d,]+ users",
    "verify": r"verify: the [\d,]+ rows of version 1 hold every rule",
    "publish": r"publish: version 1 is live: lists of 943 users, [\d,]+ rows, test RMSE 0\.\d{4}",
    "close": r"close: run .* ended: published",
}


def test_each_task_logs_one_sentence_of_its_result_and_nothing_by_print(
    retrain: Retrain, published: Outcome
) -> None:
    run_id = published[2]["run_id"]
    assert retrain.states(run_id).keys() == SENTENCES.keys()
    for task_id, sentence in SENTENCES.items():
        entries = retrain.entries(run_id, task_id)
        said = [entry for entry in entries if re.match(sentence, str(entry["event"]))]
        assert [entry["level"] for entry in said] == ["info"], task_id
        # Printed lines come late, and sort below `Done`.
        printed = [entry for entry in entries if str(entry.get("logger")) == "task.stdout"]
        assert printed == [], task_id
        events = [str(entry["event"]) for entry in entries]
        done = next(at for at, event in enumerate(events) if event.startswith("Done. "))
        assert events.index(str(said[0]["event"])) < done, task_id


def _newest_run(retrain: Retrain) -> str:
    """Return the run that was triggered last."""
    runs = retrain.stack.api.call("GET", f"/dags/{DAG_ID}/dagRuns?order_by=-id&limit=1")
    return str(runs["dag_runs"][0]["dag_run_id"])


def _on_record(retrain: Retrain, run_id: str) -> dict[str, Any]:
    """Return the run's row of `mf.runs`."""
    query = sa.text("SELECT outcome, step, message FROM mf.runs WHERE run_key = :run_id")
    engine = sa.create_engine(retrain.stack.state.warehouse_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return dict(connection.execute(query, {"run_id": run_id}).mappings().one())


def _tells_first(retrain: Retrain, run_id: str, task_id: str, said: str, section: str) -> None:
    """Make sure that a red task's log says first what happened, what to do and where to read."""
    entries = retrain.entries(run_id, task_id)
    (first, *_) = [entry for entry in entries if entry["level"] == "error"]
    assert re.match(said, str(first["event"])), first
    assert " What to do: " in str(first["event"])
    address = retrain.stack.state.address
    assert str(first["event"]).endswith(f" More: {address}/mf/runbook#{section}")
    # Neither Airflow nor the project shows where in the code a refusal came from.
    assert [entry for entry in entries if entry.get("error_detail")] == []
    assert "Traceback" not in json.dumps(entries)


@pytest.mark.usefixtures("published")
def test_refused_gate_exits_5_and_changes_nothing_for_readers(
    retrain: Retrain, ml100k: Path
) -> None:
    before = _live(retrain)
    conf = {**run_conf(str(ml100k)), "gate.max_rmse": 0.5}
    status, printed, report = demo(retrain, conf)

    assert status == REFUSED, printed
    assert report["verdict"] == "refused"
    assert report["already_ingested"]
    assert any("0.5" in reason for reason in report["reasons"])
    assert _live(retrain) == before

    said = r"gate failed \(GateError, exit code 5\): model version 2 is refused: .*0\.5"
    _tells_first(retrain, report["run_id"], "gate", said, "gate")
    recorded = _on_record(retrain, report["run_id"])
    assert (recorded["outcome"], recorded["step"]) == ("refused", "gate")


def test_refused_source_fails_with_the_task_and_its_error(retrain: Retrain, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.csv"
    status, printed, _ = demo(retrain, run_conf(str(nowhere)))

    assert status == FAILED
    assert "Task ingest failed" in printed
    assert "InputError" in printed

    run_id = _newest_run(retrain)
    said = r"ingest failed \(InputError, exit code 3\): .*nowhere\.csv"
    _tells_first(retrain, run_id, "ingest", said, "ingest")
    recorded = _on_record(retrain, run_id)
    assert (recorded["outcome"], recorded["step"]) == ("failed", "ingest")
    assert "nowhere.csv" in recorded["message"]


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        (
            {"rating_head.als.n_factors": "9999"},
            "rating_head.als.n_factors: expected integer from 1 to 512, got '9999'",
        ),
        (
            {"rating_head.bayes.burn_in": 100},
            "rating_head.bayes.burn_in 100 is more than half of rating_head.bayes.sweeps 100",
        ),
        ({"gate.max_rsme": 0.9}, "there is no setting 'gate.max_rsme'"),
        ({"split.protocol": "given"}, "split.protocol is given, but nothing says which ratings"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cant_be_honoured_is_refused_by_the_first_task_before_any_work(
    retrain: Retrain, conf: dict[str, Any], said: str
) -> None:
    run_id = retrain.trigger(conf)
    assert retrain.wait_for_end(run_id, 60).state == "failed"

    states = retrain.states(run_id)
    assert {states.pop("start"), states.pop("close")} == {"failed", "success"}
    assert set(states.values()) == {"upstream_failed"}
    words = rf"start failed \(ConfigError, exit code 2\): {re.escape(said)}"
    _tells_first(retrain, run_id, "start", words, "start")
    recorded = _on_record(retrain, run_id)
    assert (recorded["outcome"], recorded["step"]) == ("failed", "start")
    assert said in recorded["message"]


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
