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
        self._api, self._dag_id, self._run_id, self._task_logs = api, dag_id, run_id, task_logs
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
            state, seconds = _overall_state(tries), _overall_seconds(tries)
            if seconds is not None:
                self.progress.seconds[task_id] = seconds
            for message in self._new_messages(tries):
                self.progress.messages[task_id] = message
                news.append(f"  {task_id}: {message}")
            if state and state != self.progress.states.get(task_id):
                self.progress.states[task_id] = state
                took = (
                    f" ({seconds:.1f} s)"
                    if seconds is not None and state in ("success", "failed")
                    else ""
                )
                news.append(
                    f"{task_id}: {state.replace('_', ' ')}{took}{self._reason(tries, state)}"
                )
        return news

    def _reason(self, tries: list[TaskState], state: str) -> str:
        if state not in ("failed", "up_for_retry"):
            return ""
        logs = [
            log_file(self._task_logs, self._dag_id, self._run_id, task)
            for task in tries
            if task.state == state
        ]
        errors = [error for log in logs if (error := last_error(log))]
        return f" - {errors[0]}" if errors else ""

    def _new_messages(self, tries: list[TaskState]) -> list[str]:
        messages = []
        for task in tries:
            if task.state in (None, "scheduled", "queued", "skipped", "upstream_failed"):
                continue
            log = log_file(self._task_logs, self._dag_id, self._run_id, task)
            messages += self._readers.setdefault(log, ProgressReader(log)).read()
        return messages


def _overall_state(tries: list[TaskState]) -> str:
    """Return one state for the shards of a mapped task: the one that says most about what is still to come."""
    states = {task.state for task in tries}
    for state in ("failed", "up_for_retry", "running", "queued", "scheduled"):
        if state in states:
            return state
    return next((state for state in states if state), "")


def _overall_seconds(tries: list[TaskState]) -> float | None:
    """Return the seconds from the first shard's start to the last one's end; None while any of them runs."""
    spans = [(task.started, task.ended) for task in tries]
    starts = [datetime.fromisoformat(start) for start, end in spans if start and end]
    ends = [datetime.fromisoformat(end) for start, end in spans if start and end]
    if not spans or len(ends) < len(spans):
        return None
    return (max(ends) - min(starts)).total_seconds()


def _table(progress: Progress) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for task_id in progress.order:
        state = progress.states.get(task_id, "")
        seconds, style, sign = (
            progress.seconds.get(task_id),
            _STYLES.get(state, "dim"),
            _SIGNS.get(state, "·"),
        )
        message = escape(progress.messages.get(task_id, "")) if state == "running" else ""
        duration = f"{seconds:.1f} s" if seconds is not None and state != "running" else ""
        table.add_row(
            *(f"[{style}]{text}[/]" for text in (sign, task_id, state.replace("_", " "))),
            duration,
            message,
        )
    return table
