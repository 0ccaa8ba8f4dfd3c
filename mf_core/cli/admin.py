"""`mf config` and `mf db`: settings, roles and migrations."""

import os

import click

from mf_core.cli.options import settings_options
from mf_core.config import Config, settings
from mf_core.errors import ConfigError


@click.command()
@click.option("--markdown", is_flag=True, help="Print the table of docs/config.md.")
@settings_options
def config(config: Config, markdown: bool) -> None:
    """List every setting with its value, bounds and meaning."""
    click.echo(settings_table(config) if markdown else settings_toml(config))


def settings_toml(config: Config) -> str:
    """Return the settings as a TOML file with comments; a setting without a value is commented out."""
    lines, section = [], ""
    for setting in settings(config):
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        value = setting.default
        text = (
            {True: "true", False: "false"}.get(value)
            if isinstance(value, bool)
            else repr(value).replace("'", '"')
        )
        name = setting.name.rpartition(".")[2]
        lines.append(f"# {setting.description} ({bounds(setting.schema)})")
        lines.append(f"# {name} =" if value is None else f"{name} = {text}")
    return "\n".join(lines).strip()


def settings_table(config: Config) -> str:
    """Return the settings as a Markdown table."""
    rows = [
        "| setting | default | bounds | shapes | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for s in settings(config):
        default = (
            ""
            if s.default in (None, "")
            else f"`{str(s.default).lower() if isinstance(s.default, bool) else s.default}`"
        )
        rows.append(
            f"| `{s.name}` | {default} | {bounds(s.schema)} | {s.shapes} | {s.description} |".replace(
                "|  |", "| |"
            )
        )
    return "\n".join(rows)


def bounds(schema: dict[str, object]) -> str:
    """Return a JSON schema's type and bounds in words."""
    alternatives = schema.get("anyOf")
    if isinstance(alternatives, list):
        return ", or ".join("empty" if a.get("type") == "null" else bounds(a) for a in alternatives)
    values = schema.get("enum")
    if isinstance(values, list):
        return ", ".join(map(str, values))
    words = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}
    limits = (
        ("minimum", "from"),
        ("exclusiveMinimum", "above"),
        ("maximum", "to"),
        ("exclusiveMaximum", "below"),
    )
    return " ".join(
        [
            words[str(schema["type"])],
            *(f"{word} {schema[key]:g}" for key, word in limits if key in schema),
        ]
    )


@click.group()
def db() -> None:
    """Set the warehouse up."""


@db.command()
@click.option(
    "--admin-url",
    envvar="MF_ADMIN_DATABASE_URL",
    required=True,
    help="URL of a role that may create roles and databases.",
)
@click.option("--database", default="warehouse", show_default=True, help="Name of the warehouse.")
def bootstrap(admin_url: str, database: str) -> None:
    """Create the warehouse's database and the roles mf_writer and mf_reader, once per server; repeatable.

    Their passwords come from MF_WRITER_PASSWORD and MF_READER_PASSWORD; without one a role's password stays as it is.
    """
    from mf_core.warehouse.bootstrap import bootstrap_warehouse

    bootstrap_warehouse(
        admin_url,
        database,
        os.environ.get("MF_WRITER_PASSWORD"),
        os.environ.get("MF_READER_PASSWORD"),
    )
    click.echo(f"database {database}, roles mf_writer and mf_reader are there")


@db.command()
@click.option(
    "--url", envvar="MF_DATABASE_URL", help="URL of the warehouse as mf_writer (MF_DATABASE_URL)."
)
@click.option(
    "--revision", default="head", show_default=True, help="Where to; `base` empties the schema."
)
def migrate(url: str | None, revision: str) -> None:
    """Bring the warehouse's schema up to date."""
    from mf_core.warehouse.bootstrap import migrate as run_migrations

    if not url:
        raise ConfigError("no warehouse is named; set MF_DATABASE_URL or pass --url.")
    run_migrations(url, revision)
    click.echo(f"schema mf is at {revision}")


COMMANDS = (config, db)
