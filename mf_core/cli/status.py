"""`mf status`: what readers see, how old it is, how the last run ended, and what to do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from mf_core.ages import age_in_words, parse_age
from mf_core.cli.options import json_option, open_workplace, show
from mf_core.errors import StaleListsError
from mf_core.figures import mark_of

_WIDTH = 16


class Age(click.ParamType):
    """An age with its unit, such as 26h."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration."""
        try:
            return parse_age(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option(
    "--max-age",
    type=Age(),
    metavar="AGE",
    help="Exit with code 7 if the lists are older (26h, 90m, 2d), or nothing is live.",
)
@json_option
def status(max_age: timedelta | None, as_json: bool) -> None:
    """Show what is live and how old it is, the last run, the latest verdict, and the size.

    With --max-age it suits a monitoring system: exit code 0 says that the lists are young enough, 7
    that they are not. The lists are as old as their first publication. A run that finds nothing new
    leaves them so, and a rollback brings older ones back.
    """
    from mf_core.warehouse import readers, transaction

    with open_workplace() as place, transaction(place.engine) as connection:
        found = readers.status(connection)
    if as_json:
        show(found, as_json)
    else:
        click.echo("\n".join(_lines(found)))
    if max_age is not None:
        _require_young(found, max_age)


def _require_young(found: dict[str, Any], max_age: timedelta) -> None:
    """Raise StaleListsError if nothing is live, or lists that are older than `max_age`."""
    run = found["last_run"]
    last_run = f"the last run: {run['summary']}" if run else "no run is on record"
    seconds = found["lists_age_seconds"]
    if seconds is None:
        raise StaleListsError(f"nothing is live; {last_run}. `mf run` makes the first version.")
    age = timedelta(seconds=seconds)
    if age > max_age:
        raise StaleListsError(
            f"the lists are {age_in_words(age)} old, and --max-age allows "
            f"{age_in_words(max_age)}; {last_run}. `mf status` says what to do."
        )


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield what there is to say, for people."""
    yield from _lines_of_live(found)
    yield ""
    yield from _lines_of_run(found["last_run"])
    yield ""
    yield from _lines_of_verdict(found)
    yield ""
    yield _line(
        "warehouse",
        f"{found['ratings']:,} ratings of {found['users']:,} users for {found['items']:,} items; "
        f"{found['hidden_items']:,} hidden items",
    )


def _lines_of_live(found: dict[str, Any]) -> Iterator[str]:
    if found["live_version"] is None:
        yield _line("live", "nothing yet; `mf run` makes the first version")
        return
    since = _moment(found["live_since"])
    age = age_in_words(timedelta(seconds=found["lists_age_seconds"]))
    yield _line("live", f"version {found['live_version']}, since {since}, {found['went_live']}")
    yield _line("lists", f"{age} old (first live {_moment(found['published_at'])})")
    yield _line("made from", f"{found['n_ratings']:,} ratings")
    if found["found_on"]:
        yield _line("settings", f"{found['found_on']}")
        yield _line("", _settings(found["found_settings"]))
    # Of events there is none.
    if found["rmse"] is not None:
        yield _line("test RMSE", _figure(found["rmse"]))
    yield _line(f"NDCG@{found['cutoff'] or '?'}", _figure(found["ndcg"]))


def _settings(found: dict[str, Any]) -> str:
    """Return found settings in one line."""
    if not found:
        return "the shipped ones"
    return ", ".join(f"{name}={value}" for name, value in found.items())


def _lines_of_run(run: dict[str, Any] | None) -> Iterator[str]:
    if run is None:
        yield _line("last run", "none on record")
        return
    yield _line("last run", f"{run['summary']}")
    yield _line(
        "", f"{run['run_key']}, started {_moment(run['started_at'])} by {run['started_by']}"
    )
    if run["ended_at"] is not None:
        took = age_in_words(timedelta(seconds=run["seconds"]))
        yield _line("", f"ended {_moment(run['ended_at'])}, after {took}")
    if run["message"]:
        yield _line("it said", run["message"])
    if run["note"]:
        yield _line("to know", run["note"])
    if run["what_to_do"]:
        yield _line("what to do", run["what_to_do"])


def _lines_of_verdict(found: dict[str, Any]) -> Iterator[str]:
    if found["latest_verdict"] is None:
        yield _line("latest verdict", "none yet")
        return
    yield _line(
        "latest verdict",
        f"version {found['latest_verdict_version']}: {found['latest_verdict']}, "
        f"{_moment(found['latest_verdict_at'])}",
    )
    for rule in found["latest_reasons"]:
        # Verdicts of older releases know no warnings.
        mark = mark_of(rule["passed"], rule.get("warning", False))
        yield _line("", f"{mark}  {rule['text']}")


def _line(name: str, text: str) -> str:
    """Return a line with a name in front; further lines of a text stand under its first one."""
    indented = text.replace("\n", "\n" + " " * _WIDTH)
    return f"{name:<{_WIDTH}}{indented}".rstrip()


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"


COMMANDS = (status,)
