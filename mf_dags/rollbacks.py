"""The form of `mf_rollback`: the versions that the warehouse could go back to when it was parsed.

The list may be some seconds old, so it only helps to choose: any number may be typed, and the task
refuses what is not there.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow.sdk import Param, get_parsing_context

from mf_dags.runtime import find_warehouse
from mf_dags.sites import Site

if TYPE_CHECKING:
    from mf_core.warehouse.rollbacks import RollbackChoice

log = logging.getLogger(__name__)

# A number; what the form shows behind it may stay there.
_CHOSEN = r"^[1-9][0-9]*( .*)?$"


def version_param(site: Site) -> Param:
    """Return the field that takes the version to go back to."""
    choices = _choices(site)
    return Param(
        None,
        # A text field offers the examples; a number field would not.
        type=["string", "integer", "null"],
        minimum=1,
        pattern=_CHOSEN,
        examples=[f"{choice.model_version} - {_about(choice)}" for choice in choices],
        description_md=_help(choices, site),
    )


def chosen_version(value: str | int | None) -> int | None:
    """Return the number of the version that was chosen in the form, or sent by a REST call."""
    if value is None:
        return None
    number, _, _ = str(value).partition(" ")
    return int(number)


def _choices(site: Site) -> "Sequence[RollbackChoice]":
    """Return what a rollback can choose from, nothing where the warehouse can't say.

    DAG files are parsed while it is down, too. A worker parses them for the sake of one task, and
    needs the form of no DAG.
    """
    if get_parsing_context().dag_id not in (None, site.rollback_id):
        return ()
    try:
        from mf_core.warehouse import database_engine, transaction
        from mf_core.warehouse.impatient import impatient
        from mf_core.warehouse.rollbacks import rollback_choices

        url = find_warehouse(site.catalogue)
        engine = impatient(database_engine(url, catalogue=site.catalogue))
        try:
            with transaction(engine) as connection:
                return rollback_choices(connection)
        finally:
            engine.dispose()
    except Exception as error:
        log.info("The form of %s lists no versions (%s).", site.rollback_id, type(error).__name__)
        return ()


def _help(choices: "Sequence[RollbackChoice]", site: Site) -> str:
    """Return the field's help as Markdown: what it takes, and a table of the versions."""
    takes = "Number of the version to make live; empty: the one that was live before"
    default = [choice.model_version for choice in choices if choice.is_default]
    if default:
        takes += f", which is version {default[0]}"
    if not choices:
        command = site.catalogue.command("history")
        return f"{takes}. No version could be listed here; `{command}` lists them."
    rows = [
        f"| {choice.model_version} | {choice.period()} | {choice.figures()} |" for choice in choices
    ]
    table = "\n".join(["| version | was live | on the test rows |", "| --- | --- | --- |", *rows])
    return f"{takes}.\n\n{table}"


def _about(choice: "RollbackChoice") -> str:
    default = ", the default" if choice.is_default else ""
    return f"live {choice.period()}, {choice.figures()}{default}"
