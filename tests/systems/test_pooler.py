"""Nights by way of PgBouncer in transaction mode, on Debian's Postgres.

Each transaction may get another session of the server, which nobody cleans up in between.
"""

import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.publishing import retire
from mf_core.tune import studies
from mf_core.warehouse import database_engine, readers, transaction
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.impatient import impatient
from mf_core.warehouse.roles import Roles
from mf_core.warehouse.schema import sql
from tests.db.test_cli import MF, SMALL, Mf, ratings_file  # noqa: F401
from tests.db.test_publish import publish_one
from tests.db.worlds import N_USERS, make_ratings, make_world

from .servers import DebianServer, debian_server, pooler

FILMS = Catalogue("films")
CATALOGUES = (DEFAULT, FILMS)
PASSWORD = "a secret of the tests"
FOR_STUDIES = 3
"""Sessions that `mf tune` has at a time: one that keeps others off, and two of Optuna's."""

# What PgBouncer sets itself where a client wants another value than the session has.
_OF_THE_POOLER = "client_encoding|datestyle|timezone|standard_conforming_strings|application_name"
# What would be there for whoever gets the session next, or missing for whoever counts on it.
_OF_A_SESSION = re.compile(
    rf"(?is)^\s*(?:set\s+(?!local\b|transaction\b|{_OF_THE_POOLER})|listen\b|prepare\b|load\b)"
    r"|pg_(?:try_)?advisory_lock|\bwith hold\b"
    r"|\btemp(?:orary)? table (?!.*on commit drop)"
)


@dataclass(frozen=True)
class Pooled:
    """A warehouse with two catalogues behind a pooler."""

    server: DebianServer
    port: int
    database: str

    def url(self, catalogue: Catalogue, role: str = "writer") -> str:
        """Return the URL of a catalogue's role by way of the pooler."""
        user = getattr(Roles.in_force(catalogue), role)
        return self.server.network_url(self.database, user, PASSWORD, self.port)

    def engine(self, catalogue: Catalogue, role: str = "writer") -> Engine:
        """Return an engine by way of the pooler."""
        return database_engine(self.url(catalogue, role), catalogue=catalogue)


@pytest.fixture(scope="module")
def server() -> Iterator[DebianServer]:
    """A server whose roles have passwords."""
    with debian_server() as running:
        yield running


@pytest.fixture
def pooled(server: DebianServer, pool_size: int) -> Iterator[Pooled]:
    """Two catalogues in an empty database, whose schemas are made by way of the pooler."""
    name = f"warehouse_{uuid.uuid4().hex[:8]}"
    passwords = dict.fromkeys(("writer", "reader", "console", "monitor"), PASSWORD)
    for catalogue in CATALOGUES:
        bootstrap_warehouse(server.admin_url, name, catalogue=catalogue, passwords=passwords)
    users = dict.fromkeys(chain(*(astuple(Roles.in_force(c)) for c in CATALOGUES)), PASSWORD)
    with pooler(server, users, pool_size) as port:
        found = Pooled(server, port, name)
        for catalogue in CATALOGUES:
            migrate(found.url(catalogue), catalogue=catalogue)
        yield found


@pytest.fixture
def pool_size() -> int:
    """How many sessions of the server each role has."""
    return FOR_STUDIES


class Reading(threading.Thread):
    """Reads all lists of a catalogue in a loop, and keeps how many rows there were."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.stop = threading.Event()
        self.seen: set[int] = set()
        self.errors: list[Exception] = []

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with self.engine.begin() as connection:
                    query = sql(connection, "SELECT count(*) FROM {mf}.recommendations")
                    self.seen.add(connection.scalar(query) or 0)
            except sa.exc.SQLAlchemyError as error:
                self.errors.append(error)

    def __enter__(self) -> "Reading":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.join()
        self.engine.dispose()


@pytest.mark.parametrize("pool_size", [1])
def test_two_nights_at_once_with_readers_beside(
    pooled: Pooled,
    tmp_path: Path,
    ratings_file: Path,  # noqa: F811
) -> None:
    mf = Mf(
        MF_DATABASE_URL=pooled.url(DEFAULT),
        MF_DATABASE_URL_FILMS=pooled.url(FILMS),
        MF_ARTIFACT_ROOT=(tmp_path / "artifacts").as_uri(),
        MF_GPU_LOCK=str(tmp_path / "lock"),
    )
    night = ("run", f"--set=source.uri={ratings_file}", "--set=run.force=true", *SMALL)
    with (
        Reading(pooled.engine(DEFAULT, "reader")) as ours,
        Reading(pooled.engine(FILMS, "reader")) as theirs,
    ):
        nights = [
            subprocess.Popen([*MF, *options, *night], env=mf.environ, stdout=subprocess.DEVNULL)
            for options in ((), ("--catalogue", "films"))
        ]
        assert [process.wait(300) for process in nights] == [0, 0]
        mf(*night)
        assert mf.json("rollback")["model_version"] == 1
        assert mf.json("status")["live_version"] == 1
        mf("hide", "i001")
    assert not ours.errors + theirs.errors
    # Nothing before the first night, and whole lists from then on; one item is hidden at the end.
    assert {0, 5 * N_USERS} <= ours.seen
    assert ours.seen - {0} == theirs.seen - {0} == {5 * N_USERS}


def tables_of_versions(engine: Engine) -> list[str]:
    """Return the names of the tables of versions."""
    query = """
        SELECT relname FROM pg_class
        WHERE relnamespace = '{mf}'::regnamespace AND relname ~ '^recommendation_rows_v[0-9]+$'
    """
    with transaction(engine) as connection:
        return list(connection.scalars(sql(connection, query)))


def test_nights_rollbacks_and_retirement_leave_nothing_in_a_session(
    pooled: Pooled, tmp_path: Path
) -> None:
    engine = pooled.engine(FILMS)
    world = make_world(engine, tmp_path, make_ratings(1)).with_settings(publish__keep_versions=2)
    published = [publish_one(world, f"night {n}") for n in range(4)]
    assert pipeline.rollback(world.place).model_version == published[-2]
    publish_one(world, "again")
    assert studies(engine) == []
    with transaction(impatient(pooled.engine(FILMS, "console"))) as connection:
        assert readers.live(connection)
        assert readers.recommendations_for(connection, "u001")

    assert len(tables_of_versions(engine)) == 2

    statements = pooled.server.statements()
    assert any("DETACH PARTITION" in statement for _, statement in statements)
    assert any("SET LOCAL lock_timeout" in statement for _, statement in statements)
    assert [said for _, said in statements if _OF_A_SESSION.search(said)] == []

    # What a session holds shows in the session, whoever asks.
    for catalogue in CATALOGUES:
        with ExitStack() as stack:
            several = [
                stack.enter_context(pooled.engine(catalogue).begin()) for _ in range(FOR_STUDIES)
            ]
            pids = {connection.scalar(sa.text("SELECT pg_backend_pid()")) for connection in several}
            assert len(pids) == FOR_STUDIES
            for connection in several:
                settings = "SELECT name, setting FROM pg_settings WHERE source = 'session'"
                rows = connection.execute(sa.text(settings))
                kept = {str(name): value for name, value in rows}
                # Postgres goes on naming the session after `SET TRANSACTION`; the value is its own.
                assert kept.pop("transaction_isolation", "read committed") == "read committed"
                assert set(map(str.lower, kept)) <= set(_OF_THE_POOLER.split("|"))
                temporary = "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
                assert connection.scalar(sa.text(temporary)) == 0


def test_a_reader_who_stays_holds_up_a_detachment_and_no_night(
    pooled: Pooled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retire, "_LOCK_TIMEOUT", timedelta(seconds=1))
    log: list[str] = []
    world = make_world(pooled.engine(DEFAULT), tmp_path, make_ratings(2), log)
    many = world.with_settings(publish__keep_versions=9)
    versions = [publish_one(many, f"reader {n}") for n in range(3)]
    one = world.with_settings(publish__keep_versions=1)

    with pooled.engine(DEFAULT, "reader").connect() as reader:
        reader.execute(sa.text("SELECT count(*) FROM mf.recommendations"))
        last = publish_one(one, "beside the reader")
        assert any(
            f"version {versions[0]} is kept for now" in line and "canceling statement" in line
            for line in log
        ), log
        with pooled.engine(DEFAULT, "reader").connect() as another:
            seen = another.scalars(sa.text("SELECT DISTINCT model_version FROM mf.recommendations"))
            assert set(seen) == {last}

    log.clear()
    publish_one(one, "after the reader")
    assert len(tables_of_versions(world.place.engine)) == 1, log


def test_a_setting_at_the_start_of_a_connection_is_refused_in_words(pooled: Pooled) -> None:
    url = pooled.url(DEFAULT) + "?options=-csearch_path%3Dmf"
    done = subprocess.run(
        [sys.executable, "-c", "from mf_core.cli import main; main()", "status"],
        env={"MF_DATABASE_URL": url, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 10
    assert "unsupported startup parameter" in done.stderr
    assert PASSWORD not in done.stderr
