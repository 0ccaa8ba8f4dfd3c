"""Where the warehouse is: the one place that finds its address."""

from collections.abc import Callable, Mapping

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.errors import ConfigError

VARIABLE = "MF_DATABASE_URL"
CONNECTION = "mf_warehouse"
"""Id of the Airflow connection that does instead."""

CONSOLE_VARIABLE = "MF_CONSOLE_DATABASE_URL"
CONSOLE_CONNECTION = "mf_console"


def console_url(
    environ: Mapping[str, str],
    find_connection: Callable[[str], str | None],
    catalogue: Catalogue = DEFAULT,
) -> str:
    """Return the SQLAlchemy URL that the console reads a catalogue's warehouse by.

    That is MF_CONSOLE_DATABASE_URL or the Airflow connection `mf_console`, for a role that can only
    read; where neither is set, it is the URL of the pipeline itself.

    Raises:
        ConfigError: no warehouse is named.
    """
    if url := environ.get(catalogue.variable(CONSOLE_VARIABLE)):
        return url
    connection_id = catalogue.named(CONSOLE_CONNECTION)
    uri = find_connection(connection_id)
    if uri is None:
        return warehouse_url(environ, find_connection, catalogue)
    return sqlalchemy_url(uri, connection_id)


def warehouse_url(
    environ: Mapping[str, str],
    find_connection: Callable[[str], str | None] | None = None,
    catalogue: Catalogue = DEFAULT,
) -> str:
    """Return the SQLAlchemy URL of a catalogue's warehouse.

    Args:
        environ: environment variables; MF_DATABASE_URL (of films, MF_DATABASE_URL_FILMS) comes
            first.
        find_connection: gives the URI of an Airflow connection by its id, None if there is none;
            for callers within Airflow.
        catalogue: whose warehouse.

    Raises:
        ConfigError: no warehouse is named.
    """
    variable = catalogue.variable(VARIABLE)
    if url := environ.get(variable):
        return url
    if find_connection is None:
        raise ConfigError(
            f"no warehouse is named; set {variable}="
            "postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE."
        )
    connection_id = catalogue.named(CONNECTION)
    uri = find_connection(connection_id)
    if uri is None:
        raise ConfigError(
            f"no warehouse is named: set {variable}, or make the Airflow connection "
            f"{connection_id!r}."
        )
    return sqlalchemy_url(uri, connection_id)


def sqlalchemy_url(connection_uri: str, connection_id: str = CONNECTION) -> str:
    """Return the URI (`postgres://...`) of the Airflow connection so named, for SQLAlchemy.

    Airflow's own extras are left out.

    Raises:
        ConfigError: the URI can't be read.
    """
    try:
        # SQLAlchemy would refuse Airflow's scheme at connect time only, so the driver is set here.
        url = make_url(connection_uri).set(drivername="postgresql+psycopg2")
    except (ArgumentError, ValueError):
        raise ConfigError(
            f"the Airflow connection {connection_id!r} can't be read; it is a Postgres connection "
            "with host, port, schema (the database), login and password."
        ) from None
    return url.difference_update_query(["__extra__"]).render_as_string(hide_password=False)
