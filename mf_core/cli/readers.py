"""`mf history`, `rollback`, `hide`, `unhide` and `override`: what readers see."""

from typing import Any

import click

from mf_core.cli.options import by_option, json_option, open_workplace, print_table, show

# All columns of the view would not fit on a terminal.
_HISTORY_COLUMNS = (
    "model_version",
    "state",
    "is_live",
    "went_live",
    "went_live_at",
    "verdict",
    "rmse",
    "ndcg",
    "cutoff",
    "created_at",
    "device",
    "found_on",
)


@click.command()
@click.option(
    "-n",
    "n",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many versions.",
)
@json_option
def history(n: int, as_json: bool) -> None:
    """List the newest model versions with their figures, and how each went live."""
    from mf_core.warehouse import readers, transaction

    with open_workplace() as place, transaction(place.engine) as connection:
        rows = readers.model_history(connection, n)
    if as_json:
        show(rows, as_json)
        return
    if not rows:
        click.echo("there are no versions yet; `mf run` makes the first one")
    narrow = []
    for row in rows:
        narrow.append({name: row[name] for name in _HISTORY_COLUMNS})
    print_table(narrow)


@click.command()
@click.argument("model_version", type=int, required=False)
@by_option
@json_option
def rollback(model_version: int | None, by: str | None, as_json: bool) -> None:
    """Let readers see an earlier version again: MODEL_VERSION, or the one that was live before.

    A second rollback goes one more version back. It never goes to a version that a rollback left.
    """
    from mf_core import pipeline

    with open_workplace(by) as place:
        report = pipeline.rollback(place, model_version)
    if not as_json:
        click.echo(f"{report.sentence()}\n")
    show(report, as_json)


@click.command()
@click.argument("item_id")
@click.option("--reason", default="", help="Why the item is hidden.")
@by_option
@json_option
def hide(item_id: str, reason: str, by: str | None, as_json: bool) -> None:
    """Hide ITEM_ID from readers at once, in this version and all later ones."""
    from mf_core.warehouse import readers, transaction

    with open_workplace(by) as place, transaction(place.engine) as connection:
        result = readers.hide(connection, item_id, reason=reason, by=place.actor)
    _note_unknown(result, "hidden")
    show(result, as_json)


@click.command()
@click.argument("item_id")
@json_option
def unhide(item_id: str, as_json: bool) -> None:
    """Let readers see ITEM_ID again."""
    from mf_core.warehouse import readers, transaction

    with open_workplace() as place, transaction(place.engine) as connection:
        result = readers.unhide(connection, item_id)
    _note_unknown(result, "shown")
    show(result, as_json)


def _note_unknown(result: dict[str, Any], done: str) -> None:
    """Tell people who may have mistyped an id that nothing is known of the item."""
    if result["known"]:
        return
    item_id = result["item_id"]
    click.echo(
        f"note: no item {item_id!r} has a rating or a title; it is {done} all the same",
        err=True,
    )


@click.command()
@click.argument("model_version", type=int)
@by_option
@click.option("--reason", required=True, help="Why the version may pass in spite of the refusal.")
@json_option
def override(model_version: int, by: str | None, reason: str, as_json: bool) -> None:
    """Let a refused MODEL_VERSION pass. Who did it, and why, is put on record.

    After that, clear the task `gate`, or run `mf recommend` and `mf publish`.
    """
    from mf_core import pipeline

    with open_workplace(by) as place:
        person = place.actor if by is None else by
        pipeline.override(place, model_version, person, reason)
    done = {
        "model_version": model_version,
        "overridden_by": person,
        "reason": reason,
    }
    show(done, as_json)


COMMANDS = (history, rollback, hide, unhide, override)
