"""The Postgres warehouse: address, connections, tables, migrations, and a door to each table."""

from mf_core.warehouse.address import console_url, warehouse_url
from mf_core.warehouse.engine import database_engine, transaction

__all__ = ["console_url", "database_engine", "transaction", "warehouse_url"]
