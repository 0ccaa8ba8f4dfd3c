"""Databases that live as long as a block, empty or as copies of another one."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Engine

from mf_core.warehouse import database_engine
from mf_core.warehouse.embedded import EmbeddedServer


@contextmanager
def new_database(
    server: EmbeddedServer, name: str = "test", template: str = "template1"
) -> Iterator[Engine]:
    """Give an engine, as `mf_writer`, on a copy of `template`, which nobody may be using.

    `name` is what the database's own begins with.
    """
    name = f"{name}_{uuid.uuid4().hex[:8]}"
    _run(server, "CREATE DATABASE {} OWNER mf_writer TEMPLATE {}", name, template)
    engine = database_engine(server.url(name, "mf_writer"))
    try:
        yield engine
    finally:
        engine.dispose()
        _run(server, "DROP DATABASE {} WITH (FORCE)", name)


def url_of(engine: Engine) -> str:
    """Return the address of an engine."""
    return engine.url.render_as_string(hide_password=False)


def _run(server: EmbeddedServer, template: str, *names: str) -> None:
    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        statement = pg.SQL(template).format(*map(pg.Identifier, names))
        connection.connection.cursor().execute(statement)
