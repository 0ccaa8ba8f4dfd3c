"""A night in the environment that runs this: `python night.py FOLDER`, with the wheel installed.

FOLDER holds `demo/`, which starts Airflow and Postgres, and `dags/`. It prints what it has seen, a
JSON object to a line, and ends with status 1 at the first thing that does not hold.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(FOLDER))

import sqlalchemy as sa  # noqa: E402

from demo.airflow_api import AirflowApi  # noqa: E402
from demo.launcher import Stack, temporary_stack  # noqa: E402
from demo.layout import Layout  # noqa: E402
from demo.processes import wait_until  # noqa: E402
from demo.settings import ADMIN, component_environment, load_secrets  # noqa: E402

DAG_ID = "mf_retrain"
START_SECONDS = 120
NIGHT_SECONDS = 600
PACKAGES = ("mf_core", "mf_dags", "mf_console")
SHOWN = ("python", "apache-airflow", "SQLAlchemy", "pandas", "tensorflow", "mf-retrain")
LISTS = "SELECT count(*), count(DISTINCT user_id), min(model_version) FROM mf.recommendations"


def expect(holds: bool, message: object) -> None:
    """End with status 1 unless `holds`; unlike assert, whatever Python's options are."""
    if not holds:
        sys.exit(f"did not hold: {message}")


@contextmanager
def step(name: str) -> Iterator[list[str]]:
    """Print the step's seconds and what was put into the list that it gives."""
    started = time.monotonic()
    seen: list[str] = []
    yield seen
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"step": name, "seconds": seconds, "seen": ", ".join(seen)}), flush=True)


def look_at_packages() -> list[str]:
    """Return the versions; what runs is what the wheel brought."""
    for name in PACKAGES:
        found = Path(str(__import__(name).__file__))
        expect("site-packages" in found.parts, f"{name} comes from the wheel, not from {found}")
    versions = {"python": sys.version.split()[0]}
    versions |= {name: version(name) for name in SHOWN if name != "python"}
    return [f"{name} {value}" for name, value in versions.items()]


def run_night(api: AirflowApi) -> str:
    """Trigger the DAG, wait for its end, and return what it did."""
    api.set_paused(DAG_ID, False)
    run_id = api.trigger(DAG_ID, {})

    def has_ended() -> bool:
        return api.run(DAG_ID, run_id).state in ("success", "failed")

    ended = wait_until(has_ended, NIGHT_SECONDS, 0.5)
    tasks = api.tasks(DAG_ID, run_id)
    states = {task.task_id: (task.state, task.try_number) for task in tasks}
    expect(ended and set(states.values()) == {("success", 1)}, states)
    return f"{len(tasks)} tasks at the first try"


def lists(stack: Stack) -> str:
    """Return what readers see."""
    engine = sa.create_engine(stack.state.warehouse_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        rows, users, live = connection.execute(sa.text(LISTS)).one()
    expect(rows > 0 and users > 0, f"{rows} rows")
    return f"{rows} rows of {users} users, version {live}"


def refused_run(api: AirflowApi) -> str:
    """Trigger what can't be honoured: it fails at the first try of its first task."""
    run_id = api.trigger(DAG_ID, {"source.uri": "/etc/passwd"})

    def has_ended() -> bool:
        return api.run(DAG_ID, run_id).state in ("success", "failed")

    expect(wait_until(has_ended, NIGHT_SECONDS, 0.5), "the refused run ends")
    states = {task.task_id: (task.state, task.try_number) for task in api.tasks(DAG_ID, run_id)}
    expect(states["start"] == ("failed", 1), states)
    expect(states["close"][0] == "success", states)
    return "start failed at its first try"


def status_of(address: str, token: str | None) -> int:
    """Return the HTTP status of the console's page."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{address}/mf/", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def look_at_console(stack: Stack) -> str:
    """Ask for the console's page with and without a login."""
    login = {"username": ADMIN, "password": load_secrets(stack.layout).passwords[ADMIN]}
    request = urllib.request.Request(
        f"{stack.state.address}/auth/token",
        data=json.dumps(login).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        token = json.loads(answer.read())["access_token"]
    seen = status_of(stack.state.address, None), status_of(stack.state.address, token)
    expect(seen == (401, 200), f"401 without a login and 200 with one, got {seen}")
    return "401 without a login, 200 with one"


def dags_test(stack: Stack) -> str:
    """Run the DAG by `airflow dags test`, in one process, on the stack's databases.

    The DAG is paused for it: the scheduler would take up the run's tasks, too.
    """
    stack.api.set_paused(DAG_ID, True)
    warehouse = stack.state.warehouse_url
    environment = component_environment(
        stack.layout,
        0,
        metadata_url=warehouse.replace("/warehouse", "/airflow").replace("mf_writer", "airflow"),
        warehouse_url=warehouse,
        console_url=warehouse,
        inherited=dict(os.environ),
    )
    # Its listener of Airflow 3.1 prints a traceback where a run ends in one process.
    environment["AIRFLOW__OPENLINEAGE__DISABLED"] = "True"
    command = [sys.executable, "-m", "airflow", "dags", "test", DAG_ID]
    done = subprocess.run(
        command, env=environment, cwd=FOLDER, capture_output=True, text=True, check=False
    )
    said = (done.stdout + done.stderr).splitlines()
    expect(done.returncode == 0, "\n".join(said[-40:]))
    expect("Traceback (most recent call last):" not in said, "\n".join(said[-60:]))
    return f"status {done.returncode}"


def let_airflow_emit_lineage(layout: Layout) -> Path:
    """Set Airflow's OpenLineage provider up, and return the file that its events go to."""
    events = layout.var / "lineage.jsonl"
    transport = json.dumps({"type": "file", "log_file_path": str(events), "append": True})
    settings = layout.airflow_home / "airflow.cfg"
    settings.write_text(f"[openlineage]\ntransport = {transport}\nnamespace = team\n")
    return events


def lineage(events: Path) -> str:
    """Return which data sets the events at the tasks' ends name."""
    named = {}
    for line in events.read_text().splitlines():
        event = json.loads(line)
        if event["eventType"] == "COMPLETE":
            kinds = ("inputs", "outputs")
            named[event["job"]["name"]] = [
                {f"{found['namespace']} {found['name']}" for found in event.get(kind, [])}
                for kind in kinds
            ]
    tables = "postgres://mf_warehouse:5432 warehouse.mf"
    ratings = str(FOLDER / "ratings.csv").lstrip("/")
    wanted = {
        f"{DAG_ID}.ingest": [{f"file:// {ratings}"}, {f"{tables}.ratings"}],
        f"{DAG_ID}.publish": [{f"{tables}.ratings"}, {f"{tables}.recommendations"}],
    }
    for job, sets in wanted.items():
        expect(named.get(job) == sets, f"{job}: expected {sets}, got {named.get(job)}")
    return "ratings.csv -> mf.ratings -> mf.recommendations"


def main() -> None:
    """Run all steps."""
    with step("packages") as seen:
        seen += look_at_packages()
    layout = Layout(FOLDER, FOLDER / "var")
    layout.make_folders()
    events = let_airflow_emit_lineage(layout)
    started = time.monotonic()
    with temporary_stack(layout, lambda what: None, preferred_port=0) as stack:
        stack.api.wait_for_dag(DAG_ID, START_SECONDS)
        with step(f"Airflow up after {time.monotonic() - started:.0f} s; a night") as seen:
            seen.append(run_night(stack.api))
            seen.append(lists(stack))
        with step("OpenLineage's events") as seen:
            seen.append(lineage(events))
        with step("a trigger that is refused") as seen:
            seen.append(refused_run(stack.api))
        with step("the console") as seen:
            seen.append(look_at_console(stack))
        with step("airflow dags test") as seen:
            seen.append(dags_test(stack))
            seen.append(lists(stack))


if __name__ == "__main__":
    main()
