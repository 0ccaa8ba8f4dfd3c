"""An engine for those who must not be kept waiting: a page, an alert, a parser of DAG files."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

PATIENCE_SECONDS = 3


def impatient(engine: Engine, seconds: int = PATIENCE_SECONDS) -> Engine:
    """Return `engine`, whose connections and statements from now on give up after `seconds`."""

    @sa.event.listens_for(engine, "do_connect")
    def _connect_soon(_dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
        parameters["connect_timeout"] = seconds
        # A server that is gone without a word: milliseconds until the kernel gives up.
        parameters["tcp_user_timeout"] = 1000 * seconds

    @sa.event.listens_for(engine, "begin")
    def _answer_soon(connection: Connection) -> None:
        # Of each transaction, not of the connection: a pooler refuses settings at the start.
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {1000 * seconds}")

    return engine
