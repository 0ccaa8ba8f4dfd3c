"""Nights through the real stack: undisturbed, disturbed in every way that an operator fears."""

import hashlib
import os
import re
import shutil
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg2

from demo.airflow_api import AirflowApi
from mf_core.sources.demo import fetch_ml100k
from tests.compose import standins
from tests.compose.trial import DAG_ID, TASK_SECONDS, Failure, Trial, expect

CHECKPOINTS = "/var/lib/mf/artifacts/checkpoints"
NIGHT_SECONDS = 1200
# A scheduler that is not heard of for so long is taken for dead.
SILENCE_SECONDS = 30
SETTINGS = """
[source]
name = "films"

[sources.films]
uri = "/data/ml-100k/u.data"
"""


def first_night(trial: Trial) -> str:
    """Bring the stack up, with one night on the demo's data and its rows."""
    said = trial.make("compose-up", "DEMO=1")
    expect("Read over TCP as mf_reader" in said and "(10 rows)" in said, "no rows were shown")
    healthy = next(line for line in said.splitlines() if line.startswith("All services"))
    night = next(line for line in said.splitlines() if line.startswith("The night took"))
    return f"{healthy.lower()}; {night.partition('.')[0].lower()}"


def nothing_runs_by_itself(trial: Trial) -> str:
    """Find the nights paused, since no source is named; a rollback needs nobody to unpause it."""
    expect(trial.api().call("GET", f"/dags/{DAG_ID}")["is_paused"], "nights run on demo data")
    rollback = trial.api().call("GET", "/dags/mf_rollback")
    expect(not rollback["is_paused"], "mf_rollback is paused")
    return f"{DAG_ID} is paused while no source is named, mf_rollback is not"


def read_as_reader(trial: Trial) -> str:
    """Read all lists from outside, and find that nothing else is open."""
    trial.rows = digest(trial)
    try:
        trial.read("SELECT * FROM mf.ratings LIMIT 1")
    except psycopg2.errors.InsufficientPrivilege:
        return f"{trial.rows}; mf.ratings is refused"
    raise Failure("mf_reader reads mf.ratings")


def digest(trial: Trial) -> str:
    """Return how many rows all lists have, and a hash of them."""
    query = "SELECT user_id, rank, item_id, predicted_rating FROM mf.recommendations ORDER BY 1, 2"
    rows = trial.read(query)
    expect(len(rows) > 0, "no lists")
    hashed = hashlib.md5(repr(rows).encode(), usedforsecurity=False).hexdigest()
    return f"{len(rows)} rows, md5 {hashed[:12]}"


def name_a_source(trial: Trial) -> str:
    """Name a source: the same ratings, as a file. The same passwords go on, and nights begin."""
    data, settings = trial.clone / "data", trial.clone / "settings"
    cached = Path(os.environ.get("MF_TEST_ML100K") or fetch_ml100k(trial.folder / "cache"))
    shutil.copytree(cached, data / "ml-100k")
    (settings / "mf.toml").write_text(SETTINGS)
    before = (trial.clone / ".env").read_bytes()

    trial.environment["MF_CONFIG"] = "/settings/mf.toml"
    said = trial.make("compose-up")
    expect((trial.clone / ".env").read_bytes() == before, "compose-up changed .env")
    expect(f"{DAG_ID} is unpaused: it runs on films" in said, "the nights did not begin")
    return f"{DAG_ID} is unpaused, on films; .env as it was"


def scale_workers(trial: Trial) -> str:
    """Give queue `default` a second worker, and the host a second worker for training."""
    _scale(trial, workers=2, trainers=2)
    return "2 workers for each queue"


def _scale(trial: Trial, workers: int, trainers: int) -> None:
    numbers = {"worker": workers, "worker-gpu": trainers}
    options = [f"--scale={service}={number}" for service, number in numbers.items()]
    trial.compose("up", "--detach", "--no-build", "--no-recreate", *options)
    for service, number in numbers.items():
        found = len(trial.containers(service))
        expect(found == number, f"{found} containers of {service}")


def one_training_on_the_host(trial: Trial) -> str:
    """Hold the training lock in one training worker and find that the other one has to wait."""
    first, second = trial.containers("worker-gpu")
    opening = "os.open(os.environ['MF_GPU_LOCK'], os.O_RDWR | os.O_CREAT, 0o600)"
    take = f"import fcntl, os, sys; file = {opening}"
    hold = f"{take}; fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    attempt = f"{take}; fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with standins.talk("exec", "--interactive", first, "python", "-c", hold) as holder:
        expect(holder.stdout is not None and holder.stdout.readline() == "held\n", "no lock")
        refused = standins.says("exec", second, "python", "-c", attempt)
    taken = standins.says("exec", second, "python", "-c", attempt)
    expect("BlockingIOError" in refused and taken == "", f"the lock: {refused!r}, then {taken!r}")
    _scale(trial, workers=2, trainers=1)
    return "the lock of one is waited for by the other"


class Heard(threading.Thread):
    """Notes the longest that the scheduler was not heard of, and whether the DAG was lost.

    Attributes:
        looks: how often it has looked.
        error: what has ended it before it was over.
    """

    def __init__(self, api: AirflowApi) -> None:
        super().__init__(daemon=True)
        self.silence = 0.0
        self.lost = False
        self.looks = 0
        self.error: Exception | None = None
        self.over = threading.Event()
        self._api = api

    def run(self) -> None:
        """Look every second until it is over."""
        try:
            while not self.over.wait(1):
                self._look()
        # An exception of a thread is shown to nobody.
        except Exception as error:
            self.error = error

    def _look(self) -> None:
        health = self._api.call("GET", "/monitor/health")
        heard = datetime.fromisoformat(health["scheduler"]["latest_scheduler_heartbeat"])
        self.silence = max(self.silence, (datetime.now(UTC) - heard).total_seconds())
        self.lost |= bool(self._api.call("GET", f"/dags/{DAG_ID}")["is_stale"])
        self.looks += 1

    def hear_out(self) -> str:
        """End it, and say what it has heard. Raises Failure unless all was well all the time."""
        self.over.set()
        self.join()
        expect(
            self.error is None, f"the API server was lost after {self.looks} looks: {self.error!r}"
        )
        expect(self.looks > 0, "nobody looked at the scheduler")
        expect(self.silence < SILENCE_SECONDS, f"the scheduler was silent for {self.silence:.0f} s")
        expect(not self.lost, "the DAG was taken for stale")
        return f"scheduler heard every {self.silence:.0f} s at least, in {self.looks} looks"


def restart_in_train(trial: Trial) -> str:
    """Start a night, and restart the broker and the warehouse while it trains."""
    # It trains for half a minute, so that the next steps find a checkpoint.
    conf = {"run.force": True, "train.checkpoint_seconds": 1}
    trial.run_id = trial.api().trigger(DAG_ID, conf)
    trial.await_task("train", lambda task: task.state == "running")
    heard = Heard(trial.api())
    heard.start()
    for service in ("redis", "warehouse"):
        standins.docker("restart", trial.container(service))
    train = trial.task("train")
    expect(train.state == "running" and train.try_number == 1, f"train is {train.state}")
    _await_checkpoint(trial)
    return f"both restarted, train went on; {heard.hear_out()}"


def _await_checkpoint(trial: Trial) -> None:
    # Ended before its first checkpoint, a training would rightly begin anew.
    look = f"find {CHECKPOINTS} -name manifest.json 2>/dev/null || true"
    deadline = time.monotonic() + TASK_SECONDS
    while not standins.docker("exec", trial.container("worker-gpu"), "sh", "-c", look):
        expect(trial.task("train").state == "running", "train ended without a checkpoint")
        expect(time.monotonic() < deadline, "train wrote no checkpoint")
        time.sleep(0.2)


def kill_gpu_worker(trial: Trial) -> str:
    """Kill the training worker's container from within while it trains; it is tried again."""
    # `docker kill` would count as somebody's wish, and the container would stay down.
    process = standins.docker(
        "inspect", "--format", "{{.State.Pid}}", trial.container("worker-gpu")
    )
    os.kill(int(process), signal.SIGKILL)
    killed = time.monotonic()
    trial.await_task("train", lambda task: task.try_number == 2 and task.state == "running")
    return f"training again after {time.monotonic() - killed:.0f} s"


def stop_gpu_worker(trial: Trial) -> str:
    """Stop the training worker as an update does: the training writes a checkpoint and goes."""
    _await_log(trial, "sweep", 2)
    container = trial.container("worker-gpu")
    started = time.monotonic()
    trial.compose("stop", "worker-gpu")
    seconds = time.monotonic() - started
    expect(seconds < 60, f"the training worker took {seconds:.0f} s to stop")
    code = standins.docker("inspect", "--format", "{{.State.ExitCode}}", container).strip()
    expect(code != "137", "the training worker had to be killed")
    train = trial.task("train")
    expect(train.state == "up_for_retry", f"train is {train.state}")
    trial.compose("start", "worker-gpu")
    return f"gone after {seconds:.0f} s, train waits for its next try"


def _await_log(trial: Trial, mark: str, number: int) -> None:
    deadline = time.monotonic() + TASK_SECONDS
    while mark not in trial.log("train", number):
        expect(time.monotonic() < deadline, f"train does not say {mark!r}")
        time.sleep(0.5)


def disturbed_night_ends(trial: Trial) -> str:
    """Wait for the night's end; its lists are those of the undisturbed one, row for row."""
    trial.await_night(NIGHT_SECONDS)
    again = digest(trial)
    expect(again == trial.rows, f"other lists: {again}, and {trial.rows} without disturbance")
    resumed = []
    for number in (2, 3):
        found = re.search(r"resuming after iteration \d+", trial.log("train", number))
        if found is None:
            raise Failure(f"train began anew at try {number}")
        resumed.append(found[0])
    hosts = {task["hostname"] for task in trial.instances() if task["queue"] == "default"}
    return f"{', then '.join(resumed)}; the same lists; {len(hosts)} workers took the other tasks"
