"""`mf config` and `mf db`: settings, roles and migrations."""

import os

import click
from pydantic import BaseModel

from mf_core.cli.options import settings_options
from mf_core.config import Config, settings
from mf_core.deployment import Limits, TriggerRules
from mf_core.errors import ConfigError


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


@db.command()
@click.option(
    "--admin-url",
    envvar="MF_ADMIN_DATABASE_URL",
    required=True,
    help="URL of a role that may create roles and databases.",
)
@click.option("--database", default="warehouse", show_default=True, help="Name of the warehouse.")
def bootstrap(admin_url: str, database: str) -> None:
    """Create the warehouse's database and its roles: writer, reader, console and monitor.

    Do this once per server, and `mf db migrate` after it; doing it again changes nothing. The
    passwords come from MF_WRITER_PASSWORD, MF_READER_PASSWORD, MF_CONSOLE_PASSWORD and
    MF_MONITOR_PASSWORD. Without one, the role's password stays as it is.
    """
    from mf_core.warehouse.bootstrap import bootstrap_warehouse

    bootstrap_warehouse(
        admin_url,
        database,
        os.environ.get("MF_WRITER_PASSWORD"),
        os.environ.get("MF_READER_PASSWORD"),
        os.environ.get("MF_CONSOLE_PASSWORD"),
        monitor_password=os.environ.get("MF_MONITOR_PASSWORD"),
    )
    click.echo(
        f"the database {database} and the roles mf_writer, mf_reader, mf_console and mf_monitor "
        "are ready; "
        "now run `mf db migrate` as mf_writer"
    )


@db.command()
@click.option(
    "--url", envvar="MF_DATABASE_URL", help="URL of the warehouse as mf_writer (MF_DATABASE_URL)."
)
@click.option(
    "--revision",
    default="head",
    show_default=True,
    help="Target revision; `base` empties the schema.",
)
def migrate(url: str | None, revision: str) -> None:
    """Bring the warehouse's schema up to date."""
    from mf_core.warehouse.bootstrap import migrate as run_migrations

    if not url:
        raise ConfigError("no warehouse is named; set MF_DATABASE_URL or pass --url.")
    run_migrations(url, revision)
    click.echo(f"schema mf is at {revision}")


COMMANDS = (config, db)
