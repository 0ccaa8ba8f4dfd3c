"""What every step works on: a clean clone of the working tree, whose stack has names of its own."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2

from demo.airflow_api import AirflowApi, TaskState
from demo.processes import free_port
from tests.compose import standins

REPOSITORY = Path(__file__).resolve().parents[2]
DAG_ID = "mf_retrain"
TASK_SECONDS = 180


class Failure(Exception):
    """A step did not hold: what was expected and what came."""


def expect(holds: bool, message: str) -> None:
    """Raise Failure unless `holds`; unlike assert, whatever Python's options are."""
    if not holds:
        raise Failure(message)


def compose_command() -> list[str]:
    """Return the command of Compose, in the form that is there."""
    plugin = ["docker", "compose"]
    works = subprocess.run([*plugin, "version"], capture_output=True, check=False)
    return plugin if works.returncode == 0 else ["docker-compose"]


class Trial:
    """A clone and its stack.

    Attributes:
        rows: what the lists were after the first night.
        run_id: the run that the steps disturb.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder / "clone"
        self.project = f"mf-compose-test-{os.getpid()}"
        self.airflow_port, self.warehouse_port, self.redis_port = (free_port(0) for _ in range(3))
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.project,
            "AIRFLOW_PORT": str(self.airflow_port),
            "AIRFLOW_BASE_URL": f"http://localhost:{self.airflow_port}",
            "WAREHOUSE_PORT": str(self.warehouse_port),
            "REDIS_PORT": str(self.redis_port),
        }
        self.rows = ""
        self.run_id = ""

    def make(self, *arguments: str, fails: bool = False) -> str:
        """Run make in the clone and return what it printed; it is shown as it comes.

        Args:
            arguments: those of make.
            fails: whether it has to fail.
        """
        command = ["make", *arguments]
        with subprocess.Popen(
            command,
            cwd=self.clone,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            shown = []
            for line in process.stdout:
                print("    " + line, end="", flush=True)
                shown.append(line)
        failed = process.returncode != 0
        expect(failed == fails, f"`{' '.join(command)}` ended with {process.returncode}")
        return "".join(shown)

    def compose(self, *arguments: str, **more: str) -> None:
        """Run a command of Compose in the clone; `more` is its further environment."""
        environment = {**self.environment, **more}
        subprocess.run(
            [*compose_command(), *arguments], cwd=self.clone, env=environment, check=True
        )

    def compose_says(self, *arguments: str, **more: str) -> str:
        """Run a command of Compose in the clone, well or not, and return all that it prints."""
        done = subprocess.run(
            [*compose_command(), *arguments],
            cwd=self.clone,
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout

    def secrets(self) -> dict[str, str]:
        """Return the keys and passwords of the stack."""
        lines = (self.clone / ".env").read_text().splitlines()
        pairs = [line.partition("=") for line in lines if line[:1].isupper()]
        return {name: value for name, _, value in pairs}

    def api(self) -> AirflowApi:
        """Return a session with its Airflow."""
        password = self.secrets()["ADMIN_PASSWORD"]
        return AirflowApi(f"http://127.0.0.1:{self.airflow_port}", "admin", password)

    def containers(self, service: str, project: str = "") -> list[str]:
        """Return the ids of a service's running containers."""
        labels = {"project": project or self.project, "service": service}
        filters = [
            f"--filter=label=com.docker.compose.{key}={value}" for key, value in labels.items()
        ]
        return standins.docker("ps", "--quiet", *filters).split()

    def container(self, service: str) -> str:
        """Return the id of a service's only container."""
        (found,) = self.containers(service)
        return found

    def python(self, service: str, program: str) -> str:
        """Run a program in a service's container, with its secrets, and return what it prints."""
        entry = ["python", "/opt/mf/docker/with_secrets.py", "python", "-"]
        command = ["docker", "exec", "--interactive", self.container(service), *entry]
        done = subprocess.run(command, input=program, capture_output=True, text=True, check=False)
        expect(done.returncode == 0, f"a program in {service} failed: {done.stderr[-2000:]}")
        return done.stdout

    def connect(self, user: str, database: str, **more: Any) -> Any:
        """Connect to the warehouse over its published port. Raises psycopg2.Error."""
        password = self.secrets()[f"{user.upper()}_PASSWORD"]
        given = {"user": user, "dbname": database, "password": password, **more}
        return psycopg2.connect(host="127.0.0.1", port=self.warehouse_port, **given)

    def read(self, query: str, **more: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query over TCP as mf_reader."""
        connection = self.connect("mf_reader", "warehouse", **more)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def task(self, task_id: str) -> TaskState:
        """Return how a task of the run stands."""
        tasks = self.api().tasks(DAG_ID, self.run_id)
        (task,) = [task for task in tasks if task.task_id == task_id]
        return task

    def await_task(self, task_id: str, holds: Callable[[TaskState], bool]) -> TaskState:
        """Wait until `holds` of a task of the run."""
        deadline = time.monotonic() + 2 * TASK_SECONDS
        while not holds(task := self.task(task_id)):
            expect(time.monotonic() < deadline, f"{task_id} is {task.state}, try {task.try_number}")
            time.sleep(0.5)
        return task

    def await_night(self, seconds: float) -> None:
        """Wait for the good end of the run."""
        deadline = time.monotonic() + seconds
        while (state := self.api().run(DAG_ID, self.run_id).state) in {"queued", "running"}:
            expect(time.monotonic() < deadline, f"the night is still {state}")
            time.sleep(2)
        expect(state == "success", f"the night is {state}")

    def instances(self) -> list[dict[str, Any]]:
        """Return the task instances of the run."""
        found: list[dict[str, Any]] = self.api().call("GET", self._run_path())["task_instances"]
        return found

    def log(self, task_id: str, number: int) -> str:
        """Return the log of a try of a task of the run, as the UI shows it."""
        path = f"{self._run_path()}/{task_id}/logs/{number}?full_content=true"
        return str(self.api().call("GET", path))

    def _run_path(self) -> str:
        return f"/dags/{DAG_ID}/dagRuns/{quote(self.run_id, safe='')}/taskInstances"

    def leftovers(self) -> list[str]:
        """Return what Docker still has of the stack, and of the second host's."""
        found = []
        for project in (self.project, self.second_project):
            label = f"--filter=label=com.docker.compose.project={project}"
            for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
                found += standins.docker(*kind, "--quiet", label).split()
        return found

    @property
    def second_project(self) -> str:
        """The name of the stack that stands in for another host's."""
        return f"{self.project}-second"

    @property
    def scratch(self) -> Path:
        """A folder for the files of a step."""
        return Path(tempfile.mkdtemp(dir=self.folder))
