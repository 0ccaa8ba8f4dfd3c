"""What the commands share: settings from options, the workplace, progress lines and output."""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mf_core.config import load_config, make_config

_EPOCH = re.compile(r"^(?P<head>rating|ranking)\D*?(?P<done>\d+)/(?P<total>\d+)(?P<rest>.*)$")


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and --set to a command; they reach it as one `config`."""

    @click.option(
        "--config", "config_file", envvar="MF_CONFIG", help="TOML file of settings (MF_CONFIG)."
    )
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=VALUE",
        help="Override one setting; `mf config` lists them.",
    )
    def wrapped(config_file: str | None, overrides: tuple[str, ...], **rest: Any) -> Any:
        return command(
            config=make_config(parse_overrides(overrides), load_config(config_file)), **rest
        )

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__click_params__ = [
        *getattr(command, "__click_params__", []),
        *wrapped.__click_params__,
    ]  # type: ignore[attr-defined]
    return wrapped


def parse_overrides(overrides: tuple[str, ...]) -> dict[str, str | None]:
    """Return NAME=VALUE pairs as a dictionary; an empty value stands for none."""
    parsed: dict[str, str | None] = {}
    for pair in overrides:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"expected NAME=VALUE, got {pair!r}", param_hint="--set")
        parsed[name.strip()] = value
    return parsed


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Reporter:
    """Shows progress on stderr: bars for the epochs on a terminal, plain lines in a pipe."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def log(self, line: str) -> None:
        """Show one line."""
        epoch = _EPOCH.match(line) if self._console.is_terminal else None
        if epoch is None:
            self.close()
            self._console.print(line, markup=False, soft_wrap=True)
            return
        bars, head, total = self._bars_shown(), epoch["head"], int(epoch["total"])
        if head not in self._bars:
            self._bars[head] = bars.add_task(f"{head} head", total=total, figures="")
        bars.update(
            self._bars[head],
            completed=int(epoch["done"]),
            total=total,
            figures=epoch["rest"].strip(" :,"),
        )

    def close(self) -> None:
        """Leave the bars as they are; the next epoch starts new ones."""
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._bars = None, {}

    def _bars_shown(self) -> Progress:
        if self._progress is None:
            figures = TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[figures]}")
            columns = (TextColumn("{task.description}"), BarColumn(), figures, TimeElapsedColumn())
            self._progress = Progress(*columns, console=self._console)
            self._progress.start()
        return self._progress


@contextmanager
def open_workplace() -> Iterator[Any]:
    """Give the workplace: MF_DATABASE_URL, or the embedded server under MF_HOME, stopped again if nobody else uses it."""
    from mf_core import pipeline

    reporter = Reporter()
    with ExitStack() as stack:
        stack.callback(reporter.close)
        url, root = os.environ.get("MF_DATABASE_URL"), os.environ.get("MF_ARTIFACT_ROOT")
        if not url:
            url, embedded_root = stack.enter_context(_embedded())
            root = root or embedded_root
        place = pipeline.workplace(url, root, log=reporter.log)
        stack.callback(place.engine.dispose)
        yield place


@contextmanager
def _embedded() -> Iterator[tuple[str, str]]:
    from mf_core.warehouse import database_engine
    from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
    from mf_core.warehouse.embedded import exclusive, start_embedded

    home = Path(os.environ.get("MF_HOME", "var")).resolve()
    data_dir = home / "pgdata"
    with exclusive(data_dir):
        server = start_embedded(data_dir)
        bootstrap_warehouse(server.admin_url)
        url = server.url("warehouse", "mf_writer")
        migrate(url)
        engine = database_engine(url)
        presence = engine.connect()  # tells an `mf` beside this one that the server is in use
    try:
        yield url, (home / "artifacts").as_uri()
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
    """Print rows with aligned columns; nothing for none."""
    if not rows:
        return
    cells = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value).replace("\n", "\n  ")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
