"""Where a measured night works: an embedded Postgres and an artifact store of its own."""

import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import cache_folder
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import EmbeddedServer, exclusive, start_embedded


@dataclass(frozen=True)
class NightPlace:
    """A warehouse, a folder of artifacts, and a folder for files.

    Attributes:
        folder: for files; `artifacts` lies below it.
        server: the embedded Postgres.
    """

    folder: Path
    server: EmbeddedServer

    @property
    def database_url(self) -> str:
        """URL of the warehouse for the pipeline's role."""
        return self.server.url("warehouse", "mf_writer")

    @property
    def artifacts(self) -> Path:
        """Folder of the artifact store."""
        return self.folder / "artifacts"

    def psql(self, *statements: str) -> float:
        """Run statements in one `psql`, as the superuser, and return how many seconds that took.

        Raises:
            SystemExit: one of them failed; the message has psql's own words.
        """
        command = [str(self.server.bin_dir / "psql"), "--no-psqlrc", "--quiet"]
        command += ["--set", "ON_ERROR_STOP=1", "--host", str(self.server.socket_dir)]
        command += ["--username", "postgres", "--dbname", "warehouse"]
        for statement in statements:
            command += ["--command", statement]
        began = time.perf_counter()
        ended = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if ended.returncode:
            raise SystemExit(f"psql failed: {ended.stderr.strip()}")
        return time.perf_counter() - began

    def settle(self) -> None:
        """Write out what Postgres has in memory, so that nothing pays for what came before it."""
        self.psql("CHECKPOINT")

    def ask(self, query: str) -> int:
        """Return the one number that a query gives."""
        command = [str(self.server.bin_dir / "psql"), "--no-psqlrc", "--tuples-only", "--no-align"]
        command += ["--host", str(self.server.socket_dir), "--username", "postgres"]
        command += ["--dbname", "warehouse", "--command", query]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@contextmanager
def night_place() -> Iterator[NightPlace]:
    """Give an empty place, and remove it at the end; so is what a run that was killed has left."""
    folder = cache_folder() / "night"
    # One night at a time: two would share the machine, and slow each other.
    with exclusive(folder):
        _remove(folder)
        folder.mkdir(parents=True)
        # Another name each time: the package remembers a server by its folder, and would take this
        # one for that of the night before.
        server = start_embedded(folder / f"pgdata-{secrets.token_hex(4)}")
        try:
            bootstrap_warehouse(server.admin_url)
            place = NightPlace(folder.resolve(), server)
            migrate(place.database_url)
            yield place
        finally:
            server.stop()
            shutil.rmtree(folder)


def _remove(folder: Path) -> None:
    for running in folder.glob("pgdata-*/postmaster.pid"):
        start_embedded(running.parent).stop()
    shutil.rmtree(folder, ignore_errors=True)
