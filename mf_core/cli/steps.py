"""`mf run` for all steps, and a command for each of them.

They are `ingest`, `check`, `split`, `train`, `evaluate`, `gate`, `recommend` and `publish`.
"""

import signal
import uuid
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mf_core.cli.options import by_option, json_option, open_workplace, settings_options, show
from mf_core.config import Config
from mf_core.records import ModelRef, SplitRef

if TYPE_CHECKING:
    from mf_core.warehouse.tables import State

_version_option = click.option(
    "--version",
    "version",
    type=int,
    help="Model version; by default the newest that is ready for the step.",
)
_key_option = click.option(
    "--key", default=None, help="Name of the run; the same name continues a run that was killed."
)


@click.command()
@json_option
@settings_options
def ingest(config: Config, as_json: bool) -> None:
    """Load the source into the ratings table."""
    from mf_core import pipeline

    with open_workplace() as place:
        report = pipeline.ingest(config, place)
        show(report, as_json)


@click.command()
@json_option
@settings_options
def check(config: Config, as_json: bool) -> None:
    """Refuse ratings that are not fit to train on."""
    from mf_core import pipeline

    with open_workplace() as place:
        report = pipeline.check(config, place)
        show(report, as_json)


@click.command()
@_key_option
@json_option
@settings_options
def split(config: Config, key: str | None, as_json: bool) -> None:
    """Freeze the ratings as a train/test snapshot and open a model version."""
    from mf_core import pipeline

    with open_workplace() as place:
        split_ref = pipeline.split(config, place, key or _new_key())
        show(split_ref, as_json)


@click.command()
@_version_option
@json_option
@settings_options
def train(config: Config, version: int | None, as_json: bool) -> None:
    """Fit the heads of a version on its training rows."""
    from mf_core import pipeline

    with open_workplace() as place:
        split_ref = _split_of(place, version, ("created", "trained"))
        # The trainer has no database, so the version's state is looked at before and set after it.
        pipeline.require_unpublished(place, split_ref.model_version)
        model = pipeline.train(
            config,
            place.artifact_root,
            split_ref,
            log=place.log,
            progress=place.progress,
        )
        pipeline.record_training(config, place, split_ref, model)
        show(model, as_json)


@click.command()
@_version_option
@json_option
@settings_options
def evaluate(config: Config, version: int | None, as_json: bool) -> None:
    """Measure a version, its baselines and the champion on the test rows."""
    from mf_core import pipeline

    with open_workplace() as place:
        split_ref = _split_of(place, version, ("trained", "evaluated"))
        model = _model_of(place, split_ref.model_version)
        report = pipeline.evaluate(config, place, split_ref, model)
        show(report, as_json)


@click.command()
@_version_option
@json_option
@settings_options
def gate(config: Config, version: int | None, as_json: bool) -> None:
    """Decide whether a version may be published; exit code 5 if not."""
    from mf_core import pipeline

    with open_workplace() as place:
        split_ref = _split_of(place, version, ("evaluated", "refused", "approved"))
        report = pipeline.report_of(config, place, split_ref.model_version)
        verdict = pipeline.gate(config, place, report)
        show(verdict, as_json)


@click.command()
@click.argument("user_id", required=False)
@click.option("-n", "n", type=click.IntRange(min=1), help="Length of the list.")
@_version_option
@json_option
@settings_options
def recommend(
    config: Config, user_id: str | None, n: int | None, version: int | None, as_json: bool
) -> None:
    """Show USER_ID's recommendations.

    Without USER_ID, refit an approved version and write its lists for `mf publish`.
    """
    with open_workplace() as place:
        if user_id is None:
            written = _write_lists(config, place, version)
            show(written, as_json)
            return
        found, live = _list_of(place, user_id, n)
        if not found and not as_json:
            click.echo(_why_empty(user_id, live), err=True)
        show(found, as_json)


def _list_of(place: Any, user_id: str, n: int | None) -> tuple[list[dict[str, Any]], int | None]:
    """Return a user's published list, of length `n` or as published; and the live version."""
    from mf_core.warehouse import history, readers, transaction

    with transaction(place.engine) as connection:
        live = history.live_version(connection)
        return readers.recommendations_for(connection, user_id, n), live


def _why_empty(user_id: str, live: int | None) -> str:
    """Say why a user gets no list."""
    if live is None:
        return "nothing is published yet; `mf run` makes the first version"
    return (
        f"version {live} has nothing for user {user_id!r}: every item is rated by this user, "
        "or hidden"
    )


def _write_lists(config: Config, place: Any, version: int | None) -> dict[str, int]:
    """Refit an approved version, write its lists and verify them; return how many rows it has."""
    from mf_core import pipeline

    split_ref = _split_of(place, version, ("approved",))
    model = _model_of(place, split_ref.model_version)
    rows = pipeline.write_lists(config, place, split_ref, model)
    return {"model_version": split_ref.model_version, "rows": rows}


@click.command()
@_version_option
@by_option
@json_option
@settings_options
def publish(config: Config, version: int | None, by: str | None, as_json: bool) -> None:
    """Let a version go live whose lists were written and verified.

    Exit code 6 if other runs published first too often.
    """
    from mf_core import pipeline

    with open_workplace(by) as place:
        split_ref = _split_of(place, version, ("approved",))
        report = pipeline.report_of(config, place, split_ref.model_version)
        published = pipeline.publish(config, place, split_ref, report)
        show(published, as_json)


@click.command()
@_key_option
@by_option
@json_option
@settings_options
def run(config: Config, key: str | None, by: str | None, as_json: bool) -> None:
    """Run all steps in this process, without Airflow."""
    from mf_core import pipeline

    run_key = key or _new_key()
    with open_workplace(by) as place:
        place.log(f"run {run_key}: if it is killed, `mf run --key {run_key}` continues it")
        # SIGTERM would end the process at once; an exception lets the run record that it stopped.
        signal.signal(signal.SIGTERM, _exit)
        outcome = pipeline.run_all(config, place, run_key)
        show(outcome, as_json)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    # By custom, the exit code of a process that a signal ended is 128 plus the signal's number.
    raise SystemExit(128 + number)


COMMANDS = (run, ingest, check, split, train, evaluate, gate, recommend, publish)


def _new_key() -> str:
    """Return a name for a run that nobody has named."""
    unique = uuid.uuid4().hex[:12]
    return f"cli-{unique}"


def _split_of(place: Any, version: int | None, states: tuple["State", ...]) -> SplitRef:
    """Return the split of a version, or of the newest in one of `states` if none is named."""
    from mf_core.warehouse import lineage, transaction
    from mf_core.warehouse.states import latest_version

    with transaction(place.engine) as connection:
        wanted = version or latest_version(connection, states)
        return lineage.load_split_ref(connection, wanted)


def _model_of(place: Any, version: int) -> ModelRef:
    """Return where a version's evaluated model lies."""
    from mf_core.warehouse import lineage, transaction

    with transaction(place.engine) as connection:
        return lineage.load_model_ref(connection, version, "evaluated")
