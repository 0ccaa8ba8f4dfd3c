"""The process that owns the embedded stack.

It starts the stack in order, watches it, and stops it in order whatever happens. Its guard
(`demo.guard`) starts it. SIGTERM and SIGINT tell it to stop; it does so at the next safe point, so
that nothing is ever left half started.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from demo import processes
from demo.airflow_api import AirflowApi
from demo.layout import Layout
from demo.settings import ADMIN, component_environment, load_secrets, write_private
from demo.sources import forget_sources
from demo.state import FAILED, READY, STARTING, STOPPING, starting, write_state

if TYPE_CHECKING:
    from mf_core.warehouse.embedded import EmbeddedServer

_START_SECONDS = 180.0
GRACE_SECONDS = 6.0
# Databases, and the role that owns Airflow's.
_METADATA = "airflow"
_WAREHOUSE = "warehouse"
_AIRFLOW_ROLE = "airflow"

_MIGRATION = "db-migrate"
# In the order in which they are stopped.
_COMPONENTS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "api-server": ["api-server", "--host", "127.0.0.1", "--workers", "1"],
}

_NOTE = """
SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'airflow'
"""


class StopRequested(Exception):
    """A signal asked for the end."""


class StackError(Exception):
    """A part of the stack did not start, or died."""


class PortTaken(Exception):
    """Another server took the port between the look and the start."""


class Supervisor:
    """One life of the stack.

    `owner` is the process that the state file names: the one to ask for the end.
    """

    def __init__(self, layout: Layout, preferred_port: int, owner: int) -> None:
        self._layout = layout
        self._preferred_port = preferred_port
        self._stop_requested = False
        self._server: EmbeddedServer | None = None
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self._state = starting(owner)

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
            failure = _words_of(error)
            print(failure, file=sys.stderr, flush=True)
        finally:
            self._say(STOPPING, failure)
            self._stop()

        if failure:
            self._say(FAILED, failure)
            return 1
        self._say(STOPPING, "stopped")
        return 0

    def _say(self, phase: str, detail: str) -> None:
        """Write to the state file what the launcher waits for."""
        self._state = replace(self._state, phase=phase, detail=detail)
        write_state(self._layout, self._state)

    def _start(self) -> None:
        self._say(STARTING, "Postgres")
        metadata_url = self._start_postgres()
        self._write_passwords()
        # Only what somebody names while the stack lives; the file is among its settings files.
        forget_sources(self._layout)

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

    def _write_passwords(self) -> None:
        """Write the logins for Airflow's SimpleAuthManager, which would otherwise make them up."""
        passwords = load_secrets(self._layout).passwords
        write_private(self._layout.passwords_file, json.dumps(passwords))

    def _environment(self, port: int, metadata_url: str) -> dict[str, str]:
        assert self._server is not None
        return component_environment(
            layout=self._layout,
            port=port,
            metadata_url=metadata_url,
            warehouse_url=self._state.warehouse_url,
            console_url=self._server.url(_WAREHOUSE, "mf_console"),
            inherited=dict(os.environ),
        )

    def _start_airflow(self, port: int, environment: dict[str, str]) -> None:
        """Start the components, and return once they are healthy.

        Raises:
            PortTaken: another server took `port` first.
            StackError: one ended, or they were not healthy in time.
        """
        self._state = replace(self._state, address=f"http://127.0.0.1:{port}")
        for name, arguments in _COMPONENTS.items():
            command = list(arguments)
            if name == "api-server":
                command += ["--port", str(port)]
            self._components[name] = self._airflow(command, name, environment)
        self._wait_for_airflow(port)

    def _start_postgres(self) -> str:
        """Start Postgres with both databases, and migrate the warehouse.

        Returns:
            The URL of Airflow's database.
        """
        from mf_core.warehouse.bootstrap import bootstrap_warehouse, create_database, migrate
        from mf_core.warehouse.embedded import exclusive, start_embedded

        self._check()
        with exclusive(self._layout.postgres_data):
            server = start_embedded(self._layout.postgres_data)
            # Noted at once: whatever fails from here on, it is stopped.
            self._server = server
            self._check()

            create_database(server.admin_url, _METADATA, _AIRFLOW_ROLE)
            bootstrap_warehouse(server.admin_url, _WAREHOUSE)
            warehouse_url = server.url(_WAREHOUSE, "mf_writer")
            migrate(warehouse_url)
        self._state = replace(self._state, admin_url=server.admin_url, warehouse_url=warehouse_url)
        return server.url(_METADATA, _AIRFLOW_ROLE)

    def _migrate_airflow(self, environment: dict[str, str]) -> None:
        """Run `airflow db migrate`, unless this version has done so.

        The database carries a note of it.
        """
        import sqlalchemy as sa
        from airflow import __version__

        # `airflow db migrate` takes many seconds even where there is nothing to do.
        note = f"migrated by apache-airflow {__version__}"
        engine = sa.create_engine(self._state.admin_url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            found = connection.scalar(sa.text(_NOTE))
        if found == note:
            return

        self._say(STARTING, "Airflow's database (the first start takes longer)")
        self._run_migration(environment)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"COMMENT ON DATABASE airflow IS '{note}'")

    def _run_migration(self, environment: dict[str, str]) -> None:
        migration = self._airflow(["db", "migrate"], _MIGRATION, environment)
        # Among the components while it runs, so that a stop ends it too.
        self._components[_MIGRATION] = migration
        while migration.poll() is None:
            self._check()
            time.sleep(0.1)
        del self._components[_MIGRATION]

        if migration.returncode != 0:
            what = f"`airflow db migrate` ended with status {migration.returncode}"
            raise StackError(self._last_words(_MIGRATION, what))

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
        """Wait until all components are healthy, and make the pool for trainings."""
        password = load_secrets(self._layout).passwords[ADMIN]
        api = AirflowApi(self._state.address, ADMIN, password)
        server = self._components["api-server"]
        deadline = time.monotonic() + _START_SECONDS
        while not (processes.listens(server, port) and api.is_healthy()):
            # The API server ends where it finds its port taken: no failure of the stack.
            if server.poll() is not None and processes.free_port(port) != port:
                raise PortTaken
            self._check()
            if time.monotonic() > deadline:
                raise StackError(
                    f"Airflow was not healthy after {_START_SECONDS:.0f} s; "
                    f"see {self._layout.logs}."
                )
            time.sleep(0.25)

        api.ensure_pool("gpu", 1, "One training at a time: the tasks on queue gpu.")

    def _watch(self) -> None:
        while True:
            self._check()
            # The components' own ends are for `_check` to see.
            own = {component.pid for component in self._components.values()}
            processes.reap_adopted(own)
            time.sleep(0.2)

    def _check(self) -> None:
        """Raise if there is a reason not to go on."""
        if self._stop_requested:
            raise StopRequested

        for name, component in self._components.items():
            status = component.poll()
            # The migration is the one component that is meant to end.
            finished = status == 0 and name == _MIGRATION
            if status is not None and not finished:
                what = f"Airflow's {name} ended with status {status}"
                raise StackError(self._last_words(name, what))

        if self._server is not None and postmaster(self._layout) is None:
            log = self._layout.postgres_data / "log"
            raise StackError(f"Postgres has stopped; its log is {log}.")

    def _last_words(self, name: str, what: str) -> str:
        """Return `what` with the end of the component's log."""
        log = self._layout.logs / f"{name}.log"
        lines = processes.tail(log, 15)
        return "\n".join([f"{what}; the end of {log}:", *lines])

    def _stop_components(self) -> None:
        for name in (_MIGRATION, *_COMPONENTS):
            if name not in self._components:
                continue
            component = self._components.pop(name)
            processes.stop(component, GRACE_SECONDS)

    def _stop(self) -> None:
        self._stop_components()

        # Postgres comes last: the tasks that are being stopped still write to it.
        processes.stop_descendants(GRACE_SECONDS, spare=postmaster(self._layout))
        # One that was killed can't be asked to stop.
        if self._server is not None and postmaster(self._layout) is not None:
            self._server.stop()
        processes.stop_descendants(GRACE_SECONDS, spare=None)
        processes.reap_adopted(set())


def postmaster(layout: Layout) -> int | None:
    """Return the number of the stack's running Postgres; None where none runs."""
    try:
        # Postgres' own account of itself: its number is in the first line.
        lines = (layout.postgres_data / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        # One that was killed leaves the file, and its number may be another process's by now.
        is_ours = Path(process.cwd()) == layout.postgres_data.resolve()
    except (FileNotFoundError, ValueError, IndexError, psutil.Error):
        return None
    return process.pid if is_ours else None


def _words_of(error: Exception) -> str:
    """Return what to tell people: a StackError is in words for them, others have their class."""
    if isinstance(error, StackError):
        return str(error)
    return f"{type(error).__name__}: {error}"
