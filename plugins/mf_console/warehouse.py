"""How the console reads the warehouse: without a right to write, and never in Airflow's way.

Airflow's web server answers every page, the console's too, from one event loop and one pool of 40
threads. Whatever waits for a locked table in those threads holds up all of Airflow. So the console
has a few threads and connections of its own. Its statements give up after a short time, and whoever
finds no place in time is told so.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import sqlalchemy as sa
from airflow.exceptions import AirflowNotFoundException
from airflow.models.connection import Connection as AirflowConnection
from sqlalchemy.engine import Connection, Engine

from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.errors import RetryableError
from mf_core.warehouse import console_url, database_engine, transaction
from mf_core.warehouse.impatient import impatient

PLACES = 4
"""Look-ups at a time; each has a thread and a connection."""
QUEUE_SECONDS = 1.0
"""How long one waits for a place. It is a coroutine that waits, no thread."""
STATEMENT_SECONDS = 3
"""How long a connection, a statement or a lock may take."""
ANSWER_SECONDS = 8.0
"""How long an answer may take, even of a server that has stopped answering at all."""

T = TypeVar("T")

_threads = ThreadPoolExecutor(PLACES, thread_name_prefix="mf-console")
_places = threading.BoundedSemaphore(PLACES)


class NoPlaceError(RetryableError):
    """All places are taken: by many people at once, or by look-ups that wait."""


class NoAnswerError(RetryableError):
    """The warehouse has not answered in time."""


async def look_up(catalogue: Catalogue, find: Callable[[Connection], T]) -> T:
    """Return what `find` finds in a catalogue, in one transaction that can't write.

    Raises:
        NoPlaceError: all places stayed taken.
        NoAnswerError: no answer came in time.
        ConfigError: no warehouse is named.
        DatabaseError, SQLAlchemyError: the warehouse refused, or gave up.
    """
    await _take_place()
    searching = _threads.submit(_look_up, catalogue, find)
    # The place is free when the thread is: giving up below does not end a thread that waits.
    searching.add_done_callback(lambda _: _places.release())
    try:
        return await asyncio.wait_for(asyncio.wrap_future(searching), ANSWER_SECONDS)
    except TimeoutError:
        raise NoAnswerError(f"no answer within {ANSWER_SECONDS:.0f} s") from None


async def _take_place() -> None:
    deadline = time.monotonic() + QUEUE_SECONDS
    while not _places.acquire(blocking=False):
        if time.monotonic() > deadline:
            raise NoPlaceError(f"all {PLACES} places are taken")
        await asyncio.sleep(0.02)


def _look_up(catalogue: Catalogue, find: Callable[[Connection], T]) -> T:
    # What one answer says is of one moment, however many statements it takes.
    with transaction(warehouse_engine(catalogue), isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        return find(connection)


@cache
def warehouse_engine(catalogue: Catalogue = DEFAULT) -> Engine:
    """Return the engine on a catalogue's warehouse. Raises ConfigError if none is named."""
    engine = database_engine(
        console_url(os.environ, _connection_uri, catalogue),
        catalogue=catalogue,
        pool_size=PLACES,
        max_overflow=0,
        connect_args={"application_name": "mf console"},
    )
    return impatient(engine, STATEMENT_SECONDS)


def _connection_uri(connection_id: str) -> str | None:
    try:
        return str(AirflowConnection.get_connection_from_secrets(connection_id).get_uri())
    except AirflowNotFoundException:
        return None
