"""Reading the logs that Airflow's tasks write: one JSON object a line, in a file per try."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.airflow_api import TaskState
from demo.processes import tail
from mf_core.records import Progress

_NOISE = ("::group::", "::endgroup::")


def log_file(task_logs: Path, dag_id: str, run_id: str, task: TaskState) -> Path:
    """Return the file that the latest try of `task` logs to."""
    folder = task_logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task.task_id}"
    if task.map_index >= 0:
        folder /= f"map_index={task.map_index}"
    return folder / f"attempt={max(task.try_number, 1)}.log"


def last_lines(log: Path, lines: int = 20) -> list[str]:
    """Return the end of a task's log for people to read: times, messages and the error."""
    entries = [_decode(line) for line in tail(log, 2 * lines)]
    readable = [line for entry in entries for line in _readable(entry)]
    return readable[-lines:]


def last_error(log: Path) -> str:
    """Return the error that a try ended with, in one line; empty if its process just died.

    That is the first line of its level: what a task fails with is told before anything else.
    """
    entries = [_decode(line) for line in tail(log, 20)]
    errors = [str(entry.get("event", "")) for entry in entries if entry.get("level") == "error"]
    return errors[0] if errors else ""


@dataclass
class ProgressReader:
    """Follows one log file and yields what the training in it says of its progress."""

    log: Path
    _offset: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def read(self) -> list[str]:
        """Return the progress messages that were written since the last call."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        entries = [_decode(line.decode(errors="replace")) for line in lines]
        # The task logs it as data; see `mf_dags.runtime.show_progress`.
        reports = [entry["progress"] for entry in entries if "progress" in entry]
        return [Progress(**report).sentence() for report in reports]


def _decode(line: str) -> dict[str, Any]:
    try:
        decoded = json.loads(line)
    except ValueError:
        return {"event": line}
    return decoded if isinstance(decoded, dict) else {"event": line}


def _readable(entry: dict[str, Any]) -> list[str]:
    event = str(entry.get("event", ""))
    if event.startswith(_NOISE):
        return []
    return [f"{str(entry.get('timestamp', ''))[11:19]} {event}".strip(), *_errors(entry)]


def _errors(entry: dict[str, Any]) -> list[str]:
    return [
        f"{error.get('exc_type', 'error')}: {error.get('exc_value', '')}"
        for error in entry.get("error_detail") or []
    ]
