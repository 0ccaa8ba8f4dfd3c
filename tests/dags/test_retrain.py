"""What `mf_retrain` is wired to do: order, queues, timeouts, and how runs end."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from mf_core.catalogue import DEFAULT
from mf_core.errors import ConfigError, GateError
from mf_core.records import (
    EvalReport,
    HeadRef,
    IngestReport,
    ModelRef,
    PublishReport,
    QualityReport,
    SplitRef,
    Verdict,
)

Run = Callable[..., dict[str, list[str]]]

SPLIT = SplitRef(7, "s", "d", "file:///s", "0" * 64, 700, 300, 50, 40, 0, 0, 0, news=True)
HEADS = {
    "rating": HeadRef("file:///a", "0" * 64, 3),
    "ranking": HeadRef("file:///b", "0" * 64, 3),
}
MODEL = ModelRef(7, "evaluated", HEADS, "cpu", 1.0)
EVALUATION = EvalReport(7, None, 300, 0.9, 0.7, 0.35, 0.95, 0.4, 0.3, None, None)
PUBLISHED = PublishReport(7, 6, 50, 500, "", 0.9, 0.4)
PLACE = SimpleNamespace(engine=sa.create_engine("postgresql+psycopg2://"))


class FakePipeline(ModuleType):
    """Stands in for `mf_core.pipeline`; remembers the calls."""

    def __init__(self) -> None:
        super().__init__("mf_core.pipeline")
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: dict[str, Any] = {
            "workplace": PLACE,
            "start_run": None,
            "check_settings": None,
            "record_failure": None,
            "ingest": IngestReport(1, "u", "0" * 64, False, 9, 0, 0, 9, 0, 0, 0, 9, 0.1),
            "check": QualityReport(1000, 50, 40, 1.0, 5.0, 3.5, None),
            "split": SPLIT,
            "train": MODEL,
            "evaluate": EVALUATION,
            "gate": Verdict(7, None, True, "fine", None),
            "refit": MODEL,
            "prepare": [0, 1, 2],
            "recommend_shard": 170,
            "verify": 510,
            "publish": PUBLISHED,
            "close_run": None,
            "clean_up_after": None,
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def step(*arguments: Any, **_: Any) -> Any:
            self.calls.append((name, arguments))
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return step


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """The steps, replaced by answers given beforehand."""
    import mf_core

    fake = FakePipeline()
    monkeypatch.setitem(__import__("sys").modules, "mf_core.pipeline", fake)
    monkeypatch.setattr(mf_core, "pipeline", fake, raising=False)
    monkeypatch.setenv("MF_DATABASE_URL", "postgresql+psycopg2://nowhere/warehouse")
    monkeypatch.setenv("MF_ARTIFACT_ROOT", "file:///artifacts")
    return fake


@pytest.fixture(scope="session")
def metadata() -> None:
    """Airflow's own database, empty and migrated."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def run(metadata: None, retrain: Any) -> Run:
    """Run the DAG in this process.

    Returns the states of each task's instances, and the run's under ''.
    """

    def _run(**conf: Any) -> dict[str, list[str]]:
        dag_run = retrain.test(run_conf=conf)
        states: dict[str, list[str]] = {"": [str(dag_run.state)]}
        for instance in sorted(
            dag_run.get_task_instances(), key=lambda instance: instance.map_index
        ):
            states.setdefault(instance.task_id, []).append(str(instance.state))
        return states

    return _run


def test_steps_stand_in_the_documented_order(retrain: Any) -> None:
    order = [
        "start",
        "ingest",
        "check",
        "split",
        "has_news",
        "train",
        "evaluate",
        "gate",
        "is_for_real",
        "refit",
        "prepare",
        "recommend",
    ]
    order += ["verify", "publish", "close"]
    assert [task.task_id for task in retrain.topological_sort()] == order
    for earlier, later in pairwise(order):
        assert earlier in retrain.get_task(later).upstream_task_ids


def test_only_training_takes_the_gpu(retrain: Any) -> None:
    on_gpu = {"train", "refit"}
    assert {task.task_id for task in retrain.tasks if task.queue == "gpu"} == on_gpu
    assert {task.task_id for task in retrain.tasks if task.pool == "gpu"} == on_gpu
    assert {task.pool_slots for task in retrain.tasks} == {1}


def test_every_task_has_a_timeout_retries_and_an_alert(retrain: Any) -> None:
    from mf_dags.alerts import alert_failure, record_failure

    for task in retrain.tasks:
        assert timedelta() < task.execution_timeout < retrain.dagrun_timeout
        assert task.retries > 0, "a killed process raises nothing: the count alone decides"
        assert task.retry_exponential_backoff == 2.0
        assert task.on_failure_callback == [record_failure, alert_failure]
    assert retrain.dagrun_timeout < timedelta(hours=24)


def test_unpausing_starts_no_missed_run(retrain: Any) -> None:
    from airflow.timetables.base import TimeRestriction
    from airflow.timetables.trigger import CronTriggerTimetable as CoreTimetable

    assert retrain.start_date is None
    assert retrain.catchup is False
    assert retrain.max_active_runs == 1
    assert retrain.timetable.expression == "0 2 * * *"
    now = datetime.now(UTC)
    just_missed = now - timedelta(minutes=3)
    cron = f"{just_missed.minute} {just_missed.hour} * * *"
    timetable = CoreTimetable(
        cron, timezone="UTC", run_immediately=retrain.timetable.run_immediately
    )
    first = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False)
    )
    assert first is not None
    assert first.run_after > now


def test_an_approved_candidate_goes_live(run: Run, pipeline: FakePipeline) -> None:
    states = run()
    assert states.pop("") == ["success"]
    assert states.pop("recommend") == ["success"] * 3
    assert set(map(tuple, states.values())) == {("success",)}
    published = next(arguments for name, arguments in pipeline.calls if name == "publish")
    assert published[1:] == (PLACE, SPLIT, EVALUATION)
    assert sorted(
        arguments[3] for name, arguments in pipeline.calls if name == "recommend_shard"
    ) == [0, 1, 2]


def test_training_gets_no_database(run: Run, pipeline: FakePipeline) -> None:
    run()
    for step in ("train", "refit"):
        arguments = next(arguments for name, arguments in pipeline.calls if name == step)
        assert arguments[1:3] == ("file:///artifacts", SPLIT)


def test_a_refused_candidate_fails_the_run_at_the_first_try(
    run: Run, pipeline: FakePipeline
) -> None:
    pipeline.answers["gate"] = GateError("test RMSE 0.941 exceeds the limit 0.900")
    states = run()
    assert states[""] == ["failed"]
    assert states["gate"] == ["failed"]
    assert states["refit"] == states["publish"] == ["upstream_failed"]
    assert states["close"] == ["success"]
    (closed,) = [arguments for name, arguments in pipeline.calls if name == "close_run"]
    assert closed[2] == ["gate"]
    (recorded,) = [arguments for name, arguments in pipeline.calls if name == "record_failure"]
    assert recorded == (PLACE, closed[1], "gate", pipeline.answers["gate"])
    assert [name for name, _ in pipeline.calls].count("gate") == 1
    assert "publish" not in [name for name, _ in pipeline.calls]


def test_nothing_new_skips_the_rest_and_is_green(run: Run, pipeline: FakePipeline) -> None:
    pipeline.answers["split"] = SplitRef(**{**vars(SPLIT), "news": False})
    states = run()
    assert states[""] == ["success"]
    assert states["split"] == ["success"]
    assert states["train"] == states["gate"] == states["publish"] == ["skipped"]


def test_force_trains_although_nothing_is_new(run: Run, pipeline: FakePipeline) -> None:
    pipeline.answers["split"] = SplitRef(**{**vars(SPLIT), "news": False})
    assert run(**{"run.force": True})["publish"] == ["success"]


def test_a_dry_run_stops_after_the_verdict_and_is_green(run: Run, pipeline: FakePipeline) -> None:
    states = run(**{"run.dry_run": True})
    assert states[""] == states["gate"] == ["success"]
    assert states["refit"] == states["recommend"] == states["publish"] == ["skipped"]


def test_dotted_settings_of_the_trigger_reach_the_steps(run: Run, pipeline: FakePipeline) -> None:
    run(**{"gate.max_rmse": 0.93, "rating_head.als.n_factors": 8, "source.delimiter": None})
    config = next(arguments for name, arguments in pipeline.calls if name == "ingest")[0]
    assert (config.gate.max_rmse, config.rating_head.als.n_factors, config.source.delimiter) == (
        0.93,
        8,
        "",
    )


def test_a_misspelt_setting_fails_the_first_task(run: Run, pipeline: FakePipeline) -> None:
    states = run(**{"gate.max_rsme": 0.93})
    assert states["start"] == ["failed"]
    assert states["ingest"] == ["upstream_failed"]
    # The run is on record all the same, from its start to its end.
    done = [name for name, _ in pipeline.calls if name != "workplace"]
    assert done == ["start_run", "record_failure", "close_run"]
    error = next(arguments[3] for name, arguments in pipeline.calls if name == "record_failure")
    assert "there is no setting 'gate.max_rsme'" in str(error)


def test_a_dag_that_was_made_without_its_settings_refuses_every_run(
    run: Run, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Airflow reads the DAG file again before it runs a task.
    monkeypatch.setenv("MF_TRAIN_POD", "/nowhere/pod.yaml")
    states = run(**{"run.dry_run": False})
    assert states["start"] == ["failed"]
    assert states["ingest"] == states["train"] == ["upstream_failed"]
    done = [name for name, _ in pipeline.calls if name != "workplace"]
    assert done == ["start_run", "record_failure", "close_run"]
    (error,) = [arguments[3] for name, arguments in pipeline.calls if name == "record_failure"]
    assert isinstance(error, ConfigError)
    assert "MF_TRAIN_POD=/nowhere/pod.yaml can't be read" in str(error)


def test_a_shard_that_failed_is_named_by_its_task(run: Run, pipeline: FakePipeline) -> None:
    pipeline.answers["recommend_shard"] = ConfigError("no")
    # `dag.test()` leaves the settings of the run before in the DAG.
    states = run(**{"run.dry_run": False})
    assert states["recommend"] == ["failed"] * 3
    (closed,) = [arguments for name, arguments in pipeline.calls if name == "close_run"]
    assert closed[2] == ["recommend"]


@pytest.mark.parametrize("missing", ["MF_DATABASE_URL", "MF_ARTIFACT_ROOT"])
def test_a_missing_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, missing: str, pipeline: FakePipeline
) -> None:
    from mf_dags import runtime
    from mf_dags.sites import Site

    monkeypatch.setattr(runtime, "current_site", lambda: Site(DEFAULT))
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigError, match=missing):
        runtime.place()
