"""The warehouse that the console reads."""

import os
from functools import cache

from airflow.exceptions import AirflowNotFoundException
from airflow.models.connection import Connection
from sqlalchemy.engine import Engine

from mf_core.warehouse import database_engine, warehouse_url


@cache
def warehouse_engine() -> Engine:
    """Return the engine on the warehouse. Raises ConfigError if none is named."""
    return database_engine(warehouse_url(os.environ, _connection_uri))


def _connection_uri(connection_id: str) -> str | None:
    try:
        return str(Connection.get_connection_from_secrets(connection_id).get_uri())
    except AirflowNotFoundException:
        return None
