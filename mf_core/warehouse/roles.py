"""How the roles of a warehouse are called, and statements that give them rights.

A catalogue's roles are called by its name (`mf_reader`; of films, `mf_reader_films`), unless the
environment says otherwise (MF_READER_ROLE; of films, MF_READER_ROLE_FILMS): a managed server may
have roles that somebody else made.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields

import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine

from mf_core.catalogue import Catalogue
from mf_core.errors import ConfigError
from mf_core.warehouse.schema import catalogue_of, psycopg2_cursor

_OPTION = "mf_roles"
_MAX_BYTES = 63
_FIND = "SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)"


@dataclass(frozen=True)
class Roles:
    """The names of a warehouse's roles.

    Attributes:
        writer: owns the schema; the pipeline connects as it.
        reader: reads the published lists.
        console: reads what the console shows.
        monitor: reads the figures that a monitoring system collects.

    Raises:
        ConfigError: a name can't be one, or two roles have the same.
    """

    writer: str = "mf_writer"
    reader: str = "mf_reader"
    console: str = "mf_console"
    monitor: str = "mf_monitor"

    def __post_init__(self) -> None:
        names = astuple(self)
        for name in names:
            if not name.strip() or "\0" in name or len(name.encode()) > _MAX_BYTES:
                raise ConfigError(
                    f"the role {name!r:.80} can't be called so: expected 1 to {_MAX_BYTES} bytes."
                )
        if len(set(names)) < len(names):
            raise ConfigError(
                f"expected four different roles, got {', '.join(names)}: each has rights of its "
                "own. Correct MF_WRITER_ROLE, MF_READER_ROLE, MF_CONSOLE_ROLE or MF_MONITOR_ROLE."
            )

    @classmethod
    def in_force(cls, catalogue: Catalogue, environ: Mapping[str, str] = os.environ) -> "Roles":
        """Return the roles of a catalogue: as the environment says, else by the catalogue's name.

        Raises:
            ConfigError: the environment names what can't be a role.
        """
        names = {}
        for field in fields(cls):
            variable = catalogue.variable(f"MF_{field.name.upper()}_ROLE")
            names[field.name] = environ.get(variable) or catalogue.named(f"mf_{field.name}")
        return cls(**names)


def options(roles: Roles | None) -> dict[str, Roles]:
    """Return the option by which an engine knows its roles; None: they are looked up if needed."""
    return {_OPTION: roles} if roles else {}


def roles_of(bind: Connection | Engine) -> Roles:
    """Return the roles of an engine's warehouse. Raises ConfigError as `Roles.in_force`."""
    roles: Roles | None = bind.get_execution_options().get(_OPTION)
    return roles or Roles.in_force(catalogue_of(bind))


def present_roles(connection: Connection, roles: Roles) -> set[str]:
    """Return the names of those of `roles` that the server has."""
    return set(connection.scalars(sa.text(_FIND), {"names": list(astuple(roles))}))


def run_named(connection: Connection, template: str) -> None:
    """Run statements that say `{mf}`, `{tune}` for the schemas and `{reader}`, ... for the roles.

    A role that the server lacks gets nothing: what is granted to it goes to the owner, who has it.
    """
    roles = roles_of(connection)
    catalogue = catalogue_of(connection)
    present = present_roles(connection, roles)
    with psycopg2_cursor(connection) as cursor:
        names = {"mf": catalogue.schema, "tune": catalogue.tune_schema, **asdict(roles)}
        quoted = {name: pg.Identifier(value).as_string(cursor) for name, value in names.items()}
        missing = [name for name, role in asdict(roles).items() if role not in present]
        quoted |= dict.fromkeys(missing, "CURRENT_USER")

        # In one pass, so that a role's name is never taken for a placeholder.
        placeholder = re.compile(rf"\{{({'|'.join(names)})\}}")
        cursor.execute(placeholder.sub(lambda found: quoted[found[1]], template))
