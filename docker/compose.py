"""The compose stack from one command: keys and passwords, one build, a wait until all is well.

    python3 docker/compose.py up [--demo]
    python3 docker/compose.py files             # .env and secrets/ alone, to go on by hand
    python3 docker/compose.py down [--volumes]

It needs Python's standard library, Docker, and Compose (`docker compose` or `docker-compose`). What
else compose shall read, such as the GPU override, is named by COMPOSE_FILE, here or in `.env`.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Run as a script, it finds only the modules beside it.
sys.path.insert(0, str(ROOT))

from compose_command import Compose, StackError, find_compose, output, project_name  # noqa: E402
from demo.airflow_api import AirflowApi, ApiError  # noqa: E402
from secret_files import has_older  # noqa: E402
from stack_files import SECRETS, make_files  # noqa: E402

DAG_ID = "mf_retrain"
DEMO_SOURCE = "ml-100k"
# It prepares what the others need, and ends.
ONE_SHOT = "init"
HEALTHY_SECONDS = 600
DAG_SECONDS = 180
NIGHT_SECONDS = 3600
POLL_SECONDS = 2
# A task in another state goes on, or is tried again.
ENDED = {"success", "failed", "skipped", "upstream_failed"}
# A service that has been started so often dies each time, and waiting longer is no use.
RESTARTS = 4
ROWS = """
SELECT user_id, rank, item_id, round(predicted_rating::numeric, 2) AS predicted, model_version
FROM mf.recommendations WHERE rank <= 5 ORDER BY user_id, rank LIMIT 10;
"""
# The password comes in by standard input: the command line is for everybody to read. The name of
# the service is its address in the network; the loopback would ask for no password.
READ_ROWS = (
    "read -r PGPASSWORD; export PGPASSWORD; "
    "exec psql --no-psqlrc --host warehouse --username mf_reader --dbname warehouse"
)


def trouble(container: Mapping[str, Any] | None) -> str:
    """Say in a few words why a service is not well; empty: it is."""
    if container is None:
        return "has no container"
    state = container["State"]
    if state["Status"] != "running":
        return f"is {state['Status']} (exit code {state['ExitCode']})"
    health = state.get("Health", {}).get("Status", "healthy")
    return "" if health == "healthy" else f"is {health}"


def wait_until_healthy(compose: Compose) -> float:
    """Wait until all services but the one that prepares are well; return the seconds it took.

    Raises:
        StackError: one keeps dying, or is not well in time; with the end of its log.
    """
    services = [service for service in compose.services() if service != ONE_SHOT]
    started = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        containers = {service: compose.container(service) for service in services}
        ill = {service: why for service in services if (why := trouble(containers[service]))}
        if not ill:
            return time.monotonic() - started
        if set(ill) != set(shown):
            print("Waiting for " + ", ".join(f"{name} ({why})" for name, why in ill.items()))
        shown = ill

        hopeless = [
            name for name in ill if (containers[name] or {}).get("RestartCount", 0) >= RESTARTS
        ]
        if hopeless or time.monotonic() - started > HEALTHY_SECONDS:
            raise StackError(_obituary(compose, {name: ill[name] for name in hopeless or ill}))
        time.sleep(POLL_SECONDS)


def _obituary(compose: Compose, ill: Mapping[str, str]) -> str:
    """Say of each service that is not well what it is, and how its log ends."""
    parts = ["expected that every service becomes healthy. What is not, and how its log ends:"]
    for service, why in ill.items():
        parts.append(f"\n{service} {why}\n{compose.last_lines(service)}")
    parts.append("\nMend it and run `make compose-up` again; what runs goes on running.")
    return "\n".join(parts)


@dataclass(frozen=True)
class Addresses:
    """Where the stack answers on this host."""

    airflow: str
    warehouse: str


def addresses(values: Mapping[str, str]) -> Addresses:
    """Return the addresses that the settings of the stack give it."""

    def reachable(name: str) -> str:
        # Bound to every address, it answers on the loopback too.
        host = values.get(name) or "127.0.0.1"
        return "127.0.0.1" if host in {"0.0.0.0", "::"} else host

    return Addresses(
        airflow=f"http://{reachable('AIRFLOW_BIND')}:{values.get('AIRFLOW_PORT') or 8080}",
        warehouse=f"{reachable('WAREHOUSE_BIND')}:{values.get('WAREHOUSE_PORT') or 5433}",
    )


def wait_for_source(compose: Compose, api: AirflowApi) -> str:
    """Wait until Airflow has read the DAG; return the source of its nights, empty if none is named.

    Raises:
        StackError: the file does not import any more.
        ApiError: it never did.
    """
    api.wait_for_dag(DAG_ID, DAG_SECONDS)
    # What Airflow kept of the DAG may be older than the settings that this start brought.
    processor = compose.container("dag-processor")
    started = datetime.fromisoformat(processor["State"]["StartedAt"]) if processor else None
    deadline = time.monotonic() + DAG_SECONDS
    while True:
        details = api.call("GET", f"/dags/{DAG_ID}/details")
        if started is None or datetime.fromisoformat(details["last_parsed_time"]) > started:
            break
        if time.monotonic() > deadline:
            errors = api.call("GET", "/importErrors?limit=10")["import_errors"]
            said = "\n".join(error["stack_trace"].strip() for error in errors)
            raise StackError(f"expected that Airflow reads {DAG_ID} anew, it did not.\n{said}")
        time.sleep(POLL_SECONDS)

    params = details["params"]
    name, uri = params["source.name"]["value"], params["source.uri"]["value"]
    return str(name or ("" if uri == DEMO_SOURCE else uri))


def start_nights(api: AirflowApi, source: str, schedule: str) -> str:
    """Unpause the DAG if its source is named, and say what it will do and why.

    Airflow creates it paused. Somebody who paused it after a night had a reason.
    """
    if not source:
        api.set_paused(DAG_ID, True)
        return (
            f"{DAG_ID} is paused: no source is named, and no night shall run on the demo's data "
            "by itself.\nName one in a settings file (README, 'Your own ratings'), put it into the "
            "folder MF_SETTINGS_FOLDER,\nset MF_CONFIG=/settings/mf.toml in .env, and run "
            "`make compose-up` again. `make compose-up DEMO=1` runs one night on MovieLens 100K."
        )

    paused = api.call("GET", f"/dags/{DAG_ID}")["is_paused"]
    if paused and _has_run_nights(api):
        return f"{DAG_ID} is paused, as somebody left it: unpause it in Airflow"
    api.set_paused(DAG_ID, False)
    return f"{DAG_ID} is unpaused: it runs on {source} at `{schedule}` (cron, UTC)"


def _has_run_nights(api: AirflowApi) -> bool:
    runs = api.call("GET", f"/dags/{DAG_ID}/dagRuns?limit=100&order_by=-run_after")["dag_runs"]
    return any((run["conf"] or {}).get("source.uri") != DEMO_SOURCE for run in runs)


def run_demo(api: AirflowApi) -> float:
    """Run one night on MovieLens 100K; return its seconds.

    Raises:
        StackError: it failed, or did not end in time.
    """
    # A paused DAG queues a run and never starts it.
    api.set_paused(DAG_ID, False)
    started = time.monotonic()
    conf = {"source.name": "", "source.uri": DEMO_SOURCE, "run.force": True}
    run_id = api.trigger(DAG_ID, conf)
    print(f"One night on MovieLens 100K, run {run_id}:")
    try:
        state = _follow(api, run_id, started)
    finally:
        api.set_paused(DAG_ID, True)

    if state != "success":
        failed = [t.task_id for t in api.tasks(DAG_ID, run_id) if t.state == "failed"]
        raise StackError(
            f"expected a night that succeeds, it is {state}; red: {', '.join(failed) or 'none'}. "
            "The first ERROR line of a red task's log in Airflow says what to do."
        )
    return time.monotonic() - started


def _follow(api: AirflowApi, run_id: str, started: float) -> str:
    """Print each task as it ends, and return the state of the run at its end."""
    ended: set[tuple[str, int]] = set()
    while True:
        state = api.run(DAG_ID, run_id).state
        for task in api.tasks(DAG_ID, run_id):
            key = (task.task_id, task.map_index)
            if task.state in ENDED and key not in ended:
                ended.add(key)
                tries = f" at try {task.try_number}" if task.try_number > 1 else ""
                print(f"  {task.task_id:<12} {task.state}{tries} {task.seconds or 0:7.1f} s")
        if state in {"success", "failed"} or time.monotonic() - started > NIGHT_SECONDS:
            return state
        time.sleep(POLL_SECONDS)


def image_labels(values: Mapping[str, str]) -> dict[str, str]:
    """Return what a build writes on the images: which version they are of."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "mf_core" / "__init__.py").read_text())
    found = {
        "MF_VERSION": version[1] if version else "unknown",
        "MF_REVISION": _revision(),
    }
    return {name: values.get(name) or value for name, value in found.items()}


def _revision() -> str:
    """Return the commit that the images are built from, where git knows it."""
    try:
        return output(["git", "rev-parse", "HEAD"], os.environ).strip()
    except (StackError, OSError):
        return "unknown"


def up(demo: bool) -> None:
    """Bring the stack up, and say where it is and what it will do. Raises StackError."""
    find_compose()
    values = make_files()
    Compose({**os.environ, **image_labels(values)}).run("build")
    # Without the labels, which only a build needs: a container is made anew where one of the
    # variables that its service names has changed, and by hand nobody sets these.
    compose = Compose(os.environ)
    if _training_network() not in {"", values.get("TRAINING_IS_SHUT") or "true"}:
        print("The network of the training worker changes, so all services are stopped first")
        compose.run("down", "--remove-orphans")
    _stop_with_old_secrets(compose, values)
    try:
        compose.run("up", "--detach", "--no-build", "--remove-orphans")
    except StackError as error:
        one_shot = compose.container(ONE_SHOT)
        if one_shot is not None and one_shot["State"]["ExitCode"]:
            raise StackError(_obituary(compose, {ONE_SHOT: trouble(one_shot)})) from error
        raise
    print(f"All services are healthy after {wait_until_healthy(compose):.0f} s")

    where = addresses(values)
    api = AirflowApi(where.airflow, "admin", values["ADMIN_PASSWORD"])
    source = wait_for_source(compose, api)
    if demo:
        _demo(compose, api, source, values)
    print(_welcome(where, values))
    print(start_nights(api, source, values.get("MF_SCHEDULE") or "0 2 * * *"))


def _stop_with_old_secrets(compose: Compose, values: Mapping[str, str]) -> None:
    """Stop the services whose secrets or certificates have changed; started again, they read them.

    What goes on with its old ones is left alone: a training, where only a login's password differs.
    """
    folders = (SECRETS, ROOT / (values.get("TLS_FOLDER") or "tls"))
    old = [
        service
        for service in compose.services()
        if service != ONE_SHOT
        and any(has_older(container, folders) for container in compose.containers(service))
    ]
    if old:
        print(f"Started again, since a secret of theirs has changed: {', '.join(old)}")
        compose.run("stop", *old)


def _training_network() -> str:
    """Return whether the training worker's network is shut (`true`); empty: there is none.

    Compose does not change a network that is there.
    """
    label = f"label=com.docker.compose.project={project_name()}"
    wanted = ("--filter", label, "--filter", "label=com.docker.compose.network=training")
    ids = output(["docker", "network", "ls", "--quiet", *wanted], os.environ).split()
    form = ("--format", "{{.Internal}}")
    return output(["docker", "network", "inspect", *form, *ids], os.environ).strip() if ids else ""


def _demo(compose: Compose, api: AirflowApi, source: str, values: Mapping[str, str]) -> None:
    """Run the demo's night and show rows of it. Raises StackError."""
    if source:
        raise StackError(
            f"the nights of this stack run on {source}, whose lists a demo would replace: run "
            "`make compose-up` without DEMO, or take the demo's stack elsewhere"
        )
    print(f"The night took {run_demo(api):.0f} s. Read over TCP as mf_reader:")
    rows = f"{values['MF_READER_PASSWORD']}\n{ROWS}"
    compose.run("exec", "-T", "warehouse", "sh", "-c", READ_ROWS, stdin=rows)


def _welcome(where: Addresses, values: Mapping[str, str]) -> str:
    """Say where the stack is and who may enter."""
    host, _, port = where.warehouse.rpartition(":")
    return (
        f"\nAirflow:   {where.airflow}   user admin, password {values['ADMIN_PASSWORD']}\n"
        "           (operator, user and viewer: their passwords stand in .env)\n"
        f"Warehouse: psql --host {host} --port {port} --username mf_reader warehouse\n"
        "           (MF_READER_PASSWORD in .env)"
    )


def down(volumes: bool) -> None:
    """Stop the stack and remove its containers; its data too if `volumes`. Raises StackError."""
    compose = Compose(os.environ)
    if volumes:
        compose.run("down", "--remove-orphans", "--volumes")
        print("Stopped. The data are removed.")
    else:
        compose.run("down", "--remove-orphans")
        print("Stopped. The data are kept in volumes.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of `arguments` and return the exit status."""
    parser = argparse.ArgumentParser(prog="compose.py", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    upward = commands.add_parser("up", help="start all, and wait until it is healthy")
    upward.add_argument("--demo", action="store_true", help="run one night on MovieLens 100K")
    commands.add_parser("files", help="make .env and secrets/")
    downward = commands.add_parser("down", help="stop all")
    downward.add_argument("--volumes", action="store_true", help="remove all data too")
    chosen = parser.parse_args(arguments)

    try:
        if chosen.command == "up":
            up(chosen.demo)
        elif chosen.command == "files":
            make_files()
        else:
            down(chosen.volumes)
    except (StackError, ApiError, OSError) as error:
        print(f"compose-{chosen.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped waiting; what runs goes on running.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
