"""Bring the real compose stack up from a clean clone, disturb it, and take it down without a trace.

    make test-compose                                         # Debian, root, Docker, debootstrap
    make test-compose TEST_COMPOSE_ARGS=--keep-images         # the next run builds nothing again

It prints a table: step, seconds, what was seen. It leaves no container, volume, network or image
of its own, and ends with status 1 at the first step that does not hold.
"""

import argparse
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
from rich.console import Console
from rich.table import Table

from demo.airflow_api import AirflowApi, TaskState
from demo.processes import free_port
from mf_core.sources.demo import fetch_ml100k
from tests.compose import standins

REPOSITORY = Path(__file__).resolve().parents[2]
OWN_IMAGES = ("mf-retrain:cpu", f"{standins.ROOT_IMAGE}:latest", *standins.BASES)
DAG_ID = "mf_retrain"
CHECKPOINTS = "/var/lib/mf/artifacts/checkpoints"
NIGHT_SECONDS = 1200
TASK_SECONDS = 180
SETTINGS = """
[source]
name = "films"

[sources.films]
uri = "/data/ml-100k/u.data"
"""


class Failure(Exception):
    """A step did not hold: what was expected and what came."""


def expect(holds: bool, message: str) -> None:
    """Raise Failure unless `holds`; unlike assert, whatever Python's options are."""
    if not holds:
        raise Failure(message)


class Trial:
    """A clean clone of the working tree, whose stack has names and ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "clone"
        self.project = f"mf-compose-test-{os.getpid()}"
        self._ports = (free_port(0), free_port(0))
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.project,
            "AIRFLOW_PORT": str(self._ports[0]),
            "AIRFLOW_BASE_URL": f"http://localhost:{self._ports[0]}",
            "WAREHOUSE_PORT": str(self._ports[1]),
        }
        self.rows = ""
        self.run_id = ""

    def make(self, *arguments: str) -> str:
        """Run make in the clone and return what it printed; it is shown as it comes."""
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
        expect(process.returncode == 0, f"`{' '.join(command)}` ended with {process.returncode}")
        return "".join(shown)

    def secret(self, name: str) -> str:
        """Return a password of the stack."""
        lines = (self.clone / ".env").read_text().splitlines()
        (value,) = [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]
        return value

    def api(self) -> AirflowApi:
        """Return a session with its Airflow."""
        return AirflowApi(
            f"http://127.0.0.1:{self._ports[0]}", "admin", self.secret("ADMIN_PASSWORD")
        )

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's running containers."""
        labels = {"project": self.project, "service": service}
        filters = [
            f"--filter=label=com.docker.compose.{key}={value}" for key, value in labels.items()
        ]
        return standins.docker("ps", "--quiet", *filters).split()

    def read(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query over TCP as mf_reader."""
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self._ports[1],
            user="mf_reader",
            password=self.secret("MF_READER_PASSWORD"),
            dbname="warehouse",
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchall()
        finally:
            connection.close()

    def leftovers(self) -> list[str]:
        """Return what Docker still has of the stack."""
        label = f"--filter=label=com.docker.compose.project={self.project}"
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        found = []
        for kind in kinds:
            found += standins.docker(*kind, "--quiet", label).split()
        return found


def clean_clone(trial: Trial) -> str:
    """Copy what git would commit: no .env, no data, no caches."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, check=True).stdout
    files = [name.decode() for name in names.split(b"\0") if name]
    for name in files:
        source, target = REPOSITORY / name, trial.clone / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return f"{len(files)} files"


def make_standins(trial: Trial) -> str:
    """Make the base images that are not there."""
    made = standins.make_missing()
    return f"made {', '.join(made)}" if made else "all base images were there"


def first_night(trial: Trial) -> str:
    """Bring the stack up, with one night on the demo's data and its rows."""
    said = trial.make("compose-up", "DEMO=1")
    expect("Read over TCP as mf_reader" in said and "(10 rows)" in said, "no rows were shown")
    healthy = next(line for line in said.splitlines() if line.startswith("All services"))
    night = next(line for line in said.splitlines() if line.startswith("The night took"))
    return f"{healthy.lower()}; {night.partition('.')[0].lower()}"


def passwords_are_private(trial: Trial) -> str:
    """Hold the file with the passwords against what it promises."""
    file = trial.clone / ".env"
    mode = stat.S_IMODE(file.stat().st_mode)
    expect(mode == 0o600, f".env has mode {mode:o}")
    values = [
        line.partition("=")[2] for line in file.read_text().splitlines() if line[:1].isupper()
    ]
    expect(len(set(values)) == len(values) > 10 and all(values), "a password is missing or shared")
    return f"mode 600, {len(values)} different values"


def nothing_runs_by_itself(trial: Trial) -> str:
    """Find the nights paused, since no source is named."""
    expect(trial.api().call("GET", f"/dags/{DAG_ID}")["is_paused"], "nights run on demo data")
    return f"{DAG_ID} is paused while no source is named"


def read_as_reader(trial: Trial) -> str:
    """Read all lists from outside, and find that nothing else is open."""
    trial.rows = _digest(trial)
    try:
        trial.read("SELECT * FROM mf.ratings LIMIT 1")
    except psycopg2.errors.InsufficientPrivilege:
        return f"{trial.rows}; mf.ratings is refused"
    raise Failure("mf_reader reads mf.ratings")


def _digest(trial: Trial) -> str:
    query = "SELECT user_id, rank, item_id, predicted_rating FROM mf.recommendations ORDER BY 1, 2"
    rows = trial.read(query)
    expect(len(rows) > 0, "no lists")
    digest = hashlib.md5(repr(rows).encode(), usedforsecurity=False).hexdigest()
    return f"{len(rows)} rows, md5 {digest[:12]}"


def name_a_source(trial: Trial) -> str:
    """Name a source: the same ratings, as a file. The same passwords go on, and nights begin."""
    folder = trial.clone / "data"
    folder.mkdir(exist_ok=True)
    cached = Path(os.environ.get("MF_TEST_ML100K") or fetch_ml100k(folder.parent / "cache"))
    shutil.copytree(cached, folder / "ml-100k")
    (folder / "mf.toml").write_text(SETTINGS)
    before = (trial.clone / ".env").read_bytes()

    trial.environment["MF_CONFIG"] = "/data/mf.toml"
    said = trial.make("compose-up")
    expect((trial.clone / ".env").read_bytes() == before, "compose-up changed .env")
    expect(f"{DAG_ID} is unpaused: it runs on films" in said, "the nights did not begin")
    return f"{DAG_ID} is unpaused, on films; .env as it was"


def scale_workers(trial: Trial) -> str:
    """Give queue `default` a second worker."""
    command = _compose_command()
    options = ["up", "--detach", "--no-build", "--no-recreate", "--scale", "worker=2", "worker"]
    subprocess.run([*command, *options], cwd=trial.clone, env=trial.environment, check=True)
    expect(len(trial.containers("worker")) == 2, "no second worker")
    return "2 workers"


def _compose_command() -> list[str]:
    plugin = ["docker", "compose"]
    works = subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0
    return plugin if works else ["docker-compose"]


def restart_in_train(trial: Trial) -> str:
    """Start a night, and restart the broker and the warehouse while it trains."""
    # It trains for half a minute, so that the next step's kill finds a checkpoint.
    conf = {"run.force": True, "train.checkpoint_seconds": 1}
    trial.run_id = trial.api().trigger(DAG_ID, conf)
    _await(trial, "train", lambda task: task.state == "running")
    for service in ("redis", "warehouse"):
        standins.docker("restart", *trial.containers(service))
    train = _task(trial, "train")
    expect(train.state == "running" and train.try_number == 1, f"train is {train.state}")
    return "both restarted, train went on at try 1"


def kill_gpu_worker(trial: Trial) -> str:
    """Kill the GPU worker's container from within while it trains; the task is tried again."""
    (container,) = trial.containers("worker-gpu")
    # Killed before its first checkpoint, a training would rightly begin anew.
    look = f"find {CHECKPOINTS} -name manifest.json 2>/dev/null || true"
    deadline = time.monotonic() + TASK_SECONDS
    while not standins.docker("exec", container, "sh", "-c", look):
        expect(_task(trial, "train").state == "running", "train ended without a checkpoint")
        expect(time.monotonic() < deadline, "train wrote no checkpoint")
        time.sleep(0.2)
    # `docker kill` would count as somebody's wish, and the container would stay down.
    process = standins.docker("inspect", "--format", "{{.State.Pid}}", container)
    os.kill(int(process), signal.SIGKILL)
    killed = time.monotonic()
    _await(trial, "train", lambda task: task.try_number == 2 and task.state == "running")
    return f"training again after {time.monotonic() - killed:.0f} s"


def disturbed_night_ends(trial: Trial) -> str:
    """Wait for the night's end; its lists are those of the undisturbed one, row for row."""
    deadline = time.monotonic() + NIGHT_SECONDS
    while (state := trial.api().run(DAG_ID, trial.run_id).state) in {"queued", "running"}:
        expect(time.monotonic() < deadline, f"the night is still {state}")
        time.sleep(2)
    expect(state == "success", f"the night is {state}")
    again = _digest(trial)
    expect(again == trial.rows, f"other lists: {again}, and {trial.rows} without disturbance")
    path = f"/dags/{DAG_ID}/dagRuns/{quote(trial.run_id, safe='')}/taskInstances"
    log = str(trial.api().call("GET", f"{path}/train/logs/2?full_content=true"))
    resumed = re.search(r"resuming after iteration \d+", log)
    if resumed is None:
        raise Failure("train began anew at try 2")

    tasks = trial.api().call("GET", path)["task_instances"]
    hosts = {task["hostname"] for task in tasks if task["queue"] == "default"}
    return f"{resumed[0]}; the same lists; {len(hosts)} workers took the other tasks"


def _task(trial: Trial, task_id: str) -> TaskState:
    tasks = trial.api().tasks(DAG_ID, trial.run_id)
    (task,) = [task for task in tasks if task.task_id == task_id]
    return task


def _await(trial: Trial, task_id: str, holds: Callable[[TaskState], bool]) -> None:
    deadline = time.monotonic() + 2 * TASK_SECONDS
    while not holds(task := _task(trial, task_id)):
        expect(time.monotonic() < deadline, f"{task_id} is {task.state}, try {task.try_number}")
        time.sleep(0.5)


def take_down(trial: Trial) -> str:
    """Stop everything and find nothing left."""
    trial.make("compose-down", "VOLUMES=1")
    left = trial.leftovers()
    expect(not left, f"left behind: {', '.join(left)}")
    return "no container, volume or network is left"


STEPS: tuple[Callable[[Trial], str], ...] = (
    clean_clone,
    make_standins,
    first_night,
    passwords_are_private,
    nothing_runs_by_itself,
    read_as_reader,
    name_a_source,
    scale_workers,
    restart_in_train,
    kill_gpu_worker,
    disturbed_night_ends,
    take_down,
)


def run_steps(trial: Trial, table: Table) -> bool:
    """Take the steps in turn and say whether all held."""
    for step in STEPS:
        name = step.__name__.replace("_", " ")
        print(f"== {name}", flush=True)
        started = time.monotonic()
        try:
            seen, holds = step(trial), True
        # Whatever breaks, the table is printed and the stack taken down.
        except Exception as error:
            seen, holds = f"FAILED: {type(error).__name__}: {error}", False
        table.add_row(name, f"{time.monotonic() - started:.1f}", seen)
        if not holds:
            return False
    return True


def clean_up(trial: Trial, before: dict[str, str], dangling: set[str], keep_images: bool) -> None:
    """Remove what a step that failed left, and the images that were not there before."""
    if trial.leftovers() and (trial.clone / "Makefile").exists():
        subprocess.run(
            ["make", "compose-down", "VOLUMES=1"],
            cwd=trial.clone,
            env=trial.environment,
            check=False,
        )
    if keep_images:
        return
    now = standins.images()
    for name in OWN_IMAGES:
        if name in before and now.get(name) != before[name]:
            standins.docker("tag", before[name], name)
        elif name in now and name not in before:
            standins.docker("rmi", "--force", name)
    for image in sorted(_dangling() - dangling):
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)


def _dangling() -> set[str]:
    return set(standins.docker("images", "--quiet", "--filter", "dangling=true").split())


def main() -> int:
    """Run the trial and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.compose", description=__doc__)
    parser.add_argument(
        "--keep-images", action="store_true", help="leave the images for a next run"
    )
    chosen = parser.parse_args()

    table = Table("step", "seconds", "seen")
    before, dangling = standins.images(), _dangling()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mf-compose-") as folder:
        trial = Trial(Path(folder))
        try:
            passed = run_steps(trial, table)
        finally:
            clean_up(trial, before, dangling, chosen.keep_images)
    table.add_row("all", f"{time.monotonic() - started:.1f}", "passed" if passed else "FAILED")
    Console(width=140).print(table)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
