"""Debian's Postgres and PgBouncer, started for a test as a user without rights."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import sqlalchemy as sa

from demo.processes import free_port

# Neither program runs as root.
_USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
_START_SECONDS = 30

_SETTINGS = """
fsync = off
unix_socket_directories = '{folder}'
listen_addresses = '127.0.0.1'
port = {port}
log_statement = 'all'
log_line_prefix = '%a|%p|%u|'
"""

# Over the network a password is asked for, as on every server that others can reach.
_WHO_MAY_CONNECT = """
local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""

# A pool of a few connections, and a session that goes from hand to hand as it is. No startup
# parameter is let through beside PgBouncer's own: `ignore_startup_parameters` is empty.
_POOLER = """
[databases]
* = host={folder} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {pooler_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool_size}
server_reset_query =
max_client_conn = 200
query_wait_timeout = 30
"""


def postgres_programs() -> Path:
    """Return the folder of Debian's newest Postgres."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    if not found:
        raise FileNotFoundError("no Postgres is installed: apt-get install postgresql pgbouncer")
    return found[-1]


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(word) for word in command], user=_USER, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@dataclass(frozen=True)
class DebianServer:
    """A running Postgres of Debian.

    Attributes:
        folder: where its data, its socket and its log lie.
        port: of its socket, and of 127.0.0.1.
    """

    folder: Path
    port: int

    def url(self, database: str, user: str) -> str:
        """Return the URL of a database for a user, by the socket, which asks for no password."""
        return sa.URL.create(
            "postgresql+psycopg2",
            username=user,
            database=database,
            query={"host": str(self.folder), "port": str(self.port)},
        ).render_as_string()

    def network_url(self, database: str, user: str, password: str, port: int | None = None) -> str:
        """Return the URL of a database over the network, or by a pooler on `port`."""
        return sa.URL.create(
            "postgresql+psycopg2", user, password, "127.0.0.1", port or self.port, database
        ).render_as_string(hide_password=False)

    @property
    def admin_url(self) -> str:
        """URL of the superuser."""
        return self.url("postgres", "postgres")

    def statements(self) -> list[tuple[str, str]]:
        """Return what it was asked so far: application and statement, in order."""
        asked = []
        for line in (self.folder / "log").read_text(errors="replace").splitlines():
            name, _, rest = line.partition("|")
            _, found, statement = rest.partition("LOG:  statement: ")
            if found:
                asked.append((name, statement))
        return asked


@contextmanager
def debian_server() -> Iterator[DebianServer]:
    """Give an empty Postgres."""
    programs = postgres_programs()
    with _folder() as folder:
        server = DebianServer(folder, free_port(0))
        data = folder / "data"
        _run(programs / "initdb", "--no-sync", "--username=postgres", "--pgdata", data)
        settings = _SETTINGS.format(folder=folder, port=server.port)
        with (data / "postgresql.conf").open("a") as file:
            file.write(settings)
        (data / "pg_hba.conf").write_text(_WHO_MAY_CONNECT)
        log = folder / "log"
        _run(programs / "pg_ctl", "start", "--wait", "--pgdata", data, "--log", log)
        try:
            yield server
        finally:
            _run(programs / "pg_ctl", "stop", "--mode=immediate", "--pgdata", data)


@contextmanager
def pooler(server: DebianServer, passwords: dict[str, str], pool_size: int) -> Iterator[int]:
    """Give the port of a PgBouncer in transaction mode before a server."""
    port = free_port(0)
    with _folder() as folder:
        users = folder / "users.txt"
        users.write_text("".join(f'"{name}" "{word}"\n' for name, word in passwords.items()))
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            _POOLER.format(
                folder=server.folder,
                port=server.port,
                pooler_port=port,
                users=users,
                pool_size=pool_size,
            )
        )
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([program, settings], user=_USER, cwd="/", stderr=log)
        try:
            _wait_for(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(_START_SECONDS)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError(f"PgBouncer does not listen on {port}; exit code {process.poll()}")


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a folder that the user without rights owns. A socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="mf-", dir="/tmp") as name:
        shutil.chown(name, _USER)
        yield Path(name)


def may_connect(url: str) -> bool:
    """Say whether a server lets somebody in."""
    try:
        psycopg2.connect(url.replace("+psycopg2", "")).close()
    except psycopg2.OperationalError as error:
        if "password authentication failed" not in str(error):
            raise
        return False
    return True
