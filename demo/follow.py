"""Following a DAG run: task by task, and the training's progress within its task."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from demo.airflow_api import AirflowApi, RunState, TaskState
from demo.task_logs import ProgressReader, last_error, log_file

_POLL_SECONDS = 0.5
_FINISHED = ("success", "failed")
_STYLES = {
    "success": "green",
    "running": "cyan",
    "failed": "red",
    "upstream_failed": "red",
    "up_for_retry": "yellow",
}
_SIGNS = {
    "success": "✓",
    "running": "▶",
    "failed": "✗",
    "upstream_failed": "✗",
    "up_for_retry": "↻",
    "skipped": "-",
}


@dataclass
class Progress:
    """What is known of a run so far, per task."""

    order: list[str]
    states: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)


class RunFollower:
    """Polls one run and tells the display what changed."""

    def __init__(self, api: AirflowApi, dag_id: str, run_id: str, task_logs: Path) -> None:
        self._api = api
        self._dag_id = dag_id
        self._run_id = run_id
        self._task_logs = task_logs
        self._readers: dict[Path, ProgressReader] = {}
        self.progress = Progress(api.task_order(dag_id))

    def follow(self, console: Console, check: Callable[[], None]) -> RunState:
        """Show the run until it has finished and return its last state.

        `check` is called at every poll and raises if there is nothing left to follow.
        """
        live = Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()
        with live as display:
            while True:
                check()
                run = self._api.run(self._dag_id, self._run_id)
                news = self._poll()
                if isinstance(display, Live):
                    display.update(_table(self.progress), refresh=True)
                else:
                    for line in news:
                        console.print(line, highlight=False, markup=False, soft_wrap=True)
                if run.state in _FINISHED:
                    return run
                time.sleep(_POLL_SECONDS)

    def _poll(self) -> list[str]:
        tasks = self._api.tasks(self._dag_id, self._run_id)
        news = []
        for task_id in self.progress.order:
            tries = [task for task in tasks if task.task_id == task_id]
            for message in self._new_messages(tries):
                self.progress.messages[task_id] = message
                news.append(f"  {task_id}: {message}")
            news += self._new_state(task_id, tries)
        return news

    def _new_state(self, task_id: str, tries: list[TaskState]) -> list[str]:
        """Return a line on the task's state if that is another one than at the last poll."""
        seconds = _overall_seconds(tries)
        if seconds is not None:
            self.progress.seconds[task_id] = seconds

        state = _overall_state(tries)
        if not state or state == self.progress.states.get(task_id):
            return []
        self.progress.states[task_id] = state

        took = ""
        if seconds is not None and state in _FINISHED:
            took = f" ({seconds:.1f} s)"
        words = state.replace("_", " ")
        return [f"{task_id}: {words}{took}{self._reason(tries, state)}"]

    def _reason(self, tries: list[TaskState], state: str) -> str:
        if state not in ("failed", "up_for_retry"):
            return ""

        # The shards of a mapped task fail for the same reason as a rule: the first error is enough.
        for task in tries:
            if task.state != state:
                continue
            log = log_file(self._task_logs, self._dag_id, self._run_id, task)
            error = last_error(log)
            if error:
                return f" - {error}"
        return ""

    def _new_messages(self, tries: list[TaskState]) -> list[str]:
        messages = []
        for task in tries:
            if task.state in (None, "scheduled", "queued", "skipped", "upstream_failed"):
                continue
            log = log_file(self._task_logs, self._dag_id, self._run_id, task)
            messages += self._readers.setdefault(log, ProgressReader(log)).read()
        return messages


def _overall_state(tries: list[TaskState]) -> str:
    """Return one state for the shards of a mapped task.

    It is the one that says most about what is still to come; empty before Airflow has set any.
    """
    states = {task.state for task in tries if task.state}
    for state in ("failed", "up_for_retry", "running", "queued", "scheduled"):
        if state in states:
            return state
    return next(iter(states), "")


def _overall_seconds(tries: list[TaskState]) -> float | None:
    """Return the seconds from the first shard's start to the last one's end.

    None while any of them runs.
    """
    starts = []
    ends = []
    for task in tries:
        if not (task.started and task.ended):
            return None
        starts.append(datetime.fromisoformat(task.started))
        ends.append(datetime.fromisoformat(task.ended))

    if not tries:
        return None
    return (max(ends) - min(starts)).total_seconds()


def _table(progress: Progress) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for task_id in progress.order:
        state = progress.states.get(task_id, "")
        style = _STYLES.get(state, "dim")
        sign = _SIGNS.get(state, "·")
        words = state.replace("_", " ")

        # A running task shows its last message; the seconds of a try before it would mislead.
        seconds = progress.seconds.get(task_id)
        duration = ""
        message = ""
        if state == "running":
            message = escape(progress.messages.get(task_id, ""))
        elif seconds is not None:
            duration = f"{seconds:.1f} s"

        table.add_row(
            f"[{style}]{sign}[/]",
            f"[{style}]{task_id}[/]",
            f"[{style}]{words}[/]",
            duration,
            message,
        )
    return table
