"""Which error is tried again, and what people are told of it: first, with a link, in one line."""

import io
import json
import logging
import socket
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import sqlalchemy.exc

from mf_core import errors
from mf_core.catalogue import DEFAULT

RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "runbook.md"
REFUSALS = [
    errors.ConfigError,
    errors.InputError,
    errors.QualityError,
    errors.GateError,
    errors.PromotionRaceError,
    errors.VerificationError,
    errors.ArtifactError,
]


def _decision(error: BaseException) -> str:
    from mf_dags.retries import RETRY_ARGS

    policy = RETRY_ARGS["retry_policy"]
    return str(policy.evaluate(error, try_number=1, max_tries=4).action.value)


def _left_by(error: BaseException) -> BaseException:
    """Return what leaves a task whose function raises `error`."""
    from mf_dags.failures import told

    def step() -> None:
        raise error

    with pytest.raises(BaseException) as left:
        told(step)()
    return left.value


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_a_refusal_is_not_tried_again(kind: type[Exception]) -> None:
    assert _decision(kind("no")) == "fail"
    assert _decision(_left_by(kind("no"))) == "fail"


@pytest.mark.parametrize(
    "kind",
    [errors.DatabaseError, errors.ArtifactStoreError, errors.RetryableError, ConnectionError],
)
def test_what_may_go_away_by_itself_is_tried_again(kind: type[Exception]) -> None:
    assert _decision(kind("later")) == "retry"
    assert _decision(_left_by(kind("later"))) == "retry"


def test_an_expected_failure_leaves_the_task_as_what_airflow_logs_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = _left_by(errors.InputError("no such file"))
    (record,) = caplog.records

    # Airflow logs `Task exited` and the status for a SystemExit, and nothing of where it came from.
    assert isinstance(left, SystemExit)
    assert left.code == errors.InputError.exit_code
    assert (record.levelno, record.exc_info) == (logging.ERROR, None)
    assert record.getMessage().startswith("step failed (InputError, exit code 3): no such file. ")


def test_what_nobody_expected_is_told_and_keeps_its_class_and_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = _left_by(ZeroDivisionError("a defect"))
    (record,) = caplog.records

    assert isinstance(left, ZeroDivisionError)
    assert left.__traceback__ is not None
    assert "step failed (ZeroDivisionError, exit code 1): a defect." in record.getMessage()
    assert "What to do: read the traceback" in record.getMessage()


@pytest.mark.parametrize(
    ("variables", "link"),
    [
        ({"MF_RUNBOOK_URL": "https://wiki.example.com/mf"}, "https://wiki.example.com/mf#gate"),
        ({"AIRFLOW__API__BASE_URL": "https://air.example.com/a/"},
         "https://air.example.com/a/mf/runbook#gate"),
        ({}, "docs/runbook.md#gate"),
    ],
)  # fmt: skip
def test_the_link_leads_to_the_deployments_runbook_or_to_the_one_that_the_console_serves(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], link: str
) -> None:
    from mf_dags.failures import Failure

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said = Failure.of(errors.GateError("no")).sentence("gate")
    assert said.endswith(f"More: {link}")


def test_where_airflow_has_no_policies_a_refusal_leaves_as_what_it_never_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from mf_dags import retries

    monkeypatch.setattr(retries, "HAS_RETRY_POLICIES", False)
    for refusal in (errors.GateError("no"), ZeroDivisionError("a defect")):
        left = _left_by(refusal)
        assert isinstance(left, AirflowFailException)
        assert retries.cause_of(left) is refusal
    assert isinstance(_left_by(errors.DatabaseError("later")), SystemExit)
    assert isinstance(_left_by(ConnectionError("later")), ConnectionError)


def test_a_task_that_was_told_to_end_is_tried_again() -> None:
    assert _decision(SystemExit(143)) == "retry"


def test_network_errors_outside_the_project_are_tried_again() -> None:
    assert _decision(httpx.ConnectError("api-server")) == "retry"
    assert _decision(sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("gone"))) == "retry"


def test_a_defect_in_the_code_is_not_tried_again() -> None:
    assert _decision(TypeError("a defect")) == "fail"


@pytest.fixture
def context() -> Callable[[BaseException | None], dict[str, Any]]:
    """A failure callback's context."""
    instance = SimpleNamespace(
        dag_id="mf_retrain", run_id="r1", task_id="gate", map_index=-1, try_number=1
    )
    return lambda error: {"task_instance": instance, "exception": error}


def test_alert_says_exit_code_what_to_do_and_where_to_read(
    context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from mf_dags.alerts import alert_failure

    alert_failure(context(errors.GateError("test RMSE 0.941 exceeds the limit 0.900")))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    for part in (
        "mf_retrain.gate of r1 failed",
        "exit code 5",
        "0.941",
        "What to do: read the verdict",
        "docs/runbook.md#gate",
    ):
        assert part in record.getMessage()


def test_alert_of_a_killed_process_needs_no_exception(
    context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from mf_dags.alerts import alert_failure

    alert_failure(context(None))
    assert "(killed, " in caplog.text


def test_an_alert_does_not_repeat_what_the_log_has_told(
    context: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mf_dags import alerts

    sent: list[dict[str, Any]] = []

    def receive(request: Any, timeout: float) -> io.BytesIO:
        sent.append(json.loads(request.data))
        return io.BytesIO()

    monkeypatch.setenv("MF_ALERT_WEBHOOK", "https://hooks.example.com/")
    monkeypatch.setattr("urllib.request.urlopen", receive)
    left = _left_by(errors.GateError("RMSE"))
    caplog.clear()
    alerts.alert_failure(context(left))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert (sent[0]["error"], sent[0]["exit_code"]) == ("GateError", 5)


def test_a_warehouse_that_does_not_answer_hides_no_failure_and_takes_no_time(
    context: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mf_dags.alerts import record_failure
    from mf_dags.sites import Site, register

    register(Site(DEFAULT))
    caplog.set_level(logging.INFO)
    # Takes connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("MF_DATABASE_URL", f"postgresql://mf@127.0.0.1:{port}/warehouse")
        started = time.monotonic()
        run = SimpleNamespace(run_type="manual", triggering_user_name=None)
        record_failure({**context(errors.InputError("no")), "dag_run": run})
    assert time.monotonic() - started < 8
    assert "Not on record from here (DatabaseError)" in caplog.text


def test_a_worker_without_a_warehouse_leaves_the_record_to_close(
    context: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mf_dags.alerts import record_failure

    caplog.set_level(logging.INFO)
    monkeypatch.delenv("MF_DATABASE_URL", raising=False)
    record_failure(context(errors.TrainingError("no GPU")))
    assert "the task close names the step" in caplog.text


def test_every_alert_points_to_a_section_that_exists() -> None:
    from mf_dags.failures import ADVICE, UNEXPECTED

    sections = {
        line.lstrip("# ").lower()
        for line in RUNBOOK.read_text().splitlines()
        if line.startswith("#")
    }
    assert {anchor for _, anchor in [*ADVICE.values(), UNEXPECTED]} <= sections


def test_webhook_gets_json_and_neither_log_nor_json_hold_secrets(
    context: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mf_dags import alerts

    sent: list[dict[str, Any]] = []
    caplog.set_level(logging.INFO)

    def receive(request: Any, timeout: float) -> io.BytesIO:
        sent.append(json.loads(request.data))
        return io.BytesIO()

    monkeypatch.setenv("MF_ALERT_WEBHOOK", "https://hooks.example.com/token-123")
    monkeypatch.setattr("urllib.request.urlopen", receive)
    alerts.alert_failure(
        context(errors.DatabaseError("postgresql://mf:hunter2@db/x does not answer"))
    )
    assert sent[0]["exit_code"] == 10
    assert sent[0]["runbook"] == "docs/runbook.md#database"
    for secret in ("token-123", "hunter2"):
        assert secret not in caplog.text + json.dumps(sent)


def test_a_webhook_that_does_not_answer_is_only_a_warning(
    context: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mf_dags import alerts

    def refuse(request: Any, timeout: float) -> None:
        raise urllib.error.URLError("https://hooks.example.com/token-123")

    monkeypatch.setenv("MF_ALERT_WEBHOOK", "https://hooks.example.com/token-123")
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    alerts.alert_failure(context(errors.InputError("empty")))
    assert caplog.records[-1].levelno == logging.WARNING
    assert "token-123" not in caplog.text


def test_a_run_that_takes_too_long_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    from mf_dags.alerts import alert_timeout

    run = SimpleNamespace(dag_id="mf_retrain", run_id="r1")
    alert_timeout({"dag_run": run, "reason": "task_failure"})
    assert not caplog.records
    alert_timeout({"dag_run": run, "reason": "timed_out"})
    assert "dagrun_timeout" in caplog.text
