"""The few calls of Airflow's REST API that the launcher makes."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

# A proxy that the environment names is not for a server on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_TIMEOUT_SECONDS = 30


class ApiError(Exception):
    """Airflow answered with an error; `status` is the HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"Airflow answered {status}: {detail}")
        self.status = status
        self.detail = detail


@dataclass(frozen=True)
class TaskState:
    """One try of one task (one shard of a mapped task) as Airflow reports it."""

    task_id: str
    map_index: int
    try_number: int
    state: str | None
    started: str | None
    ended: str | None
    seconds: float | None


@dataclass(frozen=True)
class RunState:
    """A DAG run as Airflow reports it."""

    run_id: str
    state: str
    run_type: str


class AirflowApi:
    """A session with the API server at `address` (http://host:port)."""

    def __init__(self, address: str, username: str, password: str) -> None:
        self._address = address.rstrip("/")
        self._login = {"username": username, "password": password}
        self._token: str | None = None

    def is_healthy(self) -> bool:
        """Say whether database, scheduler and DAG processor are up."""
        try:
            health = self._request("GET", "/api/v2/monitor/health", None, {})
        except (OSError, ApiError):
            return False
        return all(
            (health.get(part) or {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call `/api/v2<path>` and return the decoded answer.

        Raises:
            ApiError: Airflow refused.
            OSError: no answer.
        """
        if self._token is None:
            self._token = self._request("POST", "/auth/token", self._login, {})["access_token"]
        return self._request(
            method, f"/api/v2{path}", body, {"Authorization": f"Bearer {self._token}"}
        )

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Create the pool, or set its size."""
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        try:
            self.call("POST", "/pools", body)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            self.call("PATCH", f"/pools/{name}?update_mask=slots", body)

    def wait_for_dag(self, dag_id: str, timeout_seconds: float) -> None:
        """Wait until Airflow has read the file of `dag_id`.

        Raises:
            ApiError: the file did not import, or was not there, in that time.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                self.call("GET", f"/dags/{dag_id}/details")
                return
            except ApiError as error:
                if error.status != HTTPStatus.NOT_FOUND or time.monotonic() > deadline:
                    raise ApiError(
                        error.status, f"{error.detail} {self._import_errors()}".strip()
                    ) from None
            time.sleep(0.5)

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        """Start a run and return its id."""
        return str(
            self.call(
                "POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": dict(conf)}
            )["dag_run_id"]
        )

    def run(self, dag_id: str, run_id: str) -> RunState:
        """Return the state of one run."""
        return _run_state(self.call("GET", f"/dags/{dag_id}/dagRuns/{_quote(run_id)}"))

    def unfinished_runs(self, dag_id: str) -> list[RunState]:
        """Return the runs that are queued or running, oldest first."""
        found = self.call(
            "GET", f"/dags/{dag_id}/dagRuns?state=queued&state=running&order_by=run_after&limit=100"
        )
        return [_run_state(run) for run in found["dag_runs"]]

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """Mark a run as failed; its running tasks are stopped."""
        self.call("PATCH", f"/dags/{dag_id}/dagRuns/{_quote(run_id)}", {"state": "failed"})

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the latest try of every task of a run."""
        found = self.call(
            "GET", f"/dags/{dag_id}/dagRuns/{_quote(run_id)}/taskInstances?limit=1000"
        )
        return [
            TaskState(
                task["task_id"],
                task["map_index"],
                task["try_number"],
                task["state"],
                task["start_date"],
                task["end_date"],
                task["duration"],
            )
            for task in found["task_instances"]
        ]

    def task_order(self, dag_id: str) -> list[str]:
        """Return the ids of the DAG's tasks, each after those that it waits for."""
        waiting = {
            task["task_id"]: task["downstream_task_ids"]
            for task in self.call("GET", f"/dags/{dag_id}/tasks")["tasks"]
        }
        upstream: dict[str, set[str]] = {task: set() for task in waiting}
        for task, downstream in waiting.items():
            for later in downstream:
                upstream[later].add(task)
        ordered: list[str] = []
        while len(ordered) < len(waiting):
            ordered += sorted(
                task for task in waiting if task not in ordered and upstream[task] <= set(ordered)
            )
        return ordered

    def _import_errors(self) -> str:
        found = self.call("GET", "/importErrors?limit=10")["import_errors"]
        return " ".join(
            f"{error['filename']} does not import: {error['stack_trace'].strip()}"
            for error in found
        )

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._address + path,
            data=data,
            method=method,
            headers={"Content-Type": "application/json", **headers},
        )
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, _detail(error)) from None


def _detail(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        return text[:2000]
    return detail if isinstance(detail, str) else json.dumps(detail)


def _run_state(run: Mapping[str, Any]) -> RunState:
    return RunState(run["dag_run_id"], run["state"], run["run_type"])


def _quote(run_id: str) -> str:
    return urllib.parse.quote(run_id, safe="")
