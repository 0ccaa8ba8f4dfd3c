"""A night that is about to publish, as often as wanted; and blows that hit it at a statement."""

import os
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.config import Config
from mf_core.records import EvalReport, SplitRef
from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.embedded import EmbeddedServer

from .test_publish import as_reader, publish_one, rows
from .worlds import N_USERS, World, fill_table, fit

Moment = Literal["before", "after"]
LISTED = 5 * N_USERS


@dataclass(frozen=True)
class Ready:
    """A version that only lacks its publication."""

    key: str
    split: SplitRef
    report: EvalReport


def make_ready(world: World, key: str) -> Ready:
    """Bring a version to the point of publication."""
    split = pipeline.split(world.config, world.place, key)
    model = fit(world, split)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)
    refitted = fit(world, split, "refit")
    fill_table(world, split, model, refitted)
    pipeline.verify(world.config, world.place, refitted)
    return Ready(key, split, report)


def run_again(world: World, key: str) -> int:
    """Run every step of a night by its key, as `mf run --key` does; return the version."""
    ready = make_ready(world, key)
    return publish(world, ready)


def publish(world: World, ready: Ready) -> int:
    """Run the last step; return the version."""
    done = pipeline.publish(world.config, world.place, ready.split, ready.report)
    return done.model_version


@dataclass(frozen=True)
class Night:
    """A warehouse in which one version is live, one is to go, and two are ready to go live.

    Attributes:
        old: a version that the next publication retires, and whose artifacts it removes.
        live: the version that readers see.
        tonight, tomorrow: what is published next, and after that.
        template: name of a database that holds all this.
    """

    server: EmbeddedServer
    world: World
    old: int
    live: int
    tonight: Ready
    tomorrow: Ready
    template: str

    @contextmanager
    def begun(self) -> Iterator["Night"]:
        """Give the same night in a warehouse of its own."""
        name = f"night_{uuid.uuid4().hex[:12]}"
        admin = sa.create_engine(
            self.server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        with admin.connect() as connection:
            connection.execute(
                sa.text(f'CREATE DATABASE "{name}" OWNER mf_writer TEMPLATE "{self.template}"')
            )
        # The artifact store is one for all: what an earlier one has done there is undone.
        artifacts_of(self.world, self.old).mkdir(exist_ok=True)
        seal = artifacts_of(self.world, self.tonight.split.model_version) / "published"
        seal.unlink(missing_ok=True)
        engine = database_engine(self.server.url(name, "mf_writer"))
        place = replace(self.world.place, engine=engine)
        yield replace(self, world=World(place, self.world.config))
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))

    @property
    def engine(self) -> Engine:
        """The warehouse, as `mf_writer`."""
        return self.world.place.engine

    @property
    def url(self) -> str:
        """URL of the warehouse, as `mf_writer`."""
        return self.engine.url.render_as_string(hide_password=False)

    def live_version(self) -> int:
        """Return what readers see."""
        [(version,)] = rows(self.engine, "SELECT model_version FROM mf.live")
        return int(version)

    def tables(self) -> set[str]:
        """Return the names of the versions' tables."""
        named = "SELECT relname FROM pg_class WHERE relname ~ '^recommendation_rows_v[0-9]+$'"
        return {name for (name,) in rows(self.engine, named)}


def make_night(server: EmbeddedServer, world: World, config: Config) -> Night:
    """Turn the world's warehouse into a night that is about to publish."""
    world = World(world.place, config)
    old = publish_one(world, "old")
    live = publish_one(world, "live")
    with transaction(world.place.engine) as connection:
        connection.execute(
            sa.text(
                "UPDATE mf.models SET created_at = now() - interval '40 days' "
                "WHERE model_version = :old"
            ),
            {"old": old},
        )
    tonight = make_ready(world, "tonight")
    tomorrow = make_ready(world, "tomorrow")
    world.place.engine.dispose()
    return Night(
        server=server,
        world=world,
        old=old,
        live=live,
        tonight=tonight,
        tomorrow=tomorrow,
        template=str(world.place.engine.url.database),
    )


class Blow:
    """Hits a process at its n-th statement or commit, before the server gets it or after."""

    def __init__(self, at: int, moment: Moment, strike: Callable[[Any], None]) -> None:
        """`strike` gets the driver's connection. It never strikes at 0."""
        self.at = at
        self.moment = moment
        self.strike = strike
        self.statements: list[str] = []

    def aim_at(self, engine: Engine) -> None:
        """Count what this engine's connections send."""
        commit = engine.dialect.do_commit

        def commit_and_count(connection: Any) -> None:
            self._before(connection, "COMMIT")
            commit(connection)
            self._after(connection)

        def before(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            self._before(connection.connection, statement)

        def after(connection: Any, *_: Any) -> None:
            self._after(connection.connection)

        engine.dialect.do_commit = commit_and_count  # type: ignore[method-assign,assignment]
        sa.event.listen(engine, "before_cursor_execute", before)
        sa.event.listen(engine, "after_cursor_execute", after)

    def _before(self, connection: Any, statement: str) -> None:
        self.statements.append(statement)
        if self.moment == "before" and len(self.statements) == self.at:
            self.strike(connection)

    def _after(self, connection: Any) -> None:
        if self.moment == "after" and len(self.statements) == self.at:
            self.strike(connection)


def kill_self(_connection: Any) -> None:
    """End this process as the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def statements_of(night: Night) -> list[str]:
    """Return what a publication sends to the server, commits included."""
    with night.begun() as again:
        count = Blow(0, "before", kill_self)
        count.aim_at(again.engine)
        publish(again.world, again.tonight)
        return count.statements


@contextmanager
def child(work: Callable[[], object]) -> Iterator[Callable[[], int]]:
    """Fork a process; what is given lets it work, and returns how it ended.

    It is forked before the block, so that threads may be started in it.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.read(read, 1)
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)

    def let_work() -> int:
        os.write(write, b"!")
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    yield let_work
    os.close(read)
    os.close(write)


def publish_under(night: Night, blow: Blow) -> None:
    """Publish tonight's version on connections that the blow hits."""
    engine = database_engine(night.url)
    blow.aim_at(engine)
    place = replace(night.world.place, engine=engine)
    try:
        publish(World(place, night.world.config), night.tonight)
    finally:
        engine.dispose()


class Reader(threading.Thread):
    """Reads all lists in a loop, in one transaction a round, and keeps what was wrong with them."""

    def __init__(self, url: str, isolation_level: str, stop: threading.Event) -> None:
        super().__init__()
        self.engine = as_reader(url).execution_options(isolation_level=isolation_level)
        self.stop_it = stop
        self.problems: list[str] = []
        self.rounds = 0

    def run(self) -> None:
        try:
            while not self.stop_it.is_set():
                with self.engine.begin() as connection:
                    self.read_twice(connection)
                self.rounds += 1
        except sa.exc.DBAPIError as error:
            self.problems.append(str(error))
        finally:
            self.engine.dispose()

    def read_twice(self, connection: sa.Connection) -> None:
        """Take a snapshot, wait a little, and read; then once more."""
        lists = sa.text("SELECT model_version FROM mf.recommendations")
        connection.execute(sa.text("SELECT 1 FROM pg_class LIMIT 1"))
        for seconds in (0.01, 0.003):
            time.sleep(seconds)
            found = list(connection.scalars(lists))
            if len(found) != LISTED or len(set(found)) != 1:
                self.problems.append(f"{len(found)} rows of versions {set(found)}")


@contextmanager
def readers_beside(night: Night) -> Iterator[list[Reader]]:
    """Let readers read all the time, and check afterwards that every list was whole."""
    stop = threading.Event()
    levels = ("READ COMMITTED", "REPEATABLE READ")
    readers = [Reader(night.url, level, stop) for level in levels]
    for reader in readers:
        reader.start()
    try:
        yield readers
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert [reader.problems for reader in readers] == [[], []]


def artifacts_of(world: World, version: int) -> Path:
    """Return the folder of a version's models."""
    return Path(world.place.artifact_root.removeprefix("file://")) / "models" / str(version)
