"""New passwords on a server that asks for them, by the commands of the page; readers read on."""

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from mf_core.errors import DatabaseError
from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import EmbeddedServer, start_embedded
from tests.pages import commands, run

PAGE = "howto/rotate-passwords.md"
# The administrator of this test comes without a password, everybody else with one.
HBA = "local all postgres trust\nlocal all all scram-sha-256\n"
OLD = {role: f"old {role} 'p%w" for role in ("writer", "reader", "console", "monitor")}
READ = "SELECT count(*) FROM mf.recommendations"


@pytest.fixture(scope="module")
def strict() -> Iterator[EmbeddedServer]:
    """A server with a warehouse, on which every role has a password."""
    with tempfile.TemporaryDirectory(prefix="mf-postgres-") as folder:
        running = start_embedded(Path(folder) / "data")
        try:
            bootstrap_warehouse(running.admin_url, passwords=OLD)
            migrate(running.url("warehouse", "mf_writer"))
            (running.data_dir / "pg_hba.conf").write_text(HBA)
            running.restart()
            yield running
        finally:
            running.stop()


def url(server: EmbeddedServer, role: str, password: str) -> str:
    plain = sa.make_url(server.url("warehouse", role))
    return plain.set(password=password).render_as_string(hide_password=False)


def ask(url: str, query: str = READ) -> int:
    """Open a session, ask, and close it."""
    engine = database_engine(url, poolclass=sa.NullPool)
    with transaction(engine) as connection:
        return int(connection.scalar(sa.text(query)) or 0)


def environ(server: EmbeddedServer, **new: str) -> dict[str, str]:
    """Return what the page's commands name."""
    admin = server.admin_url.replace("+psycopg2", "")
    return {"ADMIN_URL": admin, "PATH": str(server.bin_dir), **new}


class Readers:
    """Readers that open a session again and again, by the address that they were given last."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rounds = 0
        self._stop = threading.Event()

    def __enter__(self) -> "Readers":
        self._pool = ThreadPoolExecutor(2)
        self._reading = [self._pool.submit(self._read_on) for _ in range(2)]
        return self

    def _read_on(self) -> None:
        while not self._stop.is_set():
            ask(self.url)
            self.rounds += 1

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for reading in self._reading:
            reading.result()
        self._pool.shutdown()


def test_readers_get_a_second_login_and_none_is_ever_refused(
    strict: EmbeddedServer, tmp_path: Path
) -> None:
    make, who, change = commands(PAGE, "Readers, without a gap")
    new, newest = "new \"reader' %", "newest"
    with Readers(url(strict, "mf_reader", OLD["reader"])) as readers:
        run(make, tmp_path, environ(strict, NEW_READER=new))
        before = readers.rounds
        readers.url = url(strict, "mf_reader_b", new)
        while readers.rounds < before + 20:
            threading.Event().wait(0.05)
        assert "(0 rows)" in run(who, tmp_path, environ(strict))
        run(change, tmp_path, environ(strict, NEWEST_READER=newest))
    assert readers.rounds > 20

    ask(url(strict, "mf_reader", newest))
    with pytest.raises(DatabaseError, match="password authentication failed"):
        ask(url(strict, "mf_reader", OLD["reader"]))
    # The same rights, and no others.
    with pytest.raises(Exception, match="permission denied"):
        ask(url(strict, "mf_reader_b", new), "SELECT count(*) FROM mf.ratings")


def test_who_still_comes_as_the_old_reader_is_seen(strict: EmbeddedServer, tmp_path: Path) -> None:
    _, who, _ = commands(PAGE, "Readers, without a gap")
    make_known = environ(strict, MF_READER_PASSWORD="known")
    run('mf db bootstrap --admin-url "$ADMIN_URL"', tmp_path, make_known)
    engine = database_engine(url(strict, "mf_reader", "known"))
    with engine.connect():
        assert "mf_reader" in run(who, tmp_path, environ(strict))
    engine.dispose()


def test_the_others_get_new_ones_and_open_sessions_go_on(
    strict: EmbeddedServer, tmp_path: Path
) -> None:
    (change,) = commands(PAGE, "The pipeline, the console, the monitoring")
    new = {"writer": "w2 $x`y", "console": "c2", "monitor": "m2"}
    asked = {
        "writer": "SELECT count(*) FROM mf.ratings",
        "console": "SELECT count(*) FROM mf.model_history",
        "monitor": "SELECT count(*) FROM mf.monitoring_lists",
    }
    engine = database_engine(url(strict, "mf_writer", OLD["writer"]))
    with engine.connect() as open_session:
        names = {f"NEW_{role.upper()}": password for role, password in new.items()}
        run(change, tmp_path, environ(strict, **names))
        assert open_session.scalar(sa.text(asked["writer"])) == 0
    engine.dispose()

    for role, password in new.items():
        ask(url(strict, f"mf_{role}", password), asked[role])
        # That is what a night is tried again for.
        with pytest.raises(DatabaseError, match="password authentication failed"):
            ask(url(strict, f"mf_{role}", OLD[role]), asked[role])
