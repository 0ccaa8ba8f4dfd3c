"""What the commands share: settings from options, the workplace, progress lines and output."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as BarsOnTerminal

from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.config import make_config
from mf_core.deployment import Deployment, load_deployment
from mf_core.records import Progress

_DEPLOYMENT = "mf_core.deployment"
_CATALOGUE = "mf_core.catalogue"
_SCALE = "mf_core.scale"


def catalogue_option(envvar: str | None = None) -> Callable[[Any], Any]:
    """Add --catalogue to a command, or to a group and all its commands."""
    return click.option(
        "--catalogue",
        envvar=envvar,
        metavar="NAME",
        expose_value=False,
        callback=_choose_catalogue,
        help="Work on this catalogue; the one without a name by default (MF_CATALOGUE).",
    )


def _choose_catalogue(context: click.Context, _option: click.Parameter, name: str | None) -> None:
    if name is not None:
        context.meta[_CATALOGUE] = Catalogue(name)


def the_catalogue() -> Catalogue:
    """Return the catalogue that the running command works on."""
    catalogue: Catalogue = click.get_current_context().meta.get(_CATALOGUE, DEFAULT)
    return catalogue


def the_deployment() -> Deployment:
    """Return what the settings file of the running command says, beside a run's settings."""
    deployment: Deployment = click.get_current_context().meta.get(_DEPLOYMENT, Deployment())
    return deployment


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and --set to a command; they reach it as one `config`."""

    @click.option("--config", "config_file", help="TOML file of settings (MF_CONFIG).")
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=VALUE",
        help="Override one setting; `mf config` lists them.",
    )
    def wrapped(config_file: str | None, overrides: tuple[str, ...], **rest: Any) -> Any:
        """Read the settings, then run the command."""
        named = os.environ.get(the_catalogue().variable("MF_CONFIG"))
        deployment = load_deployment(config_file or named)
        meta = click.get_current_context().meta
        # All at once: relevant ratings from 60 on need the scale that they lie in, and the other
        # way round.
        wanted = {**parse_overrides(overrides), **meta.get(_SCALE, {})}
        config = make_config(wanted, deployment.config)
        meta[_DEPLOYMENT] = deployment
        return command(config=deployment.with_named_source(config), **rest)

    wrapped.__name__ = command.__name__
    wrapped.__doc__ = command.__doc__

    # click keeps a command's options in this attribute. The command's own ones come first.
    own = getattr(command, "__click_params__", [])
    added = vars(wrapped)["__click_params__"]
    vars(wrapped)["__click_params__"] = [*own, *added]
    return wrapped


def _choose_scale(context: click.Context, option: click.Parameter, text: str | None) -> None:
    """Keep the settings that LOW,HIGH stands for; none for None."""
    if text is None:
        return
    low, comma, high = text.partition(",")
    if not comma:
        message = f"expected LOW,HIGH such as 0.5,5; got {text!r}"
        raise click.BadParameter(message, context, option)
    context.meta[_SCALE] = {"data.scale_low": low, "data.scale_high": high}


scale_option = click.option(
    "--scale",
    metavar="LOW,HIGH",
    expose_value=False,
    callback=_choose_scale,
    help="Rating scale (data.scale_low, data.scale_high); 1,5 by default. With another one, set "
    "data.relevant_from too.",
)


def parse_overrides(overrides: tuple[str, ...]) -> dict[str, str | None]:
    """Return NAME=VALUE pairs as a dictionary; an empty value stands for none.

    Raises:
        BadParameter: a pair has no equals sign.
    """
    parsed: dict[str, str | None] = {}
    for pair in overrides:
        name, equals, value = pair.partition("=")
        if not equals:
            message = f"expected NAME=VALUE, got {pair!r}"
            raise click.BadParameter(message, param_hint="--set")
        parsed[name.strip()] = value
    return parsed


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
by_option = click.option(
    "--by", help="Name of the person to put on record; your user name by default."
)


class Reporter:
    """Shows progress on stderr: bars for the iterations on a terminal, plain lines in a pipe."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._console = Console(stderr=True, highlight=False)
        self._bars: dict[str, TaskID] = {}
        self._shown: BarsOnTerminal | None = None

    def log(self, line: str) -> None:
        """Show one line."""
        self.close()
        self._console.print(line, markup=False, soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """Show how far a fit is."""
        if not self._console.is_terminal:
            self.log(progress.sentence())
            return
        bars = self._bars_shown()
        head = progress.head
        if head not in self._bars:
            self._bars[head] = bars.add_task(f"{head} head", total=progress.iterations, figures="")

        # The bar itself shows what comes before the comma: head and iteration.
        _, _, figures = progress.sentence().partition(", ")
        bars.update(
            self._bars[head],
            completed=progress.iteration,
            total=progress.iterations,
            figures=figures,
        )

    def close(self) -> None:
        """Leave the bars as they are; the next iteration starts new ones."""
        if self._shown is not None:
            self._shown.stop()
        self._shown = None
        self._bars = {}

    def _bars_shown(self) -> BarsOnTerminal:
        """Return the bars on the terminal, new ones if none are there."""
        if self._shown is None:
            figures = TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[figures]}")
            self._shown = BarsOnTerminal(
                TextColumn("{task.description}"),
                BarColumn(),
                figures,
                TimeElapsedColumn(),
                console=self._console,
            )
            self._shown.start()
        return self._shown


@contextmanager
def open_workplace(by: str | None = None) -> Iterator[Any]:
    """Give the workplace: the warehouse of MF_DATABASE_URL, or the embedded server under MF_HOME.

    The embedded server is stopped at the end if nobody else uses it. `by` is the person who acts;
    None: the user of the operating system.

    Raises:
        ConfigError: another catalogue has a server of its own, and this one has none.
    """
    from mf_core import pipeline
    from mf_core.sources.reach import Reach
    from mf_core.warehouse.address import VARIABLE, warehouse_url

    catalogue = the_catalogue()
    reporter = Reporter()
    with ExitStack() as stack:
        stack.callback(reporter.close)
        root = os.environ.get("MF_ARTIFACT_ROOT")
        # Whoever names a server for one catalogue does not mean an embedded one for another.
        if any(name.startswith(VARIABLE) and value for name, value in os.environ.items()):
            url = warehouse_url(os.environ, catalogue=catalogue)
        else:
            url, embedded_root = stack.enter_context(_embedded(catalogue))
            root = root or embedded_root

        # Whoever runs `mf` is the operator: anything may be named, within the file's limits.
        place = pipeline.workplace(
            url,
            root,
            reporter.log,
            by,
            progress=reporter.progress,
            reach=Reach(the_deployment()),
            catalogue=catalogue,
        )
        stack.callback(place.engine.dispose)
        yield place


@contextmanager
def _embedded(catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """Give the URL of a catalogue's embedded warehouse, and the artifact root beside it."""
    from mf_core.warehouse import database_engine
    from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
    from mf_core.warehouse.embedded import exclusive, start_embedded
    from mf_core.warehouse.roles import Roles

    home = Path(os.environ.get("MF_HOME", "var")).resolve()
    data_dir = home / "pgdata"
    with exclusive(data_dir):
        server = start_embedded(data_dir)
        bootstrap_warehouse(server.admin_url, catalogue=catalogue)
        url = server.url("warehouse", Roles.in_force(catalogue).writer)
        migrate(url, catalogue=catalogue)

        # An open connection tells any other `mf` that the server is in use.
        engine = database_engine(url)
        presence = engine.connect()
    try:
        # Not percent-encoded: fsspec takes a path as it stands.
        yield url, f"file://{home}/artifacts"
    finally:
        presence.close()
        engine.dispose()
        with exclusive(data_dir):
            server.stop_if_unused()


def show(result: object, as_json: bool) -> None:
    """Print a record, a dictionary or a list of them: JSON, or one `name: value` a line."""
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        result = dataclasses.asdict(result)
    if as_json:
        click.echo(json.dumps(result, default=_plain, indent=1, allow_nan=False))
    elif isinstance(result, dict):
        width = max(map(len, result), default=0)
        for name, value in result.items():
            click.echo(f"{name:<{width}}  {_shown(value)}")
    elif isinstance(result, list):
        print_table(result)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows with aligned columns under their names; nothing for no rows."""
    if not rows:
        return
    lines = [list(rows[0])]
    for row in rows:
        lines.append([_shown(value) for value in row.values()])

    columns = zip(*lines, strict=True)
    widths = [max(map(len, column)) for column in columns]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _shown(value: object) -> str:
    """Return a value for people; further lines of a text are indented."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value).replace("\n", "\n  ")


def _plain(value: object) -> str:
    """Return what JSON has no type for as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
