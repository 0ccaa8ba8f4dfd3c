"""Which schema a statement works on: that of the catalogue which its engine is of.

Tables of SQLAlchemy Core follow the engine by themselves (`schema_translate_map`). A statement that
is written as text says `{mf}.ratings`; `sql` and `composed` put the schema in. Whoever wrote
`mf.ratings` would work on the default catalogue, whatever the engine.
"""

from typing import Any

import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine

from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.warehouse.tables import SCHEMA

_PLACEHOLDER = "{mf}"
_OPTION = "mf_catalogue"


def options(catalogue: Catalogue) -> dict[str, Any]:
    """Return the options of an engine whose statements work on a catalogue's schema."""
    return {"schema_translate_map": {SCHEMA: catalogue.schema}, _OPTION: catalogue}


def catalogue_of(bind: Connection | Engine) -> Catalogue:
    """Return the catalogue that the statements of an engine, or of its connection, work on."""
    catalogue: Catalogue = bind.get_execution_options().get(_OPTION, DEFAULT)
    return catalogue


def schema_of(bind: Connection | Engine) -> str:
    """Return the schema that the statements of an engine, or of its connection, work on."""
    return catalogue_of(bind).schema


def sql(connection: Connection, template: str) -> sa.TextClause:
    """Return a statement with the schema of `connection` for each `{mf}`.

    The template is a constant of this project: values are bound (`:name`), never put in. Other
    braces, such as those of JSON, stay as they are.
    """
    # It needs no quotes: a Catalogue has a name of small letters, digits and underscores or none,
    # and `mf_` before it makes it no word of SQL.
    return sa.text(template.replace(_PLACEHOLDER, schema_of(connection)))


def psycopg2_cursor(connection: Connection) -> Any:
    """Return a cursor of the driver itself.

    COPY needs one, and so do statements that take no bound parameters.
    """
    return connection.connection.cursor()


def make_schema(connection: Connection, name: str) -> None:
    """Make a schema, unless there is one of that name: an administrator may have made it.

    `CREATE SCHEMA IF NOT EXISTS` asks for the right to make one even where it makes none.
    """
    if connection.scalar(sa.select(sa.func.to_regnamespace(name))) is None:
        connection.execute(sa.schema.CreateSchema(name, if_not_exists=True))


def composed(
    connection: Connection, template: str, *parts: pg.Composable, **named: pg.Composable
) -> pg.Composed:
    """Return a statement with the schema for `{mf}`, `parts` for each `{}`, `named` for the others.

    For statements that take no bound values: what is put in are quoted identifiers and literals.
    """
    mf = pg.Identifier(schema_of(connection))
    return pg.SQL(template).format(*parts, mf=mf, **named)
