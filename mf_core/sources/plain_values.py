"""Values of Postgres as it writes them, where Python has none of that kind.

psycopg2 reads a whole row or fails: a date beyond the year 9999, or a text in a database that
checks no encoding, would cost the query. So these come as text and bytes, and are looked at one by
one.
"""

import json
from decimal import Decimal
from typing import Any

from psycopg2 import extensions
from sqlalchemy.engine import Connection

PSYCOPG2 = "psycopg2"

_DATE, _TIMESTAMP, _TIMESTAMPTZ = 1082, 1114, 1184
_JSON, _JSONB = 114, 3802
_UNCHECKED = "SQL_ASCII"


def give_plain_values(connection: Connection) -> None:
    """Let a connection give times as text, texts as bytes in UTF-8, and JSON as what it holds."""
    driver: Any = connection.connection.driver_connection
    # The server would check what it converts, and refuse the query for one broken text.
    if driver.get_parameter_status("server_encoding") != _UNCHECKED:
        driver.set_client_encoding("UTF8")
    kinds = (_DATE, _TIMESTAMP, _TIMESTAMPTZ)
    extensions.register_type(extensions.new_type(kinds, "TIME", _as_written), driver)
    extensions.register_type(extensions.new_type((_JSON, _JSONB), "JSON", _of_json), driver)
    extensions.register_type(extensions.BYTES, driver)


def _as_written(value: str | None, _: Any) -> str | None:
    return value


def _of_json(value: str | None, _: Any) -> Any:
    """Return what a JSON value holds, its numbers with all their digits."""
    return None if value is None else json.loads(value, parse_float=Decimal)
