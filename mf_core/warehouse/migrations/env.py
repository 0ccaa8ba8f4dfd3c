"""Alembic's environment: always online, on the connection that `bootstrap.migrate` passes."""

import re

from alembic import context

from mf_core.warehouse.tables import SCHEMA, metadata

_RUN_TIME_PARTITION = re.compile(r"recommendation_rows_v\d+(_.*)?")


def include_object(
    _object: object, name: str | None, type_: str, _reflected: bool, _compare_to: object
) -> bool:
    """Leave out the partitions, which exist only at run time."""
    return not (type_ in ("table", "index") and name and _RUN_TIME_PARTITION.fullmatch(name))


def include_name(name: str | None, type_: str, _parents: object) -> bool:
    """Look at the schema `mf` only."""
    return name == SCHEMA if type_ == "schema" else True


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=include_name,
    include_object=include_object,
    compare_type=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
