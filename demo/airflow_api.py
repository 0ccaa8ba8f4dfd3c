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
# A host under load answers late, and what only reads may be asked again.
_TRIES = 3


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

        for part in ("metadatabase", "scheduler", "dag_processor"):
            # A part that Airflow does not run is null.
            status = (health.get(part) or {}).get("status")
            if status != "healthy":
                return False
        return True

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call `/api/v2<path>` and return the decoded answer.

        Raises:
            ApiError: Airflow refused.
            OSError: no answer.
        """
        if self._token is None:
            answer = self._patiently("POST", "/auth/token", self._login, {})
            self._token = answer["access_token"]

        authorization = {"Authorization": f"Bearer {self._token}"}
        ask = self._patiently if method == "GET" else self._request
        return ask(method, f"/api/v2{path}", body, authorization)

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Create the pool, or set its size."""
        body = {
            "name": name,
            "slots": slots,
            "description": description,
            "include_deferred": False,
        }
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
                # Airflow knows no such DAG until it has read the file.
                missing = error.status == HTTPStatus.NOT_FOUND
                if not missing or time.monotonic() > deadline:
                    detail = f"{error.detail} {self._import_errors()}".strip()
                    raise ApiError(error.status, detail) from None
            time.sleep(0.5)

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        """Start a run and return its id."""
        body = {"logical_date": None, "conf": dict(conf)}
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", body)
        return str(run["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> RunState:
        """Return the state of one run."""
        run = self.call("GET", _run_path(dag_id, run_id))
        return _run_state(run)

    def unfinished_runs(self, dag_id: str) -> list[RunState]:
        """Return the runs that are queued or running, oldest first."""
        wanted = "state=queued&state=running&order_by=run_after&limit=100"
        found = self.call("GET", f"/dags/{dag_id}/dagRuns?{wanted}")
        return [_run_state(run) for run in found["dag_runs"]]

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """Mark a run as failed; its running tasks are stopped."""
        self.call("PATCH", _run_path(dag_id, run_id), {"state": "failed"})

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the latest try of every task of a run."""
        found = self.call("GET", f"{_run_path(dag_id, run_id)}/taskInstances?limit=1000")
        return [_task_state(task) for task in found["task_instances"]]

    def task_order(self, dag_id: str) -> list[str]:
        """Return the ids of the DAG's tasks, each after those that it waits for."""
        tasks = self.call("GET", f"/dags/{dag_id}/tasks")["tasks"]
        upstream: dict[str, set[str]] = {task["task_id"]: set() for task in tasks}
        for task in tasks:
            for later in task["downstream_task_ids"]:
                upstream[later].add(task["task_id"])

        ordered: list[str] = []
        while len(ordered) < len(upstream):
            done = set(ordered)
            ready = [task for task, earlier in upstream.items() if earlier <= done]
            ordered += sorted(set(ready) - done)
        return ordered

    def _import_errors(self) -> str:
        found = self.call("GET", "/importErrors?limit=10")
        messages = []
        for error in found["import_errors"]:
            trace = error["stack_trace"].strip()
            messages.append(f"{error['filename']} does not import: {trace}")
        return " ".join(messages)

    def _patiently(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Any:
        """Make a request that changes nothing, again if no answer comes. Raises as `call` does."""
        for _ in range(_TRIES):
            try:
                return self._request(method, path, body, headers)
            except TimeoutError as error:
                silence = error
        raise TimeoutError(
            f"expected an answer to {method} {self._address}{path}, none came in {_TRIES} tries "
            f"of {_TIMEOUT_SECONDS} s: the server is under load, or hangs"
        ) from silence

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
    return RunState(
        run_id=run["dag_run_id"],
        state=run["state"],
        run_type=run["run_type"],
    )


def _task_state(task: Mapping[str, Any]) -> TaskState:
    return TaskState(
        task_id=task["task_id"],
        map_index=task["map_index"],
        try_number=task["try_number"],
        state=task["state"],
        started=task["start_date"],
        ended=task["end_date"],
        seconds=task["duration"],
    )


def _run_path(dag_id: str, run_id: str) -> str:
    """Return a run's path in the API; its id holds colons and plus signs."""
    quoted = urllib.parse.quote(run_id, safe="")
    return f"/dags/{dag_id}/dagRuns/{quoted}"
