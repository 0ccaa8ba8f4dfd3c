"""Alembic's environment: always online, on the connection that `bootstrap.migrate` passes."""

import re

from alembic import context

from mf_core.warehouse.schema import schema_of
from mf_core.warehouse.tables import SCHEMA, metadata

_RUN_TIME_PARTITION = re.compile(r"recommendation_rows_v\d+(_.*)?")


def include_object(
    _object: object, name: str | None, type_: str, _reflected: bool, _compare_to: object
) -> bool:
    """Leave out the partitions and their indexes, which exist only at run time."""
    if type_ not in ("table", "index") or name is None:
        return True
    return _RUN_TIME_PARTITION.fullmatch(name) is None


def include_name(name: str | None, type_: str, _parents: object) -> bool:
    """Look at the schema `mf` only."""
    if type_ != "schema":
        return True
    return name == SCHEMA


# What SQLAlchemy renders (CREATE TABLE, an index, a constraint) goes from schema `mf` to that of
# the connection's catalogue; Alembic's own ALTER TABLE does not, so migrations say `schema_of`.
connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table_schema=schema_of(connection),
    include_schemas=True,
    include_name=include_name,
    include_object=include_object,
    compare_type=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
