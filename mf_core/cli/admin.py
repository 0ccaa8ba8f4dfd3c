"""`mf config` and `mf db`: settings, roles and migrations."""

import os
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from pydantic import BaseModel

from mf_core.cli.options import catalogue_option, settings_options, the_catalogue
from mf_core.config import Config, settings
from mf_core.deployment import Limits, TriggerRules

if TYPE_CHECKING:
    from mf_core.warehouse.needs import Unmet
    from mf_core.warehouse.roles import Roles

ROLES = ("writer", "reader", "console", "monitor")
_CONNECTIONS = click.IntRange(min=-1)


@click.command()
@click.option("--markdown", is_flag=True, help="Print the table of docs/config.md.")
@settings_options
def config(config: Config, markdown: bool) -> None:
    """List every setting with its value, bounds and meaning."""
    text = settings_table(config) if markdown else settings_toml(config)
    click.echo(text)
    if markdown:
        click.echo(f"\n{deployment_table()}")


def settings_toml(config: Config) -> str:
    """Return the settings as a TOML file with comments.

    A setting without a value is commented out, since TOML has no word for none.
    """
    lines: list[str] = []
    section = ""
    for setting in settings(config):
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        lines.append(f"# {setting.description} ({setting.bounds()})")

        _, _, name = setting.name.rpartition(".")
        if setting.default is None:
            lines.append(f"# {name} =")
        else:
            lines.append(f"{name} = {_toml_value(setting.default)}")
    return "\n".join(lines).strip()


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return _lower(value)
    return repr(value).replace("'", '"')


def _lower(value: bool) -> str:
    """Return a truth value as TOML and JSON write it."""
    return str(value).lower()


def settings_table(config: Config) -> str:
    """Return the settings as a Markdown table."""
    rows = [
        "| setting | default | bounds | shapes | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for setting in settings(config):
        cells = [
            f"`{setting.name}`",
            _markdown_value(setting.default),
            setting.bounds(),
            setting.shapes,
            setting.description,
        ]
        row = f"| {' | '.join(cells)} |"
        rows.append(row.replace("|  |", "| |"))
    return "\n".join(rows)


def deployment_table() -> str:
    """Return what only the settings file can say, as Markdown."""
    rows = [
        "## In the settings file",
        "",
        "| only in the settings file | default | meaning |",
        "| --- | --- | --- |",
        "| `sources.NAME.*` | | A named source, with the settings of the section `source`. |",
    ]
    sections: dict[str, type[BaseModel]] = {"trigger": TriggerRules, "limits": Limits}
    for section, model in sections.items():
        for name, field in model.model_fields.items():
            default = _markdown_value(field.default or "")
            rows.append(f"| `{section}.{name}` | {default} | {field.description} |")
    return "\n".join(rows).replace("|  |", "| |")


def _markdown_value(value: object) -> str:
    if value is None or value == "":
        return ""
    text = _lower(value) if isinstance(value, bool) else str(value)
    return f"`{text}`"


@click.group()
def db() -> None:
    """Set up the warehouse."""


def role_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each role's name; they reach the command as one `roles`."""

    @wraps(command)
    def wrapped(**options: Any) -> Any:
        """Name the roles, then run the command."""
        from mf_core.warehouse.roles import Roles

        catalogue = the_catalogue()
        environ = dict(os.environ)
        for role in ROLES:
            if name := options.pop(f"{role}_role"):
                environ[catalogue.variable(f"MF_{role.upper()}_ROLE")] = name
        return command(roles=Roles.in_force(catalogue, environ), **options)

    for role in reversed(ROLES):
        text = f"Name of the {role}'s role; mf_{role} by default (MF_{role.upper()}_ROLE)."
        wrapped = click.option(f"--{role}-role", metavar="NAME", help=text)(wrapped)
    return wrapped


@db.command()
@click.option(
    "--admin-url",
    envvar="MF_ADMIN_DATABASE_URL",
    required=True,
    help="URL of a role that may create roles and databases.",
)
@click.option("--database", default="warehouse", show_default=True, help="Name of the warehouse.")
@click.option(
    "--reader-statement-timeout",
    metavar="TIME",
    help="How long a reader's statement may take, such as 30s; 0: any time. A new role has 5min "
    "(MF_READER_STATEMENT_TIMEOUT).",
)
@click.option(
    "--reader-connections",
    type=_CONNECTIONS,
    help="How many sessions of the reader there may be; -1: any number. A new role has 50 "
    "(MF_READER_CONNECTIONS).",
)
@catalogue_option()
@role_options
def bootstrap(
    admin_url: str,
    database: str,
    reader_statement_timeout: str | None,
    reader_connections: int | None,
    roles: "Roles",
) -> None:
    """Create the warehouse's database and its roles: writer, reader, console and monitor.

    Do this once per server and catalogue, and `mf db migrate` after it; doing it again changes
    nothing. What is there stays as it is, and what the administrator may not make is printed as SQL
    for somebody who may. The passwords come from MF_WRITER_PASSWORD, MF_READER_PASSWORD,
    MF_CONSOLE_PASSWORD and MF_MONITOR_PASSWORD. Without one, the role's password stays as it is.
    """
    from mf_core.warehouse.bootstrap import bootstrap_warehouse
    from mf_core.warehouse.needs import ReaderLimits

    catalogue = the_catalogue()
    variables = {role: catalogue.variable(f"MF_{role.upper()}_PASSWORD") for role in ROLES}
    passwords = {role: os.environ[name] for role, name in variables.items() if os.environ.get(name)}
    if reader_statement_timeout is None:
        reader_statement_timeout = os.environ.get(catalogue.variable("MF_READER_STATEMENT_TIMEOUT"))
    connections = os.environ.get(catalogue.variable("MF_READER_CONNECTIONS"))
    if reader_connections is None and connections:
        reader_connections = _CONNECTIONS(connections)
    unmet = bootstrap_warehouse(
        admin_url,
        database,
        catalogue=catalogue,
        roles=roles,
        passwords=passwords,
        limits=ReaderLimits(reader_statement_timeout or None, reader_connections),
    )
    _warn(unmet, roles)
    # The writer's and the reader's are there, or there was an error.
    named = f"{', '.join(unmet.roles[:-1])} and {unmet.roles[-1]}"
    except_for = ", but for what is named above" if unmet.wanted else ""
    click.echo(
        f"the database {database} and the roles {named} are ready{except_for}; "
        f"now run `{catalogue.command('db migrate')}` as {roles.writer}"
    )


def _warn(unmet: "Unmet", roles: "Roles") -> None:
    """Say what an administrator could not do, as SQL for somebody who can."""
    if unmet.wanted:
        click.echo(
            "This administrator may not do what follows. It works without, as the comments say; "
            f"a database administrator can run it:\n{unmet.script()}",
            err=True,
        )
    if unmet.elsewhere:
        click.echo(
            f"{roles.reader} may connect to other databases of this server as well, since every "
            "role may. Nothing was changed there. To close one, give those who need it the right "
            "CONNECT, and run:\n" + "\n".join(unmet.elsewhere),
            err=True,
        )


@db.command()
@click.option("--url", help="URL of the warehouse as its writer (MF_DATABASE_URL).")
@click.option(
    "--revision",
    default="head",
    show_default=True,
    help="Target revision; `base` empties the schema.",
)
@catalogue_option()
@role_options
def migrate(url: str | None, revision: str, roles: "Roles") -> None:
    """Bring the warehouse's schema up to date."""
    from mf_core.warehouse import warehouse_url
    from mf_core.warehouse.bootstrap import migrate as run_migrations

    catalogue = the_catalogue()
    url = url or warehouse_url(os.environ, catalogue=catalogue)
    run_migrations(url, revision, catalogue=catalogue, roles=roles)
    click.echo(f"the schema {catalogue.schema} is at {revision}")


COMMANDS = (config, db)
