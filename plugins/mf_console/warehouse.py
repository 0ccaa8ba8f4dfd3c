"""The warehouse that the console reads."""

import os
from functools import cache

from airflow.exceptions import AirflowNotFoundException
from airflow.models.connection import Connection
from sqlalchemy.engine import Engine

from mf_core.errors import ConfigError
from mf_core.warehouse.engine import database_engine

CONNECTION_ID = "mf_warehouse"


@cache
def warehouse_engine() -> Engine:
    """Return the engine on `MF_DATABASE_URL` or, without it, the Airflow connection `mf_warehouse`.

    Raises:
        ConfigError: neither is there.
    """
    return database_engine(_warehouse_url())


def _warehouse_url() -> str:
    url = os.environ.get("MF_DATABASE_URL")
    if url:
        return url
    try:
        connection = Connection.get_connection_from_secrets(CONNECTION_ID)
    except AirflowNotFoundException:
        raise ConfigError(
            f"set MF_DATABASE_URL, or make the Airflow connection {CONNECTION_ID}."
        ) from None
    # What Airflow keeps beside the address is not part of it.
    return connection.get_uri().split("?__extra__")[0]
