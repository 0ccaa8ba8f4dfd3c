"""`mf status`, `history`, `rollback`, `hide`, `unhide`, `override`."""

from typing import Any

import click

from mf_core.cli.options import json_option, open_workplace, show


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show the live version, the latest verdict and the size of the warehouse."""
    from mf_core import registry
    from mf_core.warehouse import transaction

    with open_workplace() as place, transaction(place.engine) as connection:
        found = registry.status(connection)
    if not as_json:
        found["latest_reasons"] = "".join(
            f"\n{'ok' if r['passed'] else 'NO'}  {r['text']}" for r in found["latest_reasons"]
        )
    show(found, as_json)


@click.command()
@click.option(
    "-n", "n", type=click.IntRange(min=1), default=20, show_default=True, help="How many versions."
)
@json_option
def history(n: int, as_json: bool) -> None:
    """List the newest model versions with their figures and verdicts."""
    from mf_core import registry
    from mf_core.warehouse import transaction

    with open_workplace() as place, transaction(place.engine) as connection:
        rows = registry.model_history(connection, n)
    shown = (
        "model_version",
        "state",
        "is_live",
        "created_at",
        "rmse",
        "ndcg_at_10",
        "approved",
        "decided_by",
        "device",
    )
    show(rows if as_json else [{name: row[name] for name in shown} for row in rows], as_json)


@click.command()
@click.argument("model_version", type=int, required=False)
@json_option
def rollback(model_version: int | None, as_json: bool) -> None:
    """Let readers see an earlier version again: MODEL_VERSION, or the one that was live before."""
    from mf_core import pipeline

    with open_workplace() as place:
        show(pipeline.rollback(place, model_version), as_json)


@click.command()
@click.argument("item_id")
@click.option("--reason", default="", help="Why.")
@json_option
def hide(item_id: str, reason: str, as_json: bool) -> None:
    """Hide ITEM_ID from readers at once, in this version and all later ones."""
    _set_hidden(item_id, reason, hidden=True, as_json=as_json)


@click.command()
@click.argument("item_id")
@json_option
def unhide(item_id: str, as_json: bool) -> None:
    """Let readers see ITEM_ID again."""
    _set_hidden(item_id, "", hidden=False, as_json=as_json)


@click.command()
@click.argument("model_version", type=int)
@click.option("--by", required=True, help="Who takes the responsibility.")
@click.option("--reason", required=True, help="Why the version may pass all the same.")
@json_option
def override(model_version: int, by: str, reason: str, as_json: bool) -> None:
    """Let a refused MODEL_VERSION pass; then clear the task `gate`, or run `mf recommend` and `mf publish`."""
    from mf_core import pipeline

    with open_workplace() as place:
        pipeline.override(place, model_version, by, reason)
    show({"model_version": model_version, "overridden_by": by, "reason": reason}, as_json)


COMMANDS = (status, history, rollback, hide, unhide, override)


def _set_hidden(item_id: str, reason: str, *, hidden: bool, as_json: bool) -> None:
    from mf_core import registry
    from mf_core.warehouse import transaction

    with open_workplace() as place, transaction(place.engine) as connection:
        result: dict[str, Any] = registry.set_hidden(connection, item_id, reason, hidden=hidden)
    if not result["known"]:
        click.echo(
            f"note: no item {item_id!r} has a rating or a title; it is {'hidden' if hidden else 'shown'} all the same",
            err=True,
        )
    show(result, as_json)
