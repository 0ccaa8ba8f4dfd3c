"""The process that owns the embedded stack: starts it in order, watches it, and stops it in order whatever happens.

It is started by the launcher (`demo.launcher`) in a session of its own and does what a signal tells it at the next safe
point, so that nothing is ever left half started: SIGTERM and SIGINT mean 'stop'.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from demo import processes
from demo.airflow_api import AirflowApi
from demo.layout import Layout
from demo.settings import ADMIN, component_environment, load_secrets, write_private
from demo.state import FAILED, READY, STARTING, STOPPING, StackState, take_lock, write_state

if TYPE_CHECKING:
    from mf_core.warehouse.embedded import EmbeddedServer

ALREADY_RUNNING = 75
_START_SECONDS = 180.0
_GRACE_SECONDS = 6.0
_METADATA, _WAREHOUSE, _AIRFLOW_ROLE = "airflow", "warehouse", "airflow"
# In the order in which they are stopped.
_COMPONENTS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "api-server": ["api-server", "--host", "127.0.0.1", "--workers", "1"],
}


class StopRequested(Exception):
    """A signal asked for the end."""


class StackError(Exception):
    """A part of the stack did not start, or died."""


class PortTaken(Exception):
    """Another server took the port between the look and the start."""


class Supervisor:
    """One life of the stack."""

    def __init__(self, layout: Layout, preferred_port: int) -> None:
        self._layout = layout
        self._preferred_port = preferred_port
        self._stop_requested = False
        self._server: EmbeddedServer | None = None
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self._state = StackState(os.getpid(), STARTING, "", "", "", "")

    def request_stop(self, *_: object) -> None:
        """Take note of a signal; it is acted on at the next safe point."""
        self._stop_requested = True

    def live(self) -> int:
        """Start, watch until a signal comes, stop; returns the exit status."""
        failure = ""
        try:
            self._start()
            self._watch()
        except StopRequested:
            pass
        except Exception as error:
            failure = (
                f"{type(error).__name__}: {error}"
                if not isinstance(error, StackError)
                else str(error)
            )
            print(failure, file=sys.stderr, flush=True)
        finally:
            self._say(STOPPING, failure)
            self._stop()
        self._say(FAILED if failure else STOPPING, failure or "stopped")
        return 1 if failure else 0

    def _say(self, phase: str, detail: str) -> None:
        self._state = replace(self._state, phase=phase, detail=detail)
        write_state(self._layout, self._state)

    def _start(self) -> None:
        self._say(STARTING, "Postgres")
        metadata_url = self._start_postgres()
        write_private(
            self._layout.passwords_file,
            f'{{"{ADMIN}": "{load_secrets(self._layout).admin_password}"}}',
        )
        port = processes.free_port(self._preferred_port)
        self._migrate_airflow(self._environment(port, metadata_url))
        self._say(STARTING, "Airflow's scheduler, DAG processor and API server")
        try:
            self._start_airflow(port, self._environment(port, metadata_url))
        except PortTaken:
            self._stop_components()
            port = processes.free_port(0)
            self._start_airflow(port, self._environment(port, metadata_url))
        self._say(READY, "")

    def _environment(self, port: int, metadata_url: str) -> dict[str, str]:
        return component_environment(
            self._layout, port, metadata_url, self._state.warehouse_url, dict(os.environ)
        )

    def _start_airflow(self, port: int, environment: dict[str, str]) -> None:
        self._state = replace(self._state, address=f"http://127.0.0.1:{port}")
        for name, arguments in _COMPONENTS.items():
            port_option = ["--port", str(port)] if name == "api-server" else []
            self._components[name] = self._airflow([*arguments, *port_option], name, environment)
        self._wait_for_airflow(port)

    def _start_postgres(self) -> str:
        """Start Postgres with both databases, migrate the warehouse, and return the URL of Airflow's database."""
        from mf_core.warehouse.bootstrap import bootstrap_warehouse, create_database, migrate
        from mf_core.warehouse.embedded import exclusive, start_embedded

        self._check()
        with exclusive(self._layout.postgres_data):
            server = self._server = start_embedded(self._layout.postgres_data)
            self._check()
            create_database(server.admin_url, _METADATA, _AIRFLOW_ROLE)
            bootstrap_warehouse(server.admin_url, _WAREHOUSE)
            warehouse_url = server.url(_WAREHOUSE, "mf_writer")
            migrate(warehouse_url)
        self._state = replace(self._state, admin_url=server.admin_url, warehouse_url=warehouse_url)
        return server.url(_METADATA, _AIRFLOW_ROLE)

    def _migrate_airflow(self, environment: dict[str, str]) -> None:
        """Run `airflow db migrate`, unless this version has done so: the database carries a note of it."""
        import sqlalchemy as sa
        from airflow import __version__

        note = f"migrated by apache-airflow {__version__}"
        engine = sa.create_engine(self._state.admin_url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            found = connection.scalar(
                sa.text(
                    "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'airflow'"
                )
            )
        if found == note:
            return
        self._say(STARTING, "Airflow's database (the first start takes longer)")
        migration = self._airflow(["db", "migrate"], "db-migrate", environment)
        self._components["db-migrate"] = migration
        while migration.poll() is None:
            self._check()
            time.sleep(0.1)
        del self._components["db-migrate"]
        if migration.returncode != 0:
            raise StackError(
                self._last_words(
                    "db-migrate", f"`airflow db migrate` ended with status {migration.returncode}"
                )
            )
        with engine.begin() as connection:
            connection.exec_driver_sql(f"COMMENT ON DATABASE airflow IS '{note}'")

    def _airflow(
        self, arguments: list[str], name: str, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        return processes.spawn(
            [sys.executable, "-m", "airflow", *arguments],
            log=self._layout.logs / f"{name}.log",
            environment=environment,
            folder=self._layout.airflow_home,
        )

    def _wait_for_airflow(self, port: int) -> None:
        api = AirflowApi(self._state.address, ADMIN, load_secrets(self._layout).admin_password)
        deadline = time.monotonic() + _START_SECONDS
        server = self._components["api-server"]
        while not (processes.listens(server, port) and api.is_healthy()):
            if server.poll() is not None and processes.free_port(port) != port:
                raise PortTaken
            self._check()
            if time.monotonic() > deadline:
                raise StackError(
                    f"Airflow was not healthy after {_START_SECONDS:.0f} s; see {self._layout.logs}."
                )
            time.sleep(0.25)
        api.ensure_pool("gpu", 1, "One training at a time: the tasks on queue gpu.")

    def _watch(self) -> None:
        while True:
            self._check()
            processes.reap_adopted({component.pid for component in self._components.values()})
            time.sleep(0.2)

    def _check(self) -> None:
        """Raise if there is a reason not to go on."""
        if self._stop_requested:
            raise StopRequested
        for name, component in self._components.items():
            if component.poll() not in (None, 0) or (
                component.poll() == 0 and name != "db-migrate"
            ):
                raise StackError(
                    self._last_words(
                        name, f"Airflow's {name} ended with status {component.returncode}"
                    )
                )
        if (
            self._server is not None
            and not (self._layout.postgres_data / "postmaster.pid").exists()
        ):
            raise StackError(
                f"Postgres has stopped; its log is {self._layout.postgres_data / 'log'}."
            )

    def _last_words(self, name: str, what: str) -> str:
        log = self._layout.logs / f"{name}.log"
        return "\n".join([f"{what}; the end of {log}:", *processes.tail(log, 15)])

    def _stop_components(self) -> None:
        for name in ("db-migrate", *_COMPONENTS):
            if name in self._components:
                processes.stop(self._components.pop(name), _GRACE_SECONDS)

    def _stop(self) -> None:
        self._stop_components()
        postmaster = self._postmaster()
        processes.stop_descendants(_GRACE_SECONDS, spare=postmaster)
        if self._server is not None:
            self._server.stop()
        processes.stop_descendants(_GRACE_SECONDS, spare=None)
        processes.reap_adopted(set())

    def _postmaster(self) -> int | None:
        try:
            return int((self._layout.postgres_data / "postmaster.pid").read_text().splitlines()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return None


def supervise(layout: Layout, preferred_port: int) -> int:
    """Run the stack in this process until a signal comes; returns the exit status."""
    supervisor = Supervisor(layout, preferred_port)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, supervisor.request_stop)
    lock = take_lock(layout.lock_file)
    if lock is None:
        return ALREADY_RUNNING
    layout.make_folders()
    processes.adopt_orphans()
    return supervisor.live()
