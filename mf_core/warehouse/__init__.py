"""The Postgres warehouse: connections, the embedded server, roles, migrations and tables."""

from mf_core.warehouse.engine import database_engine, transaction

__all__ = ["database_engine", "transaction"]
