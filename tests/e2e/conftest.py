"""One real stack for all end-to-end tests.

It is Postgres and Airflow's scheduler, DAG processor and API server.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from demo.airflow_api import RunState, TaskState
from demo.launcher import Stack, temporary_stack
from demo.layout import REPOSITORY, Layout
from demo.processes import wait_until
from demo.run import DAG_ID, run_conf, run_demo
from demo.sources import by_name
from demo.task_logs import log_file
from tests.metrics_servers import Received, statsd_server

# Exit status, what was printed, and the report.
Outcome = tuple[int, str, dict[str, Any]]

_METRICS_ON = """
[metrics]
statsd_on = True
statsd_host = 127.0.0.1
statsd_port = {port}
statsd_influxdb_enabled = True
"""


@dataclass(frozen=True)
class Retrain:
    """What the tests do with the DAG on a running stack.

    Attributes:
        stack: the stack.
        settings_file: the settings file of whoever started it, empty at first.
    """

    stack: Stack
    settings_file: Path

    def trigger(self, conf: dict[str, Any]) -> str:
        """Start a run as the person at the machine does, and return its id."""
        self.stack.api.set_paused(DAG_ID, False)
        return self.stack.api.trigger(DAG_ID, by_name(self.stack.layout, conf))

    def wait_for_end(self, run_id: str, timeout_seconds: float) -> RunState:
        """Return the run's state at its end."""

        def has_ended() -> bool:
            return self.run(run_id).state in ("success", "failed")

        assert wait_until(has_ended, timeout_seconds, 0.5), self.states(run_id)
        return self.run(run_id)

    def run(self, run_id: str) -> RunState:
        """The run as Airflow reports it."""
        return self.stack.api.run(DAG_ID, run_id)

    def task(self, run_id: str, task_id: str) -> TaskState:
        """The latest try of a task that is not mapped."""
        tasks = self.stack.api.tasks(DAG_ID, run_id)
        return next(task for task in tasks if task.task_id == task_id)

    def states(self, run_id: str) -> dict[str, str | None]:
        """State per task."""
        tasks = self.stack.api.tasks(DAG_ID, run_id)
        return {task.task_id: task.state for task in tasks}

    def log(self, run_id: str, task_id: str) -> str:
        """What the latest try of a task has logged so far."""
        folder = self.stack.layout.task_logs
        task = self.task(run_id, task_id)
        file = log_file(folder, DAG_ID, run_id, task)
        return file.read_text() if file.exists() else ""

    def entries(self, run_id: str, task_id: str) -> list[dict[str, Any]]:
        """What the first try of a task has logged, as Airflow's UI gets it; without the folds."""
        path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1?map_index="
        mapped = [task for task in self.stack.api.tasks(DAG_ID, run_id) if task.task_id == task_id]
        content = self.stack.api.call("GET", f"{path}{mapped[0].map_index}")["content"]
        # Airflow's own lines about where the log lies have no level.
        said = [entry for entry in content if "level" in entry]
        return [entry for entry in said if not str(entry["event"]).startswith("::")]

    def trainers(self) -> list[psutil.Process]:
        """The trainer processes of this stack."""
        processes = processes_of(self.stack.layout.var)
        return [process for process in processes if "mf_core.training.process" in _command(process)]


def processes_of(var: Path) -> list[psutil.Process]:
    """Return every process that belongs to the stack in folder `var`."""
    found = []
    for process in psutil.process_iter():
        # A process may end between the question and the answer.
        try:
            about = [*process.cmdline(), *process.environ().values()]
            is_ours = any(str(var) in text for text in about)
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue

    return found


def _command(process: psutil.Process) -> str:
    """Return a process's command line; empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="session")
def statsd() -> Iterator[Received]:
    """A StatsD server that the stack sends its metrics to."""
    with statsd_server() as received:
        yield received


@pytest.fixture(scope="session")
def retrain(tmp_path_factory: pytest.TempPathFactory, statsd: Received) -> Iterator[Retrain]:
    """A stack of the tests' own, and the DAG on it."""
    var = tmp_path_factory.mktemp("stack") / "var"
    layout = Layout(REPOSITORY, var)
    layout.make_folders()
    # The launcher takes no settings of Airflow from its caller, and leaves its settings file alone.
    layout.airflow_home.mkdir(exist_ok=True)
    (layout.airflow_home / "airflow.cfg").write_text(_METRICS_ON.format(port=statsd.port))
    settings_file = var.parent / "settings.toml"
    settings_file.write_text("")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MF_CONFIG", str(settings_file))
        with temporary_stack(layout, _say_nothing, preferred_port=0) as stack:
            stack.api.wait_for_dag(DAG_ID, 60)
            yield Retrain(stack, settings_file)

    assert processes_of(layout.var) == []


def demo(retrain: Retrain, conf: dict[str, Any]) -> Outcome:
    """Run the demo; return its exit status, what it printed, and its report."""
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    status = run_demo(retrain.stack, conf, console)

    report_file = retrain.stack.layout.report_file
    report = json.loads(report_file.read_text()) if report_file.exists() else {}
    return status, printed.getvalue(), report


@pytest.fixture(scope="session")
def published(retrain: Retrain, ml100k: Path) -> Outcome:
    """The outcome of one whole demo on MovieLens 100K."""
    conf = {**run_conf(str(ml100k)), "gate.max_rmse": 0.935}
    return demo(retrain, conf)


@pytest.fixture(scope="session")
def long_training(ml100k: Path) -> dict[str, Any]:
    """Settings of a run that trains long enough to be disturbed, and ends after the verdict."""
    return {
        "source.uri": str(ml100k),
        "run.force": True,
        "run.dry_run": True,
        "rating_head.solver": "als",
        "rating_head.validation_fraction": 0,
        "rating_head.als.iterations": 150,
        # What is disturbed is the fit: no search comes before it.
        "train.settings": "fixed",
        "train.checkpoint_seconds": 0.5,
        # So long a fit makes no better model, and there may be a champion.
        "gate.require_better_than_biases": False,
        "gate.max_rmse_loss": 1.0,
        "gate.max_ndcg_loss": 1.0,
    }


def _say_nothing(what: str) -> None:
    """The tests need no news of the start."""
